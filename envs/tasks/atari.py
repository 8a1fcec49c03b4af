"""Atari games of the Arcade Learning Environment (Bellemare et al., 2013), which resume bit for bit.

`env=atari` puts them into the usual wrappers (Mnih et al., 2015): 84 x 84 gray, four frames a step, the last four
steps as one observation, rewards clipped to -1 .. 1. Needs the extra `atari`.
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
    """One game, one frame a step, [210, 160, 3] uint8, with the actions that it has a use for.

    Arguments:
        game: in small letters, such as pong, breakout, montezuma_revenge.
        sticky: probability that an action is repeated in place of the next (Machado et al., 2018: 0.25).
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
