"""Scores, coverage and calibration against closed forms, and the coverage of a forecaster that is right."""

import math
import re

import numpy as np
import pytest
import torch

from bayesrl.metrics.calibration import (
    auroc,
    brier_score,
    coverage,
    crps,
    expected_calibration_error,
    expected_entropy,
    gaussian_crps,
    gaussian_interval,
    gaussian_nll,
    gaussian_pit,
    joint_nll,
    mixture_crps,
    mixture_interval,
    mixture_nll,
    mutual_information,
    pit,
    predictive_entropy,
    quantile_ece,
    quantile_reliability,
    reliability,
    sharpness,
)
from bayesrl.metrics.return_calibration import ReturnCalibration


@pytest.mark.parametrize(("level", "quantile"), [(0.9, 1.6449), (0.5, 0.6745)])
@pytest.mark.parametrize("noise", [0.0, 0.75])
def test_a_mixture_of_normal_draws_is_normal(level, quantile, noise):
    p = (torch.arange(1000) + 0.5) / 1000
    draws = 3 + 2 * torch.special.ndtri(p)[:, None]
    low, high = mixture_interval(draws, noise, level)
    half = quantile * (4 + noise**2) ** 0.5
    assert low.item() == pytest.approx(3 - half, abs=0.03) and high.item() == pytest.approx(3 + half, abs=0.03)


def test_a_calibrated_forecaster_is_covered_nine_times_in_ten():
    n, generator = 1000, torch.Generator().manual_seed(0)
    calibration = ReturnCalibration(1, window=n)
    for _ in range(n):
        calibration.predict(torch.tensor([0]), torch.randn(100, 1, generator=generator))
        calibration.score(0, float(torch.randn((), generator=generator)) * 2**0.5, truncated=False)
    # The return spreads by 1 beyond the draws; that share is learned.
    assert calibration.noise_std.item() == pytest.approx(1, abs=0.35)
    assert abs(calibration.coverage - 0.9) < 4 * math.sqrt(0.9 * 0.1 / n)
    assert calibration.ece < 0.31 / n**0.5 + 0.03  # what calibrated forecasts show, and the learning of the noise


def test_a_truncated_episode_is_left_out_and_counted():
    calibration = ReturnCalibration(2)
    calibration.predict(torch.tensor([0, 1]), torch.zeros(5, 2))
    calibration.score(0, 3.0, truncated=True)
    assert calibration.counts.tolist() == [0, 1] and math.isnan(calibration.coverage)


def test_an_episode_is_scored_by_the_band_of_before():
    calibration = ReturnCalibration(1)
    for _ in range(2):
        calibration.predict(torch.tensor([0]), torch.zeros(5, 1))
        calibration.score(0, 2.0, truncated=False)
    # First a band of no width that misses; then noise 2, learned from the miss, and a band of +-3.3 that holds.
    # Phi(2 / 2) = 0.841 lies in the bin around 0.825.
    assert calibration.scored.tolist() == pytest.approx([0.975, 0.825])
    assert calibration.coverage == 0.5 and calibration.noise_std == 2
    assert calibration.error == pytest.approx((2, 2**0.5))  # predicted 0, and then 2


def test_an_episode_nobody_predicted_is_not_scored():
    calibration = ReturnCalibration(1)
    calibration.score(0, 1.0, truncated=False)
    assert calibration.counts.tolist() == [0, 0]


# --- scores ----------------------------------------------------------------------------------------------------------


def expectation(score):
    """E score(y) of y ~ Normal(0, 1) by Gauss-Hermite quadrature: exact for polynomials, to 1e-6 for a smooth score."""
    y, weight = (torch.from_numpy(x) for x in np.polynomial.hermite_e.hermegauss(100))
    return ((weight / math.sqrt(2 * math.pi)) * score(y)).sum()


def strata(n):
    """n equally likely values of Normal(0, 1): shares and means over them are exact to about 1 / n."""
    return torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)


ZERO = torch.zeros((), dtype=torch.float64)
HALF_STD_ECE = 0.102416  # integral of |Phi(z_p / 2) - p| dp = (atan(2) - atan(1/2)) / (2 pi)


@pytest.mark.parametrize(
    ("std", "nll", "crps_", "covered", "ece"),
    [
        (1.0, 1.418939, 0.564190, 0.9, 0.0),
        (0.5, 2.225791, 0.609967, 0.58917, HALF_STD_ECE),
        (2.0, 1.737086, 0.655745, 0.99900, HALF_STD_ECE),
    ],
)
def test_a_gaussian_forecast_of_a_standard_normal_scores_as_in_closed_form(std, nll, crps_, covered, ece):
    """(1 / s^2 + log(2 pi s^2)) / 2; sqrt(2 (1 + s^2) / pi) - s / sqrt(pi); 2 Phi(1.645 s) - 1; shares to 1 / n."""
    assert expectation(lambda y: gaussian_nll(ZERO, std, y)).item() == pytest.approx(nll, abs=2e-6)
    assert expectation(lambda y: gaussian_crps(ZERO, std, y)).item() == pytest.approx(crps_, abs=2e-6)
    y = strata(100_000)
    interval = gaussian_interval(torch.zeros_like(y), std)
    assert coverage(interval, y).item() == pytest.approx(covered, abs=3e-5)
    assert sharpness(interval).item() == pytest.approx(2 * 1.644854 * std, abs=1e-5)
    assert quantile_ece(gaussian_pit(ZERO, std, y), levels=10_000).item() == pytest.approx(ece, abs=3e-5)


def test_crps_is_the_integral_of_the_squared_error_of_the_distribution_function():
    """On a grid of 4e-4 over +-12 the integral is exact to 1e-3 at the step, hence 4e-4."""
    x = torch.linspace(-12, 12, 60_001, dtype=torch.float64)
    mean, std = torch.tensor([-1.0, 0.5, 3.0]).double(), torch.tensor([0.3, 1.0, 2.0]).double()
    y = torch.tensor(0.7, dtype=torch.float64)
    step = (x >= y).double()
    for i in range(3):
        integral = torch.trapezoid((gaussian_pit(mean[i], std[i], x) - step).square(), x)
        assert gaussian_crps(mean[i], std[i], y).item() == pytest.approx(integral.item(), abs=4e-4)
    distribution = gaussian_pit(mean[:, None].expand(-1, len(x)), std[:, None].expand(-1, len(x)), x).mean(0)
    integral = torch.trapezoid((distribution - step).square(), x)
    assert mixture_crps(mean, std, y).item() == pytest.approx(integral.item(), abs=4e-4)


def test_a_mixture_of_equal_components_scores_as_one():
    y, mean = strata(9), torch.linspace(-1, 1, 9, dtype=torch.float64)
    several = mean.expand(4, 9)
    assert torch.allclose(mixture_nll(-gaussian_nll(several, 0.7, y)), gaussian_nll(mean, 0.7, y))
    assert torch.allclose(mixture_crps(several, 0.7, y), gaussian_crps(mean, 0.7, y))


def test_draws_of_a_mean_widen_the_predictive():
    """Means ~ Normal(0, 1) and unit noise predict Normal(0, 2); 2,000 strata stand for all draws, to 0.002."""
    y = torch.tensor([-1.5, 0.0, 2.0], dtype=torch.float64)
    draws = strata(2000)[:, None].expand(-1, 3)
    nll = mixture_nll(-gaussian_nll(draws, 1.0, y))
    assert torch.allclose(nll, gaussian_nll(ZERO, math.sqrt(2), y), atol=2e-3)


def test_the_mixture_nll_of_few_draws_is_too_high_by_the_variance_of_the_likelihood():
    """p ~ Uniform(0.5, 1.5), 10 draws: 1 / 240 to first order; 4 standard errors of 40,000 repetitions are 0.0018."""
    p = torch.rand(10, 40_000, generator=torch.Generator().manual_seed(0)) + 0.5
    assert mixture_nll(p.log()).mean().item() == pytest.approx(1 / 240, abs=0.0018)


@pytest.mark.parametrize(("tau", "joint", "marginals"), [(1, 1.46659, 1.46659), (10, 4.98402, 14.66594)])
def test_joint_nll_rewards_what_marginals_do_not_know(tau, joint, marginals):
    """y_t = w + e_t, w ~ N(0, 1), Var e = 0.1: against the closed Gaussian, data set by data set and on average.

    2,000 strata of w stand for all draws, to 0.02 where |w| < 2.5. Averages over 500 data sets within 4 standard
    errors: 0.4 jointly, 1.2 of the sum; at tau = 10 they are 9.7 apart.
    """
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(500, 1, generator=generator, dtype=torch.float64)
    y = w + 0.1**0.5 * torch.randn(500, tau, generator=generator, dtype=torch.float64)
    covariance = torch.ones(tau, tau).double() + 0.1 * torch.eye(tau).double()
    closed = torch.distributions.MultivariateNormal(torch.zeros(tau).double(), covariance)
    assert closed.entropy().item() == pytest.approx(joint, abs=1e-5)
    likelihood = -gaussian_nll(strata(2000)[:, None, None].expand(-1, 500, tau), 0.1**0.5, y)
    scored, total = joint_nll(likelihood), mixture_nll(likelihood).sum(-1)
    assert (scored + closed.log_prob(y))[w[:, 0].abs() < 2.5].abs().max() < 0.02
    assert scored.mean().item() == pytest.approx(joint, abs=4 * math.sqrt(tau / 2 / 500))
    assert total.mean().item() == pytest.approx(marginals, abs=4 * total.std().item() / math.sqrt(500))
    assert total.std() / math.sqrt(500) < 0.3


def test_sample_crps_is_its_definition_over_pairs():
    draws, y = torch.randn(7, 5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    pairs = (draws[:, None] - draws).abs().sum((0, 1)) / (7 * 6)
    assert torch.allclose(crps(draws, y), (draws - y).abs().mean(0) - pairs / 2)


@pytest.mark.parametrize(("n", "std"), [(2, 0.5), (2, 2.0), (20, 1.0)])
def test_sample_crps_is_unbiased_from_two_draws_on(n, std):
    """Within 4 standard errors of 100,000 targets, about 0.008; a plain estimate of 2 draws is off by s / sqrt(4 pi)"""
    generator = torch.Generator().manual_seed(1)
    y, draws = torch.randn(100_000, generator=generator), std * torch.randn(n, 100_000, generator=generator)
    scored = crps(draws, y)
    exact = math.sqrt(2 * (1 + std**2) / math.pi) - std / math.sqrt(math.pi)
    error = scored.std().item() / math.sqrt(100_000)
    assert error < 0.004 and scored.mean().item() == pytest.approx(exact, abs=4 * error)


def test_brier_scores_the_sure_and_the_uniform():
    probs = torch.tensor([[1.0, 0, 0, 0], [1, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]])
    assert brier_score(probs, torch.tensor([0, 2, 1])).tolist() == [0, 2, 0.75]


# --- calibration -----------------------------------------------------------------------------------------------------


def test_pit_by_rank_is_uniform_on_midpoints_where_truth_and_draws_are_exchangeable():
    """10 ranks of share 0.1 each, within 4 standard errors of 20,000 targets; with levels = n + 1 the ECE is near 0."""
    generator = torch.Generator().manual_seed(2)
    values = pit(torch.randn(9, 20_000, generator=generator), torch.randn(20_000, generator=generator))
    midpoints = (torch.arange(10) + 0.5) / 10
    shares = torch.isclose(values[:, None], midpoints).float().mean(0)
    assert shares.sum() == pytest.approx(1, abs=1e-5)
    assert ((shares - 0.1).abs() < 4 * math.sqrt(0.09 / 20_000)).all()
    assert quantile_ece(values, levels=10) < 4 * 0.5 / math.sqrt(20_000)


def test_ties_count_half():
    assert pit(torch.tensor([1.0, 2.0, 2.0, 5.0]), torch.tensor(2.0)) == (1 + 1 + 0.5) / 5
    level, observed = quantile_reliability(torch.tensor([0.25, 0.75]), levels=2)
    assert level.tolist() == [0.25, 0.75] and observed.tolist() == [0.25, 0.75]


def test_quantile_ece_by_chance_is_a_mean_absolute_brownian_bridge():
    """sqrt(2 / pi) pi / 8 = 0.3133 over sqrt(B): 400 repetitions of B = 1,000 have a standard error of 0.006."""
    values = torch.rand(400, 1000, generator=torch.Generator().manual_seed(3))
    mean = torch.stack([quantile_ece(row) for row in values]).mean().item()
    assert mean * math.sqrt(1000) == pytest.approx(0.3133, abs=0.025)


def test_quantile_ece_at_worst_is_a_half():
    assert quantile_ece(torch.zeros(5)).item() == pytest.approx(0.5)


def binary(confidence, right):
    """Predictions of class 1 with given confidences [B], and labels that make them right or not [B] bool."""
    return torch.stack([1 - confidence, confidence], -1), right.long()


def test_reliability_and_ece_by_hand():
    probs, label = binary(torch.tensor([0.6, 0.6, 0.9, 0.9, 0.9]), torch.tensor([True, False, True, True, False]))
    confidence, accuracy, counts = reliability(probs, label, bins=4)
    assert counts.tolist() == [0, 0, 2, 3]
    assert confidence[:2].isnan().all() and accuracy[:2].isnan().all()
    assert torch.allclose(confidence[2:], torch.tensor([0.6, 0.9])) and torch.allclose(
        accuracy[2:], torch.tensor([1 / 2, 2 / 3])
    )
    expected = (2 * 0.1 + 3 * (0.9 - 2 / 3)) / 5
    for equal_mass in (False, True):
        ece = expected_calibration_error(probs, label, bins=2 if equal_mass else 4, equal_mass=equal_mass)
        assert ece.item() == pytest.approx(expected if not equal_mass else abs(3.9 - 3) / 5, abs=1e-6)


@pytest.mark.parametrize("equal_mass", [False, True])
def test_ece_of_calibrated_and_of_overconfident_classes(equal_mass):
    """Right with probability c: under 2 standard errors of a bin, 0.03; right with c - 0.2: 0.2 within that."""
    generator = torch.Generator().manual_seed(4)
    confidence = 0.7 + 0.3 * torch.rand(20_000, generator=generator)
    chance = torch.rand(20_000, generator=generator)
    assert expected_calibration_error(*binary(confidence, chance < confidence), equal_mass=equal_mass) < 0.03
    ece = expected_calibration_error(*binary(confidence, chance < confidence - 0.2), equal_mass=equal_mass)
    assert ece.item() == pytest.approx(0.2, abs=0.03)


def test_bins_of_equal_mass_hold_as_many_and_keep_the_equal_together():
    confidence = 0.5 + 0.5 * torch.rand(1000, generator=torch.Generator().manual_seed(5))
    probs, label = binary(confidence, torch.ones(1000, dtype=torch.bool))
    assert reliability(probs, label, bins=10, equal_mass=True).counts.tolist() == [100] * 10
    probs, label = binary(torch.full((1000,), 0.8), torch.arange(1000) % 5 > 0)
    assert reliability(probs, label, bins=10, equal_mass=True).counts.max() == 1000
    assert expected_calibration_error(probs, label, bins=10, equal_mass=True).item() == pytest.approx(0, abs=1e-5)
    assert reliability(probs, label, bins=1, equal_mass=True).counts.tolist() == [1000]


# --- what is epistemic -----------------------------------------------------------------------------------------------


def test_entropy_is_epistemic_where_draws_disagree_and_aleatoric_where_all_are_unsure():
    sure, unsure = torch.eye(2)[:, None], torch.full((2, 1, 2), 0.5)
    probs = torch.cat([sure, unsure], 1)  # [n, B, C]: input 0 is disputed, input 1 is a fair coin
    log2 = math.log(2)
    assert predictive_entropy(probs).tolist() == pytest.approx([log2, log2])
    assert expected_entropy(probs).tolist() == pytest.approx([0, log2])
    assert mutual_information(probs).tolist() == pytest.approx([log2, 0])


def test_auroc_of_shifted_normals_and_ties():
    """Phi(d / sqrt(2)): 2,000 strata give pairs to 1e-3."""
    scores = strata(2000)
    for shift in (0.0, 1.0, -2.0):
        exact = torch.special.ndtr(torch.tensor(shift / math.sqrt(2))).item()
        assert auroc(scores, scores + shift).item() == pytest.approx(exact, abs=1e-3)
    inside, outside = torch.tensor([1.0, 2.0, 2.0]), torch.tensor([2.0, 3.0, math.inf, 0.0])
    pairs = (outside[:, None] > inside).double() + 0.5 * (outside[:, None] == inside).double()
    assert auroc(inside, outside).item() == pytest.approx(pairs.mean().item())
    assert auroc(torch.ones(3), torch.ones(4)) == 0.5


# --- the door --------------------------------------------------------------------------------------------------------

NAN, ROW, TABLE = torch.tensor([math.nan, 1.0]), torch.zeros(3), torch.zeros(4, 3)
PROBS = torch.full((3, 2), 0.5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: crps(TABLE, torch.zeros(4)), "got y [4], wanted [3]"),
        (lambda: crps(TABLE[:1], ROW), "at least 2"),
        (lambda: crps(ROW[0], ROW[0]), "at least 1 dimensions"),
        (lambda: pit(TABLE, torch.zeros(3, 1)), "got y [3, 1], wanted [3]"),
        (lambda: pit(torch.zeros(0, 3), ROW), "got draws [0, 3]"),
        (lambda: pit(torch.stack([NAN, NAN]), torch.zeros(2)), "got draws with 2 values NaN"),
        (lambda: pit(TABLE.long(), ROW.long()), "int64"),
        (lambda: gaussian_nll(ROW, 1.0, NAN), "got y [2], wanted [3]"),
        (lambda: gaussian_nll(ROW, 1.0, torch.zeros(3, 1)), "got mean [3], wanted [1]"),
        (lambda: gaussian_crps(ROW, 0.0, ROW), "positive"),
        (lambda: gaussian_crps(ROW, math.nan, ROW), "got std with 1 values NaN"),
        (lambda: mixture_crps(TABLE, 1.0, TABLE), "got y [4, 3], wanted [3]"),
        (lambda: gaussian_interval(ROW, 1.0, level=1.0), "level=1.0"),
        (lambda: mixture_nll(NAN), "NaN"),
        (lambda: joint_nll(ROW), "at least 2 dimensions"),
        (lambda: coverage(TABLE, ROW), "got interval [4, 3], wanted [2, 3]"),
        (lambda: sharpness(TABLE), "wanted [2, 3]"),
        (lambda: quantile_ece(torch.tensor([0.5, 1.5])), "wanted levels > 0"),
        (lambda: quantile_ece(ROW, levels=0), "levels=0"),
        (lambda: brier_score(PROBS, torch.zeros(2).long()), "got label [2], wanted [3]"),
        (lambda: brier_score(PROBS, torch.full((3,), 2)), "0..C - 1"),
        (lambda: reliability(PROBS, torch.zeros(3)), "float32"),
        (lambda: reliability(PROBS, torch.zeros(3).long(), bins=0), "bins=0"),
        (lambda: expected_calibration_error(2 * PROBS, torch.zeros(3).long()), "sum to 1"),
        (lambda: mutual_information(torch.randn(5, 3, 2)), "softmax"),
        (lambda: auroc(ROW, torch.zeros(0)), "got outside [0]"),
    ],
)  # fmt: skip
def test_what_does_not_fit_gets_one_sentence(call, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        call()
