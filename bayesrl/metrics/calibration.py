"""Scores and calibration of predictions, as pure functions of tensors.

    proper scores      NLL, joint NLL, CRPS, Brier             minimal in expectation for the true distribution
    calibration        PIT values, coverage, reliability, ECE  events of probability p occur with frequency p
    sharpness          mean width of an interval               to be compared at equal coverage
    decomposition      entropies, mutual information, AUROC    the epistemic part, and whether it detects new inputs

The mixture NLL is that of the Bayesian predictive; the joint NLL over tau inputs also rewards correct correlations
(Osband et al., The Neural Testbed, 2022; Wen et al., From Predictions to Decisions, 2022). Proper scores: Gneiting and
Raftery (Strictly Proper Scoring Rules, Prediction, and Estimation, 2007). `bayesrl.metrics.diagnostics` tests the
inference of the posterior itself.

Shapes: n draws, B batch, C classes, tau inputs that are scored jointly; * is any shape. Where shapes must fit, each is
a suffix of the largest. Values are in units of the targets, scores of densities and entropies in nats. Draws that are
compared with targets are draws of the target, including observation noise.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bayesrl.metrics.checks import check_labels, check_probabilities, check_shape, check_values, positive_std

# --- intervals -------------------------------------------------------------------------------------------------------


def mixture_interval(draws: Tensor, noise: Tensor | float, level: float = 0.9) -> Tensor:
    """Return the central interval of an equal mixture of Normal(draw, noise^2): draws [n, *] -> [2, *]."""
    return mixture_quantiles(draws, noise, draws.new_tensor([(1 - level) / 2, (1 + level) / 2]))


def mixture_quantiles(draws: Tensor, noise: Tensor | float, levels: Tensor) -> Tensor:
    """Return quantiles of an equal mixture of Normal(draw, noise^2): draws [n, *], levels [k] -> [k, *].

    Each normal is represented by 40 equally likely values, so that the result is approximate.
    """
    p = (torch.arange(40, device=draws.device, dtype=draws.dtype) + 0.5) / 40
    deviations = torch.special.ndtri(p).view(-1, *(1 for _ in draws.shape)) * noise
    return (draws + deviations).flatten(0, 1).quantile(levels.to(draws), 0)


def gaussian_interval(mean: Tensor, std: Tensor | float, level: float = 0.9) -> Tensor:
    """Return the central interval of Normal(mean, std^2): mean [*], std [*] -> [2, *]."""
    if not 0 < level < 1:
        raise ValueError(f"got level={level}, wanted a probability between 0 and 1")
    std = positive_std(std, mean)
    half = std * torch.special.ndtri(torch.full_like(mean, (1 + level) / 2))
    return torch.stack([mean - half, mean + half])


def coverage(interval: Tensor, y: Tensor) -> Tensor:
    """Compute the share of targets inside their interval: interval [2, *], y [*] -> 0-d."""
    check_values("interval", interval, dims=1, finite=False)
    check_values("y", y)
    check_shape("interval", interval.shape, (2, *y.shape))
    return ((interval[0] <= y) & (y <= interval[1])).to(y.dtype).mean()


def sharpness(interval: Tensor) -> Tensor:
    """Compute the mean width of intervals: [2, *] -> 0-d."""
    check_values("interval", interval, dims=1, finite=False)
    check_shape("interval", interval.shape, (2, *interval.shape[1:]))
    return (interval[1] - interval[0]).mean()


# --- proper scores ---------------------------------------------------------------------------------------------------


def gaussian_nll(mean: Tensor, std: Tensor | float, y: Tensor) -> Tensor:
    """Compute -log Normal(y; mean, std^2): shapes that fit -> [*], the largest."""
    std = positive_std(std, mean, y)
    return 0.5 * ((y - mean) / std).square() + std.log() + 0.5 * math.log(2 * math.pi)


def mixture_nll(log_likelihood: Tensor) -> Tensor:
    """Compute the NLL of the predictive mixture, -log mean_i p(y | draw i): log p(y | draw) [n, *] -> [*].

    The mean over samples of n draws exceeds the NLL of the posterior predictive by var(p) / (2 n mean(p)^2), to first
    order.
    """
    check_values("log_likelihood", log_likelihood, dims=1, finite=False)
    return math.log(len(log_likelihood)) - log_likelihood.logsumexp(0)


def joint_nll(log_likelihood: Tensor) -> Tensor:
    """Compute the joint NLL of tau inputs, -log mean_i prod_t p(y_t | draw i): log p [n, *, tau] -> [*].

    The tau inputs share draws, so that correlations between them count. Divide by tau for nats per input.
    """
    check_values("log_likelihood", log_likelihood, dims=2, finite=False)
    return mixture_nll(log_likelihood.sum(-1))


def gaussian_crps(mean: Tensor, std: Tensor | float, y: Tensor) -> Tensor:
    """Compute the CRPS of Normal(mean, std^2): shapes that fit -> [*], the largest.

    It is std (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)) at z = (y - mean) / std (Gneiting et al., Calibrated
    Probabilistic Forecasting Using Ensemble Model Output Statistics and Minimum CRPS Estimation, 2005).
    """
    std = positive_std(std, mean, y)
    return _expected_distance(y - mean, std) - std / math.sqrt(math.pi)


def mixture_crps(mean: Tensor, std: Tensor | float, y: Tensor) -> Tensor:
    """Compute the CRPS of an equal mixture of Normal(mean_i, std_i^2): mean [n, *], std that fits, y [*] -> [*].

    It is E|X - y| - E|X - X'| / 2 in closed form, of n^2 terms (Grimit et al., The Continuous Ranked Probability Score
    for Circular Variables and its Application to Mesoscale Forecast Ensemble Verification, 2006).
    """
    check_values("mean", mean, dims=1)
    check_shape("y", y.shape, mean.shape[1:])
    std = positive_std(std, mean, y)
    variance = std.expand_as(mean).square()
    between = _expected_distance(mean - mean[:, None], (variance + variance[:, None]).sqrt())
    return _expected_distance(y - mean, std).mean(0) - between.mean((0, 1)) / 2


def crps(draws: Tensor, y: Tensor) -> Tensor:
    """Estimate the CRPS, E|X - y| - E|X - X'| / 2, without bias ("fair"): draws [n, *], y [*] -> [*].

    The second mean is over pairs of different draws, computed from the sorted draws (Ferro, Fair Scores for Ensemble
    Forecasts, 2014). The estimate at a single target may be negative.
    """
    check_values("draws", draws, dims=1)
    check_values("y", y)
    check_shape("y", y.shape, draws.shape[1:])
    n = len(draws)
    if n < 2:
        raise ValueError(f"got {n} draw, wanted at least 2: the distance between draws is estimated")
    error = draws - y
    weight = 2 * torch.arange(n, device=y.device, dtype=y.dtype) + 1 - n
    between = (weight.view(-1, *(1 for _ in y.shape)) * error.sort(0).values).sum(0) / (n * (n - 1))
    return error.abs().mean(0) - between


def brier_score(probs: Tensor, label: Tensor) -> Tensor:
    """Compute sum_c (p_c - 1[c = label])^2, from 0 to 2: probs [B, C], label [B] int64 -> [B] (Brier, 1950)."""
    check_labels(probs, label)
    return (probs - nn.functional.one_hot(label, probs.shape[-1])).square().sum(-1)


# --- calibration of quantiles ----------------------------------------------------------------------------------------


def gaussian_pit(mean: Tensor, std: Tensor | float, y: Tensor) -> Tensor:
    """Compute the probability integral transform Phi((y - mean) / std): shapes that fit -> [*], the largest.

    PIT values are uniform for a calibrated prediction. Those of a mixture are the averages over its components.
    """
    std = positive_std(std, mean, y)
    return torch.special.ndtr((y - mean) / std)


def pit(draws: Tensor, y: Tensor) -> Tensor:
    """Compute PIT values from the rank of the target among draws: draws [n, *], y [*] -> [*].

    A value is (draws below + ties / 2 + 1/2) / (n + 1), uniform on the n + 1 midpoints for a calibrated prediction.
    """
    check_values("draws", draws, dims=1)
    check_values("y", y)
    check_shape("y", y.shape, draws.shape[1:])
    rank = ((draws < y).to(y.dtype) + (draws <= y).to(y.dtype)).sum(0) / 2
    return (rank + 0.5) / (len(draws) + 1)


class QuantileReliability(NamedTuple):
    """Points of a reliability diagram for quantiles, on the diagonal for a calibrated prediction.

    Attributes:
        level: nominal probabilities, [levels].
        observed: share of targets below the predicted quantile of that level, [levels].
    """

    level: Tensor
    observed: Tensor


def quantile_reliability(values: Tensor, levels: int = 100) -> QuantileReliability:
    """Compute the shares of PIT values [*] below the levels (k + 1/2) / levels; a value at a level counts half.

    For PIT values from ranks among n draws use levels = n + 1.
    """
    check_values("values", values)
    if levels < 1 or values.min() < 0 or values.max() > 1:
        low, high = float(values.min()), float(values.max())
        raise ValueError(f"got levels={levels} and values in [{low:g}, {high:g}], wanted levels > 0, values in [0, 1]")
    level = (torch.arange(levels, device=values.device, dtype=values.dtype) + 0.5) / levels
    return QuantileReliability(level, _share_below(values, level))


def quantile_ece(values: Tensor, levels: int = 100) -> Tensor:
    """Compute the mean over levels of |share of PIT values below - level|: PIT values [*] -> 0-d.

    Its expectation is about 0.31 / sqrt(B) for B independent calibrated predictions (a mean absolute Brownian bridge);
    its maximum is 1/2 (Chung et al., Uncertainty Toolbox, 2021).
    """
    level, observed = quantile_reliability(values, levels)
    return (observed - level).abs().mean()


# --- calibration of classes ------------------------------------------------------------------------------------------


class Reliability(NamedTuple):
    """Points of a reliability diagram for classes, on the diagonal for calibrated ones; NaN in empty bins.

    Attributes:
        confidence: mean probability of the predicted class, [bins].
        accuracy: share of correct predictions, [bins].
        counts: number of inputs in each bin, [bins] int64.
    """

    confidence: Tensor
    accuracy: Tensor
    counts: Tensor


def reliability(probs: Tensor, label: Tensor, bins: int = 15, equal_mass: bool = False) -> Reliability:
    """Compute confidence and accuracy of the most probable class.

    Arguments:
        probs: class probabilities, [B, C].
        label: class labels, [B] int64.
        bins: number of bins (lower, upper].
        equal_mass: whether bins are between quantiles of the confidences instead of equally wide on [0, 1].
    """
    check_labels(probs, label)
    if bins < 1:
        raise ValueError(f"got bins={bins}, wanted at least 1")
    confidence, predicted = probs.max(-1)
    edges = torch.arange(1, bins, device=probs.device, dtype=probs.dtype) / bins
    index = torch.bucketize(confidence, confidence.quantile(edges) if equal_mass else edges)
    counts = torch.bincount(index, minlength=bins)
    sums = [torch.bincount(index, x.to(probs.dtype), minlength=bins) for x in (confidence, predicted == label)]
    return Reliability(sums[0] / counts, sums[1] / counts, counts)


def expected_calibration_error(probs: Tensor, label: Tensor, bins: int = 15, equal_mass: bool = False) -> Tensor:
    """Compute the mean |accuracy - confidence| over bins, weighted by counts: probs [B, C], label [B] -> 0-d.

    Its expectation for calibrated classes is positive and grows with the number of bins (Guo et al., On Calibration of
    Modern Neural Networks, 2017).
    """
    confidence, accuracy, counts = reliability(probs, label, bins, equal_mass)
    return ((accuracy - confidence).abs() * counts).nansum() / len(label)


# --- decomposition ---------------------------------------------------------------------------------------------------


def predictive_entropy(probs: Tensor) -> Tensor:
    """Compute the total uncertainty H(mean_i p_i) in nats: probs [n, *, C] -> [*]."""
    check_probabilities(probs)
    return torch.special.entr(probs.mean(0)).sum(-1)


def expected_entropy(probs: Tensor) -> Tensor:
    """Compute the aleatoric uncertainty mean_i H(p_i) in nats: probs [n, *, C] -> [*]."""
    check_probabilities(probs)
    return torch.special.entr(probs).sum(-1).mean(0)


def mutual_information(probs: Tensor) -> Tensor:
    """Compute the epistemic uncertainty in nats, predictive minus expected entropy: probs [n, *, C] -> [*].

    It is the mutual information of label and draw, from 0 to log min(n, C), or BALD (Houlsby et al., Bayesian Active
    Learning for Classification, 2011).
    """
    return predictive_entropy(probs) - expected_entropy(probs)


def auroc(inside: Tensor, outside: Tensor) -> Tensor:
    """Compute the area under the ROC curve of a detector of inputs outside the data; 0.5 by chance.

    It is P(score outside > score inside) + P(equal) / 2, by ranks (Hanley and McNeil, 1982).

    Arguments:
        inside: scores of inputs like the data, [B].
        outside: scores of inputs unlike the data, [B'].

    Returns:
        The area, 0-d.
    """
    check_values("inside", inside, finite=False)
    check_values("outside", outside, finite=False)
    return _share_below(inside, outside.flatten()).mean()


def _share_below(values: Tensor, x: Tensor) -> Tensor:
    """Compute the share of values [*] below each x [k], where equal values count half: -> [k]."""
    ordered = values.flatten().sort().values
    below = torch.searchsorted(ordered, x) + torch.searchsorted(ordered, x, right=True)
    return below.to(values.dtype) / (2 * len(ordered))


def _expected_distance(error: Tensor, std: Tensor) -> Tensor:
    """Return E|X| for X ~ Normal(error, std^2)."""
    z = error / std
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
    return std * (z * (2 * torch.special.ndtr(z) - 1) + 2 * density)
