"""Imagination: short rollouts in draws of a dynamics posterior, from which an agent learns beside its experience.

    batch = (1 - share) B from the replay + share B from branches s, a_1, s_1, ..., a_H, s_H;    s from the replay,
    s_{t+1}, r_t ~ world z, a_t ~ the agent's policy; each branch has its own draw of both

Learning from both is Dyna (Sutton, Integrated Architectures for Learning, Planning, and Reacting, 1990). Short branches
from real states keep the errors of a world from accumulating (Janner et al., When to Trust Your Model:
Model-Based Policy Optimization, 2019). Shapes: B batch, D numbers of an observation, K of a tag, H horizon.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bayesrl.posteriors import Learner, Posterior
from bayesrl.rl.experience import Experience, Policy
from bayesrl.rl.replay_buffer import ReplayBuffer, Sample
from bayesrl.rl.types import EnvSpec, Transition
from bayesrl.world_models.dynamics import Dynamics, signature


class Imagination(Experience):
    """Experience that learns a posterior over worlds and mixes imagined transitions into every batch.

    Imagined transitions do not count as data: the `size` of a batch stays that of the replay buffer.

    Arguments:
        spec: the properties of the environments; observations are vectors of numbers, and no action is masked.
        posterior: the agent's posterior over values.
        n_step: the number of rewards of a target, which ends at the latest with its branch.
        discount: gamma, the discount factor.
        world: the posterior over functions of the shapes that `dynamics.signature` gives, with the likelihood
            `WithFlag`.
        dynamics: maps (spec, world) to the dynamics, with known functions and temperatures.
        share: the share of a batch that is imagined, in (0, 1).
        horizon: H, the number of steps of a branch; one that terminates earlier restarts from another real state.
        branches: the number of branches imagined at a time, each in its own world.
        every: the number of new rows of the replay buffer after which worlds are fitted and branches imagined.
        updates: the number of updates of a fit.
        batch_size: the number of transitions of an update of the worlds.
        capacity: the capacity of the buffer of imagined transitions; new ones overwrite the oldest.

    Raises:
        ValueError: the environments cannot be imagined, or a number is out of its range.
    """

    fitted: Tensor

    def __init__(
        self,
        spec: EnvSpec,
        posterior: Posterior,
        n_step: int,
        discount: float,
        world: Learner,
        dynamics: Callable[..., Dynamics] = Dynamics,
        share: float = 0.5,
        horizon: int = 5,
        branches: int = 100,
        every: int = 100,
        updates: int = 300,
        batch_size: int = 128,
        capacity: int = 2000,
    ) -> None:
        super().__init__()
        world_signature(spec)
        if (W := max(posterior.history, world.history)) > 1:
            raise ValueError(
                f"got a network with a history of {W} observations, wanted 1, because worlds are "
                "learned from single ones: leave imagination out, or choose another network"
            )
        if not 0 < share < 1 or min(horizon, branches, every, updates, batch_size) < 1:
            raise ValueError(
                f"got share={share}, horizon={horizon}, branches={branches}, every={every}, updates={updates}, "
                f"batch_size={batch_size}, wanted a share between 0 and 1 and at least 1 of the others"
            )
        least = branches * max(horizon, n_step + 1)
        if capacity < least:
            raise ValueError(
                f"got capacity={capacity}, wanted at least {least}, for {branches} branches of {horizon} steps and "
                f"targets of {n_step}: raise imagination.capacity"
            )
        device, tags = next(world.parameters()).device, posterior.tags(1)
        self.width, self.dtype = tags.shape[1], tags.dtype
        self.dynamics = dynamics(spec, world)
        self.memory = ReplayBuffer(spec._replace(num_envs=branches), tags, capacity, n_step, discount, device)
        self.share, self.horizon, self.branches, self.every = share, horizon, branches, every
        self.updates, self.batch_size = updates, batch_size
        self.metrics: dict[str, Tensor] = {}
        self.register_buffer(
            "fitted", torch.zeros((), dtype=torch.int64, device=device)
        )  # rows of the replay buffer at the last fit

    def tags(self, posterior: Posterior, n: int) -> Tensor:
        """Return the tags of the agent's posterior and of the world's, side by side."""
        return torch.cat([p.tags(n).to(self.fitted.device) for p in (posterior, self.dynamics.posterior)], 1)

    def renew(self, replay: ReplayBuffer, posterior: Posterior, policy: Callable[[int], Policy]) -> dict[str, Tensor]:
        """If due, score the worlds on new transitions, fit them to all, and imagine; return the last scores."""
        since = int(self.fitted)
        if since and replay.rows - since < self.every:
            return self.metrics
        steps = Steps(replay, self.width, self.dynamics.posterior.tags(1).dtype)
        if since:
            rows = torch.arange(max(since, replay.rows - replay.T), replay.rows, device=self.fitted.device) % replay.T
            new = (rows[:, None] * replay.E + torch.arange(replay.E, device=rows.device)).flatten()
            sample = steps.gather(new)
            if sample.weight.any():  # not only resets
                self.metrics = {f"model/{name}": value for name, value in self.dynamics.score(sample).items()}
        self.dynamics.fit(steps, self.updates, self.batch_size)
        self.fitted.fill_(replay.rows)
        self.imagine(replay, posterior, policy(self.branches))
        while len(self.memory) == 0:  # targets of more steps than a branch has
            self.imagine(replay, posterior, policy(self.branches))
        return self.metrics

    @torch.no_grad()
    def imagine(self, replay: ReplayBuffer, posterior: Posterior, policy: Policy) -> None:
        """Store H steps of every branch; a step that is not finite is stored as invalid."""
        n, dynamics = self.branches, self.dynamics
        worlds = dynamics.worlds(dynamics.posterior.index(n))
        obs = start_observations(replay, n)
        for t in range(self.horizon):
            action = policy(obs)
            noise = torch.randn(n, 1, len(dynamics.target_mean), device=obs.device)
            step = worlds.step(obs[:, None], dynamics.encode_action(action)[:, None], noise)
            next_obs, reward, ends = step.next_obs[:, 0], step.reward[:, 0], step.terminated[:, 0]
            valid = next_obs.isfinite().all(1) & reward.isfinite() & ends.isfinite()
            terminated = valid & (torch.rand_like(ends) < ends)
            truncated = ~valid if t < self.horizon - 1 else ~terminated
            next_obs, reward = torch.where(valid[:, None], next_obs, obs), torch.where(valid, reward, 0.0)
            self.memory.add(Transition(obs, action, reward, terminated, truncated, next_obs, valid), posterior.tags(n))
            obs = torch.where((terminated | truncated)[:, None], start_observations(replay, n), next_obs)

    def index(self, replay: ReplayBuffer, batch_size: int) -> Tensor:
        """Return positions in the replay buffer, then, for the imagined share, in the buffer of imagined ones, [B]."""
        count = round(self.share * batch_size)
        return torch.cat([replay.index(batch_size - count), self.memory.index(count)])

    def gather(self, replay: ReplayBuffer, index: Tensor) -> Sample:
        count = round(self.share * len(index))
        real_index, imagined_index = index.split([len(index) - count, count])
        real, imagined = replay.gather(real_index), self.memory.gather(imagined_index)
        real = real._replace(tags=real.tags[:, : self.width].to(self.dtype))
        joined = {
            name: torch.cat([part, getattr(imagined, name)])
            for name, part in real._asdict().items()
            if part is not None and part.dim()
        }
        return real._replace(**joined)  # without masks, with the size of the replay buffer

    def get_extra_state(self) -> dict:
        return {"rows": self.memory.rows, "columns": self.memory.rows_since(0), "metrics": self.metrics}

    def set_extra_state(self, state: dict) -> None:
        self.memory.restore(state["columns"], state["rows"])
        self.metrics = state["metrics"]


class Steps(ReplayBuffer):
    """A view of a replay buffer for dynamics: single undiscounted steps, with the tags from column `width` on."""

    def __init__(self, replay: ReplayBuffer, width: int, dtype: torch.dtype) -> None:
        self.__dict__.update(replay.__dict__)  # shares the tensors
        self.n_step, self.discount, self.width, self.dtype = 1, 1.0, width, dtype

    def gather(self, index: Tensor) -> Sample:
        sample = super().gather(index)
        return sample._replace(tags=sample.tags[:, self.width :].to(self.dtype))


def start_observations(replay: ReplayBuffer, n: int) -> Tensor:
    """Return the observations of n random transitions of the replay buffer, [n, D]."""
    real = replay.columns["valid"].flatten().nonzero()[:, 0]  # rows never written are not valid
    return replay.columns["obs"].flatten(0, 1)[real[torch.randint(len(real), (n,), device=real.device)]]


def world_signature(spec: EnvSpec) -> tuple[tuple[int], int]:
    """Return `dynamics.signature` for environments that can be imagined.

    Raises:
        ValueError: the observations are not vectors of numbers, or actions are masked.
    """
    if spec.dtype != torch.float32 or len(spec.shape) != 1:
        raise ValueError(
            f"got observations {list(spec.shape)} of {spec.dtype}, wanted a vector of numbers, whose change a world "
            "predicts: leave imagination out"
        )
    if spec.masked:
        raise ValueError(
            "got environments that mask actions, wanted ones that allow all, because no world predicts the next mask: "
            "leave imagination out"
        )
    return signature(spec)
