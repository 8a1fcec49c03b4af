"""What passes between posteriors and those who teach them.

Shapes: n draws, B batch.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """What `learn` is taught: row i of y and weight teaches draw z[i].

    Attributes:
        x: inputs [B, *].
        action: the actions whose output is taught, [B] int64, or None where the whole output is.
        y: targets [n, B, *].
        weight: how much each observation counts for each draw, [n, B]; bootstrap masks, priorities, 0 for padding.
        size: number of observations the batch stands for, a 0-d float tensor; scales likelihood against prior.
    """

    x: Tensor
    action: Tensor | None
    y: Tensor
    weight: Tensor
    size: Tensor


class Fit(NamedTuple):
    """What `fit` did.

    Attributes:
        updates: how many were made.
        nll: negative log-likelihood of the held-out data by update number; empty without held-out data.
        best: update whose parameters were kept, the last one without held-out data.
    """

    updates: int
    nll: dict[int, float]
    best: int
