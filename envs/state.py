"""The full state of environments as plain values, so that a run resumes bit for bit.

A state has one dict {"class", "attributes", "envs"} for each layer, from the outermost wrapper inwards. Plain values
are None, bool, int, float, str, NumPy arrays, and lists, tuples and dicts of them. An object of another type that can
be saved, such as a random generator, is written as a dict with the one key "$" (see CODECS). Configuration, such as
spaces and functions, is not saved: a state is loaded into an environment made in the same way.
"""

from __future__ import annotations

import enum
import functools
import random
import types
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import SyncVectorEnv, VectorEnv

TAG = "$"
SKIPPED = {"env_fns", "spec", "metadata", "_metadata", "_cached_spec", "_saved_kwargs"}
RANDOM = {"_np_random", "_np_random_seed"}
CONFIGURATION = (
    gym.Space, EnvSpec, enum.Enum, type, functools.partial, np.ufunc, types.ModuleType,
    types.FunctionType, types.BuiltinFunctionType, types.MethodType,
)  # fmt: skip


class OpaqueError(Exception):
    """Raised at a value that cannot be written in plain values."""


def save_state(env: VectorEnv | gym.Env) -> dict | None:
    """Return the state of `env`, or None where part of it cannot be read: physics engines, open windows, connections.

    An environment that has the methods get_state() -> dict and set_state(dict) decides itself what is saved; its
    np_random is saved in any case. A vector environment whose environments live in other processes has methods of the
    names of these two functions: save_state() -> dict or None, and load_state(dict).
    """
    try:
        return {"layers": _save(env, {})}
    except (OpaqueError, RecursionError):
        return None


def load_state(env: VectorEnv | gym.Env, state: dict) -> None:
    """Put `state` into an environment made in the same way, which then steps as the saved one would have.

    Raises:
        ValueError: the environment or its wrappers are of other classes than the saved ones.
    """
    got, wanted = _kinds(state["layers"]), _kinds(_skeleton(env))
    if got != wanted:
        raise ValueError(f"got the state of {got}, wanted one of {wanted}; make the environments as they were saved")
    _load(env, state["layers"], {})


# --- layers --------------------------------------------------------------------------------------------------------


def _layers(env: Any) -> list:
    """Return the wrappers of an environment, outermost first, and the environment itself."""
    layers = [env]
    while isinstance(inner := vars(layers[-1]).get("env"), gym.Env | VectorEnv):
        layers.append(inner)
    return layers


def _sub_envs(layer: Any) -> list[gym.Env]:
    return layer.envs if isinstance(layer, SyncVectorEnv) else []


def _has_own_state(layer: Any) -> bool:
    return hasattr(type(layer), "get_state") and hasattr(type(layer), "set_state")


def _is_remote(layer: Any) -> bool:
    """Return whether the environments of a vector environment live in other processes."""
    return hasattr(type(layer), "save_state") and hasattr(type(layer), "load_state")


def _skeleton(env: Any) -> list[dict]:
    """Return the layers' classes, without their attributes."""
    return [
        {"class": type(layer).__qualname__, "envs": [_skeleton(sub_env) for sub_env in _sub_envs(layer)]}
        for layer in _layers(env)
    ]


def _save(env: Any, seen: dict) -> list[dict]:
    out: list[dict] = []
    for layer, saved in zip(_layers(env), _skeleton(env), strict=True):
        if _is_remote(layer):
            saved["workers"] = layer.save_state()
            if saved["workers"] is None:
                raise OpaqueError
            return [*out, saved]
        own = _has_own_state(layer)
        if own:
            saved["own_state"] = _encode(layer.get_state(), seen)
        attributes = {k: v for k, v in vars(layer).items() if k in RANDOM or not (own or _skipped(layer, k, v))}
        saved["attributes"] = {name: _encode(value, seen) for name, value in attributes.items()}
        saved["envs"] = [_save(sub_env, seen) for sub_env in _sub_envs(layer)]
        out.append(saved)
    return out


def _load(env: Any, layers: list[dict], seen: dict) -> None:
    for layer, saved in zip(_layers(env), layers, strict=True):
        if "workers" in saved:
            layer.load_state(saved["workers"])
            return
        if "own_state" in saved:
            layer.set_state(_decode(saved["own_state"], seen))
        vars(layer).update({name: _decode(value, seen) for name, value in saved["attributes"].items()})
        for sub_env, below in zip(_sub_envs(layer), saved["envs"], strict=True):
            _load(sub_env, below, seen)


def _kinds(layers: list[dict]) -> str:
    """Return the classes as one line of text, such as `SyncVectorEnv[2 x TimeLimit > CartPoleEnv]`."""
    counts = [Counter(_kinds(part) for part in layer["envs"]) for layer in layers]
    inside = ["[" + ", ".join(f"{n} x {kind}" for kind, n in count.items()) + "]" if count else "" for count in counts]
    return " > ".join(layer["class"] + part for layer, part in zip(layers, inside, strict=True))


def _skipped(layer: Any, name: str, value: Any) -> bool:
    """Return whether an attribute is a layer further in, which is saved by itself, or configuration."""
    inner = name == "env" and isinstance(value, gym.Env | VectorEnv)
    return inner or (name == "envs" and value is _sub_envs(layer)) or name in SKIPPED or _configuration(value)


# --- values --------------------------------------------------------------------------------------------------------


def _configuration(value: Any) -> bool:
    if isinstance(value, list | tuple | dict) and value:
        return all(map(_configuration, value.values() if isinstance(value, dict) else value))
    return isinstance(value, CONFIGURATION)


def _generator(bits: dict) -> np.random.Generator:
    bit_generator = getattr(np.random, bits["bit_generator"])()
    bit_generator.state = bits
    return np.random.Generator(bit_generator)


def _random_state(bits: dict) -> np.random.RandomState:
    generator = np.random.RandomState()
    generator.set_state(bits)
    return generator


def _python_random(bits: tuple) -> random.Random:
    generator = random.Random()
    generator.setstate(bits)
    return generator


# name: type, value -> plain, plain -> value
CODECS: dict[str, tuple[type, Callable, Callable]] = {
    "generator": (np.random.Generator, lambda value: value.bit_generator.state, _generator),
    "random_state": (np.random.RandomState, lambda value: value.get_state(legacy=False), _random_state),
    "random": (random.Random, lambda value: value.getstate(), _python_random),
    "scalar": (np.generic, np.asarray, lambda value: value[()]),
    "deque": (deque, lambda value: (list(value), value.maxlen), lambda value: deque(*value)),
}


def _encode(value: Any, seen: dict) -> Any:
    """Return `value` in plain values; a generator that two objects share is saved once, so that it stays shared.

    Arguments:
        value: of an attribute.
        seen: identity of a generator -> its number, and the generator, which keeps its identity from being reused.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is np.ndarray and not value.dtype.hasobject:
        return value.copy(order="K")
    if type(value) in (list, tuple):
        return type(value)(_encode(part, seen) for part in value)
    if type(value) is dict and TAG not in value:
        return {_key(key): _encode(part, seen) for key, part in value.items()}
    for name, (kind, plain, _) in CODECS.items():
        if isinstance(value, kind):
            number, _ = seen.setdefault(id(value), (len(seen), value))
            return {TAG: [name, number, _encode(plain(value), seen)]}
    raise OpaqueError


def _key(key: Any) -> Any:
    if type(key) not in (bool, int, float, str):
        raise OpaqueError
    return key


def _decode(value: Any, seen: dict) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy(order="K")
    if isinstance(value, list | tuple):
        return type(value)(_decode(part, seen) for part in value)
    if isinstance(value, dict) and TAG in value:
        name, number, plain = value[TAG]
        if number not in seen:
            seen[number] = CODECS[name][2](_decode(plain, seen))
        return seen[number]
    if isinstance(value, dict):
        return {key: _decode(part, seen) for key, part in value.items()}
    return value
