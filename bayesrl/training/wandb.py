"""Runs in Weights & Biases: `pip install "bayesrl[wandb]"`, then `callbacks=[WandbLogger(project="cartpole")]`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bayesrl.training.callbacks import Callback, Context, EvaluationContext


@dataclass
class WandbLogger(Callback):
    """Send every row of the log to Weights & Biases, against transitions; a resumed run goes on in the same one.

    Arguments:
        project: name of the project.
        name: name of the run; None for that of its directory.
        mode: "online", "offline" (written to the run directory, sent later by `wandb sync`), or "disabled".
        config: settings to show beside the run.

    Raises:
        ImportError: wandb is not installed.
    """

    project: str = "bayesrl"
    name: str | None = None
    mode: Literal["online", "offline", "disabled"] = "online"
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._run: Any = None
        self._id: str | None = None
        self._sent: Mapping[str, float] | None = None
        _wandb()

    def on_step(self, context: Context) -> None:
        self._send(context)

    def on_evaluation(self, context: EvaluationContext) -> None:
        self._send(context)

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()
            self._run = None

    def state_dict(self) -> dict[str, Any]:
        return {"id": self._id}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._id = state["id"]

    def _send(self, context: Context) -> None:
        """Send the newest row, once."""
        if not context.metrics or context.metrics is self._sent:
            return
        if self._run is None:
            self._begin(context)
        self._sent = context.metrics
        row = {tag: value for tag, value in context.metrics.items() if math.isfinite(value)}
        self._run.log({**row, "transitions": context.steps})

    def _begin(self, context: Context) -> None:
        self._run = _wandb().init(
            project=self.project,
            name=self.name or context.run_dir.name,
            mode=self.mode,
            dir=str(context.run_dir),
            config=self.config,
            id=self._id,
            resume="allow",
            settings={"silent": True, "disable_git": True, "disable_code": True},
        )
        self._id = self._run.id
        self._run.define_metric("*", step_metric="transitions")


def _wandb() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise ImportError('got no wandb, wanted it for WandbLogger: pip install "bayesrl[wandb]"') from error
    return wandb
