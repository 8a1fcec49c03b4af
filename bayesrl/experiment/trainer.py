"""A run from beginning to end, from Python and from the command line: `Trainer`.

trainer = bayesrl.Trainer("CartPole-v1", agent="bayes_dqn", posterior="ensemble", steps=20_000, seed=0)
result = trainer.train()
result.metrics["eval/mean_reward"]
policy = result.policy
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, TypedDict, Unpack

import gymnasium as gym
import numpy as np
import torch
from omegaconf import DictConfig

from bayesrl.experiment import build, environments, run_directory
from bayesrl.experiment import config as cfg
from bayesrl.experiment.arguments import resume_words, translate
from bayesrl.experiment.building import plain
from bayesrl.experiment.objects import NO_OBJECTS, Objects, is_stand_in
from bayesrl.experiment.result import Result
from bayesrl.training.callbacks import Callback
from bayesrl.training.rng import preserved_rng


class RunWords(TypedDict, total=False):
    """Keywords that the command takes at its top level: settings of the whole run, and groups.

    A group takes the name of one of its options, or an object. A class or a `functools.partial` of one that an option
    names stands for that option, and the partial's keywords for settings of it; another class, function or partial is
    called as the command calls it; an instance is used as it is.
    """

    steps: int
    seed: int
    device: str
    threads: int
    capture: bool | str
    replay_ratio: float
    prior_scale: float
    solve: Mapping[str, Any] | None
    agent: Any
    posterior: Any
    network: Any
    likelihood: Any
    exploration: Any
    target_update: Any
    planner: Any
    imagination: Any
    experiment: str | None


class Words(RunWords, total=False):
    """The words of a new run, which may also name its directory."""

    run_dir: str | Path | None


class Trainer:
    """Train an agent, as `python -m bayesrl.train` does, and go on with it.

    Random generators, thread counts, signal handlers, warnings and an application's own Hydra are left as they were
    found. An interruption (Ctrl-C) ends training at the next step, saved, and `train` returns what there is.

    Arguments:
        env: an id, an option of the group `env`, a class, a function, or an instance of `gymnasium.Env`. An instance is
            never copied, rebuilt or closed.
        settings: all other settings by dotted name, such as `{"agent.discount": 0.95, "env.num_envs": 4}`.
        eval_env: the environment of evaluations, given as `env` is. Without it they play in environments made as those
            of training are; where `env` is an instance, in that one, at the ends of its episodes.
        callbacks: watch the run, and may end it.
        words: what the command takes at its top level, such as `agent="bayes_dqn"`, `steps=20_000`, `seed=0`.

    Attributes:
        run_dir: directory of the run, or None before it has begun.

    Raises:
        ValueError: wrong input; each problem in the sentence that the command prints.
    """

    def __init__(
        self,
        env: str | type | gym.Env | Any | None = None,
        *,
        settings: Mapping[str, Any] | None = None,
        eval_env: str | type | gym.Env | Any | None = None,
        callbacks: Sequence[Callback] = (),
        **words: Unpack[Words],
    ) -> None:
        given = translate(env, dict(words), settings or {}, eval_env, callbacks)
        with isolated():
            config = cfg.load(given.overrides, (), environments.checks(given.objects), given.nodes)
        self._begin(config, given.objects)

    @classmethod
    def resume(
        cls,
        run_dir: str | Path,
        env: str | type | gym.Env | Any | None = None,
        *,
        settings: Mapping[str, Any] | None = None,
        eval_env: str | type | gym.Env | Any | None = None,
        callbacks: Sequence[Callback] = (),
        **words: Unpack[RunWords],
    ) -> Trainer:
        """Return a trainer that goes on with a run, from its newest checkpoint.

        Arguments:
            run_dir: directory of the run.
            env, eval_env, callbacks: again, where the run was given objects that a configuration cannot store.
            settings: those that may change, such as `{"stop.seconds": 60}`.
            words: those that may change, such as `steps`, the total to reach; and agent, posterior and other groups
                again, where the run was given objects that a configuration cannot store.

        Raises:
            ValueError: wrong input, or an object that is missing.
            CheckpointError: no run, or one whose files are missing or damaged.
        """
        path = Path(run_dir)
        stored = run_directory.stored(path, resuming=True)
        given = resume_words(stored, env, dict(words), settings or {}, eval_env, callbacks)
        with isolated():
            config = cfg.resumed(stored, given.overrides, environments.checks(given.objects))
        return cls.from_config(config, path, given.objects)

    @classmethod
    def from_config(cls, config: DictConfig, run_dir: Path | None = None, objects: Objects = NO_OBJECTS) -> Trainer:
        """Return a trainer by a checked configuration; with `run_dir` it goes on with the run that is there."""
        trainer = cls.__new__(cls)
        trainer._begin(config, objects, run_dir)
        return trainer

    def _begin(self, config: DictConfig, objects: Objects, run_dir: Path | None = None) -> None:
        self._config, self._objects, self.run_dir = config, objects, run_dir

    @property
    def config(self) -> dict[str, Any]:
        """The configuration, as nested dictionaries."""
        return plain(self._config)

    def train(self, steps: int | None = None, progress: bool = True) -> Result:
        """Train, or go on training, until `steps` transitions in total or a reason to stop.

        Arguments:
            steps: total to reach; None for that of the configuration.
            progress: whether a bar and lines are printed; warnings are, in any case.

        Raises:
            ValueError: wrong input.
            DivergedError: the loss or a parameter is not finite; the last checkpoint is from before.
            EnvError, WorkerError: an environment failed; what was learned before is saved.
        """
        result = self.run(steps, progress)
        if result.interrupted == "SIGTERM":  # saved; who sent it wants the process to end
            signal.raise_signal(signal.SIGTERM)
        return result

    def run(self, steps: int | None = None, progress: bool = True, directory: Path | None = None) -> Result:
        """Train as `train` does, and return also where SIGTERM ended training.

        Arguments:
            directory: of a new run; None for that of the configuration.
        """
        with isolated():
            before = self._config.steps
            if steps is not None:
                self._config.steps = _checked_steps(steps)
            resuming = self.run_dir is not None
            name = self._config.env.id.strip("<>")
            run_dir = self.run_dir or directory or run_directory.fresh(self._config.run_dir, name)
            with run_directory.locked(run_dir, new=not resuming):
                try:
                    loop = build.build(self._config, run_dir, resuming, self._objects, progress)
                except Exception:
                    self._config.steps = before
                    raise
                self.run_dir = run_dir
                if progress:
                    print(f"run: {run_dir}", flush=True)
                with contextlib.closing(loop):
                    loop.train(self._config.steps)
        interrupted = None if loop.signal is None else signal.Signals(loop.signal).name
        return Result(run_dir, interrupted, self._objects)

    def __repr__(self) -> str:
        return "Trainer(" + ", ".join(f"{name}={value}" for name, value in self._facts().items()) + ")"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{escape(k)}</th><td>{escape(str(v))}</td></tr>" for k, v in self._facts().items())
        return f"<table><caption>Trainer</caption>{rows}</table>"

    def _facts(self) -> dict[str, Any]:
        values = cfg.settings(self._config)
        out: dict[str, Any] = {"env": str(values["env.id"]).strip("<>")}
        for name in ("agent", "posterior"):
            node = self._config[name]
            out[name] = node.what if is_stand_in(node) else values[name]
        out |= {name: values[name] for name in ("steps", "seed")}
        return out | ({} if self.run_dir is None else {"run_dir": str(self.run_dir)})


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Leave the global random generators and the number of threads as they are found."""
    threads = torch.get_num_threads()
    try:
        with preserved_rng():
            yield
    finally:
        torch.set_num_threads(threads)


def _checked_steps(steps: Any) -> int:
    if not isinstance(steps, int | np.integer) or isinstance(steps, bool):
        raise cfg.ConfigError([f"got steps={steps}, wanted an integer"])
    if steps < 1:
        raise cfg.ConfigError([f"got steps={steps}, wanted at least 1"])
    return int(steps)
