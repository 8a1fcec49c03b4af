"""Measurements of a run: returns, uncertainty and its calibration, as plain numbers by tag.

Uses a random generator of its own, so that looking changes nothing. Shapes: n draws, B batch, E environments.
"""

from __future__ import annotations

from collections import deque

import torch
from gymnasium import Space
from PIL.Image import Image
from torch import Tensor

from bayesrl.metrics.return_calibration import ReturnCalibration
from bayesrl.rl.agent import Agent
from bayesrl.rl.td import at
from bayesrl.rl.types import Forecast
from bayesrl.training import images
from bayesrl.training.evaluation import Recording
from bayesrl.training.rollout import Rollout
from bayesrl.training.vector_env import VectorEnvAdapter


class Monitor:
    """Watches a rollout from outside.

    Arguments:
        num_envs: E.
        seed: of the generator that draws forecasts.
        device: of the agent.
        probes: recent observations over which uncertainty is averaged.

    Episodes are predicted in the first `WATCHED` environments, in each at most one in `GAP` steps: chosen before
    anything of them is known, so that calibration is unbiased, and few enough to cost little.
    """

    WATCHED, GAP = 16, 100

    def __init__(self, num_envs: int, seed: int, device: torch.device | str = "cpu", probes: int = 256) -> None:
        self.generator = torch.Generator(device=device).manual_seed(seed)
        self.calibration = ReturnCalibration(num_envs).to(device)
        self.probes = probes
        self.recent: deque[Tensor] = deque(maxlen=max(1, probes // num_envs))
        self.returns: deque[float] = deque(maxlen=100)
        self.lengths: deque[int] = deque(maxlen=100)
        self.steps, self.asked = 0, [-self.GAP] * min(num_envs, self.WATCHED)  # when each was last predicted
        self.idle = 0  # steps before which none of them is due again
        self.predicted: set[int] = set()  # whose episode, going on, was
        self.opening = torch.full((1,), torch.nan)  # draws of the value last predicted at an episode's start, [n]
        self.epistemic = float("nan")
        self.blind = False  # the agent has no values to watch

    def before(self, agent: Agent, envs: VectorEnvAdapter) -> None:
        """Predict the episodes that begin now, before anything of them is stored; an agent without values is let be."""
        if self.blind:
            return
        inputs = agent.inputs(envs.obs, self.recent[-1] if self.recent else None, envs.start)
        self.recent.append(inputs)
        self.steps += 1
        if self.steps < self.idle or not (began := envs.began):
            return
        watched = len(self.asked)
        env = [i for i in began if i < watched and self.steps - self.asked[i] >= self.GAP]
        forecast = agent.forecast(inputs[env], self.generator) if env else None
        if forecast is None:
            if env:
                self.blind = True
                self.recent.clear()
            return
        for i in env:
            self.asked[i] = self.steps
        self.idle = min(self.asked) + self.GAP
        self.predicted |= {*env}
        value = forecast.q.amax(-1)
        self.calibration.predict(torch.tensor(env, device=value.device), value)
        self.opening = value[:, -1]

    def after(self, envs: VectorEnvAdapter) -> None:
        """Score the episodes that ended; what was predicted of those that broke off is forgotten."""
        self.predicted.difference_update(envs.replaced)
        for episode in envs.finished:
            self.returns.append(episode.ret)
            self.lengths.append(episode.length)
            if episode.env in self.predicted:
                self.predicted.remove(episode.env)
                self.calibration.score(episode.env, episode.discounted, episode.truncated)

    def metrics(self, agent: Agent, rollout: Rollout) -> dict[str, float]:
        """Everything by tag; waits for the device."""
        named = {name if "/" in name else f"train/{name}": value for name, value in rollout.info.items()}
        out = {name: float(value) for name, value in named.items()}
        out |= {
            "train/n_updates": rollout.updates,
            "rollout/episodes": rollout.episodes,
            "time/total_timesteps": rollout.transitions,
        }
        if self.returns:
            out["rollout/ep_rew_mean"] = sum(self.returns) / len(self.returns)
            out["rollout/ep_len_mean"] = sum(self.lengths) / len(self.lengths)
        if (
            self.recent
            and (forecast := agent.forecast(torch.cat([*self.recent])[: self.probes], self.generator)) is not None
        ):
            out |= {f"uncertainty/{name}": value for name, value in q_statistics(forecast).items()}
            self.epistemic = out["uncertainty/q_epistemic_std"]
            opening = self.opening
            low, high = opening.quantile(torch.tensor([0.05, 0.95], device=opening.device)).tolist()
            out |= {
                "uncertainty/q_aleatoric_std": float(self.calibration.noise_std),
                "uncertainty/start_value": float(opening.mean()),
                "uncertainty/start_value_p05": low,
                "uncertainty/start_value_p95": high,
                "calibration/return_coverage_90": self.calibration.coverage,
                "calibration/return_ece": self.calibration.ece,
                "calibration/return_rmse": self.calibration.error[0],
                "calibration/return_std": self.calibration.error[1],
                "calibration/episodes_scored": int(self.calibration.counts[0]),
                "calibration/episodes_truncated": int(self.calibration.counts[1]),
            }
        total = sum(rollout.clock.seconds.values()) or 1.0
        return out | {f"time/{part}_share": s / total for part, s in rollout.clock.seconds.items()}

    def samples(self, agent: Agent) -> dict[str, Tensor]:
        """Return the numbers that are drawn as histograms, [k] by tag."""
        return {"calibration/return_pit": self.calibration.scored, **images.weights(agent, self.generator)}

    def pictures(self, agent: Agent, space: Space, recording: Recording | None, discount: float) -> dict[str, Image]:
        """Return the images by tag.

        Arguments:
            space: of one observation.
            recording: an evaluation episode, where one was played.
            discount: of the agent's values.
        """
        out = images.reliability(self.calibration.scored) | images.steps_ahead(agent)
        out |= images.maps(agent, space, self.generator)
        return out if recording is None else out | images.episode(agent, recording, discount, self.generator)

    def state(self) -> dict:
        """Return the state as plain values, for a checkpoint."""
        return {
            "generator": self.generator.get_state(), "calibration": self.calibration.state_dict(),
            "recent": torch.stack([*self.recent]).cpu() if self.recent else None, "returns": list(self.returns),
            "lengths": list(self.lengths), "opening": self.opening.cpu(), "epistemic": self.epistemic,
            "steps": self.steps, "asked": list(self.asked), "predicted": sorted(self.predicted),
            "blind": self.blind,
        }  # fmt: skip

    def restore(self, state: dict) -> None:
        """Put back what `state` gave."""
        self.generator.set_state(state["generator"])
        # Over what it has now, since a checkpoint of an earlier version knows less.
        self.calibration.load_state_dict(self.calibration.state_dict() | state["calibration"])
        self.recent.extend(
            () if state["recent"] is None else state["recent"].to(self.calibration.value.device).unbind()
        )
        self.returns.extend(state["returns"])
        self.lengths.extend(state["lengths"])
        self.opening = state.get("opening", self.opening).to(self.calibration.value.device)
        self.epistemic = state["epistemic"]
        self.steps, self.asked = state.get("steps", 0), state.get("asked", self.asked)
        self.idle = min(self.asked) + self.GAP
        self.blind = state.get("blind", False)
        self.predicted = set(state.get("predicted", ()))


def q_statistics(forecast: Forecast) -> dict[str, float]:
    """Measure how far draws differ at B states: q [n, B, A] in return units -> numbers by name."""
    q = forecast.q
    at_best = at(q, q.mean(0).argmax(-1).expand(len(q), -1))
    epistemic = (at_best - at_best.mean(0)).square().mean(0).sqrt().mean()
    disagreement = (at_best < q.amax(-1)).float().mean()
    size = q.abs().mean()
    collapsed = (epistemic < 1e-3 * size) & (not forecast.degenerate)
    numbers = torch.stack([epistemic, disagreement, collapsed.float(), forecast.kl.to(q.dtype)]).tolist()
    return dict(zip(("q_epistemic_std", "action_disagreement", "collapsed", "posterior_kl"), numbers, strict=True))
