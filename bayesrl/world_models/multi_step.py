"""Prequential scores: multi-step predictions, scored on episodes before the model learns from them.

(Dawid, Present Position and Potential Developments: Statistical Theory, the Prequential Approach, 1984.) Shapes: n
draws or worlds, B transitions or segments of episodes, D numbers of an observation, A of an action, K targets, H steps.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from bayesrl.metrics.calibration import coverage
from bayesrl.rl.replay_buffer import ReplayBuffer
from bayesrl.world_models.dynamics import Dynamics, Worlds


class MultiStepForecast(NamedTuple):
    """A prediction of H steps of an episode from its first observation, and what was observed.

    Attributes:
        band: the 5, 50 and 95 % quantiles over noisy worlds of the next observation and the reward, [H, 3, D + 1].
        observed: the observed values, [H, D + 1].
    """

    band: Tensor
    observed: Tensor


@torch.no_grad()
def score_steps(
    worlds: Worlds, obs: Tensor, actions: Tensor, next_obs: Tensor, reward: Tensor, generator: Generator
) -> tuple[dict[str, Tensor], MultiStepForecast]:
    """Score predictions of H steps under the actions that were taken.

    Arguments:
        worlds: n worlds, whose steps have aleatoric noise.
        obs: the observations that predictions start from, [B, D].
        actions: the actions that were taken, [H, B, A].
        next_obs: the observations that followed, [H, B, D].
        reward: the observed rewards, [H, B].
        generator: the generator of the noise.

    Returns:
        0-d tensors by name, and the forecast from the last of the B starts. `rmse` is the error of the mean prediction
        after H steps, in standard deviations of the observed values; `coverage_90` is the share of the observed values
        within the 5-95 % band. `return`, `return_p05` and `return_p95` are the mean and the band of the sum of the H
        rewards from the last start on, and `return_happened` is its observed value.
    """
    n, B = worlds.count, len(obs)
    x, total, path = obs.expand(n, *obs.shape), obs.new_zeros(n, B), []
    for action in actions:
        noise = torch.randn(n, B, obs.shape[1] + 1, generator=generator, device=obs.device)
        step = worlds.step(x, action.expand(n, *action.shape), noise)
        x, total = step.next_obs, total + step.reward
        path.append(torch.cat([x[:, -1], step.reward[:, -1:]], -1))
    levels = torch.tensor([0.05, 0.95], device=obs.device)
    band, returns = x.quantile(levels, 0), total[:, -1].quantile(levels)
    observed = next_obs[-1]
    std = observed.std(0, correction=0) if B > 1 else torch.ones_like(observed[0])
    error = (x.mean(0) - observed) / torch.where(std > 1e-6, std, 1.0)
    bands = torch.stack(path, 1).quantile(torch.tensor([0.05, 0.5, 0.95], device=obs.device), 0).transpose(0, 1)
    metrics = {
        "rmse": error.square().mean().sqrt(),
        "coverage_90": coverage(band, observed),
        "return": total[:, -1].mean(),
        "return_p05": returns[0],
        "return_p95": returns[1],
        "return_happened": reward[:, -1].sum(),
    }
    return metrics, MultiStepForecast(bands, torch.cat([next_obs[:, -1], reward[:, -1:]], -1))


def segments(replay: ReplayBuffer, since: int, H: int, limit: int = 32) -> tuple[Tensor, ...] | None:
    """Return obs, action, next obs and reward of segments of episodes, each [H, B, *].

    The result is None if no episode has H steps.

    Arguments:
        replay: the replay buffer.
        since: the first row to use.
        H: the number of steps of a segment.
        limit: the greatest number of segments, evenly spaced over those of the first environment.
    """
    rows = torch.arange(since, replay.rows, device=replay.size.device) % replay.T
    if len(rows) < H:
        return None
    valid, done = (replay.columns[name][rows, 0].bool().unfold(0, H, 1) for name in ("valid", "done"))
    whole = (valid.all(1) & ~done[:, :-1].any(1)).nonzero()[:, 0]
    if not len(whole):
        return None
    start = whole[torch.linspace(0, len(whole) - 1, min(limit, len(whole)), device=rows.device).long()]
    steps = start + torch.arange(H, device=rows.device)[:, None]
    return tuple(replay.columns[name][rows, 0][steps] for name in ("obs", "action", "next_obs", "reward"))


@torch.no_grad()
def score_replay(
    dynamics: Dynamics, replay: ReplayBuffer, since: int, H: int = 10, n: int = 50
) -> tuple[dict[str, Tensor], MultiStepForecast | None]:
    """Score predictions of H steps in n worlds on the rows of a replay buffer from `since` on, by `score_steps`.

    Returns:
        The metrics and the forecast; {} and None if no episode has H steps there.
    """
    parts = segments(replay, since, H)
    if parts is None:
        return {}, None
    obs, action, next_obs, reward = parts
    if dynamics.spec.bounds is None:
        action = dynamics.encode_action(action.flatten()).unflatten(0, reward.shape)
    generator = Generator(device=obs.device).manual_seed(0)
    worlds = dynamics.worlds(dynamics.posterior.index(n, generator))
    return score_steps(worlds, obs[0], action, next_obs, reward, generator)
