"""The version of the package, which every run directory states."""

__version__ = "0.2.0.dev0"
