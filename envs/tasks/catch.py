"""Catch, observed as images (Mnih et al., Recurrent Models of Visual Attention, 2014; Osband et al., bsuite, 2020).

A ball falls by one row per step, and a paddle in the bottom row must be under it at the end. The reward is +1 for a
caught ball and -1 for a missed one. The ball's column is uniform, so that a policy that ignores it has mean
2 / columns - 1.
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy import ndarray

WHITE = 255


class Catch(gym.Env):
    """One game of Catch; an episode is terminated after rows - 1 steps and never truncated.

    Observations are images [rows, columns, 1] uint8, with 255 at the ball and the paddle. Actions move the paddle to
    the left (0), nowhere (1) or to the right (2); the walls stop it. It starts in the middle.

    Arguments:
        rows, columns: size of the image.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, rows: int = 10, columns: int = 5) -> None:
        if columns < 1 or rows < 2 or rows - 1 < columns // 2:
            raise ValueError(
                f"got rows={rows}, columns={columns}, wanted so many rows that the paddle can reach every column; "
                f"take at least {max(columns // 2 + 1, 2)} rows and 1 column"
            )
        self.rows, self.columns = rows, columns
        self.observation_space = Box(0, WHITE, (rows, columns, 1), np.uint8)
        self.action_space = Discrete(3)
        self.row, self.ball, self.paddle = rows - 1, 0, columns // 2

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[ndarray, dict]:
        super().reset(seed=seed)
        self.row, self.ball, self.paddle = 0, int(self.np_random.integers(self.columns)), self.columns // 2
        return self._observation(), {}

    def step(self, action: int) -> tuple[ndarray, float, bool, bool, dict]:
        if not self.action_space.contains(action):
            raise ValueError(f"got action {action!r}, wanted 0 (left), 1 or 2 (right); sample it from action_space")
        if self.row == self.rows - 1:
            raise ValueError("got a step outside an episode, wanted reset first; call reset() after terminated")
        self.paddle = min(max(self.paddle + int(action) - 1, 0), self.columns - 1)
        self.row += 1
        down = self.row == self.rows - 1
        reward = (1.0 if self.ball == self.paddle else -1.0) if down else 0.0
        return self._observation(), reward, down, False, {}

    def _observation(self) -> ndarray:
        image = np.zeros((self.rows, self.columns, 1), dtype=np.uint8)
        image[self.row, self.ball] = image[-1, self.paddle] = WHITE
        return image
