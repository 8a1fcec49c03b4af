"""Bayesian reinforcement learning: posteriors over functions, put to work for decisions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bayesrl.version import __version__ as __version__

if TYPE_CHECKING:
    from bayesrl.deployment.policy import Policy


def load(run_dir: str | Path, device: str = "cpu") -> Policy:
    """What the agent of a run learned, at its newest checkpoint, as a function of raw observations.

        policy = bayesrl.load(RUN_DIR)
        action, uncertainty = policy(obs)

    Builds no environment and no replay memory.

    Raises:
        bayesrl.training.checkpoint.CheckpointError: no run, or one whose files are missing or damaged.
    """
    from bayesrl.experiment import build

    return build.policy(Path(run_dir), device)
