"""The full state of environments as plain values, so that a run resumes bit for bit.

A state is one dict {"class", "attributes", "envs"} for each layer, from the outermost wrapper inwards. Plain values are
None, bool, int, float, str, numpy arrays, and lists, tuples and dicts of them; what is not plain but known, such as a
random generator, is a dict with the one key "$" (see CODECS). Configuration, such as spaces and functions, is not
saved: restore into an environment made the same way.
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
    """A value that is neither plain nor known."""


def capture(env: VectorEnv | gym.Env) -> dict | None:
    """The state of `env`, or None where part of it cannot be read: physics engines, open windows, connections.

    An environment with get_state() -> dict and set_state(dict) speaks for itself; its np_random is saved anyway. Worker
    processes capture their environments themselves: a layer with states() -> dict or None and restore(dict).
    """
    try:
        return {"layers": _capture(env, {})}
    except (OpaqueError, RecursionError):
        return None


def restore(env: VectorEnv | gym.Env, state: dict) -> None:
    """Put `state` back into an environment made the same way; afterwards it steps as the captured one did."""
    got, wanted = _kinds(state["layers"]), _kinds(_skeleton(env))
    if got != wanted:
        raise ValueError(f"got the state of {got}, wanted one of {wanted}; make the environments as they were captured")
    _restore(env, state["layers"], {})


# --- layers --------------------------------------------------------------------------------------------------------


def _layers(env: Any) -> list:
    """An environment's wrappers, outermost first, and the environment itself."""
    layers = [env]
    while isinstance(inner := vars(layers[-1]).get("env"), gym.Env | VectorEnv):
        layers.append(inner)
    return layers


def _parts(layer: Any) -> list[gym.Env]:
    return layer.envs if isinstance(layer, SyncVectorEnv) else []


def _speaks(layer: Any) -> bool:
    return hasattr(type(layer), "get_state") and hasattr(type(layer), "set_state")


def _far(layer: Any) -> bool:
    """Whether its environments live in other processes."""
    return hasattr(type(layer), "states") and hasattr(type(layer), "restore")


def _skeleton(env: Any) -> list[dict]:
    """The layers' classes, without their attributes."""
    return [
        {"class": type(layer).__qualname__, "envs": [_skeleton(part) for part in _parts(layer)]}
        for layer in _layers(env)
    ]


def _capture(env: Any, seen: dict) -> list[dict]:
    out: list[dict] = []
    for layer, saved in zip(_layers(env), _skeleton(env), strict=True):
        if _far(layer):
            saved["workers"] = layer.states()
            if saved["workers"] is None:
                raise OpaqueError
            return [*out, saved]
        if _speaks(layer):
            saved["given"] = _encode(layer.get_state(), seen)
        own = {k: v for k, v in vars(layer).items() if k in RANDOM or not (_speaks(layer) or _skipped(layer, k, v))}
        saved["attributes"] = {name: _encode(value, seen) for name, value in own.items()}
        saved["envs"] = [_capture(part, seen) for part in _parts(layer)]
        out.append(saved)
    return out


def _restore(env: Any, layers: list[dict], seen: dict) -> None:
    for layer, saved in zip(_layers(env), layers, strict=True):
        if "workers" in saved:
            layer.restore(saved["workers"])
            return
        if "given" in saved:
            layer.set_state(_decode(saved["given"], seen))
        vars(layer).update({name: _decode(value, seen) for name, value in saved["attributes"].items()})
        for part, below in zip(_parts(layer), saved["envs"], strict=True):
            _restore(part, below, seen)


def _kinds(layers: list[dict]) -> str:
    """In words that can be compared, such as `SyncVectorEnv[2 x TimeLimit > CartPoleEnv]`."""
    counts = [Counter(_kinds(part) for part in layer["envs"]) for layer in layers]
    inside = ["[" + ", ".join(f"{n} x {kind}" for kind, n in count.items()) + "]" if count else "" for count in counts]
    return " > ".join(layer["class"] + part for layer, part in zip(layers, inside, strict=True))


def _skipped(layer: Any, name: str, value: Any) -> bool:
    """Whether an attribute is a layer further in, which is saved by itself, or configuration."""
    inner = name == "env" and isinstance(value, gym.Env | VectorEnv)
    return inner or (name == "envs" and value is _parts(layer)) or name in SKIPPED or _configuration(value)


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
    """`value` in plain values; a generator held in two places is saved once, so that it stays one.

    Arguments:
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
