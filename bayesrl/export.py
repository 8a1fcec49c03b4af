"""Export a run's agent: `python -m bayesrl.export run=RUN_DIR [format=onnx] [draws=0] [seed=0] [out=FILE]`.

Writes the agent's decision as one file, normalization included: observations in, actions and Q in return units out.

    format=onnx     for onnxruntime (pip install "bayesrl[onnx]"), by default RUN_DIR/policy.onnx
    format=torch    a torch.export program, read by torch.export.load, by default RUN_DIR/policy.pt2
    draws=0         the posterior mean: action [B], q [B, A]
    draws=K         K draws of the posterior, by seed: action [K, B], q [K, B, A]; their spread is the uncertainty

The file is read back and compared with the agent at 256 random observations, of the mean and spread seen in training,
and kept only where the actions are equal. Only agents that compare the values of discrete actions can be exported.
Exit code 2, with one sentence, when the input is wrong or a part cannot be exported.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or any(arg in ("-h", "--help") for arg in argv):
        print(__doc__.strip())
        return 0 if argv else 2
    from bayesrl.experiment import cli

    return cli.command(argv, export)


def export(argv: list[str]) -> int:
    """Write the file of command-line words.

    Raises:
        ConfigError, CheckpointError, ExportError: what is wrong, or which part cannot be exported.
    """
    from bayesrl.deployment import serialize as graph
    from bayesrl.experiment import build, cli
    from bayesrl.experiment.config import ConfigError

    words = cli.parse_words(argv, {"run": "", "format": "onnx", "draws": "0", "seed": "0", "out": ""})
    draws, seed = cli.parse_integers(words, draws=0, seed=0)
    form = words["format"]
    if form not in graph.FORMS:
        raise ConfigError([f"got format={form}, wanted one of {', '.join(graph.FORMS)}"])
    lacking = [name for name in ("onnx", "onnxscript", "onnxruntime") if not importlib.util.find_spec(name)]
    if form == "onnx" and lacking:
        raise ConfigError(
            [f'got format=onnx without {", ".join(lacking)}, wanted it: pip install "bayesrl[onnx]", or format=torch']
        )
    if not words["run"]:
        raise ConfigError(["got no run, wanted run=RUN_DIR, a directory that bayesrl.train made"])
    policy = build.policy(Path(words["run"]))
    path = Path(words["out"] or Path(words["run"]) / {"onnx": "policy.onnx", "torch": "policy.pt2"}[form])
    check = graph.write(policy.agent, policy.spec, path, form, draws, seed)
    what = f"{draws} draws" if draws else "the posterior mean"
    print(f"written: {path} ({path.stat().st_size / 2**10:,.0f} KiB), {what}")
    print(f"checked: the same actions at {check.observations} observations; Q differs by at most {check.error:.2g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
