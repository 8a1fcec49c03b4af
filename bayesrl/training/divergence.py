"""Divergence: numbers that are not finite end training before they are saved."""

from __future__ import annotations

import math

from torch import nn

from bayesrl.training.rollout import Rollout


class DivergedError(RuntimeError):
    """The loss or a parameter is not finite."""


def check_finite(rollout: Rollout, last_good: str) -> None:
    """Check the newest loss and all parameters.

    Arguments:
        rollout: agent, newest information of its updates, and their count.
        last_good: what the message says of the last good checkpoint.

    Raises:
        DivergedError: one of them is not finite.
    """
    loss, agent, got = rollout.info.get("loss"), rollout.agent, ""
    if loss is not None and not math.isfinite(loss):
        got = f"the loss {float(loss)}"
    elif isinstance(agent, nn.Module):
        broken = [name for name, p in agent.named_parameters() if not p.isfinite().all()]
        got = f"parameters that are not finite, {broken[0]}," if broken else ""
    if got:
        raise DivergedError(
            f"got {got} after {rollout.updates:,} updates, wanted finite numbers: start a new run with a "
            f"lower learning rate, posterior.optimizer.lr (last good checkpoint: {last_good})"
        )
