"""Check an environment before training in it: `python -m bayesrl.check my_module:MyEnv-v0 env.num_envs=8`.

Takes an id ("CartPole-v1"), "module:Id-v0", "module:Class", or the words that `bayesrl.train` takes, such as
`--config-dir conf env=my_env env.kwargs.size=20`. Prints what agents will see, whether the rules of environments are
followed and a seed repeats an episode, how long a step takes and which vectorization is chosen. Exit code 0 when all is
well; 2, with the problem in one sentence, when not.
"""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or any(arg in ("-h", "--help") for arg in argv):
        print(__doc__.strip())
        return 0 if argv else 2
    from bayesrl.experiment import cli

    return cli.command(argv, check)


def check(argv: list[str]) -> int:
    """Print the findings on the environment of command-line words.

    Raises:
        ConfigError, EnvError: what is wrong.
    """
    from omegaconf import OmegaConf

    from bayesrl.envs.checker.report import report
    from bayesrl.experiment import cli, config, environments

    dirs, words, _ = cli.options(argv)
    if len(ids := [word for word in words if "=" not in word]) > 1:
        raise config.ConfigError([f"got {' '.join(ids)}, wanted one environment: check them one by one"])
    words = [word if "=" in word else f"env.id={word}" for word in words]
    loaded = config.load(words, dirs)
    env: dict = OmegaConf.to_container(loaded.env, resolve=True)  # type: ignore[assignment]
    print(env["id"])
    plain = (env[key] for key in ("num_envs", "kwargs", "imports", "vectorization"))
    for what, finding in report(environments.environment(loaded), *plain):
        print(f"    {what:14}{finding}", flush=True)
    print("all is well")
    return 0


if __name__ == "__main__":
    sys.exit(main())
