"""Play an episode for a viewer: every step with the posterior's view of it.

Shapes: n draws, A actions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from PIL import Image

from bayesrl.deployment.policy import Decision, Policy

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)  # quantiles that the bands are drawn at


class EpisodeStep(NamedTuple):
    """One step of an episode, as a viewer shows it.

    Attributes:
        step: number of steps before it.
        ret: sum of the rewards before it.
        picture: image of the environment, or None where there is none.
        action: number of the chosen action, or the numbers of a continuous one.
        bands: quantiles of Q over draws at LEVELS, [5, A], in return units; where actions are continuous, of the
            chosen one alone, [5, 1]; None for agents without values of actions.
        acting: Q of the function that acts, [A]; None as bands.
        uncertainty: standard deviation over draws of Q at the chosen action; NaN for agents without values.
        proposed: quantiles at LEVELS of what each draw's policy would do, [5, A] in [-1, 1], where continuous; or None.
        ended: how the episode ended, in the step after the last one, which chooses no action; empty before.
    """

    step: int
    ret: float
    picture: Image.Image | None
    action: Any
    bands: np.ndarray | None
    acting: np.ndarray | None
    uncertainty: float
    proposed: np.ndarray | None = None
    ended: str = ""

    @property
    def taken(self) -> int:
        """Return the column of `bands` that belongs to the chosen action."""
        return self.action if isinstance(self.action, int) else 0


def play(policy: Policy, env: gym.Env, seed: int, limit: int) -> Iterator[EpisodeStep]:
    """Yield the steps of one episode, at most `limit` of them, and its end."""
    policy.reset()
    obs, info = env.reset(seed=seed)
    ret, ended = 0.0, f"cut after {limit} steps"
    for step in range(limit):
        decision = policy.decide(obs, info["action_mask"] if policy.spec.masked else None)
        episode_step = _episode_step(step, ret, picture(env, obs), decision)
        yield episode_step
        obs, reward, terminated, truncated, info = env.step(decision.action)
        ret += float(reward)
        if terminated or truncated:
            ended = "terminated" if terminated else "truncated"
            break
    yield episode_step._replace(step=step + 1, ret=ret, picture=picture(env, obs), ended=ended)


def _episode_step(step: int, ret: float, image: Image.Image | None, decision: Decision) -> EpisodeStep:
    choice, q = decision.choice.tolist(), decision.q
    if q is None:
        return EpisodeStep(step, ret, image, choice, None, None, decision.uncertainty)
    if isinstance(choice, int):
        bands = np.quantile(q, LEVELS, axis=0)
        return EpisodeStep(step, ret, image, choice, bands, decision.q_acting, decision.uncertainty)
    if decision.proposals is None:
        return EpisodeStep(step, ret, image, choice, None, None, decision.uncertainty)
    value, proposed = q.astype(np.float64), np.quantile(decision.proposals, LEVELS, axis=0)
    return EpisodeStep(
        step, ret, image, choice, np.quantile(value, LEVELS, axis=0), value.mean(0), float(value.std()), proposed
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
