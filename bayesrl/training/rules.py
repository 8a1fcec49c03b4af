"""When a run does what, and when it ends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Intervals:
    """How often things happen, in transitions; and how many episodes an evaluation plays.

    Rows of the log are also `ROW` steps of all environments apart, because with thousands every step would be due.
    """

    ROW = 10
    log: int = 1000
    draw: int = 5000
    checkpoint: int = 5000
    evaluate: int = 5000
    episodes: int = 10
    final_episodes: int = 100

    def __post_init__(self) -> None:
        for name in ("log", "checkpoint", "episodes", "final_episodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"got {name}={getattr(self, name)}, wanted at least 1")
        for name in ("draw", "evaluate"):
            if getattr(self, name) < 0:
                raise ValueError(f"got {name}={getattr(self, name)}, wanted transitions between them, or 0 for none")


@dataclass
class StopRule:
    """Reasons to stop before `steps`: wall seconds of this session, mean return of 100 training episodes."""

    seconds: float | None = None
    ret: float | None = None


@dataclass
class SolveRule:
    """A task is solved at the first test whose `episodes` greedy returns average `threshold`; the run stops there.

    Arguments:
        every: transitions between tests.
        episodes: of a test.
        threshold: least mean return that counts as solved.
        max_episodes: training episodes after which the run has failed.
    """

    every: int = 1000
    episodes: int = 100
    threshold: float = 0.99
    max_episodes: int = 10_000
