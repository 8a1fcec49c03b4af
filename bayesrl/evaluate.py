"""Evaluate a run: `python -m bayesrl.evaluate run=RUN_DIR [episodes=100] [seed=0] [device=auto]`.

Greedy on the posterior mean; reports the mean return with a 95 % bootstrap interval.
"""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or any(arg in ("-h", "--help") for arg in argv):
        print(__doc__.strip())
        return 0 if argv else 2
    from bayesrl import launch

    return launch.command(argv, launch.evaluate)


if __name__ == "__main__":
    sys.exit(main())
