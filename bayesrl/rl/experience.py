"""Experience: where the batches of an agent come from."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from bayesrl.posteriors import Posterior
from bayesrl.rl.replay_buffer import ReplayBuffer, Sample

Policy = Callable[[Tensor], Tensor]  # observations [n, D] -> actions [n] or [n, A]


class Experience(nn.Module):
    """Batches of the replay alone; `world_models.imagination.Imagination` mixes imagined transitions into them."""

    def tags(self, posterior: Posterior, n: int) -> Tensor:
        """Return what the replay stores with each of n new transitions, [n, K]."""
        return posterior.tags(n)

    def renew(self, replay: ReplayBuffer, posterior: Posterior, policy: Callable[[int], Policy]) -> dict[str, Tensor]:
        """Do whatever is due before an update; return 0-d tensors for the log.

        Arguments:
            replay: the agent's memory.
            posterior: the agent's, over values.
            policy: n -> the policy of n branches, one draw each: observations [n, D] to actions.
        """
        return {}

    def index(self, replay: ReplayBuffer, batch_size: int) -> Tensor:
        """Return the random places of a batch, [B] int64, from torch's global generator."""
        return replay.index(batch_size)

    def gather(self, replay: ReplayBuffer, index: Tensor) -> Sample:
        """Return the batch that `index` [B] names: a pure tensor function of constant shapes."""
        return replay.gather(index)
