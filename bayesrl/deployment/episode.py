"""An episode played for somebody who watches: every step with what the posterior thinks of it.

Shapes: n draws, A actions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from PIL import Image

from bayesrl.deployment.policy import Decision, Policy

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)  # of the bands


class Moment(NamedTuple):
    """One step.

    Attributes:
        step: steps before it.
        ret: sum of rewards before it.
        picture: of the environment, or None where there is none.
        action: the number of the action chosen, or the numbers of a continuous one.
        bands: quantiles of Q over draws at LEVELS, [5, A], in return units; where actions are continuous, of the
            chosen one alone, [5, 1]; None for agents without values of actions.
        acting: Q of the function that acts, [A]; None as bands.
        unsure: standard deviation over draws of Q at the action chosen; NaN for agents without values.
        proposed: quantiles at LEVELS of what each draw's policy would do, [5, A] in [-1, 1], where continuous; or None.
        ended: "terminated" or "truncated" in what is seen after the last step, which chooses nothing more.
    """

    step: int
    ret: float
    picture: Image.Image | None
    action: Any
    bands: np.ndarray | None
    acting: np.ndarray | None
    unsure: float
    proposed: np.ndarray | None = None
    ended: str = ""

    @property
    def taken(self) -> int:
        """The column of `bands` that is the chosen action's."""
        return self.action if isinstance(self.action, int) else 0


def play(policy: Policy, env: gym.Env, seed: int, limit: int) -> Iterator[Moment]:
    """The moments of one episode, at most `limit` steps of it."""
    policy.reset()
    obs, info = env.reset(seed=seed)
    ret, ended = 0.0, f"cut after {limit} steps"
    for step in range(limit):
        decision = policy.decide(obs, info["action_mask"] if policy.spec.masked else None)
        moment = _moment(step, ret, picture(env, obs), decision)
        yield moment
        obs, reward, terminated, truncated, info = env.step(decision.action)
        ret += float(reward)
        if terminated or truncated:
            ended = "terminated" if terminated else "truncated"
            break
    yield moment._replace(step=step + 1, ret=ret, picture=picture(env, obs), ended=ended)


def _moment(step: int, ret: float, seen: Image.Image | None, decision: Decision) -> Moment:
    choice, q = decision.choice.tolist(), decision.q
    if q is None:
        return Moment(step, ret, seen, choice, None, None, decision.uncertainty)
    if isinstance(choice, int):
        bands = np.quantile(q, LEVELS, axis=0)
        return Moment(step, ret, seen, choice, bands, decision.q_acting, decision.uncertainty)
    if decision.proposals is None:
        return Moment(step, ret, seen, choice, None, None, decision.uncertainty)
    value, proposed = q.astype(np.float64), np.quantile(decision.proposals, LEVELS, axis=0)
    return Moment(
        step, ret, seen, choice, np.quantile(value, LEVELS, axis=0), value.mean(0), float(value.std()), proposed
    )


def picture(env: gym.Env, obs: Any) -> Image.Image | None:
    """Return what the environment renders, or else an observation that is itself an image or a grid, or None."""
    frame = env.render() if env.render_mode == "rgb_array" else obs
    if not isinstance(frame, np.ndarray) or frame.ndim not in (2, 3) or frame.shape[0] < 2 or frame.shape[1] < 2:
        return None
    if frame.ndim == 3 and frame.shape[2] not in (1, 3):
        frame = frame[..., -1]  # the newest of stacked gray ones
    if frame.dtype != np.uint8 or frame.max() <= 1:
        size = float(np.abs(frame).max()) or 1.0
        frame = np.uint8(255 * (1 - np.clip(frame / size, 0, 1)))
    return Image.fromarray(frame.squeeze())
