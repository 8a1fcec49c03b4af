"""Bayesian reinforcement learning: posteriors over functions, put to work for decisions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bayesrl.policy import Policy

__version__ = "0.1.0"

# In a bare checkout `agents`, `envs` and `configs` lie beside this package; an installed one has them inside.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "pyproject.toml").is_file() and (_checkout / "agents").is_dir():
    __path__.append(str(_checkout))


def load(run_dir: str | Path, device: str = "cpu") -> Policy:
    """What the agent of a run learned, at its newest checkpoint, as a function of raw observations.

        policy = bayesrl.load(RUN_DIR)
        action, uncertainty = policy(obs)

    Builds no environment and no replay memory.

    Raises:
        bayesrl.checkpoint.CheckpointError: no run of bayesrl.train, or one whose files are missing or cut short.
    """
    from bayesrl import building

    return building.policy(Path(run_dir), device)
