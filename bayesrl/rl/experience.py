"""Experience: the source of an agent's batches."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from bayesrl.posteriors import Posterior
from bayesrl.rl.replay_buffer import ReplayBuffer, Sample

Policy = Callable[[Tensor], Tensor]  # observations [n, D] -> actions [n] or [n, A]


class Experience(nn.Module):
    """Batches from the replay buffer alone; `world_models.imagination.Imagination` adds imagined transitions."""

    def tags(self, posterior: Posterior, n: int) -> Tensor:
        """Return the entries that the replay buffer stores with n new transitions, [n, K]."""
        return posterior.tags(n)

    def renew(self, replay: ReplayBuffer, posterior: Posterior, policy: Callable[[int], Policy]) -> dict[str, Tensor]:
        """Do whatever is due before an update; return 0-d tensors for the log.

        Arguments:
            replay: the agent's replay buffer.
            posterior: the agent's posterior over values.
            policy: maps n to the policy of n branches, one draw each, from observations [n, D] to actions.
        """
        return {}

    def index(self, replay: ReplayBuffer, batch_size: int) -> Tensor:
        """Return the random positions of a batch, [B] int64, drawn from torch's global generator."""
        return replay.index(batch_size)

    def gather(self, replay: ReplayBuffer, index: Tensor) -> Sample:
        """Return the batch at the positions `index` [B]: a pure tensor function of constant shapes."""
        return replay.gather(index)
