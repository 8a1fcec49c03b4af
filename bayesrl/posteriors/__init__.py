"""Distributions over functions, one method in each file, in one order: construction, index, forward, learn."""

from bayesrl.posteriors.base import Posterior
from bayesrl.posteriors.dropout import ConcreteDropout, Dropout
from bayesrl.posteriors.ensemble import Ensemble
from bayesrl.posteriors.full_rank import FullRank
from bayesrl.posteriors.guided import Guided
from bayesrl.posteriors.hypermodel import Hypermodel, LinearHypermodel
from bayesrl.posteriors.laplace import Laplace, LaplaceDiagonal
from bayesrl.posteriors.last_layer import LastLayer
from bayesrl.posteriors.learner import Learner, WeightSpace
from bayesrl.posteriors.low_rank import LowRank
from bayesrl.posteriors.mean_field import MeanField
from bayesrl.posteriors.nuts import NUTS
from bayesrl.posteriors.point import Point
from bayesrl.posteriors.sgmcmc import SGMCMC
from bayesrl.posteriors.types import Batch

__all__ = [
    "NUTS",
    "SGMCMC",
    "Batch",
    "ConcreteDropout",
    "Dropout",
    "Ensemble",
    "FullRank",
    "Guided",
    "Hypermodel",
    "Laplace",
    "LaplaceDiagonal",
    "LastLayer",
    "Learner",
    "LinearHypermodel",
    "LowRank",
    "MeanField",
    "Point",
    "Posterior",
    "WeightSpace",
]
