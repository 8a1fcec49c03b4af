"""Checks of the arguments of scores: each raises a ValueError that says what was passed and what to pass instead."""

from __future__ import annotations

import torch
from torch import Tensor


def check_values(name: str, x: Tensor, dims: int = 0, finite: bool = True) -> None:
    """Raise unless x is floating point, not empty, of at least `dims` dimensions, without NaN and, if asked, finite."""
    if x.numel() == 0 or not x.is_floating_point() or x.dim() < dims:
        raise ValueError(
            f"got {name} {list(x.shape)} {x.dtype}, wanted floats, one or more, of at least {dims} dimensions"
        )
    bad = ~x.isfinite() if finite else x.isnan()
    if bad.any():
        kind = "NaN or infinite" if finite else "NaN"
        raise ValueError(f"got {name} with {int(bad.sum())} values {kind}, wanted none: drop them before")


def check_shape(name: str, got: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Raise unless a shape is the wanted one."""
    if got != wanted:
        raise ValueError(f"got {name} {list(got)}, wanted {list(wanted)}: shapes must fit, use reshape or expand")


def positive_std(std: Tensor | float, mean: Tensor, *y: Tensor) -> Tensor:
    """Return std as a tensor; raise unless it is positive and every shape is a suffix of the largest one."""
    std = torch.as_tensor(std, dtype=mean.dtype, device=mean.device)
    inputs = (mean, std, *y)
    largest = max((x.shape for x in inputs), key=len)
    for name, x in zip(("mean", "std", "y"), inputs, strict=False):
        check_shape(name, x.shape, largest[len(largest) - x.dim() :])
        check_values(name, x)
    if (std <= 0).any():
        raise ValueError(f"got a std of {std.min():g}, wanted positive ones: a point forecast has no density")
    return std


def check_probabilities(probs: Tensor) -> None:
    """Raise unless the last dimension holds probabilities."""
    check_values("probs", probs)
    if probs.min() < 0 or ((probs.sum(-1) - 1).abs() > 1e-3).any():
        raise ValueError("got probs that are negative or do not sum to 1, wanted probabilities: use logits.softmax(-1)")


def check_labels(probs: Tensor, label: Tensor) -> None:
    """Raise unless labels [B] int64 are classes of probabilities [B, C]."""
    check_probabilities(probs)
    check_shape("label", label.shape, probs.shape[:1])
    if probs.dim() != 2 or label.dtype != torch.int64 or label.min() < 0 or label.max() >= probs.shape[-1]:
        raise ValueError(f"got labels {label.dtype} of probs {list(probs.shape)}, wanted int64 in 0..C - 1 of [B, C]")
