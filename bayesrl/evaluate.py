"""Evaluate a run: `python -m bayesrl.evaluate run=RUN_DIR [episodes=100] [seed=0] [device=auto]`.

Greedy on the posterior mean; reports the mean return with a 95 % bootstrap interval.
"""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or any(arg in ("-h", "--help") for arg in argv):
        print(__doc__.strip())
        return 0 if argv else 2
    from bayesrl.experiment.cli import command

    return command(argv, evaluate)


def evaluate(argv: list[str]) -> int:
    """Evaluate from command-line words."""
    from bayesrl.experiment import build
    from bayesrl.experiment.cli import parse_integers, parse_words
    from bayesrl.training.evaluation import evaluate as play

    words = parse_words(argv, {"run": "", "episodes": "100", "seed": "0", "device": "auto"})
    episodes, seed = parse_integers(words, episodes=1, seed=0)
    config, agent, envs, step = build.trained(words, min(episodes, 10))
    result = play(agent, envs, episodes, seed)
    envs.env.close()
    print(f"{config.env.id}: greedy return of {result.played} at {step:,} transitions: {result.summary()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
