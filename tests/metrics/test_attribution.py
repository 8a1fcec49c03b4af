"""Relevance against closed forms of linear functions, signal-to-noise and pruning of weights that are known."""

import math

import pytest
import torch
from torch import nn

from bayesrl.likelihoods import Gaussian
from bayesrl.metrics.attribution import (
    Moments,
    ard,
    band,
    by_category,
    derangement,
    feature_snr,
    gradient,
    histograms,
    moments,
    permutation,
    prior_function_mean,
    pruned,
    pruning,
)
from bayesrl.networks import mlp
from bayesrl.posteriors import Ensemble, Hypermodel, Point, Posterior, WeightSpace
from bayesrl.priors import ARD

SEED = torch.Generator().manual_seed


class Linear(Posterior):
    """f(x, 0) = 0 and f(x, 1) = w^T x with w ~ Normal(mean, std^2)."""

    def __init__(self, mean, std):
        super().__init__()
        self.likelihood, self.mean_, self.std = Gaussian(), torch.tensor(mean), torch.tensor(std)

    def index(self, n, generator=None):
        return torch.randn(n, len(self.std), generator=generator)

    def w(self, z):
        return self.mean_ + self.std * z

    def forward(self, z, x):
        value = self.w(z) @ x.T
        return torch.stack([torch.zeros_like(value), value], -1)


class Table(Linear):
    """f(x) of indices of ones is the sum of their entries in a table, (1 + z) times a fixed one."""

    def forward(self, z, x):
        return ((1 + z) * nn.functional.pad(self.mean_, (0, 1)))[:, x].sum(-1)[..., None]


class Known(WeightSpace):
    """Weights ~ Normal(mean, std^2) on a small network."""

    def __init__(self, mean, std, network, prior=None):
        super().__init__()
        self.network, self.likelihood, self.prior = network, Gaussian(), prior
        self.theta, self.std, self.optimizer = nn.Parameter(mean), std, None

    def index(self, n, generator=None):
        return torch.randn(n, len(self.std), generator=generator)

    def weights(self, z):
        return self.theta + self.std * z


@pytest.fixture
def linear():
    """Feature 1 is not looked at, feature 3 is not looked at on average."""
    posterior = Linear([6.0, 0.0, -1.0, 0.0], [0.5, 0.0, 0.1, 0.2])
    x = torch.randn(400, 4, generator=SEED(0)) * torch.tensor([1.0, 1.0, 2.0, 1.0]) + 5
    return posterior, posterior.index(50, SEED(1)), x, torch.ones(400, dtype=torch.int64)


# --- relevance -------------------------------------------------------------------------------------------------------


def test_gradient_of_a_linear_function_is_its_weight_times_the_feature_s_sd(linear):
    posterior, z, x, chosen = linear
    wanted = posterior.w(z).abs() * x.std(0, correction=0)
    assert torch.allclose(gradient(posterior, z, x, chosen), wanted, rtol=1e-5, atol=0)
    assert not gradient(posterior, z, x, torch.zeros_like(chosen)).any()  # the other output is constant


def test_permutation_of_a_linear_function_is_its_weight_times_the_feature_s_distance(linear):
    posterior, z, x, chosen = linear
    other = derangement(len(x), SEED(2))
    relevance = permutation(posterior, z, x, chosen, other)
    distance = (x - x[other]).abs().mean(0)
    assert torch.allclose(relevance, posterior.w(z).abs() * distance, rtol=1e-4, atol=1e-4)
    assert (relevance[:, 1] == 0).all()
    # Of normal features E|x - x'| is 2 sd / sqrt(pi): 400 distances, paired in a cycle, have a standard error of 5 %
    assert torch.allclose(distance, 2 / math.sqrt(math.pi) * x.std(0), rtol=0.2)


def test_the_band_ranks_and_covers(linear):
    """The band of |w|, w ~ Normal(6, 0.5^2), is 6 -+ 1.645 / 2; quantiles of 4,000 draws within 4 errors of 0.07."""
    posterior, _, x, chosen = linear
    z = posterior.index(4000, SEED(3))
    mean, low, high = band(permutation(posterior, z, x[:60], chosen[:60], other := derangement(60, SEED(2))))
    assert mean.argsort(descending=True).tolist() == [0, 2, 3, 1]
    assert low[0] > high[2] > low[2] > high[3] > low[3] > high[1] == 0
    unit = (x[:60] - x[:60][other]).abs().mean(0)[0]
    assert (low[0] / unit).item() == pytest.approx(6 - 1.6449 / 2, abs=0.07)
    assert (high[0] / unit).item() == pytest.approx(6 + 1.6449 / 2, abs=0.07)


def test_band_by_hand():
    draws = torch.arange(101.0)[torch.randperm(101, generator=SEED(0))]
    assert [float(part) for part in band(draws)] == pytest.approx([50, 5, 95])
    assert [float(part) for part in band(draws, 0.5)] == pytest.approx([50, 25, 75])


def test_derangement_is_one_cycle():
    for B in (2, 3, 50):
        other, seen, at = derangement(B, SEED(B)), set(), 0
        for _ in range(B):
            seen.add(at)
            at = int(other[at])
        assert seen == set(range(B)) and at == 0
    assert not torch.equal(derangement(50, SEED(0)), derangement(50, SEED(1)))


def test_categories_by_hand():
    """Inputs show 0, 0, 2 in the first column and nothing, 4, 4 in the second; other = (1, 2, 0)."""
    posterior = Table([1.0, 5.0, 4.0, 7.0, 10.0], [0.0])
    x = torch.tensor([[0, 5], [0, 4], [2, 4]])
    z, chosen, other = torch.tensor([[0.0], [1.0]]), torch.zeros(3, dtype=torch.int64), torch.tensor([1, 2, 0])
    relevance = by_category(posterior, z, x, chosen, other, 5)
    # category 0: |1 - 1| and |1 - 4|; 2: |4 - 1|; 4: |10 - 10| and |10 - 0|; 1 and 3 are not shown
    wanted = torch.tensor([1.5, math.nan, 3, math.nan, 5])
    assert torch.allclose(relevance, torch.stack([wanted, 2 * wanted]), equal_nan=True)
    columns = permutation(posterior, z, x, chosen, other)
    assert torch.allclose(columns[0], torch.tensor([2.0, (10 + 0 + 10) / 3]))


def test_channels_of_images_and_pixels():
    """Only the second channel is looked at, and of it only the upper row."""

    class Image(Linear):
        def forward(self, z, x):
            return ((1 + z)[:, :, None] * x[:, 0, :, 1].sum(1)[:, None]).flatten(2)

    posterior = Image([0.0], [0.0])
    x, z = torch.rand(6, 2, 3, 2, generator=SEED(0)), torch.tensor([[0.0], [2.0]])
    chosen = torch.zeros(6, dtype=torch.int64)
    slopes = gradient(posterior, z, x, chosen)
    assert slopes.shape == (2, 2, 3, 2)
    wanted = torch.zeros(2, 3, 2)
    wanted[0, :, 1] = x.std(0, correction=0)[0, :, 1]
    assert torch.allclose(slopes, torch.stack([wanted, 3 * wanted]))
    relevance = permutation(posterior, z, x, chosen, derangement(6, SEED(1)))
    assert (relevance[:, 0] == 0).all() and (relevance[:, 1] > 0).all()


# --- weights ---------------------------------------------------------------------------------------------------------


def known(std=0.1, seed=0, prior=None):
    torch.manual_seed(seed)
    network = mlp((3,), 2, hidden=[16])
    mean = torch.randn(network.size)
    return Known(mean, torch.full_like(mean, std), network, prior and prior(network))


def test_moments_of_known_weights():
    """1,000 draws: means within 5 standard errors of 0.1 / sqrt(1000), sds within 5 of 1 / sqrt(2000)."""
    posterior = known()
    mean, std = moments(posterior, posterior.index(1000, SEED(0)))
    assert (mean - posterior.theta).abs().max() < 5 * 0.1 / math.sqrt(1000)
    assert (std / 0.1 - 1).abs().max() < 5 / math.sqrt(2000)
    assert mean.shape == std.shape == (posterior.network.size,)


def test_moments_of_few_weights_are_exact():
    torch.manual_seed(0)
    ensemble = Ensemble(mlp((3,), 2, hidden=[8]), members=4)
    mean, std = moments(ensemble, ensemble.index(40, SEED(0)))
    assert torch.allclose(mean, ensemble.theta.mean(0), atol=1e-6)
    assert torch.allclose(std, ensemble.theta.std(0, correction=0), atol=1e-6)
    lone = Point(mlp((3,), 2, hidden=[8]))
    point = moments(lone, lone.index(40))
    assert (point.std == 0).all() and (point.snr[point.mean != 0] == torch.inf).all()


def test_snr_by_hand():
    found = Moments(torch.tensor([-2.0, 0.0, 3.0, 0.0]), torch.tensor([0.5, 0.1, 0.0, 0.0]))
    assert found.snr.tolist() == [4, 0, math.inf, 0]


def test_snr_of_a_feature_is_the_root_mean_square_of_its_weights():
    network = mlp((3,), 2, hidden=[4])
    weights = torch.tensor([[1.0, 0.0, 2.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    snr = torch.full((network.size,), 99.0)
    snr[:12] = weights.flatten()  # [4 units, 3 features] first, and then biases and the head
    assert feature_snr(network.layout, snr).tolist() == [1, 0, 1]


def test_ard_scales_are_the_prior_s():
    posterior = known(prior=ARD)
    with torch.no_grad():
        posterior.prior.log_relevance[:3] = torch.tensor([0.0, math.log(0.1), math.log(2)])
    assert torch.allclose(ard(posterior), torch.tensor([1.0, 0.1, 2.0]))
    assert ard(known()) is None


def test_pruned_weights_by_hand():
    found = Moments(torch.tensor([4.0, 1.0, -3.0, 2.0, 7.0]), torch.tensor([1.0, 0.1, 1.0, 0.5, 0.0]))
    # SNR 4, 10, 3, 4 and a weight that is the same in every draw
    assert pruned(found, 0).tolist() == [4, 1, -3, 2, 7]
    assert pruned(found, 0.25).tolist() == [4, 1, 0, 2, 7]
    assert pruned(found, 0.75).tolist() == [0, 1, 0, 0, 7]
    assert pruned(found, 1).tolist() == [0, 0, 0, 0, 7]


def test_pruning_is_flat_as_long_as_weights_are_zero():
    """Half the weights have mean 0; an sd of 1e-4 moves Q by less than 1e-2 of its sd, and then signal is lost."""
    posterior = known(std=1e-4)
    zero = torch.arange(posterior.network.size) % 2 == 0
    with torch.no_grad():
        posterior.theta[zero] = 0
        posterior.theta[~zero] += posterior.theta[~zero].sign()  # at least 1
    z, x = posterior.index(200, SEED(0)), torch.randn(200, 3, generator=SEED(1))
    curve = pruning(posterior, z, x, shares=[0, 0.25, 0.5, 0.6, 0.8, 1])
    assert (curve.error[:3] < 1e-2).all() and (curve.changed[:3] < 0.02).all()
    assert (curve.error[3:] > 0.1).all()
    wanted = posterior(z, x).mean(0).detach()
    assert curve.error[-1].item() == pytest.approx(float(wanted.square().mean().sqrt() / wanted.std()), rel=1e-2)


def test_masked_outputs_are_not_chosen():
    posterior = known(std=1e-4)
    z, x = posterior.index(5, SEED(0)), torch.randn(50, 3, generator=SEED(1))
    mask = torch.tensor([True, False]).expand(50, 2)
    assert pruning(posterior, z, x, shares=[0.9]).changed > 0
    assert pruning(posterior, z, x, shares=[0.9], mask=mask).changed == 0


def test_frozen_parts_are_averaged_over_draws():
    torch.manual_seed(0)
    ensemble, x = Ensemble(mlp((3,), 2, hidden=[8]), members=12, prior_scale=2.0), torch.randn(5, 3)
    z = torch.arange(12)[:, None]
    wanted = 2 * ensemble.prior(ensemble.prior_theta, x).mean(0)
    assert torch.allclose(prior_function_mean(ensemble, z, x), wanted, atol=1e-5)
    assert prior_function_mean(known(), known().index(30), x).abs().max() < 1e-5
    # Twelve networks with one mean: far from the mean of twelve networks, and not by the prior functions
    assert pruning(ensemble, z, x, shares=[0]).error > 0.2
    lone = Ensemble(mlp((3,), 2, hidden=[8]), members=1)
    assert pruning(lone, z[:1], x, shares=[0]).error < 1e-5


def test_prior_functions_and_what_cancels_them_are_of_the_same_draws():
    """A hypermodel is linear in its index: the mean weights lose nothing, whatever its draws."""
    torch.manual_seed(0)
    posterior, x = Hypermodel(mlp((3,), 2, hidden=[8]), prior_scale=100.0), torch.randn(50, 3)
    curve = pruning(posterior, posterior.index(4), x, shares=[0, 1])
    assert curve.error[0] < 1e-4 < curve.error[1]


def test_histograms_by_hand():
    layout = mlp((1,), 1, hidden=[2]).layout  # two weights and two biases; a head of two and one
    found = histograms(layout, torch.tensor([0.0, 1.0, 2.0, math.inf, 4.0, 4.0, math.nan]), bins=4)
    assert {name: part.counts.tolist() for name, part in found.items()} == {"1": [1, 1, 1, 0], "head": [0, 0, 0, 2]}
    assert found["1"].edges.tolist() == [0, 1, 2, 3, 4]
    assert histograms(layout, torch.full((7,), 3.0), bins=2)["head"].counts.sum() == 3


# --- the door --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: derangement(1), "got 1 inputs, wanted two or more"),
        (lambda: band(torch.zeros(3), 1.0), "got level=1.0"),
        (lambda: pruned(Moments(torch.zeros(2), torch.ones(2)), 1.5), "got share=1.5"),
        (lambda: gradient(Linear([0.0], [0.0]), None, torch.zeros(2, 1).long(), None), "got inputs torch.int64"),
    ],
)
def test_errors_are_one_sentence(call, words):
    with pytest.raises(ValueError, match=r"^got .*, wanted ") as caught:
        call()
    assert words in str(caught.value)
