"""From a configuration to a run, or to parts of one; what cannot be built is told in one sentence."""

from __future__ import annotations

import contextlib
import math
import random
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.error import DependencyNotInstalled
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn
from tqdm import tqdm

from bayesrl.deployment.policy import Policy
from bayesrl.envs.checker.check import check as check_env
from bayesrl.envs.errors import EnvError
from bayesrl.envs.vector.make import make
from bayesrl.envs.vector.single import single
from bayesrl.envs.vector.tensor_env import TensorEnv
from bayesrl.envs.vector.worker import WorkerError
from bayesrl.envs.wrappers import Wrapped
from bayesrl.experiment import config as cfg
from bayesrl.experiment import run_directory
from bayesrl.experiment.config import ConfigError
from bayesrl.experiment.signatures import only_accepted
from bayesrl.posteriors import Posterior
from bayesrl.rl.agent import Agent
from bayesrl.rl.types import EnvSpec
from bayesrl.training.checkpoint import CheckpointError, Checkpoints
from bayesrl.training.device_vector_env import DeviceVectorEnvAdapter
from bayesrl.training.logger import Logger
from bayesrl.training.loop import DivergedError, TrainingLoop
from bayesrl.training.monitor import Monitor
from bayesrl.training.rollout import Rollout
from bayesrl.training.rules import Intervals, SolveRule, StopRule
from bayesrl.training.tags import layout
from bayesrl.training.vector_env import VectorEnvAdapter
from bayesrl.world_models.imagination import Experience, imaginable

TOLD = (
    ConfigError, EnvError, WorkerError, CheckpointError, DivergedError, MemoryError, torch.OutOfMemoryError, ValueError,
)  # fmt: skip


def build(config: DictConfig, run_dir: Path, resuming: bool = False) -> TrainingLoop:
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
    wrapped = environment(config)
    if isinstance(wrapped, Wrapped) and wrapped.passes_over(config.env.num_envs, plain(config.env.kwargs)):
        warn(
            f"{config.env.id} has a vector version of its own, which env.wrappers keep out, as a wrapper is of one "
            f"environment: {config.env.vectorization} it is, and slower"
        )
    between = 0 < config.eval.every <= config.steps
    episodes = config.eval.episodes if between else config.eval.final_episodes
    test_envs = evaluation_environments(config, 100 if config.solve else min(10, episodes), device)
    agent = build_agent(config, envs.spec, device)
    overlap = None if config.workers.overlap == "auto" else config.workers.overlap
    if overlap and config.env.vectorization != "async":
        raise ConfigError(
            [
                f"got workers.overlap=true with env.vectorization={config.env.vectorization}, wanted environments in "
                "workers: set env.vectorization=async"
            ]
        )
    rollout = Rollout(agent, envs, config.replay_ratio, overlap)
    checkpoints = Checkpoints(run_dir, config.checkpoint.keep)
    state = None
    if resuming and checkpoints.steps():
        state = checkpoints.load(agent.replay, warn)
        if config.steps <= state["step"] - config.env.num_envs and not config.solve:
            raise ConfigError(
                [f"got steps={config.steps}, wanted {state['step']} or more, which {run_dir} has: steps is the total"]
            )
        checkpoints.forget_after(state["step"])
    elif resuming:
        warn(f"{run_dir} has no checkpoint yet: beginning anew")
    step = 0 if state is None else state["step"]
    config.capture = captured(config, agent, envs, step)
    run_directory.describe(run_dir, config, envs, step)
    worlds = hasattr(agent, "dynamics")
    charts = layout(not worlds, worlds or bool(config.get("imagination")))
    pending = bool(state and state["run"].get("pending"))  # the row of that moment is written anew
    logger = Logger(run_dir, step - pending if resuming else None, charts)
    logger.begin(cfg.settings(config))
    run = TrainingLoop(
        run_dir,
        rollout,
        test_envs,
        Monitor(config.env.num_envs, config.seed, device),
        logger,
        checkpoints,
        Intervals(
            config.log.every,
            config.log.draw,
            config.checkpoint.every,
            config.eval.every,
            config.eval.episodes,
            config.eval.final_episodes,
        ),
        config.seed,
        StopRule(config.stop.seconds, config.stop["return"]),
        SolveRule(**config.solve) if config.solve else None,
    )
    torch.manual_seed(config.seed)
    if state is not None:
        run.resume(state)
    return run


def captured(config: DictConfig, agent: Agent, envs: VectorEnvAdapter, step: int) -> bool | str:
    """Compile updates, acting and steps on the device, as wished or where it pays; what `capture` then is."""
    if config.capture is False:
        return False
    if not hasattr(agent, "capture"):
        if config.capture == "auto":
            return False
        raise ConfigError([f"got capture=true, wanted an agent that can be captured, not {config.agent['_target_']}"])
    steps = math.inf if config.solve else config.steps - step  # a run until solved has no known length
    wished = {True: (math.inf, math.inf), "update": (math.inf, 0)}
    calls = wished.get(config.capture, (steps * config.replay_ratio, steps / envs.env.num_envs))
    update, acting = agent.capture(*calls, say=tqdm.write)
    if update and isinstance(envs, DeviceVectorEnvAdapter):
        envs.capture()
    return acting or ("update" if update else False)


def build_agent(config: DictConfig, spec: EnvSpec, device: torch.device, memory: bool = True) -> Agent:
    """The agent of a configuration, on its device, not trained; without `memory` its replay holds next to nothing."""
    parts: dict[str, Any] = {"spec": spec}
    if "posterior" in only_accepted(config.agent["_target_"], {"posterior": None}):
        with _building("agent"):
            # Of Q-functions, unless the agent says what its posterior is over.
            signature = getattr(get_object(config.agent["_target_"]), "signature", None)
            shape, outputs = signature(spec) if signature else (spec.shape, spec.actions)
        parts["posterior"] = build_posterior(config, spec, shape, outputs, device)
        if not memory:
            parts["capacity"] = spec.num_envs * (config.agent.get("n_step", 1) + parts["posterior"].history)
    for name in ("exploration", "tracking"):
        with _building(name, config[name]):
            parts[name] = instantiate(config[name], _convert_="all").to(device)
    with _building("planner", config.planner):
        parts["planner"] = instantiate(config.planner, _convert_="all")
    if config.get("imagination"):
        parts["imagination"] = build_imagination(config, spec, device)
    with _building("agent", config.agent):
        agent = instantiate(config.agent, _convert_="all", **only_accepted(config.agent["_target_"], parts))
        return agent.to(device) if isinstance(agent, nn.Module) else agent  # type: ignore[return-value]


def build_posterior(
    config: DictConfig, spec: EnvSpec, shape: tuple[int, ...], outputs: int, device: torch.device, prefix: str = ""
) -> Posterior:
    """The posterior of a configuration over functions from `shape` to `outputs`, with its network and likelihood.

    Arguments:
        prefix: what the names of its settings begin with.
    """
    with _building(f"{prefix}likelihood", config.likelihood):
        likelihood = instantiate(config.likelihood, _convert_="all")
    with _building(f"{prefix}network", config.network):
        network = instantiate(config.network, _convert_="all")(
            shape, outputs, categories=spec.categories, size=likelihood.size
        )
    with _building(f"{prefix}posterior", config.posterior):
        return instantiate(config.posterior, _convert_="all")(network, likelihood=likelihood).to(device)


def build_imagination(config: DictConfig, spec: EnvSpec, device: torch.device) -> Callable[..., Experience]:
    """(spec, posterior, n_step, discount) -> what an agent imagines."""
    if "imagination" not in only_accepted(config.agent["_target_"], {"imagination": None}):
        able = "wanted an agent that learns from batches of a replay: agent=bayes_dqn or agent=bayes_ac"
        raise ConfigError([f"got imagination={config.imagination['_target_']} for {config.agent['_target_']}, {able}"])
    node = config.imagination
    with _building("imagination", node):
        shape, outputs = imaginable(spec)
    world = build_posterior(node, spec, shape, outputs, device, "imagination.")
    own = cfg.own(node)
    made = instantiate(own, _convert_="all")

    def build(*given: Any) -> Experience:
        with _building("imagination", own):
            return made(*given, world)

    return build


@contextlib.contextmanager
def _building(name: str, node: Any = None) -> Iterator[None]:
    """Say which part of the configuration cannot be built, and why; the settings of its node by their whole names."""
    try:
        yield
    except Exception as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
        if type(cause) is ValueError and node is not None:
            whole = {path.rpartition(".")[2]: path for path in cfg.leaves(plain(node), name)}
            told = re.sub(r"(?<![\w.])(\w+)(?==\S)", lambda found: whole.get(found[1], found[1]), str(cause))
            raise ValueError(told) from error
        if isinstance(cause, TOLD):
            raise cause from error
        why = " ".join(str(cause).split())
        got = f"got {'an' if name[0] in 'aeiou' else 'a'} {name} that cannot be built ({type(cause).__name__}: {why})"
        raise ConfigError([f"{got}, wanted other values of {name}.*"]) from error


def environment(config: DictConfig) -> str | Wrapped:
    """The environment of a configuration, as `single` and `make` take it: its id, or that inside its wrappers."""
    nodes = cfg.wrappers(config)
    if not nodes:
        return config.env.id
    if config.env.vectorization in ("native", "device"):
        got = f"got env.vectorization={config.env.vectorization} with env.wrappers"
        raise EnvError(f"{got}, wanted auto, sync or async, because a wrapper is of one environment")
    with _building("wrapper"):
        made = [instantiate(node, _partial_=True, _convert_="all") for node in nodes]
    return Wrapped(config.env.id, made, list(config.env.imports))


def environments(
    config: DictConfig, num_envs: int, vectorization: str, discount: float, device: torch.device
) -> tuple[VectorEnvAdapter, str]:
    """Vectorised environments of a configuration, begun, and the vectorisation chosen."""
    vectorized, chosen = make(
        environment(config),
        num_envs,
        plain(config.env.kwargs),
        list(config.env.imports),
        vectorization,
        device,
        config.workers.timeout,
        config.workers.restarts,
    )
    envs: VectorEnvAdapter
    if isinstance(vectorized, TensorEnv):
        # The curves are means over 100 episodes, and evaluations play in at most 100 environments.
        envs = DeviceVectorEnvAdapter(vectorized, discount, told=100)
    else:
        envs = VectorEnvAdapter(vectorized, discount, device)
    envs.reset(seed=config.seed)
    return envs, chosen


def evaluation_environments(config: DictConfig, num_envs: int, device: torch.device) -> VectorEnvAdapter:
    """Environments for evaluation, vectorised as those of training are, in no more workers than these."""
    if config.env.vectorization == "async":
        num_envs = min(num_envs, config.env.num_envs)
    return environments(config, num_envs, config.env.vectorization, 1.0, device)[0]


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


def trained(
    words: dict[str, str], num_envs: int, memory: bool = False
) -> tuple[DictConfig, Agent, VectorEnvAdapter, int]:
    """Of a run: its configuration, its agent at the newest checkpoint, environments to evaluate in, transitions.

    Arguments:
        words: with run and device.
        num_envs: of the environments.
        memory: whether the agent's replay is filled too.
    """
    if not words["run"]:
        raise ConfigError(["got no run, wanted run=RUN_DIR, a directory that bayesrl.train made"])
    run_dir = Path(words["run"])
    config = run_directory.stored(run_dir)
    device = find_device(words["device"])
    torch.set_num_threads(config.threads)
    envs = evaluation_environments(config, num_envs, device)
    agent = build_agent(config, envs.spec._replace(num_envs=config.env.num_envs), device, memory)
    state = run_directory.checkpoints(run_dir, warn).load(agent.replay if memory else None, warn)
    agent.load_state_dict(state["agent"])
    return config, agent, envs, state["step"]


def policy(run_dir: Path, device: str = "cpu") -> Policy:
    """The policy of a run at its newest checkpoint; builds no environment and no memory.

    Raises:
        CheckpointError: no run of bayesrl.train, or one whose files are missing or cut short.
        ConfigError: a device that does not exist here.
    """
    config, found = run_directory.stored(run_dir), find_device(device)
    spec, observations, actions = run_directory.described(run_dir)
    agent = build_agent(config, spec, found, memory=False)
    agent.load_state_dict(run_directory.checkpoints(run_dir, warn).load(None, warn)["agent"])
    return Policy(agent, spec, observations, actions)


def watched(config: DictConfig, pictures: bool) -> gym.Env:
    """One environment of a configuration, which gives pictures of itself where it can and they are wanted."""
    build = partial(single, environment(config), imports=list(config.env.imports))
    kwargs = plain(config.env.kwargs)
    env = build(kwargs=kwargs)
    if not pictures or "rgb_array" not in env.metadata.get("render_modes", ()):
        return env
    env.close()
    try:
        env = build(kwargs=kwargs | {"render_mode": "rgb_array"})
        env.reset()
        env.render()
    except (EnvError, DependencyNotInstalled) as error:
        warn(f"no pictures of {config.env.id}: {error}")
        return build(kwargs=kwargs)
    return env


def _device_problems(config: DictConfig) -> list[str]:
    try:
        find_device(config.device)
    except ConfigError as error:
        return [str(error)]
    return []


def _environment_problems(config: DictConfig) -> list[str]:
    try:
        with contextlib.closing(single(environment(config), plain(config.env.kwargs), list(config.env.imports))) as env:
            check_env(env)
    except EnvError as error:
        return [str(error)]
    return []


CHECKS = (_device_problems, _environment_problems)  # of a sound configuration


def warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


def plain(node: Any) -> dict:
    return dict(OmegaConf.to_container(node, resolve=True))  # type: ignore[arg-type]
