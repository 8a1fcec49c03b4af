"""Finished runs, found and read for comparison, those that cannot be compared named with the reason; grouped by what
differs in their configurations.
"""

from __future__ import annotations

import fcntl
import functools
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from bayesrl.experiment import legacy
from bayesrl.experiment.config import COMPONENTS, leaves
from bayesrl.experiment.settings import defaults

# What does not change what a run finds, or is what runs of one group differ by.
ASIDE = (
    "seed", "run_dir", "resume", "device", "threads", "capture", "workers.", "log.", "checkpoint.", "env.vectorization",
)  # fmt: skip
ENVIRONMENT = ("env.id", "env.kwargs", "env.imports")


LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the first is ten times as fast, where there is libyaml


class SkipError(ValueError):
    """The reason why a run is left out."""


@dataclass(eq=False)
class RunRecord:
    """A finished run.

    Attributes:
        path: its directory.
        config: every setting by its dotted name.
        words: what its command said, by key.
        result: what `result.json` holds.
        columns: numbers by tag [K], NaN where a row lacks them, and the transitions under `step`.
    """

    path: Path
    config: dict[str, Any]
    words: dict[str, str]
    result: dict[str, Any]
    columns: dict[str, NDArray[np.float64]]

    def __str__(self) -> str:
        return str(self.path)

    def curve(self, tag: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return transitions [k] and numbers [k] of the rows that have them."""
        values = self.columns.get(tag, np.empty(0))
        there = np.isfinite(values)
        return self.columns["step"][: len(values)][there], values[there]


def find(paths: Iterable[Path]) -> list[Path]:
    """Return the run directories among and below `paths`, each once, in the order of their names."""
    out: dict[Path, None] = {}
    for path in paths:
        below = []
        for here, folders, files in os.walk(path):
            folders.sort()
            if {"config.yaml", "metrics.csv", "log.txt"} & set(files):
                folders.clear()
                below.append(Path(here))
        out |= dict.fromkeys(below or [path])
    return list(out)


def read(path: Path, tags: Sequence[str]) -> RunRecord:
    """Read a run, with these columns of its metrics.

    Raises:
        SkipError: it is missing, empty, still running, interrupted or cut short.
    """
    if not path.is_dir():
        raise SkipError("there is no such directory")
    config_text = _text(path / "config.yaml", "it holds no run, or one that never began")
    if running(path):
        raise SkipError("it is still running")
    try:
        values = yaml.load(config_text, LOADER)
        config = _defaults() | leaves(legacy.translate_config(values) if legacy.is_legacy(path) else values)
        steps, _ = config["steps"], config["env.id"]
    except (yaml.YAMLError, KeyError, AttributeError) as error:
        raise SkipError("its config.yaml is cut short") from error
    columns = _columns(_text(path / "metrics.csv", "it has no metrics.csv"), tags)
    at = int(columns["step"][-1])
    unfinished = f"it stopped at {at:,} of {steps:,} transitions: go on with resume={path}"
    try:
        result = json.loads(_text(path / "result.json", unfinished))
        if result["eval_return_mean"] is None:
            raise SkipError(unfinished)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise SkipError("its result.json is cut short") from error
    try:
        command = json.loads((path / "run.json").read_text())["command"]
    except (OSError, ValueError, KeyError):
        command = []
    words = dict(str(word).split("=", 1) for word in command if "=" in str(word))
    return RunRecord(path, config, words, result, columns)


@functools.cache
def _defaults() -> dict[str, Any]:
    """Return settings that a run of an earlier version may not mention yet."""
    return leaves(defaults())


def running(path: Path) -> bool:
    """Return whether a process holds the run's lock."""
    try:
        with (path / "lock").open() as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _text(path: Path, missing: str) -> str:
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError as error:
        raise SkipError(missing) from error
    except OSError as error:
        raise SkipError(f"{path.name} cannot be read: {error.strerror}") from error
    if not text.strip():
        raise SkipError(f"its {path.name} is empty")
    return text


def _columns(text: str, tags: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Parse the named columns of a metrics file as the logger writes it, without quotes or commas in cells."""
    head, *lines = text.splitlines()
    names = head.split(",")
    columns = {tag: names.index(tag) for tag in ("step", *tags) if tag in names}
    if not lines:
        raise SkipError("its metrics.csv has no rows yet")
    rows = [line.split(",") for line in lines]
    if "step" not in columns or not text.endswith("\n") or any(len(row) != len(names) for row in rows):
        raise SkipError("its metrics.csv is cut short")
    try:
        return {tag: np.array([float(row[i] or math.nan) for row in rows]) for tag, i in columns.items()}
    except ValueError as error:
        raise SkipError(f"its metrics.csv holds what is no number: {error}") from error


# --- what differs ----------------------------------------------------------------------------------------------------


def distinct(runs: Sequence[RunRecord]) -> tuple[list[RunRecord], list[tuple[Path, str]]]:
    """Runs without those that repeat a configuration with its seed, which would count one result twice; and these."""
    first: dict[str, RunRecord] = {}
    again = []
    for run in runs:
        facts = repr([(k, v) for k, v in sorted(run.config.items()) if k == "seed" or not k.startswith(ASIDE)])
        if first.setdefault(facts, run) is not run:
            again.append((run.path, f"it has the configuration and the seed of {first[facts].path}"))
    return list(first.values()), again


def by_environment(runs: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Runs by their environment's name, and by those of its arguments that differ between runs."""
    return _grouped(runs, [key for key in _keys(runs) if key.startswith(ENVIRONMENT)], ["env.id"])


def by_difference(runs: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Group runs of one environment by what differs in their configurations beside the seed.

    A label is the first differences that suffice to tell the groups apart: options of configuration groups, as the
    command chose them or else by class, and then settings. Where nothing differs it is the posterior.
    """
    keys = [key for key in _keys(runs) if not key.startswith((*ASIDE, *ENVIRONMENT))]
    groups = _grouped(runs, keys, [])
    return groups if len(groups) > 1 else {_option(runs[0], "posterior") or _option(runs[0], "agent"): list(runs)}


def _keys(runs: Iterable[RunRecord]) -> list[str]:
    return list(dict.fromkeys(key for run in runs for key in run.config))


def _option(run: RunRecord, component: str) -> str:
    """Return the option that a run has chosen of a configuration group."""
    return run.words.get(component, str(run.config.get(f"{component}._target_", "")).rpartition(".")[2])


def _grouped(runs: Sequence[RunRecord], keys: Sequence[str], shown: list[str]) -> dict[str, list[RunRecord]]:
    """Runs that are equal in `keys`, labeled by the values of `shown` and of what else tells them apart."""
    groups: dict[str, list[RunRecord]] = {}
    for run in runs:
        groups.setdefault(repr([run.config.get(key) for key in keys]), []).append(run)
    heads = [group[0] for group in groups.values()]
    labels = [tuple(str(head.config.get(key)) for key in shown) for head in heads]
    ways: dict[str, list[str]] = {name: [_option(head, name) for head in heads] for name in COMPONENTS}
    ways |= {key: [f"{key.rpartition('.')[2]}={_short(head.config.get(key))}" for head in heads] for key in keys}
    for values in ways.values():
        finer = [(*before, value) for before, value in zip(labels, values, strict=True)]
        if len(set(labels)) < len(set(finer)):
            labels = finer
    return {", ".join(label): group for label, group in zip(labels, groups.values(), strict=True)}


def _short(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)
