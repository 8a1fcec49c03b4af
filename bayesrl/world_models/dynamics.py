"""Dynamics: a posterior over worlds, learned from transitions and scored on every episode before it learns from it.

    (next obs - obs, reward) ~ likelihood(f_z(obs, action)),   terminated ~ Bernoulli(sigmoid(f_z(obs, action)))

One draw z of the posterior is one whole world. Inputs and targets are standardized by statistics that change only at
a fit, so that a world stays the same function between fits. Shapes: n worlds, B batch, D numbers of an observation, A
numbers of an action in [-1, 1] or discrete actions, K = D + 1 numeric targets, the reward last.
"""

from __future__ import annotations

import copy
import math
import traceback
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from bayesrl.compilation.capture import capture
from bayesrl.likelihoods import Prediction, WithFlag
from bayesrl.metrics.one_step import score
from bayesrl.posteriors import Batch, Learner
from bayesrl.rl.replay_buffer import ReplayBuffer, Sample
from bayesrl.rl.types import EnvSpec

Reward = Callable[[Tensor, Tensor, Tensor], Tensor]
Terminated = Callable[[Tensor], Tensor]


class Dynamics(nn.Module):
    """A posterior over (change of the observation, reward, termination).

    Arguments:
        spec: the properties of the environments, whose observations are vectors of numbers.
        posterior: the posterior over functions of the shapes that `signature` gives, with the likelihood `WithFlag`.
        reward: the reward function, if it is known: obs [*, D], action [*, A], next obs [*, D] -> [*].
        terminated: the termination function, if it is known: next obs [*, D] -> [*] bool.
        temperatures: the temperatures of copies of the posterior that learn side by side; the agent acts on the one
            that predicted new episodes best. Without any, the posterior keeps its own temperature.
        memory: the weight of a temperature's past scores against a new one, in [0, 1).
        reward_scale: the least scale that rewards are standardized by, in the rewards' units.

    Attributes:
        posterior: the posterior that the agent acts on, an average over updates of the chosen temperature's learner.

    Raises:
        ValueError: the observations, the likelihood, a known function or a number is not as described.
    """

    mean: Tensor
    scale: Tensor
    target_mean: Tensor
    target_scale: Tensor
    scores: Tensor
    chosen: Tensor
    learners: Sequence[Learner]
    averages: Sequence[Learner]

    def __init__(
        self,
        spec: EnvSpec,
        posterior: Learner,
        reward: Reward | None = None,
        terminated: Terminated | None = None,
        temperatures: Sequence[float] = (),
        memory: float = 0.7,
        reward_scale: float = 0.0,
    ) -> None:
        super().__init__()
        (width,), _ = signature(spec)
        if not 0 <= memory < 1:
            raise ValueError(f"got memory={memory}, wanted a share in [0, 1)")
        if not 0 <= reward_scale < math.inf:
            raise ValueError(f"got reward_scale={reward_scale}, wanted 0 or more, in the rewards' units")
        if not isinstance(posterior.likelihood, WithFlag):
            raise ValueError(
                f"got the likelihood {type(posterior.likelihood).__name__}, wanted one with a flag for the "
                "termination: WithFlag(likelihood)"
            )
        device = next(posterior.parameters()).device
        check_function("reward", reward, torch.float32, spec, device)
        check_function("terminated", terminated, torch.bool, spec, device)
        self.spec, self.reward, self.terminated = spec, reward, terminated
        self.memory, self.reward_scale = memory, reward_scale
        self.learners = nn.ModuleList(at_temperatures(posterior, temperatures))  # type: ignore[assignment]
        self.averages = nn.ModuleList(x.snapshot() for x in self.learners)  # type: ignore[assignment]
        self.posterior: Learner = self.averages[0].snapshot()  # type: ignore[assignment]
        K = width - spec.actions + 1
        for name, value in {
            "mean": torch.zeros(width), "scale": torch.ones(width),
            "target_mean": torch.zeros(K), "target_scale": torch.ones(K),
            "scores": torch.zeros(len(self.learners)), "chosen": torch.zeros((), dtype=torch.int64),
        }.items():  # fmt: skip
            self.register_buffer(name, value.to(device))
        self.step: Callable[..., dict[str, Tensor]] = self.update

    # --- worlds --------------------------------------------------------------------------------------------------

    def draw(self, n: int, generator: Generator | None = None) -> Worlds:
        """Return n worlds drawn from a frozen copy of the posterior, which no later fit changes."""
        frozen = copy.copy(self)
        frozen._modules = {"posterior": self.posterior.snapshot()}
        frozen._buffers = {name: value.clone() for name, value in self._buffers.items()}  # type: ignore[union-attr]
        return frozen.worlds(frozen.posterior.index(n, generator))

    def worlds(self, z: Tensor) -> Worlds:
        """Return the worlds of the indices z [n, *]; equal indices give the same world until the next fit."""
        return Worlds(self, self.posterior.functions(z), len(z))

    @torch.no_grad()
    def predict(self, obs: Tensor, action: Tensor, n: int = 100) -> Prediction:
        """Predict the change of the observation, the reward and the termination, [B, D + 2], in their units.

        Arguments:
            obs: observations, [B, D].
            action: actions, [B, A], or [B] int64 where discrete.
            n: the number of posterior draws.

        Returns:
            The mean and the epistemic and aleatoric variances.
        """
        out = self.posterior.predict(self.inputs(obs, self.encode_action(action)), n)
        scale = nn.functional.pad(self.target_scale, (0, 1), value=1.0)
        mean = scale * out.mean + nn.functional.pad(self.target_mean, (0, 1))
        return Prediction(mean, scale.square() * out.epistemic, scale.square() * out.aleatoric)

    def encode_action(self, action: Tensor) -> Tensor:
        """Return the actions as inputs of a world, [*, A]; discrete ones, [B] or scores [*, A], become one-hot."""
        if self.spec.bounds is not None:
            return action
        number = action if action.dim() == 1 else action.argmax(-1)
        return (number[..., None] == torch.arange(self.spec.actions, device=action.device)).to(self.mean.dtype)

    def inputs(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return the posterior's input: [*, D] and [*, A] -> [*, D + A], standardized."""
        return ((torch.cat([obs, action], -1) - self.mean) / self.scale).clamp(-10, 10)

    # --- learning ------------------------------------------------------------------------------------------------

    def fit(self, replay: ReplayBuffer, updates: int, batch_size: int = 128) -> dict[str, Tensor]:
        """Continue training on the whole replay buffer, under new statistics.

        The agent acts on the mean of the weights over the second half of the updates (Polyak & Juditsky, Acceleration
        of Stochastic Approximation by Averaging, 1992).

        Arguments:
            replay: the replay buffer.
            updates: the number of updates at each temperature.
            batch_size: the number of transitions of an update.

        Returns:
            0-d tensors by name: the loss of the last update and its terms.
        """
        rows = torch.arange(min(replay.rows, replay.T) * replay.E, device=self.mean.device)
        stored = replay.gather(rows)
        self.check(stored)
        self.standardize(stored)
        info: dict[str, Tensor] = {}
        for i in range(updates):
            rate = torch.tensor(1 / max(1, i - updates // 2), device=self.mean.device)
            sample = replay.gather(replay.index(batch_size))._replace(next_mask=None)
            z = [learner.index(learner.draws) for learner in self.learners]
            info = self.step(rate, *(part for part in sample if part is not None), *z)
        for average in self.averages:
            index = average.index(1)
            average.refresh([self.batch(replay.gather(part), average, index) for part in rows.split(256)])
        self.choose()
        return info

    def update(self, rate: Tensor, *args: Tensor) -> dict[str, Tensor]:
        """Update every learner, and move its average towards it: a pure tensor function.

        Arguments:
            rate: the share of the way that the averages move, 0-d.
            args: the tensors of a `Sample` without a mask, then the indices of the draws for each learner, [n, *].
        """
        obs, action, reward, discount, next_obs, weight, tags, size, *draws = args
        sample = Sample(obs, action, reward, discount, next_obs, None, weight, tags, size)
        infos = []
        for learner, average, z in zip(self.learners, self.averages, draws, strict=True):
            infos.append(learner.fit_step(self.batch(sample, learner, z), z))
            with torch.no_grad():
                for old, new in zip(average.parameters(), learner.parameters(), strict=True):
                    old.lerp_(new, rate)
        return infos[0]

    def capture(self, sample: Sample, calls: float, say: Callable[[str], None]) -> bool:
        """Compile the update for samples like this one if `calls` of it save more time; return whether it did."""
        z = [learner.index(learner.draws, Generator(self.mean.device).manual_seed(0)) for learner in self.learners]
        args = (self.mean.new_ones(()), *(part for part in sample if part is not None), *z)
        self.step = capture(self.update, self, *args, name="the update", calls=calls, say=say)
        return self.step != self.update

    @torch.no_grad()
    def check(self, sample: Sample) -> None:
        """Check that a known reward function gives finite numbers on a sample.

        Raises:
            ValueError: a reward is not finite.
        """
        if self.reward is None:
            return
        reward = self.reward(sample.obs, self.encode_action(sample.action), sample.next_obs)
        if len(invalid := (~reward.isfinite() & (sample.weight > 0)).nonzero()):
            i = int(invalid[0])
            raise ValueError(
                f"got the reward {float(reward[i])} from the reward function at obs {sample.obs[i].tolist()}, action "
                f"{sample.action[i].tolist()}, next obs {sample.next_obs[i].tolist()}, wanted a finite number: mend it"
            )

    @torch.no_grad()
    def standardize(self, sample: Sample) -> None:
        """Compute the statistics from a sample; a constant has the scale 1, and a constant reward 0.001.

        At a larger scale, worlds would predict rewards around the constant, which planners would exploit.
        """
        weight = sample.weight[:, None] / sample.weight.sum()
        x = torch.cat([sample.obs, self.encode_action(sample.action)], -1)
        constant_targets = torch.ones_like(self.target_scale)
        constant_targets[-1] = 1e-3
        for values, mean, scale, constant in (
            (x, self.mean, self.scale, torch.ones_like(self.scale)),
            (targets(sample), self.target_mean, self.target_scale, constant_targets),
        ):
            center = (weight * values).sum(0)
            std = (weight * (values - center).square()).sum(0).sqrt()
            mean.copy_(center)
            scale.copy_(torch.where(std > 1e-5 * (1 + center.abs()), std, constant))
        self.target_scale[-1].clamp_(min=self.reward_scale)

    def batch(self, sample: Sample, learner: Learner, z: Tensor) -> Batch:
        """Return a sample of transitions as a batch for the draws z [n, *] of a learner."""
        weight, shift = learner.bootstrap(z, sample.tags)
        y = (targets(sample) - self.target_mean) / self.target_scale
        y = y.expand(len(z), *y.shape) + shift[..., None]
        flag = (sample.discount == 0).to(y.dtype).expand(len(z), -1)[..., None]
        x = self.inputs(sample.obs, self.encode_action(sample.action))
        return Batch(x, None, torch.cat([y, flag], -1), weight * sample.weight, sample.size)

    # --- scores --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score(self, sample: Sample) -> dict[str, Tensor]:
        """Score how well each temperature predicts transitions that none has learned from.

        Returns:
            The metrics of `one_step.score` for the chosen temperature.
        """
        real = sample.weight > 0
        parts = {name: part[real] for name, part in sample._asdict().items() if part is not None and part.dim()}
        sample = sample._replace(**parts)
        z = self.posterior.index(1, Generator(device=self.mean.device).manual_seed(0))
        batch = self.batch(sample, self.posterior, z)
        metrics = [score(average, batch) for average in self.averages]
        self.scores.lerp_(torch.stack([each["nll"] for each in metrics]).nan_to_num(1e9, 1e9), 1 - self.memory)
        return metrics[int(self.chosen)]

    @torch.no_grad()
    def choose(self) -> None:
        """Choose the temperature with the best score as the posterior to act on."""
        self.chosen.copy_(self.scores.argmin())
        self.posterior.load_state_dict(self.averages[int(self.chosen)].state_dict())

    @property
    def temperature(self) -> Tensor:
        """The temperature of the chosen posterior, 0-d; NaN if it has none."""
        return getattr(self.posterior, "temperature", self.mean.new_tensor(torch.nan))


class WorldStep(NamedTuple):
    """One step in n worlds.

    Attributes:
        next_obs: the next observations, [n, B, D].
        reward: the rewards, [n, B].
        terminated: the probabilities that the episode ends with this step, [n, B].
    """

    next_obs: Tensor
    reward: Tensor
    terminated: Tensor


class Worlds:
    """Draws of a dynamics posterior: n simulated environments.

    Arguments:
        dynamics: the dynamics that the worlds are drawn from.
        function: the functions of all worlds, each on its own batch: [n, B, D + A] -> [n, B, (K + 1) * size].
        count: n, the number of worlds.
    """

    def __init__(self, dynamics: Dynamics, function: Callable[[Tensor], Tensor], count: int) -> None:
        self.dynamics, self.function, self.count = dynamics, function, count

    def step(self, obs: Tensor, action: Tensor, noise: Tensor | None = None) -> WorldStep:
        """Make one step in each world.

        Arguments:
            obs: observations, [n, B, D].
            action: actions, [n, B, A] in [-1, 1]; the greatest number names a discrete action.
            noise: standard normal numbers broadcastable to [n, B, K], for the aleatoric part; None for the expected
                step.
        """
        d, likelihood = self.dynamics, self.dynamics.posterior.likelihood
        action = d.encode_action(action)
        out = self.function(d.inputs(obs, action))
        y, flag = likelihood.mean(out).split([len(d.target_mean), 1], -1)
        if noise is not None:
            y = y + likelihood.variance(out)[..., :-1].sqrt() * noise
        change, reward = (d.target_mean + d.target_scale * y).split([len(d.target_mean) - 1, 1], -1)
        next_obs = obs + change
        return WorldStep(
            next_obs,
            reward[..., 0] if d.reward is None else d.reward(obs, action, next_obs),
            flag[..., 0] if d.terminated is None else d.terminated(next_obs).to(y.dtype),
        )


def signature(spec: EnvSpec) -> tuple[tuple[int], int]:
    """Return the input shape, (D + A), and the number of outputs, D + 2, of a world.

    Raises:
        ValueError: the observations are not vectors of numbers.
    """
    if spec.dtype != torch.float32 or len(spec.shape) != 1:
        raise ValueError(
            f"got observations {list(spec.shape)} of {spec.dtype}, wanted a vector of numbers, whose change is "
            "predicted: use agent=tabular_psrl for Discrete observations, agent=bayes_dqn for images"
        )
    return (spec.shape[0] + spec.actions,), spec.shape[0] + 2


def check_function(
    name: str, function: Callable | None, dtype: torch.dtype, spec: EnvSpec, device: torch.device
) -> None:
    """Check a known reward or termination function, if given, by a call on zeros.

    Raises:
        ValueError: the function raises, changes its arguments, or does not return one number of `dtype` for each row.
    """
    if function is None:
        return
    shape = 3, 2
    obs, action = (torch.zeros(*shape, width, device=device) for width in (spec.shape[0], spec.actions))
    args = (obs, action, obs) if name == "reward" else (obs,)
    called = f"the {name} function, called with {' and '.join(str([*x.shape]) for x in args)}"
    try:
        out = function(*args)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise ValueError(
            f"got {type(error).__name__}: {' '.join(str(error).split())} from {called}, wanted no exception: mend it "
            f"at {place.filename}, line {place.lineno}"
        ) from error
    if any(x._version for x in args):
        raise ValueError(f"got a change in place by {called}, wanted its arguments as they were: x = x - 1, not x -= 1")
    got = f"{[*out.shape]} of {out.dtype}" if isinstance(out, Tensor) else repr(out)
    if not isinstance(out, Tensor) or out.shape != shape or out.dtype != dtype:
        raise ValueError(
            f"got {got} from {called}, wanted a tensor {[*shape]} of {dtype}, one for each row: mend what it returns"
        )


def targets(sample: Sample) -> Tensor:
    """Return the numeric targets: the change of the observation and the reward, [B, K]."""
    return torch.cat([sample.next_obs - sample.obs, sample.reward[:, None]], -1)


def at_temperatures(posterior: Learner, temperatures: Sequence[float]) -> list[Learner]:
    """Return one copy of the posterior for each temperature, or the posterior itself if there are none.

    Raises:
        ValueError: the posterior has no temperature, or a temperature is negative.
    """
    if not temperatures:
        return [posterior]
    if not hasattr(posterior, "temperature"):
        raise ValueError(
            f"got temperatures={list(temperatures)} for {type(posterior).__name__}, which has none, wanted "
            "temperatures=[]"
        )
    if min(temperatures) < 0:
        raise ValueError(f"got temperatures={list(temperatures)}, wanted no negative temperature")
    out = [copy.deepcopy(posterior) for _ in temperatures]
    for learner, T in zip(out, temperatures, strict=True):
        learner.temperature.fill_(T)  # type: ignore[operator, union-attr]
    return out
