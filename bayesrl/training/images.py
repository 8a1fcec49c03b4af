"""Images of a run for TensorBoard: its weights, calibration, Q along an episode, worlds, maps.

Shapes: n draws, B inputs, T steps of an episode, A actions.
"""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import Space
from PIL.Image import Image
from torch import Generator, Tensor

from bayesrl.envs.spaces import OneHot
from bayesrl.metrics.attribution import moments
from bayesrl.metrics.calibration import quantile_reliability
from bayesrl.plotting.canvas import BLUE, FAINT, INK, RED
from bayesrl.plotting.raster import Canvas, Panel, heat
from bayesrl.posteriors import WeightSpace
from bayesrl.rl.agent import Agent, ValueAgent
from bayesrl.rl.td import at
from bayesrl.training.evaluation import Recording
from bayesrl.world_models.agent import ModelBasedAgent

POINTS = 200  # of an episode that are asked
NUMBERS = 6  # of an observation that are drawn


def weights(agent: Agent, generator: Generator) -> dict[str, Tensor]:
    """Means and standard deviations over 20 draws of the weights, [P] by tag; nothing where draws have none."""
    if not (isinstance(agent, ValueAgent) and isinstance(agent.posterior, WeightSpace)):
        return {}
    posterior = agent.posterior
    mean, std = moments(posterior, posterior.index(20, generator))
    return {"posterior/weight_mean": mean, "posterior/weight_log10_std": std[std > 0].log10()}


def reliability(pit: Tensor) -> dict[str, Image]:
    """How many returns fell below the quantile predicted for them, at 20 levels, from PIT values [k] of episodes."""
    if len(pit) == 0:
        return {}
    level, observed = (part.tolist() for part in quantile_reliability(pit, levels=20))
    canvas = Canvas(420, 420)
    panel = Panel(canvas, (60, 50, 400, 360), (0, 1), (0, 1), "share of returns below", "predicted quantile")
    # What 90 % of calibrated forecasters show after so many episodes, at each level for itself.
    half = [1.645 * (p * (1 - p) / len(pit)) ** 0.5 for p in level]
    below, above = ([min(max(p + s * h, 0.0), 1.0) for p, h in zip(level, half, strict=True)] for s in (-1, 1))
    panel.band(level, below, above)
    panel.line((0, 1), (0, 1), INK, 1)
    panel.line(level, observed, RED)
    panel.key(("observed", RED), ("calibrated, 90 %", FAINT))
    return {"calibration/reliability": canvas.picture()}


@torch.no_grad()
def episode(agent: Agent, recording: Recording, discount: float, generator: Generator) -> dict[str, Image]:
    """Q of the actions taken along an episode as a band over draws, beside the return that followed.

    Nothing for agents without values.
    """
    steps = torch.arange(0, len(recording.reward), -(-len(recording.reward) // POINTS))
    forecast = agent.forecast(recording.inputs[steps], generator)
    if forecast is None or recording.action.dim() > 1:
        return {}
    q = at(forecast.q, recording.action[steps].expand(len(forecast.q), -1))  # [n, T]
    low, high = q.quantile(torch.tensor([0.05, 0.95], device=q.device), 0).tolist()
    mean, std, t = q.mean(0).tolist(), q.std(0, correction=0).tolist(), steps.tolist()
    after, total = [], 0.0
    for reward in reversed(recording.reward.tolist()):
        total = reward + discount * total
        after.append(total)
    after = after[::-1]
    canvas, end = Canvas(720, 440), (0.0, float(len(after)))
    shown = [*low, *high, *after]
    title = "Q of the action taken (return units)"
    panel = Panel(canvas, (70, 40, 700, 240), end, (min(shown), max(shown)), title)
    panel.band(t, low, high)
    panel.line(t, mean, BLUE)
    if recording.terminated:
        panel.line(range(len(after)), after, RED)
    followed = (("return that followed", RED),) if recording.terminated else ()
    panel.key(("mean", BLUE), ("5-95 % of draws", FAINT), *followed)
    below = Panel(
        canvas, (70, 290, 700, 390), end, (0, max(std)), "standard deviation over draws", "step of the episode"
    )
    below.line(t, std, BLUE)
    return {"uncertainty/q_along_episode": canvas.picture()}


def steps_ahead(agent: Agent) -> dict[str, Image]:
    """Draw the newest episode's last steps as the worlds predicted them, and as they were; nothing without worlds."""
    forecasts = agent.forecasts if isinstance(agent, ModelBasedAgent) else None
    if forecasts is None or not forecasts.band.isfinite().all():
        return {}
    shown = [*range(min(forecasts.observed.shape[1] - 1, NUMBERS)), forecasts.observed.shape[1] - 1]
    canvas, steps = Canvas(720, 90 + 130 * len(shown)), range(1, len(forecasts.observed) + 1)
    for row, k in enumerate(shown):
        low, middle, high = forecasts.band[:, :, k].T.tolist()
        happened = forecasts.observed[:, k].tolist()
        every = [*low, *high, *happened]
        title = "reward" if row == len(shown) - 1 else f"number {k} of the observation"
        box, across = (70, 40 + 130 * row, 700, 130 + 130 * row), "steps ahead" if row == len(shown) - 1 else ""
        panel = Panel(canvas, box, (1, len(happened)), (min(every), max(every)), title, across)
        panel.band(steps, low, high)
        panel.line(steps, middle, BLUE)
        panel.line(steps, happened, RED)
        if row == 0:
            panel.key(("median world", BLUE), ("5-95 % of worlds", FAINT), ("happened", RED))
    return {"model/steps_ahead": canvas.picture()}


@torch.no_grad()
def maps(agent: Agent, space: Space, generator: Generator) -> dict[str, Image]:
    """How often each cell of a grid was visited and how unsure Q is there; nothing for observations of other kinds."""
    if not (isinstance(space, OneHot) and len(space.shape) == 2) or agent.replay is None:
        return {}
    cells, out = space.shape[0] * space.shape[1], {}
    facts, replay = agent.replay.columns, agent.replay
    seen = facts["obs"][facts["valid"] > 0][:, 0]
    visits = torch.bincount(seen, minlength=cells + 1)[:cells].view(space.shape).double()
    note = f"among the last {min(replay.rows, replay.T) * replay.E:,} transitions"
    out["exploration/visits"] = heat("visits of each cell", visits.cpu().numpy(), note)
    every = torch.arange(cells, device=seen.device)[:, None]
    if agent.history == 1 and (forecast := agent.forecast(every, generator)) is not None:
        best = forecast.q.mean(0).argmax(-1)
        std = at(forecast.q, best.expand(len(forecast.q), -1)).std(0, correction=0).view(space.shape)
        note = "standard deviation over draws at the greedy action, in return units"
        out["uncertainty/map"] = heat("how unsure Q is in each cell", np.asarray(std.cpu().double()), note)
    return out
