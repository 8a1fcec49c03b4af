"""Observation spaces as agents receive them: one array per batch of float32, of uint8, or of the indices of ones.

Shapes: E environments, k indices.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from numpy import ndarray


class OneHot(Box):
    """A space of binary arrays with at most one 1.

    Agents receive the index of the 1 instead of the array, so that the cost of a network's first layer does not grow
    with the size of the array.

    Arguments:
        shape: shape of the array.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(0, 1, shape, np.uint8)

    def contains(self, x) -> bool:
        return super().contains(x) and np.asarray(x).sum() <= 1

    def sample(self, mask: None = None, probability: None = None) -> ndarray:
        out = np.zeros(self.shape, self.dtype)
        out.flat[self.np_random.integers(out.size)] = 1
        return out


class ObservationLayout(NamedTuple):
    """Shape and type of one observation as an agent receives it.

    Attributes:
        shape: shape of the array, never (): a single number is a vector of length 1.
        dtype: "float32"; "uint8" for images; "int64" for the indices of the ones in one or several one-hot vectors.
        categories: length of the binary vector that the indices point into; the index `categories` stands for no 1 at
            all. 0 where observations are not indices.
    """

    shape: tuple[int, ...]
    dtype: str
    categories: int = 0


def observation_layout(space: Space) -> ObservationLayout:
    """Return shape and type of one observation of `space` after `flatten`.

    Raises:
        ValueError: agents cannot use this kind of space.
    """
    match space:
        case Discrete():
            return ObservationLayout((1,), "int64", int(space.n))
        case MultiDiscrete():
            return ObservationLayout((space.nvec.size,), "int64", int(space.nvec.sum()))
        case OneHot():
            return ObservationLayout((1,), "int64", prod(space.shape))
        case Box() if space.dtype == np.uint8 and len(space.shape) == 3 and bool((space.high == 255).all()):
            return ObservationLayout(space.shape, "uint8")
        case Box() | MultiBinary():
            return ObservationLayout((prod(space.shape),), "float32")
        case Dict() | Tuple() if len(space) > 0:
            parts = [observation_layout(part) for _, part in _subspaces(space)]
            if all(part.categories for part in parts):
                indices, categories = sum(part.shape[0] for part in parts), sum(part.categories for part in parts)
                return ObservationLayout((indices,), "int64", categories)
            # Networks divide uint8 by 255: an image beside a one-hot vector must be float, so that both keep a scale.
            images = all(part.dtype == "uint8" for part in parts)
            width = sum(part.categories or prod(part.shape) for part in parts)
            return ObservationLayout((width,), "uint8" if images else "float32")
    raise ValueError(
        f"got observation space {space}, wanted Box, Discrete, MultiBinary, MultiDiscrete, or a non-empty Dict or "
        "Tuple of these; wrap the environment with gymnasium.wrappers.TransformObservation"
    )


def flatten(space: Space, batch: Any) -> ndarray:
    """Return a batch of observations as one array.

    Arguments:
        space: of one observation.
        batch: as vector environments return it: an array [E, ...], or a dict or tuple of arrays.

    Returns:
        [E, *shape], as `observation_layout(space)` says.
    """
    shape, dtype, categories = observation_layout(space)
    match space:
        case Dict() | Tuple():
            parts = [(flatten(part, batch[key]), observation_layout(part)) for key, part in _subspaces(space)]
            arrays = _joint_indices(parts, categories) if categories else [_dense(*part) for part in parts]
            return np.concatenate(arrays, axis=1, dtype=dtype)
        case Discrete():
            return np.asarray(batch, np.int64)[:, None] - space.start
        case MultiDiscrete():
            index = (np.asarray(batch, np.int64) - space.start).reshape(len(batch), -1)
            return index + np.cumsum(space.nvec) - space.nvec.ravel()
        case OneHot():
            ones = np.asarray(batch).reshape(len(batch), -1)
            return np.where(ones.any(1), ones.argmax(1), categories)[:, None]
    return np.asarray(batch).astype(dtype).reshape(len(batch), *shape)


def _joint_indices(parts: list[tuple[ndarray, ObservationLayout]], categories: int) -> list[ndarray]:
    """Return the indices [E, k] of each part, shifted to the positions in the whole vector."""
    offsets = np.cumsum([part.categories for _, part in parts]) - [part.categories for _, part in parts]
    return [
        np.where(index == part.categories, categories, index + offset)
        for (index, part), offset in zip(parts, offsets, strict=True)
    ]


def _dense(array: ndarray, part: ObservationLayout) -> ndarray:
    """Return one part as numbers [E, width], with indices written out as one-hot vectors."""
    if not part.categories:
        return array.reshape(len(array), -1)
    out = np.zeros((len(array), part.categories + 1), dtype=np.uint8)
    np.put_along_axis(out, array, 1, axis=1)
    return out[:, :-1]


def _subspaces(space: Dict | Tuple) -> list[tuple]:
    return list(space.items()) if isinstance(space, Dict) else list(enumerate(space))


# --- JSON ------------------------------------------------------------------------------------------------------------


def to_json(space: Space) -> dict:
    """Return a space as a dict that JSON can hold; `from_json` is the inverse.

    Raises:
        ValueError: `observation_layout` does not accept this kind of space either.
    """
    match space:
        case Discrete():
            return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
        case MultiDiscrete():
            return {"kind": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()}
        case MultiBinary():
            return {"kind": "MultiBinary", "n": list(space.shape)}
        case OneHot():
            return {"kind": "OneHot", "shape": list(space.shape)}
        case Box():
            bounds = {name: _bound(getattr(space, name)) for name in ("low", "high")}
            return {"kind": "Box", **bounds, "shape": list(space.shape), "dtype": str(space.dtype)}
        case Dict():
            return {"kind": "Dict", "spaces": {key: to_json(part) for key, part in space.items()}}
        case Tuple():
            return {"kind": "Tuple", "spaces": [to_json(part) for part in space]}
    raise ValueError(
        f"got the space {space}, wanted Box, Discrete, MultiBinary, MultiDiscrete, Dict or Tuple: use one of these"
    )


def from_json(node: dict) -> Space:
    """Return the space that `to_json` wrote.

    Raises:
        ValueError: `node` was not written by `to_json`.
    """
    match node:
        case {"kind": "Discrete", "n": n, "start": start}:
            return Discrete(n, start=start)
        case {"kind": "MultiDiscrete", "nvec": nvec, "start": start}:
            return MultiDiscrete(nvec, start=start)
        case {"kind": "MultiBinary", "n": n}:
            return MultiBinary(n)
        case {"kind": "OneHot", "shape": shape}:
            return OneHot(tuple(shape))
        case {"kind": "Box", "low": low, "high": high, "shape": shape, "dtype": dtype}:
            lower, upper = (
                _bound_array(end, side, shape).astype(dtype) for end, side in ((low, -np.inf), (high, np.inf))
            )
            return Box(lower, upper, tuple(shape), np.dtype(dtype))
        case {"kind": "Dict", "spaces": spaces}:
            return Dict({key: from_json(part) for key, part in spaces.items()})
        case {"kind": "Tuple", "spaces": spaces}:
            return Tuple([from_json(part) for part in spaces])
    raise ValueError(f"got {node}, wanted a space that `to_json` wrote: write it with `to_json`")


def _bound(bound: ndarray) -> list:
    """Return bounds as a list: one number where all are equal, and None for infinity, which JSON cannot write."""
    flat = [None if np.isinf(x) else x for x in bound.ravel().tolist()]
    return flat[:1] if len(set(flat)) == 1 else flat


def _bound_array(flat: list, infinite: float, shape: list[int]) -> ndarray:
    """Return the array whose bounds `_bound` wrote."""
    values = np.array([infinite if x is None else x for x in flat])
    return np.broadcast_to(values, shape) if len(flat) == 1 else values.reshape(shape)
