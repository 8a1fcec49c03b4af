"""Helpers of every builder: errors in the words of a configuration, warnings, plain values."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import torch
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from bayesrl.envs.errors import EnvError
from bayesrl.envs.vector.worker import WorkerError
from bayesrl.experiment import config as cfg
from bayesrl.experiment.config import ConfigError
from bayesrl.training.checkpoint import CheckpointError
from bayesrl.training.divergence import DivergedError

INPUT_ERRORS = (
    ConfigError, EnvError, WorkerError, CheckpointError, DivergedError, MemoryError, torch.OutOfMemoryError, ValueError,
)  # fmt: skip


@contextlib.contextmanager
def building(name: str, node: Any = None) -> Iterator[None]:
    """Say which part of the configuration cannot be built, and why; the settings of its node by their whole names."""
    try:
        yield
    except Exception as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
        if type(cause) is ValueError and node is not None:
            whole = {path.rpartition(".")[2]: path for path in cfg.leaves(plain(node), name)}
            told = re.sub(r"(?<![\w.])(\w+)(?==\S)", lambda found: whole.get(found[1], found[1]), str(cause))
            raise ValueError(told) from error
        if isinstance(cause, INPUT_ERRORS):
            raise cause from error
        why = " ".join(str(cause).split())
        got = f"got {'an' if name[0] in 'aeiou' else 'a'} {name} that cannot be built ({type(cause).__name__}: {why})"
        raise ConfigError([f"{got}, wanted other values of {name}.*"]) from error


def warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


def plain(node: Any) -> dict:
    return dict(OmegaConf.to_container(node, resolve=True))  # type: ignore[arg-type]
