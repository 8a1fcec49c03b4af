"""MyAgent: BayesDQN with another way to decide."""

import torch
from bayesrl.agents.bayes_dqn import BayesDQN
from bayesrl.rl.td import greedy


class MyAgent(BayesDQN):
    """When evaluated, decides by a low quantile of its draws instead of their mean: it avoids what it is unsure of.

    Arguments:
        spec: of the environments.
        posterior: over Q-functions.
        quantile: over draws; 0.5 is their median.
        others: as BayesDQN takes them.
    """

    def __init__(self, spec, posterior, quantile=0.1, **others):
        if not 0 <= quantile <= 1:
            raise ValueError(f"got quantile={quantile}, wanted 0 to 1: give agent.quantile")
        super().__init__(spec, posterior, **others)
        self.quantile = quantile

    @torch.no_grad()
    def greedy(self, x, mask=None):
        q = self.target.sample(self.normalizer.obs(x))  # [draws, B, A]
        return greedy(q.quantile(self.quantile, 0), mask)
