"""MyEnv: walk along a line to its right end."""

import gymnasium as gym
import numpy as np


class MyEnv(gym.Env):
    """A place x in 0 .. size is seen; 0 steps left, 1 right; a step costs 0.1, arriving at `size` pays 1 and ends it.

    Arguments:
        size: of the line.
        render_mode: "ansi" draws a line of text.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012

    def __init__(self, size=10, render_mode=None):
        if size < 1:
            raise ValueError(f"got size={size}, wanted at least 1: give env.kwargs.size")
        self.size, self.render_mode = size, render_mode
        self.observation_space = gym.spaces.Box(0, size, (1,), np.float32)
        self.action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)  # seeds self.np_random, from which all randomness must come
        self.x = int(self.np_random.integers((self.size + 1) // 2))
        return self.observe(), {}

    def step(self, action):
        self.x = max(self.x + (1 if action == 1 else -1), 0)
        arrived = self.x == self.size
        reward = 1.0 if arrived else -0.1
        # terminated: it ended in the world, its value is 0 from here on; truncated: it was cut, by the limit below
        return self.observe(), reward, arrived, False, {}

    def observe(self):
        return np.array([self.x], np.float32)

    def render(self):
        if self.render_mode == "ansi":
            return "".join("o" if i == self.x else "." for i in range(self.size + 1))


gym.register("MyEnv-v0", entry_point=MyEnv, max_episode_steps=50)
