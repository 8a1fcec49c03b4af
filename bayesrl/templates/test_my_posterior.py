"""MyPosterior passes the tests of every posterior, and its own."""

import pytest
import torch
from bayesrl.networks import mlp
from bayesrl.testing import PosteriorContract

from my_posterior import MyPosterior


class TestMyPosterior(PosteriorContract):
    def make(self, network):
        return MyPosterior(network)


def test_the_scale_is_the_standard_deviation():
    posterior = MyPosterior(mlp((3,), 2), scale=0.5)
    deviation = posterior.weights(posterior.index(100)) - posterior.theta
    assert abs(deviation.std().item() - 0.5) < 0.01


def test_a_scale_of_zero_gives_one_function():
    posterior, x = MyPosterior(mlp((3,), 2), scale=0.0), torch.randn(7, 3)
    assert torch.equal(*posterior(posterior.index(2), x))


def test_a_negative_scale_is_refused():
    with pytest.raises(ValueError, match="wanted 0 or more"):
        MyPosterior(mlp((3,), 2), scale=-1.0)
