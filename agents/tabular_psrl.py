"""`tabular_psrl`: posterior sampling with exact posteriors over finite worlds, a reference for approximate agents.

    P(. | s, a) ~ Dirichlet(c / (S + 1) + counts)          the last outcome is the episode's end
    1 / sigma^2 ~ Gamma(a, b),  r(s, a) ~ Normal(m, sigma^2 / k)        both given their data
    an episode:  draw (P, r), act greedily on its Q by value iteration

(Strens, A Bayesian Framework for Reinforcement Learning, 2000; Osband, Russo & Van Roy, More Efficient Reinforcement
Learning via Posterior Sampling, 2013.) Shapes: n draws, E environments, S states, A actions.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from bayesrl.rl.agent import Agent, fresh_where, starts
from bayesrl.rl.td import greedy
from bayesrl.rl.types import EnvSpec, Forecast, Transition


class TabularPSRL(Agent):
    """Posterior sampling with exact posteriors, for Discrete or one-hot observations and discrete actions.

    Arguments:
        spec: the properties of the environments.
        discount: gamma, the discount factor.
        concentration: c, the number of observations that the prior of a transition counts for.
        reward_mean: m, the prior mean of a reward.
        reward_count: k, the number of observations that the prior of a mean reward counts for.
        shape: a, the shape of the prior of a reward's precision.
        rate: b, the rate of that prior.

    Raises:
        ValueError: observations are not discrete, actions are continuous, or a number is out of its range.
    """

    visits: Tensor
    rewards: Tensor
    q: Tensor

    def __init__(
        self,
        spec: EnvSpec,
        discount: float = 0.99,
        concentration: float = 1.0,
        reward_mean: float = 0.0,
        reward_count: float = 1.0,
        shape: float = 1.0,
        rate: float = 0.01,
    ) -> None:
        super().__init__()
        if spec.dtype != torch.int64 or spec.shape != (1,) or spec.bounds is not None:
            kind = "discrete" if spec.bounds is None else "continuous"
            raise ValueError(
                f"got observations {list(spec.shape)} of {spec.dtype} and {kind} actions, wanted one state "
                "number and discrete actions: use agent=psrl for vectors"
            )
        if min(concentration, reward_count, shape, rate) <= 0 or not 0 <= discount < 1:
            raise ValueError(
                f"got concentration={concentration}, reward_count={reward_count}, shape={shape}, rate={rate}, "
                f"discount={discount}, wanted positive numbers and a discount in [0, 1)"
            )
        self.spec, self.discount, self.concentration = spec, discount, concentration
        self.prior = (reward_mean, reward_count, shape, rate)
        S, A = spec.categories, spec.actions
        self.register_buffer("visits", torch.zeros(S, A, S + 1, dtype=torch.float64))
        self.register_buffer("rewards", torch.zeros(3, S, A, dtype=torch.float64))  # count, sum, sum of squares
        self.register_buffer("q", torch.zeros(spec.num_envs, S, A, dtype=torch.float64))  # acted on
        self._mean: Tensor | None = None

    # --- posterior -----------------------------------------------------------------------------------------------

    def alpha(self) -> Tensor:
        """Return the concentrations of the Dirichlet posteriors, [S, A, S + 1]."""
        return self.visits + self.concentration / self.visits.shape[-1]

    def normal_gamma(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the mean, count, shape and rate of the reward's posterior, [S, A] each."""
        (m, k, a, b), (n, total, square) = self.prior, self.rewards
        mean = (k * m + total) / (k + n)
        # The sum of squares around the data's own mean, and what that mean is away from the prior's.
        center = total / n.clamp(min=1)
        rate = b + 0.5 * (square - n * center.square()).clamp(min=0) + 0.5 * k * n * (center - m).square() / (k + n)
        return mean, k + n, a + n / 2, rate

    def draw(self, n: int) -> Tensor:
        """Return Q of n worlds drawn from the posterior, [n, S, A]."""
        P = torch._standard_gamma(self.alpha().expand(n, *self.visits.shape)).clamp(min=1e-300)
        mean, count, shape, rate = self.normal_gamma()
        precision = (torch._standard_gamma(shape.expand(n, *shape.shape)) / rate).clamp(min=1e-300)
        reward = mean + torch.randn_like(precision) / (count * precision).sqrt()
        return value_iteration(P / P.sum(-1, True), reward, self.discount)

    def draw_with(self, generator: Generator | None, n: int) -> Tensor:
        """Return `draw(n)` with the random numbers of a generator, [n, S, A]; torch's global one if None."""
        if generator is None:
            return self.draw(n)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (), generator=generator, device=generator.device)))
            return self.draw(n)

    def mean_q(self) -> Tensor:
        """Return Q of the posterior mean of transitions and rewards, [S, A]."""
        if self._mean is None:
            alpha = self.alpha()
            self._mean = value_iteration(alpha / alpha.sum(-1, True), self.normal_gamma()[0], self.discount)
        return self._mean

    # --- agent ---------------------------------------------------------------------------------------------------

    def act(self, obs: Tensor, episode_start: Tensor, mask: Tensor | None = None) -> Tensor:
        if episode_start.any():
            self.q[episode_start] = self.draw(int(episode_start.sum()))
        return greedy(self.q[torch.arange(len(obs), device=obs.device), obs[:, 0]], mask)

    def observe(self, transition: Transition) -> None:
        valid = transition.valid
        s, a, r = transition.obs[valid, 0], transition.action[valid], transition.reward[valid].double()
        after = torch.where(transition.terminated[valid], self.spec.categories, transition.next_obs[valid, 0])
        one = torch.ones_like(r)
        self.visits.index_put_((s, a, after), one, accumulate=True)
        for row, value in zip(self.rewards, (one, r, r.square()), strict=True):
            row.index_put_((s, a), value, accumulate=True)
        self._mean = None

    def greedy(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return greedy(self.mean_q()[x[:, 0]], mask)

    def sample(
        self,
        obs: Tensor,
        state: Tensor | None = None,
        episode_start: Tensor | None = None,
        mask: Tensor | None = None,
        generator: Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Act greedily on the Q of one drawn world for an episode; the state is that Q, [E, S, A]."""
        q = fresh_where(starts(obs, state, episode_start), state, lambda n: self.draw_with(generator, n))
        return greedy(q[torch.arange(len(obs), device=obs.device), obs[:, 0]], mask), q

    def forecast(self, x: Tensor, generator: Generator) -> Forecast:
        q = self.draw_with(generator, 20)[:, x[:, 0]].float()
        return Forecast(q, torch.tensor(torch.nan, device=q.device))

    def load_state_dict(self, *args, **options):  # type: ignore[no-untyped-def]
        self._mean = None
        return super().load_state_dict(*args, **options)


def value_iteration(P: Tensor, reward: Tensor, discount: float, tolerance: float = 1e-6) -> Tensor:
    """Return Q of worlds whose last outcome is the end: P [*, S, A, S + 1], reward [*, S, A] -> [*, S, A].

    Sweeps until no value moves by more than `tolerance`, in units of the greatest reward.
    """
    P, value = P[..., :-1].flatten(-3, -2), torch.zeros_like(reward[..., 0])
    limit = tolerance * float(reward.abs().max().clamp(min=1e-12))
    while True:
        q = reward + discount * (P @ value[..., None]).view_as(reward)
        moved, value = float((q.amax(-1) - value).abs().max()), q.amax(-1)
        if moved <= limit:
            return q
