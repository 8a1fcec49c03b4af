"""Compare runs: `python -m bayesrl.report RUNS... [out=DIR] [metric=TAG]`.

RUNS are run directories and directories that hold some, such as a sweep's. They are grouped by what differs in their
configurations beside the seed; every number is over seeds, with a 95 % interval from the stratified bootstrap. Prints a
table, and writes into `out` (`report/` in the directory, or in the one that holds all of several)

    index.html     the page: table, probability of improvement, figures; opens from disk and fetches nothing
    *.svg          its figures (and *.png with `pip install "bayesrl[png]"`)
    report.json    the numbers of the tables
    tensorboard/   a TensorBoard run for each group, with bands over seeds (tab Custom Scalars)

    metric=TAG     a column of metrics.csv, whose last number is the score; by default the final evaluation's return

Runs that are missing, empty, still running, interrupted, cut short or without the metric are named and left out. Exit
code 2, with one sentence, when nothing is left or the input is wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bayesrl.experiment import legacy
from bayesrl.experiment.config import ConfigError
from bayesrl.reporting import results as records
from bayesrl.reporting.comparison import RETURN, TAGS, Comparison, Group
from bayesrl.reporting.html import page
from bayesrl.reporting.results import RunRecord, SkipError
from bayesrl.training.checkpoint import replace
from bayesrl.training.logger import write_bands


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or any(arg in ("-h", "--help") for arg in argv):
        print(__doc__.strip())
        return 0 if argv else 2
    from bayesrl.experiment import cli

    return cli.command(argv, report)


def report(argv: list[str]) -> int:
    """Report from command-line words.

    Raises:
        ConfigError: no run is left, or none knows the metric.
    """
    options = {"out": "", "metric": RETURN}
    options |= dict(word.split("=", 1) for word in argv if word.startswith(("out=", "metric=")))
    paths = [Path(word) for word in argv if not word.startswith(("out=", "metric="))]
    if not paths:
        raise ConfigError(["got no runs, wanted run directories, or directories that hold some"])
    metric, out = options["metric"], Path(options["out"] or common_directory(paths) / "report")
    runs, skipped = collect(paths, metric)
    for path, reason in skipped:
        print(f"left out: {path}: {reason}")
    if not runs:
        raise ConfigError(
            [f"got no run that is finished and knows {metric}, wanted one or more: look at the reasons above"]
        )
    compared = compare(runs, metric)
    for comparison in compared:
        print(f"{comparison.title}, {comparison.score}, with 95 % intervals over seeds\n{table(comparison)}")
    write(out, runs, compared, [(str(path), reason) for path, reason in skipped])
    print(f"written to {out / 'index.html'}")
    return 0


# --- from runs to comparisons ----------------------------------------------------------------------------------------


def collect(paths: Sequence[Path], metric: str) -> tuple[list[RunRecord], list[tuple[Path, str]]]:
    """Return the runs that can be compared, and those that cannot with the reason."""
    runs, skipped = [], []
    for path in records.find(paths):
        try:
            run = records.read(path, (*TAGS, metric))
            if metric != RETURN and not len(run.curve(metric)[0]):
                raise SkipError(f"its metrics.csv has no {metric}")
            runs.append(run)
            if legacy.is_legacy(path):
                print(f"warning: {legacy.warning(path)}", file=sys.stderr)
        except SkipError as reason:
            skipped.append((path, str(reason)))
    runs, again = records.distinct(runs)
    return runs, skipped + again


def common_directory(paths: Sequence[Path]) -> Path:
    """Return the directory that contains all existing paths; where there is one, that itself.

    Raises:
        ConfigError: only the root of the file system does.
    """
    there = [path for path in paths if path.is_dir()] or [*paths[:1]]
    if len(there) == 1:
        return there[0]
    common = Path(os.path.commonpath([path.resolve() for path in there]))
    if common == Path(common.anchor):
        raise ConfigError([f"got {there[0]} and {there[1]} with no directory in common, wanted out=DIR beside them"])
    return common


def compare(runs: Sequence[RunRecord], metric: str) -> list[Comparison]:
    """Return a comparison for each environment; where there are several, first one of all, on normalized scores."""
    found = {env: records.by_difference(part) for env, part in records.by_environment(runs).items()}
    number = {name: i for i, name in enumerate(sorted({name for groups in found.values() for name in groups}))}
    words = f"last {metric}" if metric != RETURN else "greedy return after training"
    scores = {env: {name: _scores(group, metric) for name, group in groups.items()} for env, groups in found.items()}
    out = []
    everywhere = [name for name in number if all(name in groups for groups in found.values())]
    if len(found) > 1 and everywhere:
        groups = []
        for name in everywhere:
            parts = [_normalized(scores[env][name], list(scores[env].values())) for env in found]
            groups.append(Group(name, number[name], [found[env][name] for env in found], np.concatenate(parts)))
        out.append(Comparison(f"{len(found)} environments together", groups, metric, "normalized score"))
    for env, named in found.items():
        groups = [Group(name, number[name], [group], scores[env][name]) for name, group in named.items()]
        out.append(Comparison(env, groups, metric, words))
    return out


def _scores(runs: Sequence[RunRecord], metric: str) -> np.ndarray:
    return np.array([run.result["eval_return_mean"] if metric == RETURN else run.curve(metric)[1][-1] for run in runs])


def _normalized(scores: np.ndarray, everyone: Sequence[np.ndarray]) -> np.ndarray:
    """Return scores on a scale from 0, the environment's worst run, to 1, its best."""
    low, high = min(part.min() for part in everyone), max(part.max() for part in everyone)
    return (scores - low) / ((high - low) or 1)


# --- what is shown ---------------------------------------------------------------------------------------------------


def table(comparison: Comparison) -> str:
    """Return a comparison as text for the console."""
    rows = comparison.rows()
    lines = [list(rows[0]), *([*row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    out = ["  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    best, *others = comparison.groups
    for other in others:
        value, low, high = (float(part) for part in comparison.improvement(best, other))
        out.append(f"P({best.name} {comparison.beats} {other.name}) = {value:.2f} [{low:.2f}, {high:.2f}]")
    return "\n".join(out)


def facts(runs: Sequence[RunRecord], compared: Sequence[Comparison]) -> dict[str, str]:
    """Return the facts that a reader needs first: groups, environment, runs, length of training and score."""
    seeds = {run.config["seed"] for run in runs}
    named = _span(seeds) if len(seeds) == max(seeds) - min(seeds) + 1 else ", ".join(map(str, sorted(seeds)))
    each = _span({len(task) for comparison in compared for group in comparison.groups for task in group.runs})
    groups = dict.fromkeys(group.name for comparison in compared for group in comparison.groups)
    played = f", mean of {_span({run.config['eval.final_episodes'] for run in runs})} episodes"
    together = "; together from 0, an environment's worst run, to 1, its best"
    return {
        "Compared": ", ".join(groups),
        "Environment": ", ".join(comparison.title for comparison in compared if comparison.one_environment),
        "Runs": f"{len(runs)}: {each} in each group, seeds {named}",
        "Trained for": f"{_span({run.result['steps'] for run in runs})} transitions",
        "Score": compared[-1].score + played * (compared[0].metric == RETURN) + together * (len(compared) > 1),
    }


def write(
    out: Path, runs: Sequence[RunRecord], compared: Sequence[Comparison], skipped: Sequence[tuple[str, str]]
) -> None:
    """Write the page, its figures, the numbers and the TensorBoard runs."""
    shutil.rmtree(out / "tensorboard", ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    shown = []
    for comparison in compared:
        prefix = f"{_slug(comparison.title)}-" if len(compared) > 1 else ""
        shown.append((comparison, comparison.figures()))
        for name, figure in shown[-1][1].items():
            _draw(out / f"{prefix}{name}.svg", figure.svg)
        for group in comparison.groups if comparison.one_environment else []:
            bands = {tag: curve for tag in TAGS if (curve := group.curve(tag))}
            write_bands(out / "tensorboard" / f"{prefix}{_slug(group.name)}", bands)
    about = facts(runs, compared)
    alike = [(key, value) for key, value in runs[0].config.items() if not key.startswith(records.ASIDE)]
    common = [f"{k}={v}" for k, v in alike if all(run.config.get(k) == v for run in runs)]
    names = [group.name for group in compared[0].groups]
    envs = [comparison.title for comparison in compared if comparison.one_environment]
    html = page(f"{_listed(names, 'groups')} on {_listed(envs, 'environments')}", about, shown, common, skipped)
    replace(out / "index.html", html.encode())
    numbers = {comparison.title: comparison.rows() for comparison in compared}
    replace(out / "report.json", (json.dumps({**about, "tables": numbers}, indent=2) + "\n").encode())


def _draw(path: Path, svg: str) -> None:
    replace(path, svg.encode())
    with contextlib.suppress(ImportError, OSError):  # OSError: its C library is not there
        import cairosvg

        cairosvg.svg2png(bytestring=svg.encode(), write_to=str(path.with_suffix(".png")), scale=2)


def _span(numbers: set[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _listed(names: Sequence[str], what: str) -> str:
    """Return names for a title, or their number where they are many."""
    few = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return few if len(names) <= 4 else f"{len(names)} {what}"


def _slug(name: str) -> str:
    return re.sub(r"[^\w.=+-]+", "_", name)


if __name__ == "__main__":
    sys.exit(main())
