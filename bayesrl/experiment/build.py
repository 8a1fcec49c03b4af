"""From a configuration to a run, or to parts of one; what cannot be built is told in one sentence."""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig

from bayesrl.deployment.policy import Policy
from bayesrl.experiment import config as cfg
from bayesrl.experiment import run_directory
from bayesrl.experiment.building import building, warn
from bayesrl.experiment.config import ConfigError
from bayesrl.experiment.environments import (
    environments,
    evaluation_environments,
    find_device,
    test_environments,
    warn_of_wrappers,
)
from bayesrl.experiment.objects import LATER, NO_OBJECTS, Objects, is_callable, realize
from bayesrl.experiment.signatures import accepted_arguments
from bayesrl.posteriors import Posterior
from bayesrl.rl.agent import Agent
from bayesrl.rl.experience import Experience
from bayesrl.rl.types import EnvSpec
from bayesrl.training.callbacks import Callback, CallbackList
from bayesrl.training.checkpoint import Checkpoints
from bayesrl.training.device_vector_env import DeviceVectorEnvAdapter
from bayesrl.training.logger import Logger
from bayesrl.training.loop import TrainingLoop
from bayesrl.training.monitor import Monitor
from bayesrl.training.progress import printer
from bayesrl.training.rng import preserved_rng
from bayesrl.training.rollout import Rollout
from bayesrl.training.rules import Intervals, SolveRule, StopRule
from bayesrl.training.tags import layout
from bayesrl.training.vector_env import VectorEnvAdapter
from bayesrl.world_models.agent import ModelBasedAgent
from bayesrl.world_models.imagination import world_signature


def build(
    config: DictConfig, run_dir: Path, resuming: bool = False, objects: Objects = NO_OBJECTS, show: bool = True
) -> TrainingLoop:
    """Build every part of a run, at its beginning, or where its newest checkpoint left it.

    Arguments:
        config: checked; `env.vectorization` and `capture` become what was chosen.
        run_dir: directory of the run, held by this process.
        resuming: whether the run has begun before.
        objects: what takes the place of parts of the configuration, by group.
        show: whether progress bars and lines are printed.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    np.random.seed(config.seed)
    random.seed(config.seed)
    device = find_device(config.device)
    discount = config.agent.get("discount", 1.0)
    envs, config.env.vectorization = environments(
        config, config.env.num_envs, config.env.vectorization, discount, device, objects
    )
    warn_of_wrappers(config, objects)
    test_envs = test_environments(config, envs, device, objects)
    agent = build_agent(config, envs.spec, device, objects=objects)
    if "agent" in objects:
        envs.discount = agent.discount
    rollout = Rollout(agent, envs, config.replay_ratio, _overlap(config))
    checkpoints = Checkpoints(run_dir, config.checkpoint.keep)
    state = _resumed(config, run_dir, agent, checkpoints) if resuming else None
    step = 0 if state is None else state["step"]
    config.capture = captured(config, agent, envs, step, printer(show))
    run_directory.describe(run_dir, config, envs, step)
    worlds = isinstance(agent, ModelBasedAgent)
    charts = layout(not worlds, worlds or bool(config.get("imagination")))
    pending = bool(state and state["run"].get("pending"))  # the row of that moment is written anew
    logger = Logger(run_dir, step - pending if resuming else None, charts)
    logger.begin(cfg.settings(config))
    loop = TrainingLoop(
        run_dir,
        rollout,
        test_envs,
        Monitor(config.env.num_envs, config.seed, device),
        logger,
        checkpoints,
        _intervals(config),
        config.seed,
        StopRule(config.stop.seconds, config.stop["return"]),
        SolveRule(**config.solve) if config.solve else None,
        CallbackList(build_callbacks(config, objects)),
        show,
    )
    torch.manual_seed(config.seed)
    if state is not None:
        loop.resume(state)
    return loop


def _intervals(config: DictConfig) -> Intervals:
    log, test = config.log, config.eval
    return Intervals(log.every, log.draw, config.checkpoint.every, test.every, test.episodes, test.final_episodes)


def _resumed(config: DictConfig, run_dir: Path, agent: Agent, checkpoints: Checkpoints) -> dict | None:
    """Return the newest checkpoint, with the agent's replay filled as it was then; None where there is none yet."""
    if not checkpoints.steps():
        warn(f"{run_dir} has no checkpoint yet: beginning anew")
        return None
    state = checkpoints.load(agent.replay, warn)
    if config.steps <= state["step"] - config.env.num_envs and not config.solve:
        raise ConfigError(
            [f"got steps={config.steps}, wanted {state['step']} or more, which {run_dir} has: steps is the total"]
        )
    checkpoints.forget_after(state["step"])
    return state


def _overlap(config: DictConfig) -> bool | None:
    """Return whether learning goes on while environments step; None where that is measured."""
    overlap = None if config.workers.overlap == "auto" else config.workers.overlap
    if overlap and config.env.vectorization != "async":
        raise ConfigError(
            [
                f"got workers.overlap=true with env.vectorization={config.env.vectorization}, wanted environments in "
                "workers: set env.vectorization=async"
            ]
        )
    return overlap


def build_callbacks(config: DictConfig, objects: Objects = NO_OBJECTS) -> list[Callback]:
    """Return the callbacks that were given, or else those that a configuration names."""
    if "callbacks" in objects:
        return objects["callbacks"]
    with building("callback"):
        return [instantiate(node, _convert_="all") for node in cfg.callbacks(config)]


def captured(
    config: DictConfig, agent: Agent, envs: VectorEnvAdapter, step: int, say: Callable[[str], None]
) -> bool | str:
    """Compile updates, acting and steps on the device, as wished or where it pays; what `capture` then is."""
    if config.capture is False:
        return False
    if not agent.can_capture:
        if config.capture == "auto":
            return False
        raise ConfigError([f"got capture=true, wanted an agent that can be captured, not {config.agent['_target_']}"])
    steps = math.inf if config.solve else config.steps - step  # a run until solved has no known length
    wished = {True: (math.inf, math.inf), "update": (math.inf, 0)}
    calls = wished.get(config.capture, (steps * config.replay_ratio, steps / envs.env.num_envs))
    update, acting = agent.capture(calls[0], calls[1], say)
    if update and isinstance(envs, DeviceVectorEnvAdapter):
        envs.capture()
    return acting or ("update" if update else False)


def build_agent(
    config: DictConfig, spec: EnvSpec, device: torch.device, memory: bool = True, objects: Objects = NO_OBJECTS
) -> Agent:
    """Build the agent of a configuration, on its device, not trained.

    Arguments:
        memory: whether its replay is as large as configured; else it holds next to nothing.
        objects: what takes the place of parts of the configuration, by group.
    """
    target = objects.get("agent", config.agent["_target_"])
    if "agent" in objects and not is_callable(target):
        return _agent(target).to(device)
    parts: dict[str, Any] = {"spec": spec}
    if "posterior" in accepted_arguments(target, {"posterior": None}):
        with building("agent"):
            # Of Q-functions, unless the agent says what its posterior is over.
            kind: Any = get_object(target) if isinstance(target, str) else target
            kind = kind.func if isinstance(kind, partial) else kind
            is_agent = inspect.isclass(kind) and issubclass(kind, Agent)
            shape, outputs = (kind if is_agent else Agent).signature(spec)
        parts["posterior"] = build_posterior(config, spec, shape, outputs, device, objects=objects)
        if not memory and "agent" not in objects:
            parts["capacity"] = spec.num_envs * (config.agent.get("n_step", 1) + parts["posterior"].history)
    for name in ("exploration", "target_update"):
        with building(name, config[name]):
            parts[name] = _part(name, config[name], objects).to(device)
    with building("planner", config.planner):
        parts["planner"] = _part("planner", config.planner, objects)
    if "imagination" in objects:
        parts["imagination"] = objects["imagination"]
    elif config.get("imagination"):
        parts["imagination"] = build_imagination(config, spec, device)
    with building("agent", config.agent):
        accepted = accepted_arguments(target, parts)
        agent = target(**accepted) if "agent" in objects else instantiate(config.agent, _convert_="all", **accepted)
        return _agent(agent).to(device)


def _agent(agent: Any) -> Agent:
    if not isinstance(agent, Agent):
        kind = f"{type(agent).__module__}.{type(agent).__qualname__}"
        raise ConfigError([f"got an agent of {kind}, wanted a class derived from bayesrl.rl.agent.Agent"])
    return agent


def build_posterior(
    config: DictConfig,
    spec: EnvSpec,
    shape: tuple[int, ...],
    outputs: int,
    device: torch.device,
    prefix: str = "",
    objects: Objects = NO_OBJECTS,
) -> Posterior:
    """Build the posterior of a configuration over functions from `shape` to `outputs`, its network and likelihood.

    Arguments:
        prefix: what the names of its settings begin with.
        objects: what takes the place of parts of the configuration, by group.
    """
    if "posterior" in objects and not is_callable(objects["posterior"]):
        with building(f"{prefix}posterior"):
            return objects["posterior"].to(device)
    with building(f"{prefix}likelihood", config.likelihood):
        likelihood = _part("likelihood", config.likelihood, objects)
    with building(f"{prefix}network", config.network):
        network = _part("network", config.network, objects)
        if is_callable(network):
            network = network(shape, outputs, categories=spec.categories, size=likelihood.size)
    with building(f"{prefix}posterior", config.posterior):
        build = objects.get("posterior") or instantiate(config.posterior, _convert_="all")
        return build(network, likelihood=likelihood).to(device)


def _part(name: str, node: Any, objects: Objects) -> Any:
    """Return the object that was given for a group, or else what its node builds."""
    if name not in objects:
        return instantiate(node, _convert_="all")
    return objects[name] if name in LATER else realize(objects[name])


def build_imagination(config: DictConfig, spec: EnvSpec, device: torch.device) -> Callable[..., Experience]:
    """(spec, posterior, n_step, discount) -> what an agent imagines."""
    if "imagination" not in accepted_arguments(config.agent["_target_"], {"imagination": None}):
        able = "wanted an agent that learns from batches of a replay: agent=bayes_dqn or agent=bayes_ac"
        raise ConfigError([f"got imagination={config.imagination['_target_']} for {config.agent['_target_']}, {able}"])
    node = config.imagination
    with building("imagination", node):
        shape, outputs = world_signature(spec)
    world = build_posterior(node, spec, shape, outputs, device, "imagination.")
    own = cfg.own(node)
    made = instantiate(own, _convert_="all")

    def build(*given: Any) -> Experience:
        with building("imagination", own):
            return made(*given, world)

    return build


def trained(
    words: dict[str, str], num_envs: int, memory: bool = False
) -> tuple[DictConfig, Agent, VectorEnvAdapter, int]:
    """Load a run: its configuration, its agent at the newest checkpoint, environments to evaluate in, transitions.

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


def policy(run_dir: Path, device: str = "cpu", objects: Objects = NO_OBJECTS) -> Policy:
    """Return the policy of a run at its newest checkpoint; builds no environment and no memory.

    Raises:
        CheckpointError: no run of bayesrl.train, or one whose files are missing or cut short.
        ConfigError: a device that does not exist here.
    """
    config, found = run_directory.stored(run_dir), find_device(device)
    spec, observations, actions = run_directory.described(run_dir)
    with preserved_rng():
        agent = build_agent(config, spec, found, memory=False, objects=objects)
    agent.load_state_dict(run_directory.checkpoints(run_dir, warn).load(None, warn)["agent"])
    return Policy(agent, spec, observations, actions)
