"""Bayesian reinforcement learning: `bayesrl COMMAND ...`, the same as `python -m bayesrl.COMMAND ...`."""

from __future__ import annotations

import ast
import difflib
import importlib
import os
import sys
from pathlib import Path

from bayesrl.version import __version__

COMMANDS = ("train", "evaluate", "explain", "report", "watch", "export", "check", "new")


def main(argv: list[str] | None = None) -> int:
    """Run the command that the first word names; returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"bayesrl {__version__}")
        return 0
    if argv[0] not in COMMANDS:
        near = difflib.get_close_matches(argv[0], COMMANDS, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        wanted = f"wanted a command: {hint}there are {', '.join(COMMANDS)}"
        print(f"error: got {argv[0]}, {wanted}", file=sys.stderr)
        return 2
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())  # as `python -m` does, so that modules of the current directory are found
    return importlib.import_module(f"bayesrl.{argv[0]}").main(argv[1:])


def usage() -> str:
    """Return the commands, each with the first words of its module's docstring, without importing any."""
    lines = [__doc__.strip(), "", "Commands"]
    for name in COMMANDS:
        text = (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
        about = (ast.get_docstring(ast.parse(text)) or "").partition(":")[0]
        lines.append(f"    {name:10}{about}")
    options = ["    --help    what there is; after a command, what it takes", "    --version"]
    return "\n".join([*lines, "", "Options", *options])


if __name__ == "__main__":
    sys.exit(main())
