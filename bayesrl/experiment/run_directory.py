"""The directory of a run: created or found again, locked by one process, and described for whoever reads it later."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import torch
from gymnasium import Space
from omegaconf import DictConfig, OmegaConf

from bayesrl.envs.spaces import from_json, to_json
from bayesrl.experiment import legacy
from bayesrl.experiment.config import ConfigError
from bayesrl.rl.types import EnvSpec
from bayesrl.training.checkpoint import CheckpointError, Checkpoints, replace
from bayesrl.training.vector_env import VectorEnvAdapter
from bayesrl.version import __version__

PACKAGES = ("torch", "pyro-ppl", "gymnasium", "numpy", "hydra-core", "tensorboard")


def fresh(run_dir: str | None, env_id: str) -> Path:
    """Create a directory: the one that is named, or one under runs/ named by environment and time.

    Raises:
        ConfigError: it cannot be written.
    """
    if run_dir is not None and Path(run_dir).is_file():
        raise ConfigError([f"got run_dir={run_dir}, which is a file, wanted a directory: give another name"])
    try:
        if run_dir is not None:
            Path(run_dir).mkdir(parents=True, exist_ok=True)
            return Path(run_dir)
        name = f"{env_id}-{datetime.now():%Y%m%d-%H%M%S}".replace("/", "-").replace(":", "-")
        number = 0
        while True:
            path = Path("runs") / (f"{name}-{number}" if number else name)
            with contextlib.suppress(FileExistsError):
                path.mkdir(parents=True)
                return path
            number += 1
    except OSError as error:
        raise ConfigError(
            [f"got run_dir={run_dir or 'runs/'}, wanted a directory that can be written: {error.strerror}"]
        ) from error


@contextlib.contextmanager
def locked(run_dir: Path, new: bool) -> Iterator[None]:
    """Lock a run against other processes; a new run that never began leaves no directory.

    Raises:
        ConfigError: another process has it, it cannot be written, or a new run finds another there.
    """
    try:
        handle = (run_dir / "lock").open("w")
    except OSError as error:
        raise ConfigError(
            [f"got run_dir={run_dir}, wanted a directory that can be written: {error.strerror}"]
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                [f"got {run_dir}, which another process is training, wanted it free: wait, or use another"]
            ) from error
        if new and (run_dir / "config.yaml").exists():
            raise ConfigError(
                [f"got run_dir={run_dir}, which holds a run, wanted a fresh one: or go on with resume={run_dir}"]
            )
        try:
            yield
        finally:
            if new and not (run_dir / "config.yaml").exists():
                with contextlib.suppress(OSError):
                    (run_dir / "lock").unlink()
                    run_dir.rmdir()


def stored(run_dir: Path, resuming: bool = False) -> DictConfig:
    """Return the configuration of a run; of one that version 0.1.0 wrote, under the names of today.

    Raises:
        CheckpointError: there is none, or it is `resuming` one of an earlier version.
    """
    path = run_dir / "config.yaml"
    if not path.is_file():
        raise CheckpointError(
            f"got {run_dir}, which has no config.yaml, wanted a run directory that bayesrl.train made"
        )
    try:
        config = OmegaConf.load(path)
    except Exception as error:
        kind = type(error).__name__
        raise CheckpointError(f"got {path}, which is no YAML ({kind}), wanted a run's: restore it") from error
    if not OmegaConf.is_dict(config) or not {"agent", "solve"} <= config.keys():
        raise CheckpointError(f"got {path}, which is empty or cut short, wanted the configuration of a run: restore it")
    if not legacy.is_legacy(run_dir):
        return config  # type: ignore[return-value]
    if resuming:
        raise CheckpointError(
            f"got resume={run_dir}, which version 0.1.0 wrote, wanted one of this version: start a new run; evaluate, "
            "explain, watch, export, report and load work with the old one"
        )
    return OmegaConf.create(legacy.translate_config(OmegaConf.to_container(config)))  # type: ignore[arg-type]


def checkpoints(run_dir: Path, warn: Callable[[str], None]) -> Checkpoints:
    """Return the checkpoints of a run, to be read; of one that version 0.1.0 wrote with a warning."""
    if not legacy.is_legacy(run_dir):
        return Checkpoints(run_dir)
    warn(legacy.warning(run_dir))
    return Checkpoints(run_dir, translate=legacy.translate_state)


def describe(run_dir: Path, config: DictConfig, envs: VectorEnvAdapter, step: int = 0) -> None:
    """Keep the resolved configuration, and in `run.json` spaces, versions, commit and command of every start."""
    kept = OmegaConf.merge(config, {"resume": None, "run_dir": str(run_dir)})
    replace(run_dir / "config.yaml", OmegaConf.to_yaml(kept, resolve=True).encode())
    versions: dict[str, str] = {"python": sys.version.split()[0], "bayesrl": __version__}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    start = {
        "step": step,
        "versions": versions,
        "commit": commit(),
        "command": sys.argv,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    environment = {
        "vectorization": config.env.vectorization,
        **named(envs.spec),
        "observation_space": to_json(envs.env.single_observation_space),
        "action_space": to_json(envs.env.single_action_space),
    }
    about = {**start, "environment": environment, "resumed": []}
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        earlier = json.loads((run_dir / "run.json").read_text())
        about = {**earlier, "environment": environment, "resumed": [*earlier["resumed"], start]}
    replace(run_dir / "run.json", (json.dumps(about, indent=2) + "\n").encode())


def named(spec: EnvSpec) -> dict:
    """Return the agent's description of its environments, for JSON."""
    return {**spec._asdict(), "shape": list(spec.shape), "dtype": str(spec.dtype)}


def described(run_dir: Path) -> tuple[EnvSpec, Space, Space]:
    """Return what `describe` stored: the agent's description of its environments, and the spaces of one of them.

    Raises:
        CheckpointError: it is missing or cut short.
    """
    path = run_dir / "run.json"
    try:
        kept = json.loads(path.read_text())["environment"]
        known = {name: kept[name] for name in EnvSpec._fields if name in kept}
        known |= {"shape": tuple(kept["shape"]), "dtype": getattr(torch, kept["dtype"].removeprefix("torch."))}
        known["bounds"] = tuple(map(tuple, known["bounds"])) if known.get("bounds") else None
        return EnvSpec(**known), from_json(kept["observation_space"]), from_json(kept["action_space"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"got {path}, which lacks what it should say of the environment ({type(error).__name__}: {error}), wanted "
            f"the file that bayesrl.train wrote: restore it, or let resume={run_dir} write it again"
        ) from error


def commit() -> str | None:
    """Return the commit of a checkout, or None."""
    here = Path(__file__).resolve().parent
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        out = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True
        )
        return out.stdout.strip() or None
    return None
