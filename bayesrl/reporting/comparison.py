"""Groups of runs compared: their scores, curves, uncertainty and calibration, as numbers, as a table and as charts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from bayesrl.metrics import bootstrap as aggregate
from bayesrl.metrics.bootstrap import Array, Interval
from bayesrl.plotting.charts import Line, against, lines, profiles, strips
from bayesrl.reporting.results import RunRecord

RETURN, TRAINING = "eval/mean_reward", "rollout/ep_rew_mean"
EPISTEMIC, ALEATORIC = "uncertainty/q_epistemic_std", "uncertainty/q_aleatoric_std"
COVERAGE, ECE = "calibration/return_coverage_90", "calibration/return_ece"
ERROR, PREDICTED = "calibration/return_rmse", "calibration/return_std"
TAGS = (RETURN, TRAINING, EPISTEMIC, ALEATORIC, COVERAGE, ECE, ERROR, PREDICTED)
RESAMPLES, POINTS = 2000, 100
NAMES = {RETURN: "evaluation return", TRAINING: "return of training episodes"}


class Figure(NamedTuple):
    """A chart and what it shows."""

    title: str
    svg: str
    caption: str


@dataclass(eq=False)
class Group:
    """Runs of one configuration in one environment or more.

    Attributes:
        name: what tells it from the others.
        number: of its color.
        runs: of each environment.
        scores: [R], of all of them in this order.
    """

    name: str
    number: int
    runs: list[list[RunRecord]]
    scores: Array
    _curves: dict[str, tuple[Array, Interval] | None] = field(default_factory=dict)  # by tag, once computed

    @cached_property
    def counts(self) -> aggregate.Counts:
        return aggregate.resamples(self.tasks, RESAMPLES, np.random.default_rng(self.number))

    @property
    def tasks(self) -> list[int]:
        return [len(runs) for runs in self.runs]

    def iqm(self) -> Interval:
        return aggregate.iqm(self.scores, self.counts)

    def curve(self, tag: str) -> tuple[Array, Interval] | None:
        """Return transitions [K] and IQM over runs [K] in one environment; None where runs share no two points."""
        if tag not in self._curves:
            steps, values = aligned(self.runs[0], tag)
            self._curves[tag] = None
            if len(steps) > 1:
                counts = aggregate.resamples([len(values)], RESAMPLES, np.random.default_rng(self.number))
                self._curves[tag] = steps, aggregate.iqm(values, counts)
        return self._curves[tag]

    @cached_property
    def sooner(self) -> Array | None:
        """Minus the episodes to solve, [R], -inf for a run that did not; None where no run had a `solve` rule."""
        runs = [run for task in self.runs for run in task]
        if any("episodes_to_solve" not in run.result for run in runs):
            return None
        return np.array([-np.inf if (n := run.result["episodes_to_solve"]) is None else -float(n) for run in runs])

    def solved(self) -> list[int] | None:
        """Return the episodes to solve of the runs that solved; None where no run had a `solve` rule."""
        return None if self.sooner is None else [int(-n) for n in self.sooner[np.isfinite(self.sooner)]]


def aligned(runs: Sequence[RunRecord], tag: str) -> tuple[Array, Array]:
    """Return transitions [K] at which all runs have the number, at most POINTS evenly spaced, and the numbers [R, K].

    Runs that have it nowhere are left out; one that ended because it was solved keeps its last.
    """
    curves = [(*run.curve(tag), run.result.get("episodes_to_solve") is not None) for run in runs]
    curves = [curve for curve in curves if len(curve[0])]
    if not curves:
        return np.empty(0), np.empty((0, 0))
    steps = np.unique(np.concatenate([at for at, _, _ in curves]))
    for at, _, solved in curves:
        steps = steps[np.isin(steps, at) | (solved & (steps > at[-1]))]
    steps = steps[np.unique(np.linspace(0, len(steps) - 1, min(POINTS, len(steps))).round().astype(int))]
    return steps, np.stack([np.interp(steps, at, values) for at, values, _ in curves])


@dataclass(eq=False)
class Comparison:
    """Groups side by side.

    Attributes:
        title: the environment, or what else they have in common.
        groups: the best first, in the order of their IQM; where there was a rule by which a run is solved, of the
            probability that a run of theirs solves sooner than one of another.
        metric: tag of the score.
        score: what a score is, in words.
    """

    title: str
    groups: list[Group]
    metric: str
    score: str

    def __post_init__(self) -> None:
        self.groups = sorted(self.groups, key=lambda group: -float(group.iqm().value))
        if self.by_episodes:
            won = {a.name: sum(float(self.improvement(a, b).value) for b in self.groups) for a in self.groups}
            self.groups = sorted(self.groups, key=lambda group: -won[group.name])

    @property
    def by_episodes(self) -> bool:
        """Whether groups are compared by how soon they solved the task, and not by their scores."""
        solved = [group.solved() for group in self.groups]
        return self.metric == RETURN and None not in solved and any(solved)

    @property
    def one_environment(self) -> bool:
        return len(self.groups[0].runs) == 1

    def rows(self) -> list[dict[str, str]]:
        """Return the rows of the table, as text by column."""
        out = []
        for group in self.groups:
            row = {"": group.name, "seeds" if self.one_environment else "runs": str(len(group.scores))}
            for name, function in (("IQM", aggregate.iqm), ("median", aggregate.median), ("mean", aggregate.mean)):
                row[name] = spelled(function(group.scores, group.counts))
            if (solved := group.solved()) is not None:
                spread = f" ± {statistics.stdev(solved):.3g}" if len(solved) > 1 else ""
                mean = f"{statistics.mean(solved):.4g}{spread}, " if solved else ""
                row["episodes to solve"] = f"{mean}{len(solved)} of {len(group.scores)} solved"
            out.append(row)
        return out

    @property
    def beats(self) -> str:
        return "solves sooner than" if self.by_episodes else "beats"

    def improvement(self, a: Group, b: Group) -> Interval:
        """Return P(a run of a beats one of b): that it solves sooner, where runs have that rule, or scores higher."""
        x, y = a.scores, b.scores
        if self.by_episodes and a.sooner is not None and b.sooner is not None:
            x, y = a.sooner, b.sooner
        return aggregate.improvement(x, y, a.counts, b.counts, a.tasks, b.tasks)

    def figures(self) -> dict[str, Figure]:
        """Return the figures that there are data for, by file name without its suffix."""
        made = {"scores": self._scores(), "curves": self._curves(), "profile": self._profile()}
        made |= {"uncertainty": self._epistemic(), "error": self._error()}
        made |= {"coverage": self._coverage(), "calibration": self._calibration()}
        return {name: figure for name, figure in made.items() if figure}

    def curves(self, tag: str) -> dict[str, Line]:
        """Return the curves of the groups that have them, by name."""
        found = {group: group.curve(tag) for group in self.groups} if self.one_environment else {}
        return {group.name: Line(*curve, group.number) for group, curve in found.items() if curve}

    def _scores(self) -> Figure:
        shown = {group.name: (group.scores, group.iqm(), group.number) for group in self.groups}
        return Figure(
            "Where every seed ended",
            strips(self.score, shown),
            "Each faint dot is one seed. The strong dot is the interquartile mean (IQM), the mean of the middle half "
            "of the seeds; its bar is the 95 % interval.",
        )

    def _curves(self) -> Figure | None:
        tag = self.metric if any(group.curve(self.metric) for group in self.groups[:1]) else TRAINING
        if not (shown := self.curves(tag)):
            return None
        held = any(group.solved() for group in self.groups)
        return Figure(
            "How they learned",
            lines("transitions", NAMES.get(tag, tag), shown),
            "Line: IQM over seeds. Band: its 95 % interval." + " A solved run keeps its last value." * held,
        )

    def _profile(self) -> Figure:
        scores = np.concatenate([group.scores for group in self.groups])
        low, high = scores.min(), scores.max()
        margin = 0.03 * (high - low or 1)
        x = np.linspace(low - margin, high + margin, 201)
        made = {g.name: Line(x, aggregate.profile(g.scores, x, g.counts), g.number) for g in self.groups}
        return Figure(
            "How many seeds did how well",
            profiles(self.score, made),
            "The share of seeds whose score lies above the value below: further right and higher is better, and a "
            "steep fall means that seeds agree. Band: 95 % interval. Names point to where half of the seeds are above.",
        )

    def _epistemic(self) -> Figure | None:
        if not (shown := self.curves(EPISTEMIC)):
            return None
        return Figure(
            "What the agent did not know",
            lines("transitions", "epistemic standard deviation of Q", shown),
            "How far posterior draws of Q differ at the greedy action, in units of the return. It falls where data "
            "teaches. Line: IQM over seeds. Band: its 95 % interval.",
        )

    def _error(self) -> Figure | None:
        shown = {}
        for group in self.groups if self.one_environment else []:
            predicted, error = group.curve(PREDICTED), group.curve(ERROR)
            if predicted and error and len(predicted[0]) == len(error[0]):
                x, y = predicted[1].value, error[1].value
                there = (x > 0) & (y > 0)
                if there.sum() > 1:
                    shown[group.name] = (x[there], y[there], group.number)
        if not shown:
            return None
        return Figure(
            "Uncertainty against error",
            against("error that was predicted", "error that came (root mean square)", shown),
            "Each path follows one group through training and ends at its dot: the error of the return predicted as an "
            "episode began, against the error that the posterior itself expected (epistemic and aleatoric), over the "
            "last 100 terminated episodes, in units of the discounted return; IQM over seeds.",
        )

    def _coverage(self) -> Figure | None:
        if not (shown := self.curves(COVERAGE)):
            return None
        return Figure(
            "Did returns fall where they were expected?",
            lines("transitions", "share of returns inside the 90 % band", shown, (0.9, "calibrated")),
            "The share of the last 100 terminated episodes whose return lay in the 90 % band predicted as they began. "
            "Below the dashed 0.9 the agent is too sure, above it too cautious. Line: IQM over seeds. Band: its 95 % "
            "interval.",
        )

    def _calibration(self) -> Figure | None:
        if not (shown := self.curves(ECE)):
            return None
        return Figure(
            "How wrong were its probabilities?",
            lines("transitions", "quantile calibration error", shown, (0.0, "calibrated")),
            "The mean distance between 20 probability levels and the share of returns below the quantile predicted for "
            "them; 0.03 is chance. Line: IQM over seeds. Band: its 95 % interval.",
        )


def spelled(interval: Interval) -> str:
    """Return an estimate with its interval as text."""
    return f"{_number(interval.value)} [{_number(interval.low)}, {_number(interval.high)}]"


def _number(x: Array) -> str:
    return f"{float(x):,.4g}" if abs(float(x)) < 10_000 else f"{float(x):,.0f}"
