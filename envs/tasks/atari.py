"""Atari games of the Arcade Learning Environment (Bellemare et al., 2013), which resume bit for bit.

`env=atari` adds the usual wrappers (Mnih et al., 2015): 84 x 84 gray images, four frames per step, the last four steps
as one observation, and rewards clipped to [-1, 1]. The extra `atari` is required.
"""

from __future__ import annotations

import numpy as np
from gymnasium.error import DependencyNotInstalled

try:
    from ale_py import ALEState
    from ale_py.env import AtariEnv
except ImportError as error:
    raise DependencyNotInstalled("ale-py of gymnasium[atari]") from error


class Atari(AtariEnv):
    """One game, with one frame [210, 160, 3] uint8 per step and the minimal set of its actions.

    Arguments:
        game: name in lower case, such as pong, breakout or montezuma_revenge.
        sticky: probability that the previous action is repeated (0.25 in Machado et al., 2018).
        render_mode: "human" or "rgb_array".
    """

    def __init__(self, game: str = "pong", sticky: float = 0.25, render_mode: str | None = None) -> None:
        super().__init__(
            game,
            frameskip=1,
            repeat_action_probability=sticky,
            max_num_frames_per_episode=108_000,  # half an hour of play
            render_mode=render_mode,
        )

    def get_state(self) -> dict:
        state = self.ale.cloneState(include_rng=True).serialize()
        return {"ale": np.frombuffer(state, np.uint8)}

    def set_state(self, state: dict) -> None:
        self.ale.restoreState(ALEState(state["ale"].tobytes()))
