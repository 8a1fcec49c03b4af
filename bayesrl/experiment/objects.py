"""Objects in place of configuration: those that a configuration can name, and those that must be given each time."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gymnasium as gym
import numpy as np
import yaml
from hydra.utils import get_object

from bayesrl.experiment.config import ConfigError

LATER = ("posterior", "network")  # groups that say what to call once the shapes are known

Objects = Mapping[str, Any]  # by group, or `env`, `eval_env`, `callbacks`
NO_OBJECTS: Objects = MappingProxyType({})


class BorrowedEnv(gym.Wrapper):
    """An environment that belongs to the caller: closing it here leaves it open."""

    def close(self) -> None:
        pass


class EnvInstance:
    """A callable that gives the same environment at every call.

    Arguments:
        env: the caller's.
    """

    def __init__(self, env: gym.Env) -> None:
        self.env = env
        self.__qualname__ = describe(env)

    def __call__(self) -> gym.Env:
        return BorrowedEnv(self.env)


def given_in_python(what: str, where: str) -> Any:
    """Stand in a configuration for an object that it cannot store.

    Raises:
        ConfigError: always, because whoever has the object never calls this.
    """
    raise ConfigError(
        [f"got {where}={what}, an object that a configuration cannot store, wanted it again: {_again(where)}"]
    )


def stand_in(name: str, value: Any) -> dict[str, str]:
    """Return the node that stands in a configuration for `value`."""
    return {"_target_": f"{__name__}.{given_in_python.__name__}", "what": describe(value), "where": name}


def is_stand_in(node: Any) -> bool:
    """Return whether a node of a configuration stands for an object that was given in Python."""
    return isinstance(node, Mapping) and str(node.get("_target_", "")).endswith(f".{given_in_python.__name__}")


def describe(value: Any) -> str:
    """Return a short name of an object."""
    if isinstance(value, gym.Env):
        return type(value.unwrapped).__name__
    inner = value.func if isinstance(value, functools.partial) else value
    return getattr(inner, "__qualname__", type(inner).__qualname__).rpartition(".")[2].strip("<>")


def path_of(value: Any) -> str | None:
    """Return the dotted path under which a class or function can be imported by another process, or None."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not (inspect.isclass(value) or inspect.isroutine(value)) or not module or not name or module == "__main__":
        return None
    try:
        found = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError):
        return None
    return f"{module}.{name}" if found is value else None


def node_of(value: Any, later: bool = True) -> Any:
    """Return a value as a configuration holds it.

    Arguments:
        value: plain, or a class, function, partial or dataclass that can be imported.
        later: whether a class or function is to be called later, with further arguments.

    Raises:
        TypeError: no configuration can hold it.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): node_of(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [node_of(each) for each in value]
    function, keywords = value, {}
    if isinstance(value, functools.partial) and not value.args:
        function, keywords = value.func, value.keywords
    elif dataclasses.is_dataclass(value) and not inspect.isclass(value):
        function, later = type(value), False
        keywords = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
    path = path_of(function)
    if path is None:
        raise TypeError(f"got {value!r}, which a configuration cannot hold")
    return {"_target_": path, **({"_partial_": True} if later else {}), **{k: node_of(v) for k, v in keywords.items()}}


def is_callable(value: Any) -> bool:
    """Return whether a value is a class, function or partial, rather than an instance that happens to have a call."""
    return inspect.isclass(value) or inspect.isroutine(value) or isinstance(value, functools.partial)


def realize(value: Any) -> Any:
    """Call a class, function or partial; return anything else as it is."""
    return value() if is_callable(value) else value


def option_of(group: str, value: Any) -> tuple[str, dict[str, Any]] | None:
    """Return the option of a group that names a class, function or partial, and the partial's keywords; or None."""
    partial = isinstance(value, functools.partial) and not value.args
    function, keywords = (value.func, value.keywords) if partial else (value, {})
    if path_of(function) is None:
        return None
    names = []
    for file in sorted((resources.files("bayesrl.configs") / group).iterdir(), key=lambda file: file.name):
        target = yaml.safe_load(file.read_text()).get("_target_") if file.name.endswith(".yaml") else None
        if target and get_object(target) is function:
            names.append(file.name.removesuffix(".yaml"))
    like = [name for name in names if name.replace("_", "") == function.__name__.replace("_", "").lower()]
    chosen = like or names
    return (chosen[0], dict(keywords)) if len(chosen) == 1 else None


def spelled(value: Any) -> str:
    """Return a plain value as a command-line word spells it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        escaped = re.sub(r"(\\+)$", r"\1\1", value.replace("'", "\\'"))
        return f"'{escaped}'"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{spelled(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(spelled, value)) + "]"
    return repr(value)


def _again(where: str) -> str:
    if where in ("env", "callbacks"):
        return f"bayesrl.Trainer.resume(run_dir, {where}=...) goes on with the run, bayesrl.load opens it without"
    return f"bayesrl.Trainer.resume(run_dir, {where}=...), or bayesrl.load(run_dir, {where}=...)"
