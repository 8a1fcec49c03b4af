"""What logging costs of training: `python tests/benchmarks/logging_cost.py [rounds=15] [words of bayesrl.train]`.

Two runs of the same configuration, by default CartPole's, side by side: one logs at the default rates, the other not at
all; neither evaluates or saves. They take turns of 1,000 transitions, so that a machine that slows down slows both.
Prints the processor time of a turn, median over turns, the median of the turns' ratios, and, as ratios say little on a
busy machine, the share of the logging run's processor time that was spent inside the calls that log. Both runs carry
the same stopwatches, whose own time, what the silent run spends in its calls, is deducted.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bayesrl.experiment import build as building
from bayesrl.experiment import config
from bayesrl.training.loop import TrainingLoop

TURN = 1000


class Silent:
    """Takes the place of a monitor and a logger, and does nothing."""

    returns: tuple[float, ...] = ()

    def nothing(self, *args: object, **kwargs: object) -> dict:
        return {}

    before = after = metrics = samples = pictures = log = draw = begin = close = nothing


def timed(function: Callable, spent: list[float]) -> Callable:
    """The function, which adds its processor seconds to `spent`."""

    def call(*args: object, **kwargs: object) -> object:
        begin = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            spent[0] += time.process_time() - begin

    return call


def made(words: list[str], place: Path, logs: bool) -> TrainingLoop:
    run = building.build(config.load([*words, "eval.every=0", f"checkpoint.every={10**9}", "solve=null"]), place)
    if not logs:
        run.monitor = run.logger = Silent()  # type: ignore[assignment]
    return run


def turn(run: TrainingLoop) -> float:
    """Processor seconds of TURN transitions, as `TrainingLoop.train` makes them."""
    begin, rollout = time.process_time(), run.rollout
    until = rollout.transitions + TURN
    while rollout.transitions < until:
        run.monitor.before(rollout.agent, rollout.envs)
        made = run._step()
        run.monitor.after(rollout.envs)
        run._events(made)
    return time.process_time() - begin


def main(*argv: str) -> None:
    rounds = int(next((word.partition("=")[2] for word in argv if word.startswith("rounds=")), 15))
    words = [word for word in argv if not word.startswith("rounds=")]
    if not any(word.startswith("capture=") for word in words):
        words.append("capture=true")  # both, or neither: by itself each run would choose as it measures
    with tempfile.TemporaryDirectory() as place:
        runs = [made(words, Path(place) / name, name == "logs") for name in ("logs", "silent")]
        spent = [0.0], [0.0]
        for run, inside in zip(runs, spent, strict=True):
            for part, name in ((run.monitor, "before"), (run.monitor, "after"), (run, "_events")):
                setattr(part, name, timed(getattr(part, name), inside))
            turn(run)  # begins to learn, and compiles
            run._test(1)  # an episode to draw
            inside[0] = 0.0
        times = [(turn(runs[0]), turn(runs[1])) for _ in range(rounds)]
        for run in runs:
            run.close()
    share = (spent[0][0] - spent[1][0]) / sum(a for a, _ in times)
    logs, silent = (statistics.median(part) for part in zip(*times, strict=True))
    ratios = sorted(a / b for a, b in times)
    print(f"{TURN} transitions: {logs:.3f} s of processor time with logging, {silent:.3f} s without")
    print(f"ratio: median of {rounds} turns {statistics.median(ratios):.4f}, from {ratios[0]:.3f} to {ratios[-1]:.3f}")
    print(f"inside the calls that log: {share:.2%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
