"""Random numbers for environments in tensors."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 2**16  # random numbers drawn at once


class Noise:
    """Uniform random numbers [E, k], drawn in blocks of rows; each row serves a number of calls in succession.

    Arguments:
        num_envs: E.
        width: k.
        calls: count of calls that return the same row.
        generator: source of the numbers, whose device is theirs too.
    """

    def __init__(self, num_envs: int, width: int, calls: int, generator: torch.Generator) -> None:
        self.num_envs, self.width, self.calls, self.generator = num_envs, width, calls, generator
        self.rows: list[Tensor] = []  # the last one is in use
        self.left = 0  # calls that the last one still serves

    def __call__(self) -> Tensor:
        if self.left == 0:
            del self.rows[-1:]
            if not self.rows:
                E, k = self.num_envs, self.width
                rows = max(1, min(256, BLOCK // max(1, E * k)))
                block = torch.rand(rows, E, k, generator=self.generator, device=self.generator.device)
                self.rows = list(block.unbind())
            self.left = self.calls
        self.left -= 1
        return self.rows[-1]

    def restart(self, reseeded: bool) -> None:
        """Begin a new row; after a new seed also a new block."""
        self.left = 0
        if reseeded:
            self.rows = []

    def zeros(self) -> Tensor:
        """Return zeros [E, k]."""
        return torch.zeros(self.num_envs, self.width, device=self.generator.device)

    def get_state(self) -> dict:
        rows = torch.stack(self.rows) if self.rows else self.zeros()[:0]
        return {"rows": rows.cpu().numpy(), "left": self.left}

    def set_state(self, state: dict) -> None:
        rows = torch.as_tensor(state["rows"], device=self.generator.device)
        self.rows, self.left = list(rows.unbind()), state["left"]


def normal(noise: Tensor) -> Tensor:
    """Return standard normal numbers from uniform ones on [0, 1), within 5.4 standard deviations."""
    return torch.special.ndtri(noise.clamp(min=2.0**-25))
