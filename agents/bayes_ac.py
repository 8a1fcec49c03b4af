"""`bayes_ac`: actor-critic over a posterior, for continuous actions. Draw, and follow the draw's policy for an episode.

    y_k = r + gamma (1 - terminated) f^-_{z_k}(s', clip(pi^-_k(s') + noise))      K draws z_k, kept for the whole run
    pi_k climbs f_{z_k}(s, pi_k(s))                                               a policy for each of them

f^- and pi^- are the targets, evaluated at the same index, so that every draw learns from itself and not from the
minimum of all: Thompson sampling explores where the draws disagree. Any posterior serves; with an ensemble the agent is
bootstrapped, prior-guided TD3 (Fujimoto et al., 2018; Osband et al., Deep Exploration via Randomized Value
Functions, 2019), with LayerNorm in place of the minimum of two critics.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Generator, Tensor, nn

from bayesrl.posteriors import Batch, Learner, Posterior
from bayesrl.rl.agent import ValueAgent, fresh_where, starts
from bayesrl.rl.experience import Experience
from bayesrl.rl.normalization import Normalizer
from bayesrl.rl.policies import Actors
from bayesrl.rl.td import bellman
from bayesrl.rl.types import EnvSpec, Forecast


def critic(spec: EnvSpec) -> tuple[tuple[int, ...], int]:
    """Return the signature of Q(s, a): observation and action side by side in, one value out.

    Raises:
        ValueError: actions are discrete, or observations are not vectors of numbers.
    """
    if spec.bounds is None:
        raise ValueError(f"got {spec.actions} discrete actions, wanted continuous ones: choose agent=bayes_dqn")
    if len(spec.shape) != 1 or spec.dtype != torch.float32:
        raise ValueError(
            f"got observations of shape {list(spec.shape)} and {spec.dtype}, wanted a vector of numbers: wrap the "
            "environment with one of gymnasium.wrappers' FlattenObservation or TransformObservation"
        )
    return (spec.shape[0] + spec.actions,), 1


class BayesAC(ValueAgent):
    """Thompson sampling over draws of Q, each with its own policy.

    Arguments:
        spec: the properties of the environments; E environments, actions of A numbers.
        posterior: the posterior over functions from a normalized observation and an action, [B, D + A], to a
            normalized value, [B, 1].
        draws: K, the number of draws with a policy each; by default, as many as the posterior trains at once.
        actors: maps (shape, A, K) to the policies.
        target_update: the rule by which the targets follow the learners; `Polyak` by default.
        normalizer: the normalization of observations and returns; `Normalizer` by default.
        imagination: maps (spec, posterior, n_step, discount) to the source of batches; the replay buffer by default.
        noise: the standard deviation of the noise on actions, for exploration and, doubled and clipped at 2.5 standard
            deviations, for smoothing of targets (Fujimoto et al., 2018).
        discount: gamma, the discount factor.
        n_step: the number of rewards summed before bootstrapping.
        batch_size: B, the number of transitions of an update.
        capacity: the capacity of the replay buffer, in transitions.
        learning_starts: the number of steps with uniformly random actions before the first update.

    Raises:
        ValueError: actions are discrete, observations are not vectors, or a number is out of its range.
    """

    signature = staticmethod(critic)
    z: Tensor
    index: Tensor

    def __init__(
        self,
        spec: EnvSpec,
        posterior: Learner,
        draws: int | None = None,
        actors: Callable[..., Actors] = Actors,
        target_update: nn.Module | None = None,
        normalizer: Normalizer | None = None,
        imagination: Callable[..., Experience] | None = None,
        noise: float = 0.1,
        discount: float = 0.99,
        n_step: int = 1,
        batch_size: int = 128,
        capacity: int = 100_000,
        learning_starts: int = 500,
    ) -> None:
        critic(spec)
        if batch_size < 1 or noise < 0:
            raise ValueError(f"got batch_size={batch_size}, noise={noise}, wanted at least 1 and no negative noise")
        K = posterior.draws if draws is None else draws
        policies = actors(spec.shape, spec.actions, K)
        parts = (target_update, normalizer, imagination)
        super().__init__(spec, posterior, *parts, discount, n_step, batch_size, capacity, learning_starts)
        self.actors = policies.to(self.device)
        self.target_actors = self.actors.snapshot()
        self.register_buffer("z", posterior.index(K))
        self.register_buffer("index", torch.zeros(spec.num_envs, dtype=torch.int64, device=self.device))
        self.noise = noise

    @torch.no_grad()
    def act(self, obs: Tensor, episode_start: Tensor, mask: Tensor | None = None) -> Tensor:
        self.index.copy_(torch.where(episode_start, torch.randint_like(self.index, len(self.z)), self.index))
        if not self.ready():
            return 2 * torch.rand(len(obs), self.spec.actions, device=obs.device) - 1
        return self.perturbed(self.index, obs)

    def perturbed(self, k: Tensor, obs: Tensor) -> Tensor:
        """Return the action of policy k[i] at observation i with noise, [E, A]."""
        action = self.actors.paired(k, self.normalizer.obs(obs))
        return (action + self.noise * torch.randn_like(action)).clamp(-1, 1)

    def learn(self) -> dict[str, Tensor]:
        metrics = self.experience.renew(self.replay, self.posterior, self.branch_policy)
        smoothing = torch.randn(len(self.z), self.batch_size, self.spec.actions, device=self.device)
        return self.step(self.experience.index(self.replay, self.batch_size), smoothing) | metrics

    def branch_policy(self, n: int) -> Callable[[Tensor], Tensor]:
        """Return the policy of n imagined branches, each by one of the K policies: obs [n, D] -> actions [n, A]."""
        return partial(self.perturbed, torch.randint(len(self.z), (n,), device=self.device))

    def update(self, index: Tensor, smoothing: Tensor) -> dict[str, Tensor]:
        """Update every draw and its policy on the transitions at `index` [B].

        Arguments:
            index: positions in the replay buffer, [B].
            smoothing: standard normal noise for the target policies' actions, [K, B, A].
        """
        sample = self.experience.gather(self.replay, index)
        x, x_next = self.normalizer.obs(sample.obs), self.normalizer.obs(sample.next_obs)
        with torch.no_grad():
            action = (self.target_actors(x_next) + 2 * self.noise * smoothing.clamp(-2.5, 2.5)).clamp(-1, 1)
            weight, perturbation = self.posterior.bootstrap(self.z, sample.tags)
            value = self.value(self.target, x_next, action)
            y = bellman(sample.reward / self.normalizer.scale, sample.discount, value)
        batch = Batch(
            torch.cat([x, sample.action], 1), None, (y + perturbation)[..., None], weight * sample.weight, sample.size
        )
        info = self.posterior.learn(batch, self.z)
        policy_value = self.actors.ascend(lambda a: self.value(self.posterior, x, a), x)
        info["policy_value"] = policy_value * self.normalizer.scale
        with torch.no_grad():
            self.target_update(
                [*self.target.parameters(), self.target_actors.psi], [*self.posterior.parameters(), self.actors.psi]
            )
        return info

    def value(self, posterior: Posterior, x: Tensor, action: Tensor) -> Tensor:
        """Return the normalized values of draw z_k at x [B, D] and action[k], [K, B, A] -> [K, B]."""
        joined = torch.cat([x.expand(len(action), *x.shape), action], -1)
        return posterior.likelihood.mean(posterior.functions(self.z)(joined))[..., 0]

    @torch.no_grad()
    def greedy(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return, of the K target policies' actions, the one whose value is best on average over the draws."""
        x = self.normalizer.obs(x)
        proposed = self.target_actors(x)  # [K, B, A]
        flat = torch.cat([x.repeat(len(proposed), 1), proposed.flatten(0, 1)], 1)
        mean = self.target.expected(self.z, flat).mean(0).view(len(proposed), len(x))
        return proposed[mean.argmax(0), torch.arange(len(x), device=x.device)]

    @torch.no_grad()
    def sample(
        self,
        obs: Tensor,
        state: Tensor | None = None,
        episode_start: Tensor | None = None,
        mask: Tensor | None = None,
        generator: Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Act by one of the K policies, without noise, whose number [E] is the state."""

        def draw(n: int) -> Tensor:
            return torch.randint(len(self.z), (n,), generator=generator, device=self.device)

        k = fresh_where(starts(obs, state, episode_start), state, draw)
        return self.actors.paired(k, self.normalizer.obs(obs)), k

    @torch.no_grad()
    def evaluate_actions(self, x: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        x = self.normalizer.obs(x)
        value = self.value(self.posterior, x, action.expand(len(self.z), *action.shape))
        return self.actors(x), value * self.normalizer.scale

    @torch.no_grad()
    def forecast(self, x: Tensor, generator: Generator) -> Forecast:
        """Return each draw's value of its own policy, [K, B, 1]."""
        x = self.normalizer.obs(x)
        q = self.value(self.posterior, x, self.actors(x))[..., None] * self.normalizer.scale
        return Forecast(q, self.posterior.kl(self.z), self.posterior.degenerate)

    def capture(
        self, updates: float = math.inf, acts: float = math.inf, say: Callable[[str], None] = print
    ) -> tuple[bool, bool]:
        """Compile the whole update; acting is not compiled."""
        smoothing = torch.zeros(len(self.z), self.batch_size, self.spec.actions, device=self.device)
        return self.capture_update(smoothing, updates, say), False
