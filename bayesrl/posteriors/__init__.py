"""Distributions over functions: one method, one file, one order (what, index, forward, learn)."""

from bayesrl.posteriors.base import Batch, Learner, Posterior, WeightSpace
from bayesrl.posteriors.ensemble import Ensemble
from bayesrl.posteriors.hypermodel import Hypermodel
from bayesrl.posteriors.point import Point

__all__ = ["Batch", "Ensemble", "Hypermodel", "Learner", "Point", "Posterior", "WeightSpace"]
