"""A likelihood with heavy tails.

Shapes: n draws, B batch, K targets.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from bayesrl.likelihoods.base import Likelihood, check_positive


class StudentT(Likelihood):
    """y | x ~ StudentT(df, f(x), scale), which is less sensitive to outliers than a Gaussian.

    Arguments:
        df: degrees of freedom, greater than 2, so that the variance exists.
        scale: scale of the distribution in (scaled) units of the target.
    """

    def __init__(self, df: float = 4.0, scale: float = 0.1) -> None:
        super().__init__()
        if not df > 2:
            raise ValueError(f"got df={df}, wanted more than 2 degrees of freedom, so that the variance exists")
        self.df, self.scale = df, check_positive(scale, "scale")

    def extra_repr(self) -> str:
        return f"df={self.df}, scale={self.scale}"

    def forward(self, out: Tensor, action: Tensor | None = None) -> dist.TorchDistribution:
        mean = self.parts(out, action)[..., 0]
        df, scale = torch.full_like(mean, self.df), torch.full_like(mean, self.scale)
        return unchecked_student_t(df, mean, scale)

    def variance(self, out: Tensor) -> Tensor:
        return torch.full_like(out, self.scale**2 * self.df / (self.df - 2))


def unchecked_student_t(df: Tensor, loc: Tensor, scale: Tensor) -> dist.StudentT:
    """Return a Student-t that validates nothing; its inner chi-square would follow the global setting otherwise."""
    with pyro.validation_enabled(False):
        return dist.StudentT(df, loc, scale, validate_args=False)
