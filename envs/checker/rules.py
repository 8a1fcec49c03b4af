"""Rules for what an environment returns.

A rule is a function of the returned value, and of its space where it needs one. It returns None where the value follows
the rule, else the text "got ..., wanted ...; remedy".
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple

# --- rules for results ----------------------------------------------------------------------------------------------


def pair(result) -> str | None:
    if not (isinstance(result, tuple) and len(result) == 2):
        return f"got {_brief(result)}, wanted the two values obs, info; end reset with `return obs, {{}}`"
    return None


def five(result) -> str | None:
    if not (isinstance(result, tuple) and len(result) == 5):
        return (
            f"got {_brief(result)}, wanted the five values obs, reward, terminated, truncated, info; "
            "split an old `done` into terminated (the world ended) and truncated (time ran out)"
        )
    return None


def is_dict(info) -> str | None:
    if not isinstance(info, dict):
        return f"got {_brief(info)}, wanted a dict; return {{}} where there is nothing to say"
    return None


def number(reward) -> str | None:
    try:
        if np.ndim(reward) == 0 and np.asarray(reward).dtype.kind in "fiub" and np.isfinite(float(reward)):
            return None
    except (TypeError, ValueError):
        pass
    return f"got {_brief(reward)}, wanted one finite number; return float(reward)"


def boolean(flag) -> str | None:
    if not isinstance(flag, bool | np.bool_):
        return f"got {_brief(flag)}, wanted True or False; return bool(...)"
    return None


def mask(count: int, info: dict) -> str | None:
    if "action_mask" not in info:
        return None
    allowed, wanted = info["action_mask"], f"an array of shape ({count},) of bool or int8"
    if not isinstance(allowed, np.ndarray) or allowed.shape != (count,) or allowed.dtype.kind not in "iub":
        return f"got {_brief(allowed)}, wanted {wanted}; give one entry for each action"
    if not np.isin(allowed, (0, 1)).all():
        return f"got {allowed}, wanted {wanted} of 0 and 1; give 1 for each action that is allowed"
    if not allowed.any():
        return f"got {allowed} with no action allowed, wanted at least one; end the episode where nothing can be done"
    return None


# --- rules for observations ------------------------------------------------------------------------------------------


def keys(space: Dict, value) -> str | None:
    if not isinstance(value, dict) or set(value) != set(space):
        got = f"a dict of {sorted(map(str, value))}" if isinstance(value, dict) else _brief(value)
        return f"got {got}, wanted a dict of {list(space)}; return exactly the keys of observation_space"
    return None


def length(space: Tuple, value) -> str | None:
    if not isinstance(value, tuple) or len(value) != len(space):
        return f"got {_brief(value)}, wanted a tuple of {len(space)}; return one part for each of observation_space"
    return None


def _array(space: gym.Space, value) -> str | None:
    if not isinstance(value, np.ndarray | np.generic):
        return f"got {_brief(value)}, wanted a numpy array; return np.array(obs, dtype=np.{space.dtype})"
    return None


def _shape(space: gym.Space, value) -> str | None:
    if value.shape != space.shape:
        return f"got shape {value.shape}, wanted {space.shape}; reshape the array or correct observation_space"
    return None


def _dtype(space: gym.Space, value) -> str | None:
    assert space.dtype is not None  # only spaces of several parts have none
    # Within a family Gymnasium casts; `_finite` and `_bounds` see to it that no value is lost.
    if (value.dtype.kind in "iub") != (space.dtype.kind in "iub") or value.dtype.kind not in "fiub":
        return f"got dtype {value.dtype}, wanted {space.dtype}; return obs.astype(np.{space.dtype})"
    return None


def _finite(space: gym.Space, value) -> str | None:
    with np.errstate(over="ignore"):
        real = value.dtype.kind == "f"
        bad: np.ndarray | list = np.argwhere(~np.isfinite(np.asarray(value).astype(space.dtype))) if real else []
    if len(bad):
        index = tuple(bad[0].tolist())
        return f"got {value[index]} at index {index}, wanted finite values; look for a division by zero or an overflow"
    return None


def _bounds(space: gym.Space, value) -> str | None:
    assert space.shape is not None  # only spaces of several parts have none
    value = np.asarray(value)
    value = value.astype(space.dtype) if value.dtype.kind == "f" else value
    low, high = (np.broadcast_to(bound, space.shape) for bound in _limits(space))
    for bad, bound, words in ((value < low, low, "at least low"), (value > high, high, "at most high")):
        if bad.any():
            index = tuple(np.argwhere(bad)[0].tolist())
            return f"got {value[index]} at index {index}, wanted {words}={bound[index]}; clip it or widen the bounds"
    return None


def _limits(space: gym.Space) -> tuple:
    match space:
        case Box():
            return space.low, space.high
        case MultiDiscrete():
            return space.start, space.start + space.nvec - 1
    return 0, 1


def _state(space: Discrete, value) -> str | None:
    if not isinstance(value, int | np.integer | np.ndarray) or isinstance(value, bool) or np.ndim(value) != 0:
        return f"got {_brief(value)}, wanted one integer; return int(state)"
    if np.asarray(value).dtype.kind not in "iu":
        return f"got dtype {np.asarray(value).dtype}, wanted an integer; return int(state)"
    if not space.start <= value < space.start + space.n:
        end = space.start + space.n - 1
        return f"got {value}, wanted {space.start} to {end}; correct the state or Discrete's n and start"
    return None


OBSERVATION = ((Discrete, (_state,)), (gym.Space, (_array, _shape, _dtype, _finite, _bounds)))


def _brief(value) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} of type {type(value).__name__}"
