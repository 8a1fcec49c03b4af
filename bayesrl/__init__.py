"""Bayesian reinforcement learning: posteriors over functions, put to work for decisions."""

from pathlib import Path

__version__ = "0.1.0"

# In a bare checkout `agents`, `envs` and `configs` lie beside this package; an installed one has them inside.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "pyproject.toml").is_file() and (_checkout / "agents").is_dir():
    __path__.append(str(_checkout))
