"""Vector environments in the fastest of the ways to run them: native, sync, async, or in tensors on a device."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Sequence
from functools import partial
from statistics import median

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import DependencyNotInstalled
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from bayesrl.envs.actions import actions
from bayesrl.envs.errors import EnvError
from bayesrl.envs.vector.single import EnvId, configured, entry, find, guarded, listed, name_of, single, tensor_version
from bayesrl.envs.vector.tensor_env import DEVICE
from bayesrl.envs.vector.worker import Creator
from bayesrl.envs.vector.workers import Workers

CHOICES = ("auto", "native", "sync", "async", "device")
MESSAGE = 2e-4  # seconds to send an action to a worker and read its answer
STEPS, TIME_LIMIT = 30, 1.0  # of the measurement of a step: at most so many steps, or seconds


def make(
    env_id: EnvId,
    num_envs: int = 1,
    kwargs: dict | None = None,
    imports: Sequence[str] = (),
    vectorization: str = "auto",
    device: torch.device | str = "cpu",
    timeout: float | None = 300.0,
    restarts: int = 3,
) -> tuple[VectorEnv, str]:
    """Return E environments and the vectorization chosen, which as `vectorization` gives the same again.

    "auto" is "native" where the environment brings its own vector version, which takes the kwargs and observes the
    same; else "async" where `worth_workers` says so of its measured step time; else "sync". Sync and async reset in
    the step that ends an episode (SAME_STEP); a native one resets as its metadata["autoreset_mode"] says. "device" is a
    `TensorEnv`: of the ids in `bayesrl.envs.DEVICE` on demand only, because another version gives other numbers; of an
    environment that is written in tensors itself, or has no other vector version, by "auto" too.

    Arguments:
        env_id, kwargs, imports: as `single` takes them.
        num_envs: E.
        vectorization: "auto", "native", "sync", "async" or "device".
        device: of the tensors.
        timeout, restarts: of worker processes, as `Workers` takes them.

    Raises:
        EnvError: what was asked for does not exist or cannot be made.
        WorkerError: a worker process could not build its environment.
    """
    kwargs = dict(kwargs or {})
    if not isinstance(num_envs, int) or num_envs < 1:
        raise EnvError(f"got num_envs={num_envs!r}, wanted an integer of at least 1; 1 is a single environment")
    if vectorization not in CHOICES:
        raise EnvError(f"got vectorization={vectorization!r}, wanted one of {', '.join(CHOICES)}; auto chooses")
    spec, creator = find(env_id, imports)
    own = tensor_version(spec, creator)
    native = spec is not None and own is None and takes(spec, num_envs, kwargs)
    if native and vectorization in ("auto", "native"):
        native = agrees(spec, env_id, kwargs, imports)  # type: ignore[arg-type]  # native has a spec
    if vectorization == "native" and not native:
        raise EnvError(
            f"got vectorization='native' for {name_of(env_id)}, wanted an environment with a vector_entry_point that "
            f"takes {listed(kwargs)} and observes what one does; choose auto, sync or async"
        )
    if vectorization == "auto" and own is not None:
        vectorization = "device"
    elif vectorization == "auto":
        vectorization = "native" if native else _sync_or_async(env_id, num_envs, kwargs, imports)
    if vectorization == "native":
        assert spec is not None and spec.vector_entry_point is not None  # `takes` has seen to it
        build = partial(gym.make_vec, spec, num_envs, vectorization_mode="vector_entry_point", **kwargs)
        return guarded(build, env_id, entry(spec.vector_entry_point), kwargs), "native"
    if vectorization == "device":
        version = own or DEVICE.get(spec.id if spec else "")
        if version is None:
            raise EnvError(
                f"got vectorization='device' for {name_of(env_id)}, wanted an environment in tensors, which there is "
                f"of {', '.join(DEVICE)}; write one as a bayesrl.envs.TensorEnv, or choose auto, native, sync or async"
            )
        version = guarded(partial(entry, version), env_id, None, {})
        build = partial(version, num_envs, device=device, **configured(spec, kwargs))
        return guarded(build, env_id, version, kwargs), "device"
    creators = [Creator(single, i, name_of(env_id), env_id, kwargs, imports) for i in range(num_envs)]
    if vectorization == "sync":
        return SyncVectorEnv(creators, autoreset_mode=AutoresetMode.SAME_STEP), "sync"
    return Workers(creators, timeout, restarts), "async"


def takes(spec: EnvSpec, num_envs: int, kwargs: dict) -> bool:
    """Return whether the environment has a vector version of its own that takes the kwargs."""
    if spec.vector_entry_point is None or spec.additional_wrappers:
        return False
    try:
        inspect.signature(entry(spec.vector_entry_point)).bind(num_envs=num_envs, **configured(spec, kwargs))
    except (TypeError, ImportError, DependencyNotInstalled):
        return False
    return True


def agrees(spec: EnvSpec, env_id: EnvId, kwargs: dict, imports: Sequence[str]) -> bool:
    """Return whether the vector version has the observation space of one environment; that of Atari games has not."""
    if spec.entry_point is None:
        return True
    one = single(env_id, kwargs, imports)
    many = guarded(partial(gym.make_vec, spec, 1, vectorization_mode="vector_entry_point", **kwargs), env_id, None, {})
    try:
        return one.observation_space == many.single_observation_space
    finally:
        one.close()
        many.close()


def worth_workers(step: float, num_envs: int, cores: int) -> bool:
    """Return whether E worker processes step faster than one: E t > ceil(E / cores) t + E m, with m seconds a message.

    A single environment is worth one from t > 10 m: learning goes on while it steps, and it is replaced where it hangs.

    Arguments:
        step: t, the median seconds of one step of one environment.
        num_envs: E.
        cores: processors that the workers share.
    """
    if num_envs == 1:
        return step > 10 * MESSAGE
    rounds = -(-num_envs // cores)
    return num_envs * step > rounds * step + num_envs * MESSAGE


def cores() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _sync_or_async(env_id: EnvId, num_envs: int, kwargs: dict, imports: Sequence[str]) -> str:
    env = single(env_id, kwargs, imports)
    try:
        return "async" if worth_workers(step_time(env), num_envs, cores()) else "sync"
    finally:
        env.close()


def step_time(env: gym.Env) -> float:
    """Return the median duration of a step with random actions, in seconds."""
    rng, chosen = np.random.default_rng(0), actions(env.action_space)
    times: list[float] = []
    _, info = env.reset(seed=0)
    while len(times) < STEPS and sum(times) < TIME_LIMIT:
        action, start = chosen.sample(rng, info), time.perf_counter()
        _, _, terminated, truncated, info = env.step(action)
        times.append(time.perf_counter() - start)
        if terminated or truncated:
            _, info = env.reset()
    return median(times)
