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
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or any(arg in ("-h", "--help") for arg in argv):
        print(__doc__.strip())
        return 0 if argv else 2
    from bayesrl.experiment.cli import command

    return command(argv, explain)


def explain(argv: list[str]) -> int:
    """Explain from command-line words."""
    import torch

    from bayesrl.experiment import build
    from bayesrl.experiment.cli import parse_integers, parse_words
    from bayesrl.experiment.config import ConfigError
    from bayesrl.reporting import explanation
    from bayesrl.rl.agent import ValueAgent

    defaults = {"states": "512", "draws": "100", "seed": "0", "episodes": "0", "device": "auto", "names": "", "out": ""}
    words = parse_words(argv, {"run": "", **defaults})
    states, draws, seed, episodes = parse_integers(words, states=2, draws=2, seed=0, episodes=0)
    config, agent, envs, step = build.trained(words, max(1, min(episodes, 10)), memory=True)
    if envs.spec.bounds is not None or not isinstance(agent, ValueAgent):
        kind = config.agent["_target_"]
        raise ConfigError(
            [f"got a run of {kind}, wanted an agent with a posterior over Q of discrete actions, such as bayes_dqn"]
        )
    names = explanation.feature_names(envs.env.single_observation_space)
    if words["names"]:
        given = words["names"].strip("[]").split(",")
        if len(given) != len(names):
            raise ConfigError(
                [f"got {len(given)} names, wanted {len(names)}, one for each feature: {', '.join(names)}"]
            )
        names = given
    posterior, normalizer = agent.posterior, agent.normalizer
    obs, mask = explanation.states(agent.replay, states, torch.Generator().manual_seed(seed))
    x, unit = normalizer.obs(obs), float(normalizer.scale)
    out = explanation.explain(posterior, x, names, envs.spec.categories, draws, seed, unit, mask)
    if episodes:
        out = explanation.pruned_returns(out, agent, envs, episodes, seed)
    envs.env.close()
    about = {"run": words["run"], "transitions": step, "states": len(obs), "draws": draws, "seed": seed}
    place = Path(words["out"] or Path(words["run"]) / "explain")
    place.mkdir(parents=True, exist_ok=True)
    for name, text in {**out.figures(), "explain.json": out.json(**about)}.items():
        (place / name).write_text(text)
    print(
        f"{config.env.id} at {step:,} transitions: change of Q at the greedy action over {len(obs)} remembered states "
        f"and {draws} draws, in return units"
    )
    print("\n".join([out.table(), *out.left_out, f"written to {place}"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
