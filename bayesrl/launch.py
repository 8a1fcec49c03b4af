"""From a configuration to a run: what the commands do, how its parts are built, errors told in one sentence."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable, Iterator
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
from bayesrl import run_dir as places
from bayesrl.agent import Agent, EnvSpec
from bayesrl.checkpoint import CheckpointError, Checkpoints
from bayesrl.config import ConfigError
from bayesrl.envs.check import EnvError
from bayesrl.envs.check import check as check_env
from bayesrl.envs.make import make
from bayesrl.envs.single import single
from bayesrl.envs.workers import WorkerError
from bayesrl.evaluation import evaluate as play
from bayesrl.logger import Logger
from bayesrl.rollout import Environments, Rollout
from bayesrl.run import Cadence, DivergedError, Run, Solve, Stop
from bayesrl.tracker import Tracker

TOLD = (
    ConfigError, EnvError, WorkerError, CheckpointError, DivergedError, MemoryError, torch.OutOfMemoryError, ValueError,
)  # fmt: skip


def command(argv: list[str], function: Callable[[list[str]], int]) -> int:
    """Run a command; errors of input become one sentence and exit code 2, everything else a traceback."""
    try:
        return function(argv)
    except ConfigError as error:
        print("\n".join(f"error: {problem}" for problem in str(error).splitlines()), file=sys.stderr)
    except TOLD as error:
        print(f"error: {error or type(error).__name__}", file=sys.stderr)
    except OSError as error:
        print(
            f"error: got '{error.strerror or error}' at {error.filename or 'a file'}, wanted to read and write there: "
            "free some space, or mend its permissions",
            file=sys.stderr,
        )
    except KeyboardInterrupt:
        return 130
    return 2


def train(argv: list[str]) -> int:
    """Train from command-line words; returns 0, or 128 + the signal that ended training early."""
    dirs, words, show = _options(argv)
    resume = next((w.partition("=")[2].strip("'\"") for w in words if w.startswith("resume=")), "null")
    resuming = resume not in ("null", "")
    checks = (_device_problems, _environment_problems)
    if resuming:
        run_dir = Path(resume)
        words = [w for w in words if not w.startswith("resume=")]
        config = cfg.resumed(places.stored(run_dir), words, checks)
    else:
        config = cfg.load(words, dirs, checks)
    if show:
        print(OmegaConf.to_yaml(config, resolve=True))
        return 0
    if not resuming:
        run_dir = places.fresh(config.run_dir, config.env.id)
    with places.held(run_dir, new=not resuming):
        run = build(config, run_dir, resuming)
        print(f"run: {run_dir}", flush=True)
        with contextlib.closing(run):
            run.train(config.steps)
    return 0 if run.signal is None else 128 + run.signal


def evaluate(argv: list[str]) -> int:
    """Evaluate from command-line words."""
    options = {"run": "", "episodes": "100", "seed": "0", "device": "auto"}
    for word in argv:
        key, equals, value = word.partition("=")
        if not equals or key not in options:
            raise ConfigError([f"got {word}, wanted one of {', '.join(f'{k}=' for k in options)}"])
        options[key] = value
    if not options["run"]:
        raise ConfigError(["got no run, wanted run=RUN_DIR, a directory that bayesrl.train made"])
    try:
        episodes, seed = int(options["episodes"]), int(options["seed"])
    except ValueError as error:
        raise ConfigError([f"got episodes={options['episodes']} seed={options['seed']}, wanted integers"]) from error
    if episodes < 1 or seed < 0:
        raise ConfigError([f"got episodes={episodes} seed={seed}, wanted at least one episode and a seed of 0 or more"])
    run_dir = Path(options["run"])
    config = places.stored(run_dir)
    device = find_device(options["device"])
    torch.set_num_threads(config.threads)
    envs = evaluation_environments(config, min(episodes, 10), device)
    agent = build_agent(config, envs.spec._replace(num_envs=config.env.num_envs), device)
    state = Checkpoints(run_dir).load(warn=_warn)
    agent.load_state_dict(state["agent"])
    result = play(agent, envs, episodes, seed)
    envs.env.close()
    low, high = result.interval()
    print(
        f"{config.env.id}: greedy return of {episodes} episodes at {state['step']:,} transitions: "
        f"{result.mean:.4g} (95 % interval {low:.4g} to {high:.4g})"
    )
    return 0


# --- building --------------------------------------------------------------------------------------------------


def build(config: DictConfig, run_dir: Path, resuming: bool = False) -> Run:
    """Every part of a run, at its beginning, or where its newest checkpoint left it."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    np.random.seed(config.seed)
    random.seed(config.seed)
    device = find_device(config.device)
    discount = config.agent.get("discount", 1.0)
    envs, config.env.vectorization = environments(
        config, config.env.num_envs, config.env.vectorization, discount, device
    )
    test_envs = evaluation_environments(config, 100 if config.solve else min(10, config.eval.episodes), device)
    agent = build_agent(config, envs.spec, device)
    rollout = Rollout(agent, envs, config.replay_ratio)
    if config.capture and not hasattr(agent, "capture"):
        raise ConfigError([f"got capture=true, wanted an agent that can be captured, not {config.agent['_target_']}"])
    checkpoints = Checkpoints(run_dir, config.checkpoint.keep)
    state = None
    if resuming and checkpoints.steps():
        state = checkpoints.load(agent.replay, _warn)
        if config.steps <= state["step"] - config.env.num_envs and not config.solve:
            raise ConfigError(
                [f"got steps={config.steps}, wanted {state['step']} or more, which {run_dir} has: steps is the total"]
            )
        checkpoints.forget_after(state["step"])
    elif resuming:
        _warn(f"{run_dir} has no checkpoint yet: beginning anew")
    step = 0 if state is None else state["step"]
    places.describe(run_dir, config, envs.spec, step)
    run = Run(
        run_dir,
        rollout,
        test_envs,
        Tracker(config.env.num_envs, config.seed, device),
        Logger(run_dir, step if resuming else None),
        checkpoints,
        Cadence(
            config.log.every,
            config.checkpoint.every,
            config.eval.every,
            config.eval.episodes,
            config.eval.final_episodes,
        ),
        config.seed,
        Stop(config.stop.seconds, config.stop["return"]),
        Solve(**config.solve) if config.solve else None,
    )
    torch.manual_seed(config.seed)
    if state is not None:
        run.resume(state)
    if config.capture:
        agent.capture()  # type: ignore[attr-defined]
    return run


def build_agent(config: DictConfig, spec: EnvSpec, device: torch.device) -> Agent:
    """The agent of a configuration, on its device, not trained."""
    pyro.enable_validation(False)
    torch.distributions.Distribution.set_default_validate_args(False)
    parts: dict[str, Any] = {"spec": spec}
    if "posterior" in cfg.only_accepted(config.agent["_target_"], {"posterior": None}):
        with _building("likelihood"):
            likelihood = instantiate(config.likelihood, _convert_="all")
        with _building("network"):
            network = instantiate(config.network, _convert_="all")(
                spec.shape, spec.actions, categories=spec.categories, size=likelihood.size
            )
        with _building("posterior"):
            parts["posterior"] = instantiate(config.posterior, _convert_="all")(network, likelihood=likelihood).to(
                device
            )
    for name in ("exploration", "tracking"):
        with _building(name):
            parts[name] = instantiate(config[name], _convert_="all").to(device)
    with _building("agent"):
        agent = instantiate(config.agent, _convert_="all", **cfg.only_accepted(config.agent["_target_"], parts))
        return agent.to(device) if isinstance(agent, nn.Module) else agent  # type: ignore[return-value]


@contextlib.contextmanager
def _building(name: str) -> Iterator[None]:
    """Say which part of the configuration cannot be built, and why."""
    try:
        yield
    except Exception as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
        if isinstance(cause, TOLD):
            raise cause from error
        why = " ".join(str(cause).split())
        got = f"got a {name} that cannot be built ({type(cause).__name__}: {why})"
        raise ConfigError([f"{got}, wanted other values of {name}.*"]) from error


def environments(
    config: DictConfig, num_envs: int, vectorization: str, discount: float, device: torch.device
) -> tuple[Environments, str]:
    """Vectorised environments of a configuration, begun, and the vectorisation chosen."""
    vectorized, chosen = make(
        config.env.id, num_envs, _plain(config.env.kwargs), list(config.env.imports), vectorization
    )
    envs = Environments(vectorized, discount, device)
    envs.reset(seed=config.seed)
    return envs, chosen


def evaluation_environments(config: DictConfig, num_envs: int, device: torch.device) -> Environments:
    """Environments for evaluation: native where training's are, else in this process, so that nothing is measured."""
    vectorization = "native" if config.env.vectorization == "native" else "sync"
    return environments(config, num_envs, vectorization, 1.0, device)[0]


def find_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one.

    Raises:
        ConfigError: a device that does not exist here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise ConfigError([f"got device={name}, wanted auto or one of those found here: {', '.join(found)}"]) from error
    return device


# --- the command line ------------------------------------------------------------------------------------------


def _options(argv: list[str]) -> tuple[list[str], list[str], bool]:
    """Directories, overrides, and whether only to show the configuration."""
    dirs, words, show = [], [], False
    rest = iter(argv)
    for word in rest:
        option, equals, value = word.partition("=")
        if option in ("--cfg", "-c"):
            value = value if equals else next(rest, "")
            if value != "job":
                raise ConfigError([f"got {option} {value}, wanted --cfg job, which prints the configuration and stops"])
            show = True
        elif option in ("--config-dir", "-cd"):
            dirs.append(value if equals else next(rest, ""))
            if not Path(dirs[-1]).is_dir():
                raise ConfigError([f"got {option} {dirs[-1]}, wanted a directory of configuration groups"])
        elif option in ("--multirun", "-m"):
            raise ConfigError(
                [f"got {option}, wanted one run at a time: start the command once for each configuration"]
            )
        elif word.startswith("-"):
            raise ConfigError([f"got the option {word}, wanted --help, --cfg job or --config-dir DIR"])
        else:
            words.append(word)
    return dirs, words, show


def _device_problems(config: DictConfig) -> list[str]:
    try:
        find_device(config.device)
    except ConfigError as error:
        return [str(error)]
    return []


def _environment_problems(config: DictConfig) -> list[str]:
    try:
        with contextlib.closing(single(config.env.id, _plain(config.env.kwargs), list(config.env.imports))) as env:
            check_env(env)
    except EnvError as error:
        return [str(error)]
    return []


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


def _plain(node: Any) -> dict:
    return dict(OmegaConf.to_container(node, resolve=True))  # type: ignore[arg-type]
