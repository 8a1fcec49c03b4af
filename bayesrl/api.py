"""The functions of `import bayesrl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from gymnasium.vector import VectorEnv

from bayesrl.deployment.policy import Policy
from bayesrl.envs.vector.make import make
from bayesrl.envs.vector.single import EnvId
from bayesrl.experiment import build


def load(run_dir: str | Path, device: str = "cpu", **objects: Any) -> Policy:
    """Return what the agent of a run learned, at its newest checkpoint, as a function of raw observations.

        policy = bayesrl.load(RUN_DIR)
        action, uncertainty = policy(obs)

    No environment and no replay memory is built.

    Arguments:
        run_dir: directory of the run.
        device: of the policy: cpu, cuda, cuda:1, or auto.
        objects: by group, such as `network=...`, where the run was given objects that a configuration cannot store.

    Raises:
        bayesrl.training.checkpoint.CheckpointError: no run, or one whose files are missing or damaged.
        ValueError: a device that does not exist here, or an object that is missing.
    """
    return build.policy(Path(run_dir), device, objects)


def make_env(
    env_id: EnvId,
    num_envs: int = 1,
    *,
    kwargs: Mapping[str, Any] | None = None,
    imports: Sequence[str] = (),
    vectorization: str = "auto",
    device: torch.device | str = "cpu",
) -> VectorEnv:
    """Return vectorized environments, as training uses them.

        envs = bayesrl.make_env("CartPole-v1", num_envs=8)
        obs, info = envs.reset(seed=0)

    Arguments:
        env_id: a registered id, "module:Id-v0", "module:Class", or a class or function that makes one environment.
        num_envs: number of environments.
        kwargs: keyword arguments of each environment.
        imports: modules to import first, such as one that registers environments.
        vectorization: "native" (the environment's own vector version), "sync", "async" (worker processes), "device"
            (written in tensors), or "auto", which takes the fastest that gives the same numbers.
        device: of the tensors, for "device".

    Raises:
        EnvError: what was asked for does not exist or cannot be made; a ValueError.
        WorkerError: a worker process could not build its environment.
    """
    return make(env_id, num_envs, dict(kwargs or {}), imports, vectorization, device)[0]
