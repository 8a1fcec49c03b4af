"""From a configuration to a run: builds the parts, opens the run directory, tells errors in one sentence."""

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
from typing import Any

import numpy as np
import pyro
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from bayesrl import config as cfg
from bayesrl.agent import Agent, EnvSpec
from bayesrl.checkpoint import CheckpointError, Checkpoints
from bayesrl.config import ConfigError
from bayesrl.envs.check import EnvError, check
from bayesrl.envs.make import make
from bayesrl.envs.single import single
from bayesrl.envs.workers import WorkerError
from bayesrl.evaluation import evaluate as play
from bayesrl.logger import Logger
from bayesrl.rollout import Environments, Rollout
from bayesrl.run import Cadence, DivergedError, Run, Solve, Stop, replace_text
from bayesrl.tracker import Tracker

TOLD = (ConfigError, EnvError, WorkerError, CheckpointError, DivergedError, MemoryError, ValueError, OSError)


def command(argv: list[str], function: Callable[[list[str]], None]) -> int:
    """Run a command; errors of input become one sentence and exit code 2, everything else a traceback."""
    try:
        function(argv)
    except InstantiationException as error:
        if not isinstance(error.__cause__, (*TOLD, TypeError)):
            raise
        print(f"error: {error.__cause__}", file=sys.stderr)
        return 2
    except TOLD as error:
        print("\n".join(f"error: {line}" for line in str(error).splitlines()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def train(argv: list[str]) -> None:
    """Train from command-line words."""
    dirs, words, show = _options(argv)
    resumed = next((w.partition("=")[2] for w in words if w.startswith("resume=")), "")
    config = _resumed(Path(resumed), words) if resumed and resumed != "null" else cfg.load(words, dirs)
    if show:
        print(OmegaConf.to_yaml(config, resolve=True))
        return
    run_dir = Path(resumed) if config.resume else _fresh(config)
    with _locked(run_dir):
        run = build(config, run_dir)
        print(f"run: {run_dir}", flush=True)
        run.train(config.steps)
        run.logger.close()


def evaluate(argv: list[str]) -> None:
    """Evaluate from command-line words."""
    options = {"run": "", "episodes": "100", "seed": "0", "device": "auto"}
    for word in argv:
        key, equals, value = word.partition("=")
        if not equals or key not in options:
            raise ConfigError([f"got {word}, wanted one of {', '.join(f'{k}=' for k in options)}"])
        options[key] = value
    try:
        episodes, seed = int(options["episodes"]), int(options["seed"])
    except ValueError as error:
        raise ConfigError([f"got episodes={options['episodes']} seed={options['seed']}, wanted integers"]) from error
    if episodes < 1 or seed < 0:
        raise ConfigError([f"got episodes={episodes} seed={seed}, wanted at least one episode and a seed of 0 or more"])
    run_dir = Path(options["run"])
    config = stored(run_dir)
    device = find_device(options["device"])
    torch.set_num_threads(config.threads)
    envs = environments(config, min(episodes, 10), 1.0, device)
    agent = build_agent(config, envs.spec._replace(num_envs=config.env.num_envs), device)
    state = Checkpoints(run_dir).load(lambda text: print(f"warning: {text}", file=sys.stderr))
    agent.load_state_dict(state["agent"])
    result = play(agent, envs, episodes, seed)
    low, high = result.interval()
    print(
        f"{config.env.id}: greedy return of {episodes} episodes at {state['step']:,} transitions: "
        f"{result.mean:.4g} (95 % interval {low:.4g} to {high:.4g})"
    )


# --- building --------------------------------------------------------------------------------------------------


def build(config: DictConfig, run_dir: Path) -> Run:
    """Every part of a run, at its beginning, or where its newest checkpoint left it."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    np.random.seed(config.seed)
    device = find_device(config.device)
    resuming = bool(config.resume)
    discount = config.agent.get("discount", 1.0)
    checked = single(config.env.id, _plain(config.env.kwargs), config.env.imports)
    check(checked)
    checked.close()
    envs = environments(config, config.env.num_envs, discount, device)
    test_config = OmegaConf.merge(config, {"env": {"vectorization": "auto"}})
    tests = min(10, max(config.eval.episodes, 1))
    test_envs = environments(test_config, 100 if config.solve else tests, 1.0, device, workers=False)
    agent = build_agent(config, envs.spec, device)
    rollout = Rollout(agent, envs, config.replay_ratio)
    checkpoints = Checkpoints(run_dir, config.checkpoint.keep)
    state = checkpoints.load(lambda text: print(f"warning: {text}", file=sys.stderr)) if resuming else None
    if state is not None:
        checkpoints.forget_after(state["step"])
    else:
        _describe(config, run_dir, envs)
    cadence = Cadence(
        config.log.every, config.checkpoint.every, config.eval.every, config.eval.episodes, config.eval.final_episodes
    )
    run = Run(
        run_dir,
        rollout,
        test_envs,
        Tracker(config.env.num_envs, config.seed, device),
        Logger(run_dir, None if state is None else state["step"]),
        checkpoints,
        cadence,
        config.seed,
        Stop(config.stop.seconds, config.stop["return"]),
        Solve(**config.solve) if config.solve else None,
    )
    if state is not None:
        run.resume(state)
    else:
        torch.manual_seed(config.seed)
    if config.capture:
        if not hasattr(agent, "capture"):
            raise ConfigError([f"got capture=true, wanted an agent that can be captured, not {config.agent['_target_']}"])
        agent.capture()
    return run


def build_agent(config: DictConfig, spec: EnvSpec, device: torch.device) -> Agent:
    """The agent of a configuration, on its device, not trained."""
    pyro.enable_validation(False)
    torch.distributions.Distribution.set_default_validate_args(False)
    parts: dict[str, Any] = {"spec": spec}
    if "posterior" in cfg.only_accepted(config.agent["_target_"], {"posterior": None}):
        network = instantiate(config.network, _convert_="all")(spec.shape, spec.actions, sparse=spec.sparse)
        posterior = instantiate(config.posterior, _convert_="all")(network).to(device)
        parts["posterior"] = posterior
    for name in ("exploration", "tracking"):
        parts[name] = instantiate(config[name], _convert_="all").to(device)
    agent = instantiate(config.agent, _convert_="all", **cfg.only_accepted(config.agent["_target_"], parts))
    return agent.to(device) if isinstance(agent, nn.Module) else agent


def environments(
    config: DictConfig, num_envs: int, discount: float, device: torch.device, workers: bool = True
) -> Environments:
    """Vectorised environments of a configuration, begun; `workers` False never starts processes."""
    vectorization = config.env.vectorization if workers or config.env.vectorization != "async" else "auto"
    vectorized, chosen = make(
        config.env.id, num_envs, _plain(config.env.kwargs), config.env.imports, vectorization
    )
    config.env.vectorization = chosen
    envs = Environments(vectorized, discount, device)
    envs.reset(seed=config.seed)
    return envs


def find_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one.

    Raises:
        ConfigError: a device that does not exist here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise ConfigError([f"got device={name}, wanted auto or one of those found here: {', '.join(found)}"]) from error
    return device


# --- the run directory -----------------------------------------------------------------------------------------


def stored(run_dir: Path) -> DictConfig:
    """The configuration a run was started with.

    Raises:
        CheckpointError: there is none.
    """
    path = run_dir / "config.yaml"
    if not path.is_file():
        raise CheckpointError(f"got {run_dir}, which has no config.yaml, wanted a run directory that bayesrl.train made")
    config = OmegaConf.load(path)
    if not OmegaConf.is_dict(config) or "agent" not in config:
        raise CheckpointError(f"got {path}, which is empty or cut short, wanted the configuration of a run: restore it")
    return config  # type: ignore[return-value]


def _options(argv: list[str]) -> tuple[list[str], list[str], bool]:
    """Directories, overrides, and whether only to show the configuration."""
    dirs, words, show = [], [], False
    rest = iter(argv)
    for word in rest:
        if word == "--cfg":
            show = True
            next(rest, None)
        elif word.startswith(("--config-dir", "-cd")):
            dirs.append(word.partition("=")[2] or next(rest, ""))
            if not Path(dirs[-1]).is_dir():
                raise ConfigError([f"got --config-dir {dirs[-1]}, wanted a directory of configuration groups"])
        elif word.startswith("-"):
            raise ConfigError([f"got the option {word}, wanted --help, --cfg job or --config-dir DIR"])
        else:
            words.append(word)
    return dirs, words, show


def _resumed(run_dir: Path, words: list[str]) -> DictConfig:
    """The stored configuration with what may change at a resumption."""
    config = stored(run_dir)
    problems, allowed = [], []
    for word in words:
        key = word.partition("=")[0]
        if key != "resume":
            if key.startswith(tuple(k for k in cfg.RESUMABLE if k.endswith("."))) or key in cfg.RESUMABLE:
                allowed.append(word)
            else:
                problems.append(
                    f"got {word} with resume, wanted only steps, device, threads, stop.* or log.*: "
                    "a resumed run keeps the rest, start a new run to change it"
                )
    try:
        config = OmegaConf.merge(config, OmegaConf.from_dotlist(allowed), {"resume": str(run_dir)})
    except Exception as error:
        problems.append(f"got {' '.join(allowed)}, wanted key=value: {error}")
    if problems := [*problems, *cfg.check(config)]:  # type: ignore[arg-type]
        raise ConfigError(problems)
    return config  # type: ignore[return-value]


def _fresh(config: DictConfig) -> Path:
    """The directory of a new run, made.

    Raises:
        ConfigError: it holds a run already, or cannot be written.
    """
    name = f"{config.env.id}-{datetime.now():%Y%m%d-%H%M%S}".replace("/", "-").replace(":", "-")
    run_dir = Path(config.run_dir or Path("runs") / name)
    number = 1
    while config.run_dir is None and run_dir.exists():
        run_dir, number = run_dir.with_name(f"{name}-{number}"), number + 1
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError([f"got run_dir={run_dir}, wanted a directory that can be written: {error.strerror}"]) from error
    if (run_dir / "config.yaml").exists():
        raise ConfigError([f"got run_dir={run_dir}, which holds a run, wanted a fresh directory: or go on with resume={run_dir}"])
    return run_dir


@contextlib.contextmanager
def _locked(run_dir: Path) -> Iterator[None]:
    """Two processes never write one run.

    Raises:
        ConfigError: another process has it, or it cannot be written.
    """
    try:
        handle = (run_dir / "lock").open("w")
    except OSError as error:
        raise ConfigError([f"got the run directory {run_dir}, wanted one that can be written: {error.strerror}"]) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError([f"got {run_dir}, which another process is training, wanted it free: wait, or use another"]) from error
        yield


def _describe(config: DictConfig, run_dir: Path, envs: Environments) -> None:
    """Keep the resolved configuration, the versions and the commit."""
    replace_text(run_dir / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
    names = ("bayesrl", "torch", "pyro-ppl", "gymnasium", "numpy", "hydra-core", "tensorboard")
    versions: dict[str, str] = {"python": sys.version.split()[0]}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    about = {
        "versions": versions,
        "commit": _commit(),
        "command": sys.argv,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "environment": {"vectorization": config.env.vectorization, "spec": [str(part) for part in envs.spec]},
    }
    replace_text(run_dir / "run.json", json.dumps(about, indent=2) + "\n")


def _commit() -> str | None:
    """The commit of a checkout, or None."""
    here = Path(__file__).resolve().parent
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        out = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True
        )
        return out.stdout.strip() or None
    return None


def _plain(node: Any) -> dict:
    return dict(OmegaConf.to_container(node, resolve=True))  # type: ignore[arg-type]
