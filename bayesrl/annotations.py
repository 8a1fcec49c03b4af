"""Bounds of an argument or a setting, written into its annotation: `steps: Annotated[int, Ge(1)] = 20_000`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ge:
    """Greater than or equal to `bound`."""

    bound: float

    def violation(self, value: float) -> str:
        """Return what a value should have been, or nothing where it is within the bound."""
        return "" if value >= self.bound else f"at least {self.bound}"


@dataclass(frozen=True)
class Le:
    """Less than or equal to `bound`."""

    bound: float

    def violation(self, value: float) -> str:
        """Return what a value should have been, or nothing where it is within the bound."""
        return "" if value <= self.bound else f"at most {self.bound}"
