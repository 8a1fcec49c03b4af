"""Train an agent: `python -m bayesrl.train agent=bayes_dqn env.id=CartPole-v1 steps=20000`.

    Groups    agent, posterior, network, exploration, tracking, env, experiment: `posterior=ensemble`
    Settings  by dotted name: `steps=100000 seed=3 env.num_envs=8 agent.discount=0.995 env.kwargs.size=20`
    Resume    `resume=RUN_DIR steps=40000`; `steps` is the total to reach
    Options   --help, --cfg (print the configuration and stop), --config-dir DIR (your own configuration groups)

Ends with exit code 0, or 2 and one sentence when the input is wrong.
"""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if any(arg in ("-h", "--help") for arg in argv):
        print(__doc__.strip())
        return 0
    print("bayesrl: loading", end="\r", flush=True)
    from bayesrl import launch

    return launch.command(argv, launch.train)


if __name__ == "__main__":
    sys.exit(main())
