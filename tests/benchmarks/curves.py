"""Learning curves of runs of one length: `python tests/benchmarks/curves.py FIGURE.svg NAME=DIR ...`.

Each DIR holds a run directory for each seed, as `seeds.py` makes them; drawn is the mean evaluation return over seeds.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import torch
from torch import Tensor

from bayesrl.figures import Curve, curves


def evaluations(run: Path) -> dict[int, float]:
    """Mean evaluation return by transitions."""
    with (run / "metrics.csv").open(newline="") as file:
        return {int(r["step"]): float(r["eval/mean_reward"]) for r in csv.DictReader(file) if r["eval/mean_reward"]}


def main() -> None:
    out, *words = sys.argv[1:]
    lines: dict[str, Tensor] = {}
    steps: set[int] = set()
    for word in words:
        name, _, place = word.partition("=")
        runs = [evaluations(run) for run in sorted(Path(place).iterdir()) if (run / "result.json").exists()]
        steps = set.intersection(steps or set(runs[0]), *map(set, runs))
        lines[f"{name}, {len(runs)} seeds"] = torch.tensor(
            [[run[step] for step in sorted(steps)] for run in runs]
        ).mean(0)
    Path(out).write_text(curves(torch.tensor(sorted(steps)), "transitions", [Curve("evaluation return", lines)]))


if __name__ == "__main__":
    main()
