"""Checks the checkout before a build; all settings are in pyproject.toml."""

import sys
from pathlib import Path

from setuptools import setup

sys.path.insert(0, str(Path(__file__).parent))
import bayesrl  # noqa: F401  # raises an ImportError with the remedy where symbolic links are missing

setup()
