"""The result of a run: its metrics as arrays, its figure, its policy."""

from __future__ import annotations

import csv
import json
import math
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesrl.experiment import build, run_directory
from bayesrl.experiment.building import plain
from bayesrl.experiment.objects import NO_OBJECTS, Objects
from bayesrl.experiment.signatures import unknown
from bayesrl.plotting.figure import Figure
from bayesrl.plotting.learning_curves import learning_curves
from bayesrl.training.checkpoint import CheckpointError

if TYPE_CHECKING:
    import pandas

    from bayesrl.deployment.policy import Policy


class Metric(NamedTuple):
    """A metric over the course of a run.

    Attributes:
        steps: transitions, [K] int64.
        values: [K] float64, finite.
    """

    steps: NDArray[np.int64]
    values: NDArray[np.float64]


class Metrics(dict[str, Metric]):
    """The metrics of a run by tag; a tag that is not there is answered with those that are."""

    def __missing__(self, tag: str) -> Metric:
        raise KeyError(unknown(str(tag), "a tag of this run", str(tag), list(self)))


class Result:
    """The contents of a run directory at the time when the result was made.

    Arguments:
        run_dir: directory of a run of `Trainer` or of `python -m bayesrl.train`.
        interrupted: name of the signal that ended training early, or None.
        objects: what the run was given in place of parts of its configuration.

    Attributes:
        config: the configuration, as nested dictionaries.
        summary: what `result.json` holds: steps, episodes, eval_return_mean, eval_return_ci, seconds, and others where
            they apply; empty where the run has not ended yet.
        metrics: by tag, such as "eval/mean_reward", the pair (`steps`, `values`) of arrays; tags without values are
            left out.

    Raises:
        CheckpointError: there is no run, or one whose `result.json` or `metrics.csv` is damaged.
    """

    def __init__(self, run_dir: str | Path, interrupted: str | None = None, objects: Objects = NO_OBJECTS) -> None:
        self.run_dir, self.interrupted, self._objects = Path(run_dir), interrupted, objects
        self.config: dict[str, Any] = plain(run_directory.stored(self.run_dir))
        file = self.run_dir / "result.json"
        try:
            self.summary: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
            file = self.run_dir / "metrics.csv"
            self.metrics = read_metrics(file)
        except (ValueError, KeyError) as error:
            raise CheckpointError(f"got {file}, which is damaged ({error}), wanted a run's: restore it") from error

    @cached_property
    def policy(self) -> Policy:
        """The policy at the newest checkpoint, as `bayesrl.load` gives it."""
        return build.policy(self.run_dir, objects=self._objects)

    def to_pandas(self) -> pandas.DataFrame:
        """Return the metrics as a table: a row for each step, a column for each tag, NaN where a row lacks it.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("got no pandas, wanted it for to_pandas: pip install pandas") from error
        columns = {tag: pandas.Series(metric.values, index=metric.steps) for tag, metric in self.metrics.items()}
        return pandas.DataFrame(columns).rename_axis("step")

    def plot(self) -> Figure:
        """Return one figure: the return, and the value at the start of episodes with its 5-95 % band."""
        return learning_curves(self.metrics)

    def __repr__(self) -> str:
        return "Result(" + ", ".join(f"{name}={value}" for name, value in self._facts().items()) + ")"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{escape(k)}</th><td>{escape(str(v))}</td></tr>" for k, v in self._facts().items())
        return f"<table><caption>Result</caption>{rows}</table>{self.plot().svg}"

    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"env": self.config["env"]["id"], "steps": self.summary.get("steps")}
        mean, interval = self.summary.get("eval_return_mean"), self.summary.get("eval_return_ci")
        if mean is not None:
            band = f" (95 % interval {interval[0]:.4g} to {interval[1]:.4g})" if interval else ""
            facts["return"] = f"{mean:.4g}{band}"
        if self.interrupted:
            facts["interrupted"] = self.interrupted
        return facts | {"run_dir": str(self.run_dir)}


def read_metrics(path: Path) -> Metrics:
    """Return the finite values of a metrics file by tag; rows that were cut short are left out."""
    if not path.exists():
        return Metrics()
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if None not in row.values() and str(row["step"]).isdigit()]
    out = Metrics()
    for tag in rows[0] if rows else ():
        pairs = [(int(row["step"]), float(row[tag])) for row in rows if tag != "step" and row[tag]]
        pairs = [pair for pair in pairs if math.isfinite(pair[1])]
        if pairs:
            steps, values = zip(*pairs, strict=True)
            out[tag] = Metric(np.array(steps, dtype=np.int64), np.array(values))
    return out
