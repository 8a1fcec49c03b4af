"""Callbacks: watch a run from outside, or stop it.

    class Print(bayesrl.Callback):
        def on_evaluation(self, context):
            print(context.steps, context.evaluation.mean)
            return context.evaluation.mean < 475  # False stops the run

    bayesrl.Trainer("CartPole-v1", callbacks=[Print()]).train()

From the command line a callback is named by its class: `callbacks=[{_target_: my_module.Print}]`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bayesrl.rl.agent import Agent
from bayesrl.training.evaluation import Evaluation
from bayesrl.training.vector_env import Episode


@dataclass(frozen=True)
class Context:
    """The state of a run as a callback sees it.

    Attributes:
        run_dir: directory of the run.
        steps: transitions so far.
        episodes: training episodes that have ended so far.
        updates: gradient updates so far.
        agent: the agent itself, not a copy.
        metrics: the newest row of `metrics.csv`, values by tag; empty before the first.
    """

    run_dir: Path
    steps: int
    episodes: int
    updates: int
    agent: Agent
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class EpisodeContext(Context):
    """A training episode has ended.

    Attributes:
        episode: its return, length, index of its environment, and whether it was truncated.
    """

    episode: Episode


@dataclass(frozen=True)
class EvaluationContext(Context):
    """An evaluation has ended, and `metrics` holds its row.

    Attributes:
        evaluation: returns and lengths of its episodes.
    """

    evaluation: Evaluation


@dataclass(frozen=True)
class CheckpointContext(Context):
    """A checkpoint has been written.

    Attributes:
        path: its file.
    """

    path: Path


class Callback:
    """The base class of callbacks; override the methods that you need.

    A method that returns False ends the run: it is saved, evaluated as every finished run is, and can be resumed. Any
    other value, None included, lets it go on. An exception also ends the run, saved, and reaches the caller. Methods
    that are not overridden cost nothing.
    """

    def on_step(self, context: Context) -> bool | None:
        """Called after every step of all environments, when its updates, log rows and evaluations are over."""

    def on_episode(self, context: EpisodeContext) -> bool | None:
        """Called for every training episode that has ended, before evaluations and the `on_step` of its step."""

    def on_evaluation(self, context: EvaluationContext) -> bool | None:
        """Called after every evaluation, the one at the end of the run included, with its row in `metrics`."""

    def on_checkpoint(self, context: CheckpointContext) -> bool | None:
        """Called after every checkpoint."""

    def close(self) -> None:
        """Release resources. Called once, as training ends for any reason."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs: numbers, texts, tensors and containers of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""


@dataclass
class EarlyStopping(Callback):
    """Stop when evaluations no longer improve.

    Arguments:
        patience: evaluations in a row without improvement after which the run ends.
        min_delta: least increase of the mean return, in return units, that counts as an improvement.

    Attributes:
        best: greatest mean return so far.
        waited: evaluations since then.
    """

    patience: int = 5
    min_delta: float = 0.0
    best: float = field(default=-math.inf, init=False)
    waited: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ValueError(f"got patience={self.patience}, wanted at least 1 evaluation")
        if self.min_delta < 0:
            raise ValueError(f"got min_delta={self.min_delta}, wanted 0 or more, in return units")

    def on_evaluation(self, context: EvaluationContext) -> bool:
        mean = context.evaluation.mean
        if mean > self.best + self.min_delta:
            self.best, self.waited = mean, 0
        else:
            self.waited += 1
        return self.waited < self.patience

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.waited = state["best"], state["waited"]


class CallbackList:
    """The callbacks of one run, called in their order.

    Arguments:
        callbacks: in the order in which they are called.

    Attributes:
        stopped_by: class name of the callback that ended the run, or None.
    """

    HOOKS = ("on_step", "on_episode", "on_evaluation", "on_checkpoint")

    def __init__(self, callbacks: list[Callback]) -> None:
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise ValueError(f"got the callback {callback!r}, wanted an instance of bayesrl.Callback")
        self.callbacks = callbacks
        self.stopped_by: str | None = None
        self._overriding = {
            hook: [c for c in callbacks if getattr(type(c), hook) is not getattr(Callback, hook)] for hook in self.HOOKS
        }

    def wants(self, hook: str) -> bool:
        """Return whether any callback overrides `hook`."""
        return bool(self._overriding[hook])

    def call(self, hook: str, context: Context) -> None:
        """Call `hook` of every callback that overrides it, and note which one asks to stop."""
        for callback in self._overriding[hook]:
            if getattr(callback, hook)(context) is False and self.stopped_by is None:
                self.stopped_by = type(callback).__name__

    def close(self) -> None:
        for callback in self.callbacks:
            callback.close()

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the class and state of each callback.

        Raises:
            ValueError: a state holds what a checkpoint cannot.
        """
        names = [type(callback).__name__ for callback in self.callbacks]
        states = [callback.state_dict() for callback in self.callbacks]
        return [{"class": c, "state": _storable(s, f"{c}.state_dict()")} for c, s in zip(names, states, strict=True)]

    def collect_states(self) -> tuple[list[dict[str, Any]], Exception | None]:
        """Return what `state_dict` does, or, where a callback fails, no states and its exception."""
        try:
            return self.state_dict(), None
        except Exception as error:
            return [], error

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Restore each callback whose class stood at the same place before."""
        for callback, saved in zip(self.callbacks, states, strict=False):
            if saved["class"] == type(callback).__name__:
                callback.load_state_dict(saved["state"])


def _storable(value: Any, where: str) -> Any:
    """Return a state as a checkpoint stores it: NumPy's numbers become Python's."""
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, torch.Tensor) or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {_storable(key, where): _storable(each, f"{where}[{key!r}]") for key, each in value.items()}
    if isinstance(value, list | tuple):
        stored = [_storable(each, f"{where}[{i}]") for i, each in enumerate(value)]
        return tuple(stored) if isinstance(value, tuple) else stored
    wanted = "wanted numbers, texts, tensors, and lists, tuples and dictionaries of them: convert it"
    raise ValueError(f"got {where} of type {type(value).__name__}, {wanted}")
