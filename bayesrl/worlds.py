"""Worlds: draws of dynamics, to act in.

Shapes: n worlds, B batch, D numbers of an observation, A of an action; K = D + 1 targets that are numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

if TYPE_CHECKING:
    from bayesrl.dynamics import Dynamics


class Imagined(NamedTuple):
    """One step of n worlds.

    Attributes:
        next_obs: [n, B, D].
        reward: [n, B].
        terminated: the probability that the episode ends here, [n, B].
    """

    next_obs: Tensor
    reward: Tensor
    terminated: Tensor


class Worlds:
    """n worlds to act in.

    Arguments:
        dynamics: that they are drawn from.
        function: of all of them, each on a batch of its own: [n, B, D + A] -> [n, B, (K + 1) * size].
        count: n.
    """

    def __init__(self, dynamics: Dynamics, function: Callable[[Tensor], Tensor], count: int) -> None:
        self.dynamics, self.function, self.count = dynamics, function, count

    def step(self, obs: Tensor, action: Tensor, noise: Tensor | None = None) -> Imagined:
        """Each world on a batch of its own.

        Arguments:
            obs: [n, B, D].
            action: [n, B, A] in [-1, 1]; of discrete actions the one with the greatest number is taken.
            noise: standard normal numbers that fit [n, B, K], for the aleatoric part; without it, what is expected.
        """
        d, likelihood = self.dynamics, self.dynamics.posterior.likelihood
        action = d.taken(action)
        out = self.function(d.inputs(obs, action))
        y, flag = likelihood.mean(out).split([len(d.target_mean), 1], -1)
        if noise is not None:
            y = y + likelihood.variance(out)[..., :-1].sqrt() * noise
        change, reward = (d.target_mean + d.target_scale * y).split([len(d.target_mean) - 1, 1], -1)
        after = obs + change
        return Imagined(
            after,
            reward[..., 0] if d.reward is None else d.reward(obs, action, after),
            flag[..., 0] if d.terminated is None else d.terminated(after).to(y.dtype),
        )
