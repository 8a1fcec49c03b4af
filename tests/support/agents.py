"""The least that the training loop asks of an agent."""

import torch

from bayesrl.rl.agent import Agent


class Idle(Agent):
    """Acts 0, learns nothing, counts updates."""

    updates = 0

    def act(self, obs, start, mask=None):
        return torch.zeros(len(obs), dtype=torch.int64)

    greedy = lambda self, obs, mask=None: self.act(obs, None)  # noqa: E731

    def observe(self, transition): ...

    def ready(self):
        return True

    def learn(self):
        self.updates += 1
        return {"loss": torch.zeros(())}
