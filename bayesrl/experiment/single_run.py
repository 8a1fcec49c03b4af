"""One run, from the words of the command."""

from __future__ import annotations

import signal
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from bayesrl.experiment import run_directory
from bayesrl.experiment.cli import options
from bayesrl.experiment.config import load, resumed
from bayesrl.experiment.environments import CHECKS
from bayesrl.experiment.trainer import Trainer


def train(argv: list[str]) -> int:
    """Train from command-line words; return 0, or 128 + the signal that ended training early."""
    dirs, words, show = options(argv)
    resume = next((w.partition("=")[2].strip("'\"") for w in words if w.startswith("resume=")), "null")
    run_dir = None if resume in ("null", "") else Path(resume)
    if run_dir is None:
        config = load(words, dirs, CHECKS)
    else:
        words = [w for w in words if not w.startswith("resume=")]
        config = resumed(run_directory.stored(run_dir, resuming=True), words, CHECKS)
    if show:
        print(OmegaConf.to_yaml(config, resolve=True))
        return 0
    return exit_code(Trainer.from_config(config, run_dir))


def train_in(run_dir: Path, config: DictConfig) -> int:
    """Begin a run in a directory, by a checked configuration; return 0, or 128 + the signal that ended it early."""
    return exit_code(Trainer.from_config(config), run_dir)


def exit_code(trainer: Trainer, directory: Path | None = None) -> int:
    """Train; return 0, or 128 + the signal that ended training early."""
    interrupted = trainer.run(directory=directory).interrupted
    return 0 if interrupted is None else 128 + signal.Signals[interrupted]
