"""Types that posteriors and agents exchange.

Shapes: n draws, B batch.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Training data of one update; row i of `y` and `weight` belongs to draw z[i].

    Attributes:
        x: inputs, [B, *].
        action: actions whose outputs have targets, [B] int64; None if the whole output has.
        y: targets, [n, B, *].
        weight: weight of each observation for each draw, [n, B]: bootstrap masks, priorities, 0 for padding.
        size: number of observations that the batch represents, a 0-d float tensor; it scales the likelihood against
            the prior.
    """

    x: Tensor
    action: Tensor | None
    y: Tensor
    weight: Tensor
    size: Tensor


class Fit(NamedTuple):
    """Result of `fit`.

    Attributes:
        updates: number of updates.
        nll: negative log-likelihood of the held-out data by update number; empty without held-out data.
        best: update with the final parameters; without held-out data the last one.
    """

    updates: int
    nll: dict[int, float]
    best: int
