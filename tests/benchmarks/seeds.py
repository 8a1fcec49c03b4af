"""The same command on several seeds, one after the other, and their summary.

    python tests/benchmarks/seeds.py 100-109 runs/deep_sea_50 experiment=deep_sea env.kwargs.size=50 capture=true

Runs that are finished are not run again, interrupted ones go on. Prints each result, and the mean, standard deviation
and least and greatest.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path


def main() -> None:
    span, out, *words = sys.argv[1:]
    first, _, last = span.partition("-")
    results = []
    for seed in range(int(first), int(last or first) + 1):
        run_dir = Path(out) / str(seed)
        path = run_dir / "result.json"
        if not path.exists():
            run_dir.mkdir(parents=True, exist_ok=True)
            begun = (run_dir / "checkpoints").exists()
            begin = [f"resume={run_dir}"] if begun else [*words, f"seed={seed}", f"run_dir={run_dir}"]
            command = [sys.executable, "-m", "bayesrl.train", *begin]
            with (run_dir / "log.txt").open("a") as log:
                subprocess.run(command, stdout=log, stderr=log, check=True)
        results.append(json.loads(path.read_text()))
        print(f"seed {seed}: {results[-1]}", flush=True)
    key = "episodes_to_solve" if "episodes_to_solve" in results[0] else "eval_return_mean"
    values = [r[key] for r in results]
    known = [v for v in values if v is not None]
    if known:
        spread = statistics.stdev(known) if len(known) > 1 else 0.0
        print(f"{key}: {len(known)}/{len(values)} seeds, mean {statistics.mean(known):.4g}, sd {spread:.3g}, "
              f"least {min(known):.4g}, greatest {max(known):.4g}: {values}")  # fmt: skip
    else:
        print(f"{key}: 0/{len(values)} seeds")


if __name__ == "__main__":
    main()
