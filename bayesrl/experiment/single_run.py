"""One run, from a checked configuration."""

from __future__ import annotations

import contextlib
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from bayesrl.experiment import build, run_directory
from bayesrl.experiment import config as cfg
from bayesrl.experiment.cli import options


def train(argv: list[str]) -> int:
    """Train from command-line words; returns 0, or 128 + the signal that ended training early."""
    dirs, words, show = options(argv)
    resume = next((w.partition("=")[2].strip("'\"") for w in words if w.startswith("resume=")), "null")
    resuming = resume not in ("null", "")
    if resuming:
        run_dir = Path(resume)
        words = [w for w in words if not w.startswith("resume=")]
        config = cfg.resumed(run_directory.stored(run_dir, resuming=True), words, build.CHECKS)
    else:
        config = cfg.load(words, dirs, build.CHECKS)
    if show:
        print(OmegaConf.to_yaml(config, resolve=True))
        return 0
    return train_in(run_dir if resuming else run_directory.fresh(config.run_dir, config.env.id), config, resuming)


def train_in(run_dir: Path, config: DictConfig, resuming: bool = False) -> int:
    """Train by a checked configuration; returns 0, or 128 + the signal that ended training early."""
    with run_directory.held(run_dir, new=not resuming):
        run = build.build(config, run_dir, resuming)
        print(f"run: {run_dir}", flush=True)
        with contextlib.closing(run):
            run.train(config.steps)
    return 0 if run.signal is None else 128 + run.signal
