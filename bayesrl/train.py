"""Train an agent: `python -m bayesrl.train agent=bayes_dqn env.id=CartPole-v1 steps=20000`.

    Groups    such as `posterior=ensemble`
    Settings  by dotted name: `steps=100000 seed=3 env.num_envs=8 agent.discount=0.995 env.kwargs.size=20`
    Resume    `resume=RUN_DIR steps=40000`; `steps` is the total to reach
    Many runs `--multirun posterior=hypermodel,ensemble 'seed=range(10)' run_dir=SWEEP_DIR`: every combination, each a
              run in SWEEP_DIR, on all cores (`--jobs N`: N at a time); again: finished ones are skipped, others go on
    Options   --help (beside other words: of what they choose), --cfg job (print the configuration and stop),
              --config-dir DIR (your own configuration groups)

Exit code 0 when the run has ended; 2, with one sentence, when the input is wrong; 130 or 143 when SIGINT or SIGTERM
stopped it, saved, at a step's boundary (a second one stops at once). `result.json` in the run directory says how it
ended; where a signal did, its evaluation is null. Of many runs those that fail are told at the end, with exit code 1.
"""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if any(arg in ("-h", "--help") for arg in argv):
        from bayesrl.experiment.config import ConfigError
        from bayesrl.experiment.help import help_text

        words = [arg for arg in argv if not arg.startswith("-")]
        try:
            print(f"{__doc__.strip()}\n\n{help_text(words)}")
        except ConfigError as error:
            print("\n".join(f"error: {problem}" for problem in str(error).splitlines()), file=sys.stderr)
            return 2
        return 0
    print("bayesrl: loading", end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)
    from bayesrl.experiment import cli, single_run

    if any(arg in ("-m", "--multirun") for arg in argv):
        from bayesrl.experiment import multirun

        return cli.command(argv, multirun.sweep)
    return cli.command(argv, single_run.train)


if __name__ == "__main__":
    sys.exit(main())
