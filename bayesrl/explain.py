"""Explain a run: `python -m bayesrl.explain run=RUN_DIR [states=512] [draws=100] [seed=0] [out=RUN_DIR/explain]`.

What the posterior's Q at the greedy action depends on, over remembered states, in return units with 90 % intervals over
posterior draws: how much it changes when one feature is another state's (permuted), and along one standard deviation of
the feature (gradient); the scale that an ARD prior has learned, and the signal-to-noise ratio of the first layer's
weights. Prints a table, the most relevant feature first, and writes into `out`

    relevance.svg   the table as bars with their intervals; of images map.svg beside it
    pruning.svg     what setting the weights of lowest signal-to-noise to 0 changes
    layers.svg      histograms of the weights' means, standard deviations and signal-to-noise, by layer
    explain.json    all numbers

    names=[x,v]     names the features, which else are numbers or the keys of a Dict observation
    episodes=10     also plays that many episodes at each share of pruned weights
    device=auto     cpu, cuda, cuda:1

What a posterior does not have is left out, and said so. Exit code 2, with one sentence, when the input is wrong.
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

    return launch.command(argv, launch.explain)


if __name__ == "__main__":
    sys.exit(main())
