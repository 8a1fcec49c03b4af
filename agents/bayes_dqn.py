"""`bayes_dqn`: deep Q-learning over a posterior. Draw a function, act on it for an episode, learn, draw again.

    y_k = r + gamma (1 - terminated) f^-_{z_k}(s', argmax_a f_{z_k}(s', a))        for n indices z_k at each update

f^- is the target network, evaluated at the same index. Any posterior serves: `point` with epsilon-greedy makes this
double DQN (van Hasselt et al., 2016), `ensemble` bootstrapped DQN (Osband et al., 2016), `hypermodel` the Bayesian
default (Li et al., HyperAgent, 2024).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from bayesrl.compilation.capture import capture, preserve_state
from bayesrl.posteriors import Batch, Learner
from bayesrl.rl.agent import ValueAgent, fresh_where, starts
from bayesrl.rl.experience import Experience
from bayesrl.rl.exploration import Exploration, Thompson
from bayesrl.rl.normalization import Normalizer
from bayesrl.rl.td import bellman, double_q, greedy
from bayesrl.rl.types import EnvSpec, Forecast, Transition


class DrawState(NamedTuple):
    """The state of acting by posterior draws.

    Attributes:
        z: the index of each environment's draw, [E, *].
        window: the last observations, [E, W, *], or None without a history.
    """

    z: Tensor
    window: Tensor | None


class BayesDQN(ValueAgent):
    """Thompson-sampling Q-learning with index-aligned targets.

    Arguments:
        spec: the properties of the environments; E environments, A actions.
        posterior: the posterior over functions from normalized observations, or windows of them, to the parameters of
            the likelihood of normalized Q-values, [B, A].
        exploration: turns draws into actions; Thompson sampling per episode by default.
        value: maps (online, target, mask) to the bootstrapped value, such as `double_q`.
        target_update: the rule by which the target follows the learner; `Polyak` by default.
        normalizer: the normalization of observations and returns; `Normalizer` by default.
        imagination: maps (spec, posterior, n_step, discount) to the source of batches; the replay buffer by default.
        discount: gamma, the discount factor.
        n_step: the number of rewards summed before bootstrapping.
        batch_size: B, the number of transitions of an update.
        capacity: the capacity of the replay buffer, in transitions.
        learning_starts: the number of steps stored before the first update.

    Raises:
        ValueError: actions are continuous, or a number is out of its range.
    """

    window: Tensor | None

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
        if spec.bounds is not None:
            raise ValueError(
                f"got continuous actions of {spec.actions} numbers, wanted discrete ones, because Q-learning compares "
                "all of them: choose agent=bayes_ac or agent=psrl, or wrap the environment to offer a few actions"
            )
        if batch_size < 1 or capacity < 1:
            raise ValueError(f"got batch_size={batch_size}, capacity={capacity}, wanted at least 1 of each")
        parts = (target_update, normalizer, imagination)
        super().__init__(spec, posterior, *parts, discount, n_step, batch_size, capacity, learning_starts)
        self.exploration, self.value = exploration or Thompson(), value
        shape = (spec.num_envs, self.history, 1 + math.prod(spec.shape))
        window = torch.zeros(shape, dtype=spec.dtype, device=self.device) if self.history > 1 else None
        self.register_buffer("window", window)
        self.choose: Callable[..., Tensor] = self.decide

    @torch.no_grad()
    def act(self, obs: Tensor, episode_start: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.inputs(obs, self.window, episode_start)
        if self.history > 1:
            self.window = x
        noise = self.exploration.noise(self.posterior, episode_start)
        return self.choose(x, *noise) if mask is None else self.choose(x, *noise, mask)

    def decide(self, x: Tensor, *noise: Tensor) -> Tensor:
        """Return actions [E] at x [E, *] from the exploration's noise and, where environments have one, the mask."""
        mask = noise[-1] if self.spec.masked else None
        noise = noise[:-1] if self.spec.masked else noise
        return self.exploration.decide(self.posterior, self.normalizer.obs(x), mask, *noise)

    def observe(self, transition: Transition) -> None:
        super().observe(transition)
        self.exploration.observe(transition)

    def learn(self) -> dict[str, Tensor]:
        metrics = self.experience.renew(self.replay, self.posterior, self.branch_policy)
        index = self.experience.index(self.replay, self.batch_size)
        return self.step(index, self.posterior.index(self.posterior.draws)) | metrics

    def branch_policy(self, n: int) -> Callable[[Tensor], Tensor]:
        """Return the policy of n imagined branches, each greedy on its own draw: obs [n, *] -> actions [n]."""
        z = self.posterior.index(n)
        return lambda obs: self.choose_by_draw(z, obs)

    def choose_by_draw(self, z: Tensor, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the greedy action [n] of draw z[i] at input x[i], [n, *] both."""
        return greedy(self.posterior.likelihood.mean(self.posterior.paired(z, self.normalizer.obs(x))), mask)

    def update(self, index: Tensor, z: Tensor) -> dict[str, Tensor]:
        """Update draws z [n, *] on the transitions at `index` [B], without branches on data."""
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
    def greedy(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the greedy actions of the target's mean, an average of recent learners that varies less."""
        return greedy(self.target.mean(self.normalizer.obs(x)), mask)

    @torch.no_grad()
    def sample(
        self,
        obs: Tensor,
        state: DrawState | None = None,
        episode_start: Tensor | None = None,
        mask: Tensor | None = None,
        generator: Generator | None = None,
    ) -> tuple[Tensor, DrawState]:
        begins = starts(obs, state, episode_start)
        x = self.inputs(obs, state and state.window, begins)
        z = fresh_where(begins, state and state.z, lambda k: self.posterior.index(k, generator))
        return self.choose_by_draw(z, x, mask), DrawState(z, x if self.history > 1 else None)

    @torch.no_grad()
    def forecast(self, x: Tensor, generator: Generator) -> Forecast:
        z = self.posterior.index(100, generator)
        return Forecast(self.q_values(z, x), self.posterior.kl(z), self.posterior.degenerate)

    def capture(
        self, updates: float = math.inf, acts: float = math.inf, say: Callable[[str], None] = print
    ) -> tuple[bool, bool]:
        """Compile the update and, if that succeeds, acting on given noise; return whether it did each."""
        z = self.posterior.index(self.posterior.draws, Generator(self.device).manual_seed(0))
        if not self.capture_update(z, updates, say):
            return False, False
        E, A = self.spec.num_envs, self.spec.actions
        shape = self.spec.shape if self.window is None else self.window.shape[1:]
        x = torch.zeros(E, *shape, dtype=self.spec.dtype, device=self.device)
        start, mask = (torch.ones(*size, dtype=torch.bool, device=self.device) for size in ((E,), (E, A)))
        with preserve_state(self), torch.random.fork_rng():
            noise = self.exploration.noise(self.posterior, start)
        example = (*noise, mask) if self.spec.masked else noise
        self.choose = capture(self.decide, self, x, *example, name="acting", calls=acts, say=say)
        return True, self.choose != self.decide
