"""The state of rollout and monitor as plain values, for checkpoints, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bayesrl.envs.state import load_state, save_state
from bayesrl.training.monitor import Monitor
from bayesrl.training.rng import restore_rng, rng_state
from bayesrl.training.rollout import Rollout


def training_state(
    rollout: Rollout, monitor: Monitor, run: dict[str, Any], environments: bool = True
) -> dict[str, Any]:
    """Return everything that the next step depends on, but the replay memory.

    Arguments:
        rollout, monitor: between two steps.
        run: what the training loop adds.
        environments: whether the state of the environments is included; without it new episodes follow.
    """
    return {
        "agent": rollout.agent.state_dict(),
        "rollout": rollout.state(),
        "monitor": monitor.state(),
        "envs": rollout.envs.state(save_state(rollout.envs.env) if environments else None),
        "rng": rng_state(),
        "run": run,
    }


def restore_training(rollout: Rollout, monitor: Monitor, state: dict[str, Any], cuts: Sequence[int]) -> None:
    """Put back a checkpoint, beside the replay; environments whose state is not known begin new episodes.

    Arguments:
        state: what `training_state` returned.
        cuts: replay rows after which a resumption began new episodes.
    """
    agent, envs = rollout.agent, rollout.envs
    agent.load_state_dict(state["agent"])
    rollout.restore(state["rollout"])
    rollout.info = state["run"]["info"]
    monitor.restore(state["monitor"])
    if state["envs"]["env"] is None:
        monitor.predicted.clear()
    else:
        load_state(envs.env, state["envs"]["env"])
        envs.restore(state["envs"])
    if agent.replay is not None:
        for row in cuts:  # so that no n-step window reaches from one episode into another
            if row >= max(0, agent.replay.rows - agent.replay.T):
                agent.replay.columns["done"][row % agent.replay.T] = True
    restore_rng(state["rng"])
