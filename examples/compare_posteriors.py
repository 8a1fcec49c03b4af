"""Train three posteriors on a task that needs exploration, and compare them over seeds.

    python examples/compare_posteriors.py --steps 6000 --seeds 3

In DeepSea one path of ten steps pays 0.99, and every step on it costs a little, so that random actions hardly ever find
it. Each row is one posterior: the greedy return of its seeds, and the number of the first training episode that paid.
For more than a first look, train with `python -m bayesrl.train --multirun` and compare with `python -m bayesrl.report`.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import bayesrl

POSTERIORS = ("linear_hypermodel", "ensemble", "point")


class FirstReward(bayesrl.Callback):
    """Remember the number of the first training episode whose return is positive."""

    def __init__(self) -> None:
        self.episode: int | None = None

    def on_episode(self, context) -> None:
        if self.episode is None and context.episode.ret > 0.5:
            self.episode = context.episodes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6000, help="transitions for each run, ten in an episode")
    parser.add_argument("--seeds", type=int, default=3, help="seeds for each posterior")
    words = parser.parse_args()

    print(f"{'posterior':20}{'greedy returns':>24}   first paid in episode")
    with TemporaryDirectory() as folder:
        for posterior in POSTERIORS:
            returns, first = [], []
            for seed in range(words.seeds):
                found = FirstReward()
                trainer = bayesrl.Trainer(
                    "deep_sea",
                    posterior=posterior,
                    steps=words.steps,
                    seed=seed,
                    prior_scale=1.0,
                    run_dir=Path(folder, f"{posterior}-{seed}"),
                    settings={"eval.every": 0, "eval.final_episodes": 1, "agent.n_step": 1},
                    callbacks=[found],
                )
                result = trainer.train(progress=False)
                returns.append(f"{result.summary['eval_return_mean']:.2f}")
                first.append("never" if found.episode is None else str(found.episode))
            print(f"{posterior:20}{', '.join(returns):>24}   {', '.join(first)}")


if __name__ == "__main__":
    main()
