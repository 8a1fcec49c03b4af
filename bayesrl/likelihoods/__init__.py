"""Likelihoods: map a network's output to the distribution of its target."""

from bayesrl.likelihoods.base import Likelihood, Prediction
from bayesrl.likelihoods.discrete import Categorical, Histogram
from bayesrl.likelihoods.flag import WithFlag
from bayesrl.likelihoods.gaussian import Gaussian, Heteroscedastic, LearnedGaussian
from bayesrl.likelihoods.student_t import StudentT

__all__ = [
    "Categorical",
    "Gaussian",
    "Heteroscedastic",
    "Histogram",
    "LearnedGaussian",
    "Likelihood",
    "Prediction",
    "StudentT",
    "WithFlag",
]
