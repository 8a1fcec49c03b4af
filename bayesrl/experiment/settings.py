"""The settings of a run, declared here alone: each with its type, bounds, default and a line that says what it is.

What belongs to a component, such as an agent or a posterior, is declared by the component's constructor.
"""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

from bayesrl.annotations import Ge, Le

MAX_SEED = 2**32 - 1
MAX_THREADS = 1024


@dataclass
class Environment:
    """The environments; see the group `env`."""

    id: Annotated[str, "as registered with Gymnasium, or module:Id"]
    num_envs: Annotated[int, Ge(1), "environments stepped at the same time"] = 1
    kwargs: Annotated[dict, "of the environment's constructor"] = field(default_factory=dict)
    imports: Annotated[list[str], "modules to import first, such as one that registers environments"] = field(
        default_factory=list
    )
    wrappers: Annotated[list, "of each environment, innermost first: {_target_: gymnasium.wrappers.TimeLimit, ...}"] = (
        field(default_factory=list)
    )
    vectorization: Annotated[
        Literal["auto", "native", "sync", "async", "device"], "auto, native, sync, async, device"
    ] = "auto"


@dataclass
class Workers:
    """Processes that environments run in (`env.vectorization=async`)."""

    timeout: Annotated[float | None, Ge(0.1), "seconds for an answer before one is replaced; null to wait forever"] = (
        300
    )
    restarts: Annotated[int, Ge(0), "how often one is replaced within 1,000 steps; once more ends training, saved"] = 3
    overlap: Annotated[
        Literal["auto", True, False],
        "learn while they step, on parameters older by one step's updates: auto, true, false",
    ] = "auto"


@dataclass
class Log:
    """Rows of `metrics.csv` and TensorBoard."""

    every: Annotated[int, Ge(1), "transitions between rows; with many environments at least 10 of their steps"] = 1000
    draw: Annotated[int, Ge(0), "transitions between histograms and images in TensorBoard, likewise; 0 for none"] = 5000


@dataclass
class Checkpoint:
    """Checkpoints, from which training resumes."""

    every: Annotated[int, Ge(1), "transitions between checkpoints"] = 5000
    keep: Annotated[int, Ge(1), "how many are kept, the newest"] = 3


@dataclass
class Eval:
    """Evaluation, greedy on the posterior mean."""

    every: Annotated[int, Ge(0), "transitions between evaluations; 0 for none"] = 5000
    episodes: Annotated[int, Ge(1), "of each evaluation"] = 10
    final_episodes: Annotated[int, Ge(1), "of the evaluation after training"] = 100


@dataclass
class Stop:
    """Reasons to end before `steps`."""

    seconds: Annotated[float | None, Ge(0), "wall time of this session"] = None
    return_: Annotated[float | None, "mean return of the last 100 training episodes"] = None


@dataclass
class Solve:
    """Stop at the first test that passes."""

    every: Annotated[int, Ge(1), "transitions between tests"]
    episodes: Annotated[int, Ge(1), "of each test"]
    threshold: Annotated[float, "mean return that passes"]
    max_episodes: Annotated[int, Ge(1), "training episodes after which it has failed"]


@dataclass
class Run:
    """All settings of a run that no component declares."""

    env: Environment
    steps: Annotated[int, Ge(1), "transitions in total, also when resuming"] = 20_000
    seed: Annotated[int, Ge(0), Le(MAX_SEED), "of training; evaluations have seeds derived from it"] = 0
    device: Annotated[str, "auto, cpu, cuda, cuda:1"] = "auto"
    threads: Annotated[int, Ge(1), Le(MAX_THREADS), "of torch on a CPU; small networks are fastest with one"] = 1
    capture: Annotated[
        bool | Literal["auto", "update"],
        "compile updates and acting where that pays within the run; true, update (alone), false: force it",
    ] = "auto"
    run_dir: Annotated[str | None, "default: a fresh directory under runs/"] = None
    resume: Annotated[
        str | None, "a run directory to go on with; beside it only steps, device, threads, stop.*, log.*"
    ] = None
    replay_ratio: Annotated[float, Ge(0), "updates per transition"] = 1.0
    prior_scale: Annotated[float, Ge(0), "standard deviation of prior functions, in units of the (scaled) return"] = 0.3
    workers: Workers = field(default_factory=Workers)
    log: Log = field(default_factory=Log)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    eval: Eval = field(default_factory=Eval)
    callbacks: Annotated[
        list | None, "that watch or stop the run: {_target_: bayesrl.training.callbacks.EarlyStopping, patience: 5}"
    ] = field(default_factory=list)
    stop: Stop = field(default_factory=Stop)
    solve: Solve | None = None


class Setting(NamedTuple):
    """A setting as declared.

    Attributes:
        annotation: type with bounds.
        about: a line that says what it is.
    """

    annotation: Any
    about: str


def _flatten(kind: Any, prefix: str = "") -> dict[str, Setting]:
    """Return the settings of a dataclass and of those within it, by dotted name."""
    out: dict[str, Setting] = {}
    for name, annotation in typing.get_type_hints(kind, include_extras=True).items():
        key = prefix + name.removesuffix("_")  # `return` is a keyword of Python
        if dataclasses.is_dataclass(annotation):
            out |= _flatten(annotation, f"{key}.")
        elif hasattr(annotation, "__metadata__"):
            out[key] = Setting(annotation, next(note for note in annotation.__metadata__ if isinstance(note, str)))
    return out


SETTINGS = _flatten(Run)
SOLVE = _flatten(Solve, "solve.")  # where given


def defaults() -> dict[str, Any]:
    """Return the defaults of a run, nested; what a configuration group has to give is left out."""
    return _defaults(Run)


def _defaults(kind: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for each in dataclasses.fields(kind):
        annotation = typing.get_type_hints(kind)[each.name]
        if dataclasses.is_dataclass(annotation):
            out[each.name.removesuffix("_")] = _defaults(annotation)
        elif each.default is not dataclasses.MISSING:
            out[each.name.removesuffix("_")] = each.default
        elif each.default_factory is not dataclasses.MISSING:
            out[each.name.removesuffix("_")] = each.default_factory()
    return out
