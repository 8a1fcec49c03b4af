"""Intervals against exact normal quantiles, and the coverage of a forecaster that is right."""

import math

import pytest
import torch

from bayesrl.calibration import ReturnCalibration, mixture_interval


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
    assert calibration.hits[:2].tolist() == [0, 1] and calibration.noise_std == 2


def test_an_episode_nobody_predicted_is_not_scored():
    calibration = ReturnCalibration(1)
    calibration.score(0, 1.0, truncated=False)
    assert calibration.counts.tolist() == [0, 0]
