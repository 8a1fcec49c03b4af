"""`bayes_ac`: actor-critic over a posterior, for continuous actions. Take a draw, follow its policy for an episode.

    y_k = r + gamma (1 - terminated) f^-_{z_k}(s', clip(pi^-_k(s') + noise))      K draws z_k, kept for the whole run
    pi_k climbs f_{z_k}(s, pi_k(s))                                               a policy for each of them

f^- and pi^- are the targets, asked with the same index, so that every draw is taught by itself and none by the least
of all: what the draws disagree on is what Thompson sampling explores. Knows no posterior by name; with an ensemble it
is bootstrapped, prior-guided TD3 (Fujimoto et al., 2018; Osband et al., Deep Exploration via Randomized Value
Functions, 2019), with LayerNorm in place of the minimum of two critics.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from bayesrl.compilation.capture import capture
from bayesrl.posteriors import Batch, Learner, Posterior
from bayesrl.rl.normalization import Normalizer
from bayesrl.rl.policies import Actors
from bayesrl.rl.replay_buffer import ReplayBuffer
from bayesrl.rl.td import Polyak, bellman
from bayesrl.rl.types import EnvSpec, Forecast, Transition
from bayesrl.world_models.imagination import Experience


def critic(spec: EnvSpec) -> tuple[tuple[int, ...], int]:
    """Return the critic's signature: an observation and an action side by side give one value.

    Raises:
        ValueError: actions that are discrete, or observations that are no vectors of numbers.
    """
    if spec.bounds is None:
        raise ValueError(f"got {spec.actions} discrete actions, wanted continuous ones: choose agent=bayes_dqn")
    if len(spec.shape) != 1 or spec.dtype != torch.float32:
        raise ValueError(
            f"got observations of shape {list(spec.shape)} and {spec.dtype}, wanted a vector of numbers: wrap the "
            "environment with one of gymnasium.wrappers' FlattenObservation or TransformObservation"
        )
    return (spec.shape[0] + spec.actions,), 1


class BayesAC(nn.Module):
    """Thompson sampling over draws of Q, each with a policy of its own.

    Arguments:
        spec: of the environments; E environments, actions of A numbers.
        posterior: over functions from a scaled observation and an action, [B, D + A], to a scaled value, [B, 1].
        draws: K, each with a policy of its own; as many as the posterior teaches at once by default.
        actors: (shape, A, K) -> the policies.
        target_update: how the targets follow.
        normalizer: of observations and returns; made from the spec by default.
        imagination: (spec, posterior, n_step, discount) -> where batches come from; from the replay by default.
        noise: standard deviation of what is added to actions, to explore with and to smooth targets (there twice, and
            clipped at 2.5 of its own: Fujimoto et al., 2018).
        discount: gamma.
        n_step: rewards summed before bootstrapping.
        batch_size: B.
        capacity: of the replay, in transitions.
        learning_starts: steps stored before the first update, made by uniformly random actions.
    """

    signature = staticmethod(critic)
    z: Tensor
    held: Tensor

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
        super().__init__()
        critic(spec)
        if batch_size < 1 or noise < 0:
            raise ValueError(f"got batch_size={batch_size}, noise={noise}, wanted at least 1 and no negative noise")
        device = next(posterior.parameters()).device
        self.posterior, self.target = posterior, posterior.snapshot()
        K = posterior.draws if draws is None else draws
        self.actors = actors(spec.shape, spec.actions, K).to(device)
        self.target_actors = self.actors.snapshot()
        self.target_update, self.normalizer = (
            target_update or Polyak(),
            normalizer or Normalizer(spec, discount).to(device),
        )
        self.experience = imagination(spec, posterior, n_step, discount) if imagination else Experience()
        self.replay = ReplayBuffer(spec, self.experience.tags(posterior, 1), capacity, n_step, discount, device)
        self.register_buffer("z", posterior.index(K))
        self.register_buffer("held", torch.zeros(spec.num_envs, dtype=torch.int64, device=device))
        self.spec, self.noise, self.batch_size = spec, noise, batch_size
        self.learning_starts = max(learning_starts, 1)
        self.step: Callable[[Tensor, Tensor], dict[str, Tensor]] = self.update

    def see(self, obs: Tensor, start: Tensor, seen: Tensor | None = None) -> Tensor:
        return obs

    @torch.no_grad()
    def act(self, obs: Tensor, start: Tensor, mask: Tensor | None = None) -> Tensor:
        self.held.copy_(torch.where(start, torch.randint_like(self.held, len(self.z)), self.held))
        if not self.ready():
            return 2 * torch.rand(len(obs), self.spec.actions, device=obs.device) - 1
        return self.perturbed(self.held, obs)

    def perturbed(self, k: Tensor, obs: Tensor) -> Tensor:
        """Action of policy k[i] at observation i with noise, [E, A]."""
        action = self.actors.paired(k, self.normalizer.obs(obs))
        return (action + self.noise * torch.randn_like(action)).clamp(-1, 1)

    def follow(self, n: int) -> Callable[[Tensor], Tensor]:
        """Return how n imagined branches act, each by one of the K policies: obs [n, D] -> actions [n, A]."""
        return partial(self.perturbed, torch.randint(len(self.z), (n,), device=self.z.device))

    def observe(self, transition: Transition) -> None:
        self.normalizer.observe(transition)
        self.replay.add(transition, self.experience.tags(self.posterior, self.spec.num_envs))

    def ready(self) -> bool:
        return len(self.replay) > 0 and self.replay.rows * self.spec.num_envs >= self.learning_starts

    def learn(self) -> dict[str, Tensor]:
        told = self.experience.renew(self.replay, self.posterior, self.follow)
        smooth = torch.randn(len(self.z), self.batch_size, self.spec.actions, device=self.z.device)
        return self.step(self.experience.index(self.replay, self.batch_size), smooth) | told

    def capture(
        self, updates: float = math.inf, acts: float = math.inf, say: Callable[[str], None] = print
    ) -> tuple[bool, bool]:
        """Compile the whole update, where so many of them save more time than that takes; acting is not compiled."""
        index = torch.zeros(self.batch_size, dtype=torch.int64, device=self.z.device)
        smooth = torch.zeros(len(self.z), self.batch_size, self.spec.actions, device=self.z.device)
        self.step = capture(self.update, self, index, smooth, name="the update", calls=updates, say=say)
        return self.step != self.update, False

    def update(self, index: Tensor, smooth: Tensor) -> dict[str, Tensor]:
        """Teach every draw and its policy the transitions `index` [B]; noise [K, B, A]; a pure tensor function."""
        sample = self.experience.gather(self.replay, index)
        x, x_next = self.normalizer.obs(sample.obs), self.normalizer.obs(sample.next_obs)
        with torch.no_grad():
            action = (self.target_actors(x_next) + 2 * self.noise * smooth.clamp(-2.5, 2.5)).clamp(-1, 1)
            weight, perturbation = self.posterior.bootstrap(self.z, sample.tags)
            y = bellman(sample.reward / self.normalizer.scale, sample.discount, self.value(self.target, x_next, action))
        batch = Batch(
            torch.cat([x, sample.action], 1), None, (y + perturbation)[..., None], weight * sample.weight, sample.size
        )
        info = self.posterior.learn(batch, self.z)
        info["policy_value"] = self.actors.climb(lambda a: self.value(self.posterior, x, a), x) * self.normalizer.scale
        with torch.no_grad():
            self.target_update(
                [*self.target.parameters(), self.target_actors.psi], [*self.posterior.parameters(), self.actors.psi]
            )
        return info

    def value(self, posterior: Posterior, x: Tensor, action: Tensor) -> Tensor:
        """Draw z_k at inputs x [B, D] with the actions k, [K, B, A] -> scaled values [K, B]."""
        joined = torch.cat([x.expand(len(action), *x.shape), action], -1)
        return posterior.likelihood.mean(posterior.functions(self.z)(joined))[..., 0]

    @torch.no_grad()
    def greedy(self, obs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the one of the K target policies' actions that is best on average over the draws."""
        x = self.normalizer.obs(obs)
        proposed = self.target_actors(x)  # [K, B, A]
        flat = torch.cat([x.repeat(len(proposed), 1), proposed.flatten(0, 1)], 1)
        mean = self.target.expected(self.z, flat).mean(0).view(len(proposed), len(x))
        return proposed[mean.argmax(0), torch.arange(len(x), device=x.device)]

    @torch.no_grad()
    def judge(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return each draw's own action at obs [B, D], [K, B, A], and its value of `action` [B, A], [K, B]."""
        x = self.normalizer.obs(obs)
        value = self.value(self.posterior, x, action.expand(len(self.z), *action.shape))
        return self.actors(x), value * self.normalizer.scale

    @torch.no_grad()
    def forecast(self, obs: Tensor, generator: torch.Generator) -> Forecast:
        """Each draw's value of its own policy, [K, B, 1]."""
        x = self.normalizer.obs(obs)
        q = self.value(self.posterior, x, self.actors(x))[..., None] * self.normalizer.scale
        return Forecast(q, self.posterior.kl(self.z), self.posterior.degenerate)
