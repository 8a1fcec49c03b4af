"""What an agent sees of an observation space: one array per batch, float32 or uint8.

Shapes: E environments; `shape` is one observation's.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from numpy import ndarray


class Layout(NamedTuple):
    """Of one observation as the agent sees it.

    Attributes:
        shape: () never; numbers are vectors of one.
        dtype: "uint8" for images and binary observations, "float32" otherwise.
        sparse: binary with few ones, such as one-hot codes.
    """

    shape: tuple[int, ...]
    dtype: str
    sparse: bool


def layout(space: Space) -> Layout:
    """How `flatten` lays out one observation of `space`."""
    match space:
        case Discrete():
            return Layout((int(space.n),), "uint8", True)
        case MultiDiscrete():
            return Layout((int(space.nvec.sum()),), "uint8", True)
        case MultiBinary():
            return Layout((prod(space.shape),), "uint8", True)
        case Box() if _image(space):
            return Layout(space.shape, "uint8", False)
        case Box() if _binary(space):
            return Layout((prod(space.shape),), "uint8", True)
        case Box():
            return Layout((prod(space.shape),), "float32", False)
        case Dict() | Tuple() if len(space) > 0:
            parts = [layout(part) for _, part in _parts(space)]
            # Images are scaled by 255 and one-hots by 1: side by side they must be floats, scaled each for itself.
            uniform = all(part.dtype == "uint8" for part in parts) and len({part.sparse for part in parts}) == 1
            width = sum(prod(part.shape) for part in parts)
            return Layout((width,), "uint8" if uniform else "float32", uniform and parts[0].sparse)
    raise ValueError(
        f"got observation space {space}, wanted Box, Discrete, MultiBinary, MultiDiscrete, or a non-empty Dict or "
        "Tuple of these; wrap the environment with gymnasium.wrappers.TransformObservation"
    )


def flatten(space: Space, batch) -> ndarray:
    """[E, *layout(space).shape] from a batch as vector environments return it: arrays, or a dict or tuple of them."""
    shape, dtype, _ = layout(space)
    if isinstance(space, Dict | Tuple):
        parts = [flatten(part, batch[key]) for key, part in _parts(space)]
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1, dtype=dtype)
    batch = np.asarray(batch)
    if isinstance(space, Discrete):
        return _one_hot(batch[:, None] - space.start, np.array([space.n]))
    if isinstance(space, MultiDiscrete):
        return _one_hot((batch - space.start).reshape(len(batch), -1), space.nvec.ravel())
    return batch.astype(dtype).reshape(len(batch), *shape)


def _one_hot(index: ndarray, sizes: ndarray) -> ndarray:
    """[E, sum of sizes] uint8: index [E, K] one-hot in K blocks of the given sizes."""
    out = np.zeros((len(index), sizes.sum()), dtype=np.uint8)
    np.put_along_axis(out, index.astype(np.int64) + np.cumsum(sizes) - sizes, 1, axis=1)
    return out


def _parts(space: Dict | Tuple) -> list[tuple]:
    return list(space.items()) if isinstance(space, Dict) else list(enumerate(space))


def _image(space: Box) -> bool:
    return space.dtype == np.uint8 and len(space.shape) == 3 and bool((space.high == 255).all())


def _binary(space: Box) -> bool:
    return space.dtype.kind in "iub" and bool((space.low >= 0).all() and (space.high <= 1).all())
