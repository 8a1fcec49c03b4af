"""What an agent sees of an observation space: one array per batch, float32, uint8 or indices of ones.

Shapes: E environments; `shape` is one observation's.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from numpy import ndarray


class OneHot(Box):
    """Binary arrays with at most one 1. An agent is given its index: the same network at a cost without the width."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(0, 1, shape, np.uint8)

    def contains(self, x) -> bool:
        return super().contains(x) and np.asarray(x).sum() <= 1

    def sample(self, mask: None = None, probability: None = None) -> ndarray:
        out = np.zeros(self.shape, self.dtype)
        out.flat[self.np_random.integers(out.size)] = 1
        return out


class Layout(NamedTuple):
    """Of one observation as the agent sees it.

    Attributes:
        shape: () never; numbers are vectors of one.
        dtype: "float32"; "uint8" for images; "int64" for indices of the ones in a one-hot or several side by side.
        categories: length of the binary vector that the indices point into; the index `categories` itself points to
            nothing. 0 where observations are no indices.
    """

    shape: tuple[int, ...]
    dtype: str
    categories: int = 0


def layout(space: Space) -> Layout:
    """How `flatten` lays out one observation of `space`."""
    match space:
        case Discrete():
            return Layout((1,), "int64", int(space.n))
        case MultiDiscrete():
            return Layout((space.nvec.size,), "int64", int(space.nvec.sum()))
        case OneHot():
            return Layout((1,), "int64", prod(space.shape))
        case Box() if space.dtype == np.uint8 and len(space.shape) == 3 and bool((space.high == 255).all()):
            return Layout(space.shape, "uint8")
        case Box() | MultiBinary():
            return Layout((prod(space.shape),), "float32")
        case Dict() | Tuple() if len(space) > 0:
            parts = [layout(part) for _, part in _parts(space)]
            if all(part.categories for part in parts):
                return Layout((sum(part.shape[0] for part in parts),), "int64", sum(part.categories for part in parts))
            # Images are scaled by 255 and one-hots by 1: side by side they must be floats, scaled each for itself.
            images = all(part.dtype == "uint8" for part in parts)
            width = sum(part.categories or prod(part.shape) for part in parts)
            return Layout((width,), "uint8" if images else "float32")
    raise ValueError(
        f"got observation space {space}, wanted Box, Discrete, MultiBinary, MultiDiscrete, or a non-empty Dict or "
        "Tuple of these; wrap the environment with gymnasium.wrappers.TransformObservation"
    )


def flatten(space: Space, batch) -> ndarray:
    """[E, *layout(space).shape] from a batch as vector environments return it: arrays, or a dict or tuple of them."""
    shape, dtype, categories = layout(space)
    match space:
        case Dict() | Tuple():
            parts = [(flatten(part, batch[key]), layout(part)) for key, part in _parts(space)]
            arrays = _joined(parts, categories) if categories else [_dense(*part) for part in parts]
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


def _joined(parts: list[tuple[ndarray, Layout]], categories: int) -> list[ndarray]:
    """Indices [E, k] of each part, moved to where its ones lie in the whole."""
    offsets = np.cumsum([part.categories for _, part in parts]) - [part.categories for _, part in parts]
    return [
        np.where(index == part.categories, categories, index + offset)
        for (index, part), offset in zip(parts, offsets, strict=True)
    ]


def _dense(array: ndarray, part: Layout) -> ndarray:
    """[E, width]: a part beside others of another kind, its indices written out as ones."""
    if not part.categories:
        return array.reshape(len(array), -1)
    out = np.zeros((len(array), part.categories + 1), dtype=np.uint8)
    np.put_along_axis(out, array, 1, axis=1)
    return out[:, :-1]


def _parts(space: Dict | Tuple) -> list[tuple]:
    return list(space.items()) if isinstance(space, Dict) else list(enumerate(space))


# --- as JSON ---------------------------------------------------------------------------------------------------------


def to_json(space: Space) -> dict:
    """A space in numbers and texts that JSON has; `from_json` is the way back.

    Raises:
        ValueError: a kind of space that `layout` refuses too.
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
    raise ValueError(f"got the space {space}, wanted Box, Discrete, MultiBinary, MultiDiscrete, Dict or Tuple")


def from_json(node: dict) -> Space:
    """The space that `to_json` wrote down."""
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
            least, most = (_unbound(end, side, shape).astype(dtype) for end, side in ((low, -np.inf), (high, np.inf)))
            return Box(least, most, tuple(shape), np.dtype(dtype))
        case {"kind": "Dict", "spaces": spaces}:
            return Dict({key: from_json(part) for key, part in spaces.items()})
        case {"kind": "Tuple", "spaces": spaces}:
            return Tuple([from_json(part) for part in spaces])
    raise ValueError(f"got {node}, wanted a space that `to_json` wrote")


def _bound(bound: ndarray) -> list:
    """Flat, or one number where all are equal; None where infinite, which JSON has no number for."""
    flat = [None if np.isinf(x) else x for x in bound.ravel().tolist()]
    return flat[:1] if len(set(flat)) == 1 else flat


def _unbound(flat: list, infinite: float, shape: list[int]) -> ndarray:
    """What `_bound` was given."""
    values = np.array([infinite if x is None else x for x in flat])
    return np.broadcast_to(values, shape) if len(flat) == 1 else values.reshape(shape)
