"""Many runs from one command: each an ordinary run in a process of its own, on all cores, with one progress display.

The runs are forked from a server that has imported everything once, so that each starts at once; none shares anything
with the others, and what kills one, a segmentation fault or the kernel, leaves the rest alone. Hydra's launchers keep
their workers' state from run to run, stop all at the first that raises, and know neither resuming nor saving.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.errors import HydraException
from omegaconf import DictConfig
from tqdm import tqdm

from bayesrl.experiment import cli, run_directory, single_run
from bayesrl.experiment.config import RESUMABLE, ConfigError, check, flat, groups, hydra_session, load, parse
from bayesrl.experiment.environments import CHECKS
from bayesrl.training.checkpoint import CheckpointError

MAY_DIFFER = ("run_dir", "resume", *RESUMABLE)  # between a configuration and the stored one


@dataclass(eq=False)
class Job:
    """A run of a sweep.

    Attributes:
        config: composed and checked.
        path: its run directory.
        words: that say as much on a command line.
        process: that trains it; None before, and where nothing is left to do.
        mark: bytes of its log before this session.
        signals_sent: how many signals were passed on to it.
    """

    config: DictConfig
    path: Path
    words: list[str]
    process: ForkServerProcess | None = None
    mark: int = 0
    signals_sent: int = 0

    def result(self) -> dict | None:
        """Return the result of a finished run; None if it is not finished, or was started with fewer steps."""
        try:
            result = json.loads((self.path / "result.json").read_text())
            enough = run_directory.stored(self.path).steps >= self.config.steps
        except (OSError, ValueError):
            return None
        return result if enough and result["eval_return_mean"] is not None else None

    def start(self, context: Any) -> None:
        """Begin, or go on where the newest checkpoint left it."""
        self.path.mkdir(parents=True, exist_ok=True)
        log = self.path / "log.txt"
        self.mark = log.stat().st_size if log.exists() else 0
        self.process = context.Process(target=_run, args=(self.config, self.path, self.words))
        self.process.start()

    def progress(self) -> float:
        """Return the share of its transitions that it has logged; 0 where a `solve` rule ends it."""
        try:
            with (self.path / "metrics.csv").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
                step = file.read().rpartition(b"\n")[0].rpartition(b"\n")[2].partition(b",")[0]
        except OSError:
            return 0.0
        return min(1.0, int(step) / self.config.steps) if step.isdigit() and not self.config.solve else 0.0

    def reason(self) -> str:
        """Return why it failed, in a line."""
        code = self.process.exitcode if self.process else None
        if code is not None and code < 0:
            return f"killed by {signal.Signals(-code).name}"
        with (self.path / "log.txt").open("rb") as file:
            file.seek(self.mark)
            lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        reason = (errors or lines[-1:] or [f"exit code {code}"])[0]
        return f"{reason} (and {len(errors) - 1} more, see {self.path / 'log.txt'})" if len(errors) > 1 else reason


def sweep(argv: list[str]) -> int:
    """Train every combination of values; returns 0, 1 where a run failed, or 128 + the signal that stopped it.

    Raises:
        ConfigError: all that is wrong with any combination; nothing has begun.
    """
    jobs, words = _jobs(argv)
    dirs, words, show = cli.options(words)
    if show:
        raise ConfigError(["got --cfg with --multirun, wanted one of them: --cfg prints one configuration"])
    if any(word.startswith("resume=") for word in words):
        raise ConfigError(["got resume= with --multirun, wanted run_dir=, the sweep's: what began there goes on"])
    run_dir = next((w.partition("=")[2].strip("'\"") for w in words if w.startswith("run_dir=")), None)
    combinations = expand([w for w in words if not w.startswith("run_dir=")], dirs)
    configs = checked(combinations, dirs, None if run_dir is None else Path(run_dir))
    root = run_directory.fresh(run_dir, "sweep")
    options = [word for place in dirs for word in ("--config-dir", place)]
    runs = [Job(configs[name], root / name, [*options, *combinations[name]]) for name in combinations]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with run_directory.locked(root, new=False):
        print(f"sweep: {len(runs)} runs in {root}", flush=True)
        return JobPool(runs, jobs or max(1, cores // max(c.threads for c in configs.values()))).run()


@dataclass
class JobPool:
    """The runs of a sweep, so many of them at a time.

    Attributes:
        runs: of the sweep, in the order in which they start.
        jobs: at a time.
        stops: signals that have come; the first stops and saves every run, the second ends them at once.
    """

    runs: list[Job]
    jobs: int
    stops: list[int] = field(default_factory=list)

    def run(self) -> int:
        """Train until none is left, and say how it went."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["bayesrl.experiment.single_run"])
        done = [run for run in self.runs if run.result()]
        waiting = [run for run in self.runs if run not in done]
        running: list[Job] = []
        failed: list[tuple[str, str]] = []
        count = len(self.runs)
        shape = "{percentage:3.0f}%|{bar}| {n:.1f}/{total} runs [{elapsed}<{remaining}{postfix}]"
        bar = tqdm(
            total=count, initial=len(done), bar_format=shape, dynamic_ncols=True,
            mininterval=0.5 if sys.stderr.isatty() else 10,
        )  # fmt: skip
        if done:
            bar.write(f"{len(done)} finished before")
        with self._noting(), bar:
            while running or (waiting and not self.stops):
                while waiting and len(running) < self.jobs and not self.stops:
                    running.append(waiting.pop(0))
                    running[-1].start(context)
                multiprocessing.connection.wait([m.process.sentinel for m in running if m.process], 0.5)
                for run in running[:]:
                    self._pass_on(run)
                    if run.process and run.process.exitcode is None:
                        continue
                    running.remove(run)
                    if result := run.result():
                        done.append(run)
                        bar.write(f"{run.path.name}: {_summary(result)}")
                    elif not self.stops:
                        failed.append((run.path.name, run.reason()))
                        bar.write(f"{run.path.name}: failed: {failed[-1][1]}")
                bar.set_postfix_str(f"{len(running)} running, {len(failed)} failed", refresh=False)
                bar.update(len(done) + len(failed) + sum(m.progress() for m in running) - bar.n)
        root = self.runs[0].path.parent
        print(f"{len(done)} of {count} runs finished; compare them: python -m bayesrl.report {root}")
        print("".join(f"failed: {name}: {reason}\n" for name, reason in failed), end="")
        if self.stops:
            print(f"stopped, every run saved: the same command with run_dir={root} goes on")
        return 128 + self.stops[0] if self.stops else int(bool(failed))

    def _pass_on(self, run: Job) -> None:
        while run.signals_sent < len(self.stops) and run.process is not None and run.process.exitcode is None:
            os.kill(run.process.pid, signal.SIGTERM)  # type: ignore[arg-type]
            run.signals_sent += 1

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """Count signals, which are passed on to every run exactly as often as they came."""
        old: dict[int, Any] = {}
        try:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                old[number] = signal.signal(number, lambda number, frame: self.stops.append(number))
        except ValueError:  # not in the main thread
            pass
        try:
            yield
        finally:
            for each, handler in old.items():
                signal.signal(each, handler)


# --- what to run -----------------------------------------------------------------------------------------------------


def expand(words: Sequence[str], config_dirs: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return every combination of values in Hydra's sweep syntax (`a,b`, `choice`, `range`, `glob`), by the run's name.

    Raises:
        ConfigError: a sweep without an end, `interval`.
    """
    problems, axes = [], []
    with hydra_session():
        options = groups(config_dirs)
        parser = OverridesParser.create()
        for word in words:
            try:
                override = parser.parse_override(word)
            except HydraException:
                axes.append([(word, "")])  # `checked` says what is wrong with it
                continue
            key, value = override.key_or_group, override.value()
            if not override.is_sweep_override():
                axes.append([(word, "")])
            elif isinstance(value, Glob):
                axes.append([(f"{key}={name}",) * 2 for name in value.filter(options.get(key, []))])
            elif override.is_discrete_sweep():
                each = [f"{override.get_key_element()}={text}" for text in override.sweep_string_iterator()]
                axes.append([(text, text.replace("'", "").replace('"', "")) for text in each])
            else:
                axes.append([])
            if not axes[-1]:
                problems.append(f"got {word}, wanted values to count: a,b or range(10) or glob(*) of a group")
    if problems:
        raise ConfigError(problems)
    out = {}
    for chosen in itertools.product(*axes):
        name = ",".join(label for _, label in chosen if label)
        out[quote(name, safe="=,[]{}:+ ") or "run"] = [word for word, _ in chosen]
    return out


def checked(
    combinations: dict[str, list[str]], config_dirs: Sequence[str], root: Path | None = None
) -> dict[str, DictConfig]:
    """Return the configuration of every combination, compared with what was begun under `root`.

    Raises:
        ConfigError: every problem of every combination, each once, with how many runs have it where not all do.
    """
    problems: dict[str, list[str]] = {}
    composed: dict[tuple[str, ...], DictConfig | ConfigError] = {}
    seeds: dict[str, list[str]] = {}  # a seed has no say in what else is composed, which is slow
    out = {}
    for name, words in combinations.items():
        kind = tuple(word for word in words if not word.startswith("seed="))
        if kind not in composed:
            composed[kind] = _composed(list(kind), config_dirs)
        base, found = composed[kind], []
        if isinstance(base, ConfigError):
            found += str(base).splitlines()
        else:
            out[name] = config = base.copy()
            for word in words:
                if word.startswith("seed=") and (override := parse(word, found)):
                    config.seed = override.value()
                    if word not in seeds:
                        seeds[word] = check(config)
                    found += seeds[word]
            found += _changed(config, root / name) if root else []
        for problem in found:
            problems.setdefault(problem, []).append(name)
    if problems:
        raise ConfigError(
            problem if len(names) == len(combinations) else f"{problem} (in {len(names)} runs, such as {names[0]})"
            for problem, names in problems.items()
        )
    return out


def _composed(words: list[str], config_dirs: Sequence[str]) -> DictConfig | ConfigError:
    try:
        return load(words, config_dirs, CHECKS)
    except ConfigError as error:
        return error


def _changed(config: DictConfig, path: Path) -> list[str]:
    """Return the settings in which a run that has begun differs from `config`."""
    try:
        stored = flat(run_directory.stored(path))
    except CheckpointError:  # nothing began there, or the run itself will say what is broken
        return []
    return [
        f"got {key}={value}, wanted {stored[key]}, which {path} was begun with: use another run_dir"
        for key, value in flat(config).items()
        if key in stored and value not in (stored[key], "auto") and not key.startswith(MAY_DIFFER)
    ]


def _jobs(argv: list[str]) -> tuple[int | None, list[str]]:
    """Return the number after --jobs, and the words that remain."""
    jobs, words, rest = None, [], iter(argv)
    for word in rest:
        option, equals, value = word.partition("=")
        if option in ("--jobs", "-j"):
            value = value if equals else next(rest, "")
            if not value.isdecimal() or int(value) < 1:
                raise ConfigError([f"got {option} {value}, wanted how many runs at a time, 1 or more"])
            jobs = int(value)
        elif word not in ("--multirun", "-m"):
            words.append(word)
    return jobs, words


# --- in the run's process --------------------------------------------------------------------------------------------


def _run(config: DictConfig, path: Path, words: list[str]) -> None:
    """Train in this process, whose output goes to the log; it stops, saved, when the sweep is killed.

    The configuration is the sweep's own, so that what is edited meanwhile does not reach the runs that wait.
    """
    os.setpgid(0, 0)  # Ctrl-C reaches the sweep alone, which passes it on
    with (path / "log.txt").open("ab") as file, open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    threading.Thread(target=_follow, daemon=True).start()
    sys.argv = ["bayesrl.train", *words]
    sys.exit(cli.command(words, lambda _: _train(config, path)))


def _train(config: DictConfig, path: Path) -> int:
    if not (path / "config.yaml").exists():
        return single_run.train_in(path, config)
    values = {key: value for key, value in flat(config).items() if key.startswith(RESUMABLE)}
    return single_run.train([f"resume={path}", *(f"{k}={'null' if v is None else v}" for k, v in values.items())])


def _follow() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def _summary(result: dict) -> str:
    """Return a result in a few words."""
    if "episodes_to_solve" in result:
        episodes = result["episodes_to_solve"]
        return f"solved after {episodes} episodes" if episodes is not None else "not solved"
    return f"return {result['eval_return_mean']:.4g} after {result['steps']:,} transitions"
