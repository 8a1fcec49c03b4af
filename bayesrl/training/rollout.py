"""The loop that acts, steps, observes and learns.

Shapes: E environments. Steps count transitions: a step in which an environment was only reset is not one.
"""

from __future__ import annotations

import math
import time
from statistics import median

from torch import Tensor

from bayesrl.envs.vector.workers import Workers
from bayesrl.rl.agent import Agent
from bayesrl.training.vector_env import VectorEnvAdapter


class Clock:
    """Seconds spent by part: env, act, learn, evaluate, log."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("env", "act", "learn", "evaluate", "log"), 0.0)

    def __call__(self, part: str) -> Measured:
        return Measured(self.seconds, part)


class Measured:
    """A context whose wall seconds are added to those of a part; entered some six times a step, so no generator."""

    __slots__ = ("begin", "part", "seconds")

    def __init__(self, seconds: dict[str, float], part: str) -> None:
        self.seconds, self.part = seconds, part

    def __enter__(self) -> None:
        self.begin = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self.seconds[self.part] += time.perf_counter() - self.begin


class Rollout:
    """Act, step, observe, learn: `replay_ratio` updates for each transition.

    Where learning overlaps stepping, the updates that a step owes are made while the next one is under way, so that
    what acts is older by those of one step, `replay_ratio` E. The order of acts, updates and observations is fixed:
    equal seeds still give equal runs.

    Arguments:
        agent: acts and learns.
        envs: steps.
        replay_ratio: updates per transition; below 1, one update every 1 / replay_ratio transitions.
        overlap: learn while the environments step, which only those in workers can do; None where they can and a
            step is measured to take longer than an update, decided once after TIMED steps with updates.
    """

    WARM, TIMED = 3, 20  # steps with updates that are not measured, and that are

    def __init__(
        self, agent: Agent, envs: VectorEnvAdapter, replay_ratio: float = 1.0, overlap: bool | None = None
    ) -> None:
        if not 0 <= replay_ratio < math.inf:
            raise ValueError(f"got replay_ratio={replay_ratio}, wanted updates per transition, 0 or more")
        self.agent, self.envs, self.replay_ratio = agent, envs, replay_ratio
        self.overlap = overlap if isinstance(envs.env, Workers) else False
        self.transitions = self.updates = self.episodes = 0
        self.owed = 0.0
        self.info: dict[str, Tensor] = {}
        self.clock = Clock()
        self.times: list[tuple[float, float]] = []  # seconds of a step and of an update, while it is not decided

    def step(self) -> int:
        """One step of every environment, and the updates owed; returns how many transitions it made."""
        clock, envs = self.clock, self.envs
        env, updates = clock.seconds["env"], self.updates
        with clock("act"):
            action = self.agent.act(envs.obs, envs.start, envs.mask)
        with clock("env"):
            envs.send(action)
        if self.overlap:
            self._learn()
        with clock("env"):
            transition = envs.receive()
        with clock("learn"):
            self.agent.observe(transition)
            self.transitions += envs.transitions
            if self.agent.ready():
                self.owed += envs.transitions * self.replay_ratio
        if not self.overlap:
            learn = clock.seconds["learn"]
            self._learn()
            if self.overlap is None and self.updates > updates:
                self._decide(clock.seconds["env"] - env, (clock.seconds["learn"] - learn) / (self.updates - updates))
        return envs.transitions

    def _learn(self) -> None:
        with self.clock("learn"):
            while self.owed >= 1:
                self.info = self.agent.learn()
                self.updates += 1
                self.owed -= 1

    def _decide(self, step: float, update: float) -> None:
        self.times.append((step, update))
        if len(self.times) == self.WARM + self.TIMED:
            step, update = (median(seconds) for seconds in zip(*self.times[self.WARM :], strict=True))
            self.overlap = step > update

    @property
    def episodes(self) -> int:
        """The number of episodes that have ended."""
        return self.envs.ended - self._before

    @episodes.setter
    def episodes(self, count: int) -> None:
        self._before = self.envs.ended - count

    def state(self) -> dict:
        """Return the counters, for a checkpoint."""
        return {k: getattr(self, k) for k in ("transitions", "episodes", "updates", "owed")} | {
            "overlap": self.overlap,
            "seconds": dict(self.clock.seconds),
        }

    def restore(self, state: dict) -> None:
        """Put back what `state` gave."""
        for k in ("transitions", "episodes", "updates", "owed"):
            setattr(self, k, state[k])
        self.overlap = state.get("overlap", self.overlap)
        self.clock.seconds |= state["seconds"]
