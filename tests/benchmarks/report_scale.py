"""Time and memory of `bayesrl.report` on synthetic runs: `python tests/benchmarks/report_scale.py runs=1000`.

Two posteriors, half of the runs each, every row with an evaluation. The report is a process of its own; its time is
from its start to its end, imports included, and its memory the most that was resident.
"""

from __future__ import annotations

import functools
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from bayesrl.experiment.config import load
from bayesrl.training.tags import TAGS

KINDS = {"hypermodel": 1.0, "ensemble": 0.7, "point": 0.45}  # and how fast they learn


@functools.cache
def _config(name: str, points: int) -> str:
    config = load([f"posterior={name}", f"steps={100 * points}", "env=mountain_car"])
    return OmegaConf.to_yaml(config, resolve=True)


def make(place: Path, name: str, seed: int, points: int) -> None:
    """A run directory with curves that rise, uncertainty that falls, and errors around what was predicted."""
    generator = np.random.default_rng([seed, *name.encode()])
    place.mkdir(parents=True)
    (place / "config.yaml").write_text(_config(name, points).replace("\nseed: 0\n", f"\nseed: {seed}\n"))
    (place / "run.json").write_text(json.dumps({"command": ["bayesrl.train", f"posterior={name}", f"seed={seed}"]}))
    share = np.linspace(0, 1, points)
    speed = KINDS[name] * generator.lognormal(0, 0.25)
    learned = 1 / (1 + np.exp(-12 * speed * (share - 0.35 / speed)))
    reward = -200 + 100 * learned * generator.uniform(0.9, 1) + generator.normal(0, 3, points)
    epistemic = (8 * np.exp(-3 * speed * share) + 0.3) * generator.lognormal(0, 0.1, points)
    predicted = epistemic + 3
    error = predicted * (0.8 + 0.8 * share) * generator.lognormal(0, 0.1, points)
    columns = dict.fromkeys(TAGS, np.full(points, 0.1234567890123456))
    columns |= {"eval/mean_reward": reward, "rollout/ep_rew_mean": reward - 5}
    if name != "point":
        columns |= {
            "uncertainty/q_epistemic_std": epistemic, "calibration/return_rmse": error,
            "calibration/return_std": predicted, "calibration/return_ece": 0.05 + 0.1 * share,
            "calibration/return_coverage_90": np.clip(0.95 - 0.2 * share + generator.normal(0, 0.02, points), 0, 1),
        }  # fmt: skip
    else:
        columns |= dict.fromkeys(
            (t for t in TAGS if t.startswith(("uncertainty", "calibration"))), np.full(points, np.nan)
        )
    cells = [["" if np.isnan(x) else repr(float(x)) for x in columns[tag]] for tag in TAGS]
    rows = [",".join([str(100 * (i + 1)), *row]) for i, row in enumerate(zip(*cells, strict=True))]
    (place / "metrics.csv").write_text("\n".join([",".join(["step", *TAGS]), *rows, ""]))
    result = {"steps": 100 * points, "episodes": 500, "eval_return_mean": reward[-1], "eval_return_ci": [0, 0]}
    (place / "result.json").write_text(json.dumps(result))


def main() -> None:
    words = {"runs": "1000", "points": "1000"} | dict(word.split("=") for word in sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        for name in ("hypermodel", "ensemble"):
            for seed in range(int(words["runs"]) // 2):
                make(Path(folder) / f"posterior={name},seed={seed}", name, seed, int(words["points"]))
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "bayesrl.report", folder], check=True)
        seconds, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{words['runs']} runs of {words['points']} points: {seconds:.1f} s, "
        f"{used.ru_utime + used.ru_stime:.1f} s of CPU, {used.ru_maxrss / 2**20:.2f} GiB"
    )


if __name__ == "__main__":
    main()
