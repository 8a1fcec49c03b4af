"""The state of a training loop as plain values, for checkpoints, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bayesrl.envs.snapshot import capture, restore
from bayesrl.training.rng import restore_rng, rng_state

if TYPE_CHECKING:
    from bayesrl.training.loop import TrainingLoop


def loop_state(loop: TrainingLoop, environments: bool = True) -> dict[str, Any]:
    """Return everything that the next step depends on, but the replay memory.

    Arguments:
        loop: between two steps.
        environments: whether the state of the environments is included; without it new episodes follow.
    """
    rollout = loop.rollout
    return {
        "agent": rollout.agent.state_dict(),
        "rollout": rollout.state(),
        "monitor": loop.monitor.state(),
        "envs": rollout.envs.state(capture(rollout.envs.env) if environments else None),
        "rng": rng_state(),
        "run": {
            "seconds": loop.seconds,
            "solved_at": loop.solved_at,
            "cuts": loop.cuts,
            "pending": loop.pending,
            "postponed": sorted(loop.postponed),
            "info": rollout.info,
            "callbacks": loop.callbacks.state_dict(),
        },
    }


def restore_loop(loop: TrainingLoop, state: dict[str, Any]) -> None:
    """Put back a checkpoint, beside the replay; environments whose state is not known begin new episodes."""
    rollout, agent, envs, run = loop.rollout, loop.rollout.agent, loop.rollout.envs, state["run"]
    agent.load_state_dict(state["agent"])
    rollout.restore(state["rollout"])
    loop.monitor.restore(state["monitor"])
    loop.seconds, loop.solved_at = run["seconds"], run["solved_at"]
    rollout.info, loop.cuts = run["info"], run["cuts"]
    # Checkpoints of earlier versions lack some of these.
    loop.pending, loop.postponed = run.get("pending", 0), set(run.get("postponed", ()))
    loop.callbacks.load_state_dict(run.get("callbacks", []))
    loop.saved_at = state["step"]
    if state["envs"]["env"] is not None:
        restore(envs.env, state["envs"]["env"])
        envs.restore(state["envs"])
    else:
        loop.say("the environments' state could not be saved: new episodes begin")
        loop.monitor.predicted.clear()
        loop.cuts = [*loop.cuts, state["replay_rows"] - 1]
    if agent.replay is not None:
        for row in loop.cuts:  # so that no n-step window reaches from one episode into another
            if row >= max(0, agent.replay.rows - agent.replay.T):
                agent.replay.columns["done"][row % agent.replay.T] = True
    restore_rng(state["rng"])
