"""`bayes_dqn`: deep Q-learning over a posterior. Draw a function, act on it for an episode, learn, draw again.

    y_k = r + gamma (1 - terminated) f^-_{z_k}(s', argmax_a f_{z_k}(s', a))        for n indices z_k at each update

f^- is the target snapshot, asked with the same index. Knows no posterior by name: `point` with epsilon-greedy makes
this double DQN (van Hasselt et al., 2016), `ensemble` bootstrapped DQN (Osband et al., 2016), `hypermodel` the Bayesian
default (Li et al., HyperAgent, 2024).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bayesrl.compilation.capture import capture, preserve_state
from bayesrl.posteriors import Batch, Learner
from bayesrl.rl.exploration import Exploration, Thompson
from bayesrl.rl.normalization import Normalizer
from bayesrl.rl.observation_windows import follow
from bayesrl.rl.replay_buffer import ReplayBuffer
from bayesrl.rl.td import Polyak, bellman, double_q, greedy
from bayesrl.rl.types import EnvSpec, Forecast, Transition
from bayesrl.world_models.imagination import Experience


class BayesDQN(nn.Module):
    """Thompson-sampling Q-learning with index-aligned targets.

    Arguments:
        spec: of the environments; E environments, A actions.
        posterior: over functions from scaled observations, or windows of its `history` of them, to (the likelihood's
            numbers of) scaled Q-values, [B, A].
        exploration: draws -> actions; Thompson sampling per episode by default.
        value: (online, target, mask) -> the value taught, such as `double_q`.
        target_update: how the target follows the learner.
        normalizer: of observations and returns; made from the spec by default.
        imagination: (spec, posterior, n_step, discount) -> where batches come from; from the replay by default.
        discount: gamma.
        n_step: rewards summed before bootstrapping.
        batch_size: B.
        capacity: of the replay, in transitions.
        learning_starts: steps stored before the first update.

    Raises:
        ValueError: continuous actions, or numbers that make no sense.
    """

    seen: Tensor | None

    def __init__(
        self,
        spec: EnvSpec,
        posterior: Learner,
        exploration: Exploration | None = None,
        value: Callable = double_q,
        target_update: nn.Module | None = None,
        normalizer: Normalizer | None = None,
        imagination: Callable[..., Experience] | None = None,
        discount: float = 0.99,
        n_step: int = 2,
        batch_size: int = 128,
        capacity: int = 100_000,
        learning_starts: int = 500,
    ) -> None:
        super().__init__()
        if spec.bounds is not None:
            raise ValueError(
                f"got continuous actions of {spec.actions} numbers, wanted discrete ones, because Q-learning compares "
                "all of them: choose agent=bayes_ac or agent=psrl, or wrap the environment to offer a few actions"
            )
        if batch_size < 1 or capacity < 1:
            raise ValueError(f"got batch_size={batch_size}, capacity={capacity}, wanted at least 1 of each")
        device = next(posterior.parameters()).device
        self.posterior, self.target = posterior, posterior.snapshot()
        self.exploration = exploration or Thompson()
        self.value, self.target_update = value, target_update or Polyak()
        self.normalizer = normalizer or Normalizer(spec, discount).to(device)
        W = self.history = posterior.history
        self.experience = imagination(spec, posterior, n_step, discount) if imagination else Experience()
        self.replay = ReplayBuffer(spec, self.experience.tags(posterior, 1), capacity, n_step, discount, device, W)
        window = (spec.num_envs, W, 1 + math.prod(spec.shape))
        self.register_buffer("seen", torch.zeros(window, dtype=spec.dtype, device=device) if W > 1 else None)
        self.device = device
        self.spec, self.batch_size, self.learning_starts = spec, batch_size, max(learning_starts, 1)
        self.step: Callable[[Tensor, Tensor], dict[str, Tensor]] = self.update
        self.choose: Callable[..., Tensor] = self.decide

    @torch.no_grad()
    def act(self, obs: Tensor, start: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.see(obs, start, self.seen)
        if self.history > 1:
            self.seen = x
        noise = self.exploration.noise(self.posterior, start)
        return self.choose(x, *noise) if mask is None else self.choose(x, *noise, mask)

    def see(self, obs: Tensor, start: Tensor, seen: Tensor | None = None) -> Tensor:
        return obs if self.history == 1 else follow(seen, obs, start, self.history)

    def observe(self, transition: Transition) -> None:
        self.normalizer.observe(transition)
        self.exploration.observe(transition)
        self.replay.add(transition, self.experience.tags(self.posterior, self.spec.num_envs))

    def ready(self) -> bool:
        return len(self.replay) > 0 and self.replay.rows * self.spec.num_envs >= self.learning_starts

    def learn(self) -> dict[str, Tensor]:
        told = self.experience.renew(self.replay, self.posterior, self.follow)
        index = self.experience.index(self.replay, self.batch_size)
        return self.step(index, self.posterior.index(self.posterior.draws)) | told

    def follow(self, n: int) -> Callable[[Tensor], Tensor]:
        """Return how n imagined branches act, each greedily on its own draw: obs [n, *] -> actions [n]."""
        z = self.posterior.index(n)
        return lambda obs: greedy(self.posterior.likelihood.mean(self.posterior.paired(z, self.normalizer.obs(obs))))

    def capture(
        self, updates: float = math.inf, acts: float = math.inf, say: Callable[[str], None] = print
    ) -> tuple[bool, bool]:
        """Compile the whole update and acting, where so many calls save more time than that takes; whether it did.

        Acting, once its noise is drawn, and only beside the update.
        """
        z = self.posterior.index(self.posterior.draws, torch.Generator(self.device).manual_seed(0))
        index = torch.zeros(self.batch_size, dtype=torch.int64, device=self.device)
        self.step = capture(self.update, self, index, z, name="the update", calls=updates, say=say)
        if self.step == self.update:
            return False, False
        E, A = self.spec.num_envs, self.spec.actions
        shape = self.spec.shape if self.seen is None else self.seen.shape[1:]
        x = torch.zeros(E, *shape, dtype=self.spec.dtype, device=self.device)
        start, mask = (torch.ones(*size, dtype=torch.bool, device=self.device) for size in ((E,), (E, A)))
        with preserve_state(self), torch.random.fork_rng():
            noise = self.exploration.noise(self.posterior, start)
        given = (*noise, mask) if self.spec.masked else noise
        self.choose = capture(self.decide, self, x, *given, name="acting", calls=acts, say=say)
        return True, self.choose != self.decide

    def decide(self, x: Tensor, *given: Tensor) -> Tensor:
        """Actions [E] for x [E, *] from the exploration's noise and, where the environments have one, the mask."""
        noise, mask = (given[:-1], given[-1]) if self.spec.masked else (given, None)
        return self.exploration.decide(self.posterior, self.normalizer.obs(x), mask, *noise)

    def update(self, index: Tensor, z: Tensor) -> dict[str, Tensor]:
        """Teach draws z [n, *] the transitions `index` [B]: a pure tensor function, no branch on data, no sync."""
        sample = self.experience.gather(self.replay, index)
        x, x_next = self.normalizer.obs(sample.obs), self.normalizer.obs(sample.next_obs)
        with torch.no_grad():
            value = self.value(self.posterior.expected(z, x_next), self.target.expected(z, x_next), sample.next_mask)
            weight, perturbation = self.posterior.bootstrap(z, sample.tags)
            y = bellman(sample.reward / self.normalizer.scale, sample.discount, value) + perturbation
        info = self.posterior.learn(Batch(x, sample.action, y, weight * sample.weight, sample.size), z)
        with torch.no_grad():
            self.target_update(self.target.parameters(), self.posterior.parameters())
        return info

    @torch.no_grad()
    def greedy(self, obs: Tensor, mask: Tensor | None = None) -> Tensor:
        """The target's mean decides: an average of recent learners, steadier than the last one."""
        return greedy(self.target.mean(self.normalizer.obs(obs)), mask)

    @torch.no_grad()
    def forecast(self, obs: Tensor, generator: torch.Generator) -> Forecast:
        z = self.posterior.index(100, generator)
        q = self.posterior.expected(z, self.normalizer.obs(obs)) * self.normalizer.scale
        return Forecast(q, self.posterior.kl(z), self.posterior.degenerate)
