"""Devices and environments of a configuration, and the checks that they pass before anything is trained."""

from __future__ import annotations

import contextlib
from functools import partial

import gymnasium as gym
import torch
from gymnasium.error import DependencyNotInstalled
from gymnasium.vector import VectorEnv
from hydra.utils import instantiate
from omegaconf import DictConfig

from bayesrl.envs.checker.check import check as check_env
from bayesrl.envs.errors import EnvError
from bayesrl.envs.vector.make import make
from bayesrl.envs.vector.single import EnvId, single
from bayesrl.envs.vector.tensor_env import TensorEnv
from bayesrl.envs.wrappers import Wrapped
from bayesrl.experiment import config as cfg
from bayesrl.experiment.building import building, plain, warn
from bayesrl.experiment.config import ConfigError
from bayesrl.experiment.objects import NO_OBJECTS, EnvInstance, Objects, given_in_python
from bayesrl.training.device_vector_env import DeviceVectorEnvAdapter
from bayesrl.training.vector_env import VectorEnvAdapter


def environment(config: DictConfig, objects: Objects = NO_OBJECTS) -> EnvId:
    """Return the environment of a configuration as `single` and `make` take it, inside its wrappers."""
    env_id = objects.get("env", config.env.id)
    if isinstance(env_id, str) and env_id.startswith("<"):
        given_in_python(env_id.strip("<>"), "env")
    nodes = cfg.wrappers(config)
    if not nodes:
        return env_id
    if config.env.vectorization in ("native", "device"):
        got = f"got env.vectorization={config.env.vectorization} with env.wrappers"
        raise EnvError(f"{got}, wanted auto, sync or async, because a wrapper is of one environment")
    with building("wrapper"):
        made = [instantiate(node, _partial_=True, _convert_="all") for node in nodes]
    return Wrapped(env_id, made, list(config.env.imports))


def environments(
    config: DictConfig,
    num_envs: int,
    vectorization: str,
    discount: float,
    device: torch.device,
    objects: Objects = NO_OBJECTS,
) -> tuple[VectorEnvAdapter, str]:
    """Return the vectorized environments of a configuration, begun, and the vectorization chosen."""
    vectorized, chosen = make(
        environment(config, objects),
        num_envs,
        plain(config.env.kwargs),
        list(config.env.imports),
        "sync" if isinstance(objects.get("env"), EnvInstance) else vectorization,
        device,
        config.workers.timeout,
        config.workers.restarts,
    )
    return _adapter(vectorized, discount, device, config.seed), chosen


def _adapter(vectorized: VectorEnv, discount: float, device: torch.device, seed: int) -> VectorEnvAdapter:
    envs: VectorEnvAdapter
    if isinstance(vectorized, TensorEnv):
        # The curves are means over 100 episodes, and evaluations play in at most 100 environments.
        envs = DeviceVectorEnvAdapter(vectorized, discount, reported=100)
    else:
        envs = VectorEnvAdapter(vectorized, discount, device)
    envs.reset(seed=seed)
    return envs


def evaluation_environments(
    config: DictConfig, num_envs: int, device: torch.device, objects: Objects = NO_OBJECTS
) -> VectorEnvAdapter:
    """Return environments for evaluation, vectorized as those of training are, in no more workers than these."""
    if "eval_env" in objects:
        given = objects["eval_env"]
        alone = isinstance(given, EnvInstance)
        vectorized, _ = make(given, 1 if alone else num_envs, vectorization="sync" if alone else "auto", device=device)
        return _adapter(vectorized, 1.0, device, config.seed)
    if config.env.vectorization == "async":
        num_envs = min(num_envs, config.env.num_envs)
    return environments(config, num_envs, config.env.vectorization, 1.0, device, objects)[0]


def test_environments(
    config: DictConfig, envs: VectorEnvAdapter, device: torch.device, objects: Objects
) -> VectorEnvAdapter:
    """Return the environments of a run's evaluations: the one that it trains in where that is all there is."""
    if isinstance(objects.get("env"), EnvInstance) and "eval_env" not in objects:
        return VectorEnvAdapter(envs.env, 1.0, device)
    between = 0 < config.eval.every <= config.steps
    episodes = config.eval.episodes if between else config.eval.final_episodes
    return evaluation_environments(config, 100 if config.solve else min(10, episodes), device, objects)


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


def watched(config: DictConfig, pictures: bool) -> gym.Env:
    """Return one environment of a configuration, which renders images where it can and they are wanted."""
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
    except NotImplementedError:
        warn(
            f"no pictures of {config.env.id}: got metadata that names rgb_array and no render method, wanted both: "
            "define render, or take rgb_array out of the metadata"
        )
        env.close()
        return build(kwargs=kwargs)
    return env


def _device_problems(config: DictConfig) -> list[str]:
    try:
        find_device(config.device)
    except ConfigError as error:
        return [str(error)]
    return []


def _environment_problems(config: DictConfig, objects: Objects = NO_OBJECTS) -> list[str]:
    try:
        kwargs, imports = plain(config.env.kwargs), list(config.env.imports)
        with contextlib.closing(single(environment(config, objects), kwargs, imports)) as env:
            check_env(env)
    except (EnvError, ConfigError) as error:
        return [str(error)]
    if "eval_env" not in objects:
        return []
    try:
        with contextlib.closing(single(objects["eval_env"])) as test_env:
            check_env(test_env)
            for name in ("observation_space", "action_space"):
                got, wanted = getattr(test_env, name), getattr(env, name)
                if got != wanted:
                    return [f"got eval_env with {name} {got}, wanted that of env, {wanted}: give one of the same kind"]
    except EnvError as error:
        return [f"eval_env: {error}"]
    return []


CHECKS = (_device_problems, _environment_problems)  # of a sound configuration


def checks(objects: Objects) -> tuple[cfg.Check, ...]:
    """Return the checks of a configuration in which `objects` take the place of some parts."""
    return (_device_problems, partial(_environment_problems, objects=objects))


def warn_of_wrappers(config: DictConfig, objects: Objects) -> None:
    wrapped = environment(config, objects)
    if isinstance(wrapped, Wrapped) and wrapped.passes_over(config.env.num_envs, plain(config.env.kwargs)):
        warn(
            f"{config.env.id} has a vector version of its own, which env.wrappers keep out, as a wrapper is of one "
            f"environment: {config.env.vectorization} it is, and slower"
        )
