"""Training runs of a second, and what two of them must have in common."""

import csv
from pathlib import Path

import numpy as np
import torch

from bayesrl.train import main
from bayesrl.training.checkpoint import read

TINY = [
    "network.hidden=[8]", "agent.learning_starts=64", "agent.batch_size=16", "replay_ratio=0.25", "log.every=100",
    "checkpoint.every=200", "eval.every=200", "eval.episodes=1", "eval.final_episodes=1",
]  # fmt: skip


def train(*words: str) -> None:
    assert main([*TINY, *words]) == 0


def resume(run: Path, *words: str) -> None:
    assert main([f"resume={run}", *words]) == 0


def checkpoint(run: Path) -> dict:
    """The newest one, but for the clock."""
    state = read(max((run / "checkpoints").glob("*.pt")))
    del state["run"]["seconds"], state["rollout"]["seconds"]
    return state


def same(a: object, b: object, where: str = "") -> None:
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor | np.ndarray):
        a, b = torch.as_tensor(a), torch.as_tensor(b)
        assert a.dtype == b.dtype and torch.equal(a.nan_to_num(7.5), b.nan_to_num(7.5)), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{where}[{i}]")
    else:
        assert a == b or a != a, where


def metrics(run: Path) -> list[dict]:
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{tag: text for tag, text in row.items() if not tag.startswith("time/")} for row in rows]
