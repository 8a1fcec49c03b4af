"""Are the uncertainties right? Scores, coverage and reliability of predictions, as pure functions of tensors.

    proper scores      NLL, joint NLL, CRPS, Brier             lowest, in expectation, for the true distribution
    calibration        PIT values, coverage, reliability, ECE  do events of probability p happen a share p of the time?
    sharpness          mean width of an interval               to be read beside coverage
    decomposition      entropies, mutual information, AUROC    what is epistemic, and does it rise off the data?

The mixture NLL is the Bayesian predictive's; the joint NLL over tau inputs also rewards right correlations (Osband et
al., The Neural Testbed, 2022; Wen et al., From Predictions to Decisions, 2022). Proper scores: Gneiting and Raftery
(Strictly Proper Scoring Rules, Prediction, and Estimation, 2007). Whether a posterior itself is computed rightly is
asked by `bayesrl.metrics.diagnostics`.

Shapes: n draws, B inputs, E environments, C classes, tau inputs that are scored together; * is any shape. Everything
is in the units of the targets, scores of densities and entropies in nats. Draws passed with targets are draws of the
target itself, observation noise included. Shapes fit when each is the last dimensions of the largest.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

# --- intervals -------------------------------------------------------------------------------------------------------


def mixture_interval(draws: Tensor, noise: Tensor | float, level: float = 0.9) -> Tensor:
    """Central interval of an equal mixture of Normal(draw, noise^2): draws [n, *] -> [2, *]."""
    return mixture_quantiles(draws, noise, draws.new_tensor([(1 - level) / 2, (1 + level) / 2]))


def mixture_quantiles(draws: Tensor, noise: Tensor | float, levels: Tensor) -> Tensor:
    """Quantiles of an equal mixture of Normal(draw, noise^2): draws [n, *], levels [k] -> [k, *].

    Of the draws each spread by 40 equally likely standard normal values; exact as both counts grow.
    """
    p = (torch.arange(40, device=draws.device, dtype=draws.dtype) + 0.5) / 40
    spread = torch.special.ndtri(p).view(-1, *(1 for _ in draws.shape)) * noise
    return (draws + spread).flatten(0, 1).quantile(levels.to(draws), 0)


def gaussian_interval(mean: Tensor, std: Tensor | float, level: float = 0.9) -> Tensor:
    """Central interval of Normal(mean, std^2): mean [*], std [*] -> [2, *]."""
    if not 0 < level < 1:
        raise ValueError(f"got level={level}, wanted a probability between 0 and 1")
    std = _positive(std, mean)
    half = std * torch.special.ndtri(torch.full_like(mean, (1 + level) / 2))
    return torch.stack([mean - half, mean + half])


def coverage(interval: Tensor, y: Tensor) -> Tensor:
    """Share of targets inside their interval: interval [2, *], y [*] -> 0-d; the interval's level if calibrated."""
    _check("interval", interval, dims=1, finite=False)
    _check("y", y)
    _shape("interval", interval.shape, (2, *y.shape))
    return ((interval[0] <= y) & (y <= interval[1])).to(y.dtype).mean()


def sharpness(interval: Tensor) -> Tensor:
    """Mean width: interval [2, *] -> 0-d; of two calibrated forecasts the narrower knows more."""
    _check("interval", interval, dims=1, finite=False)
    _shape("interval", interval.shape, (2, *interval.shape[1:]))
    return (interval[1] - interval[0]).mean()


# --- proper scores ---------------------------------------------------------------------------------------------------


def gaussian_nll(mean: Tensor, std: Tensor | float, y: Tensor) -> Tensor:
    """-log Normal(y; mean, std^2): shapes that fit -> [*], the largest; mean [n, *] gives `mixture_nll` its input."""
    std = _positive(std, mean, y)
    return 0.5 * ((y - mean) / std).square() + std.log() + 0.5 * math.log(2 * math.pi)


def mixture_nll(log_likelihood: Tensor) -> Tensor:
    """-log mean_i p(y | draw i), the NLL of the predictive mixture: log p(y | draw) [n, *] -> [*].

    From n draws it is above the posterior predictive's on average, by var(p) / (2 n mean(p)^2) to first order.
    """
    _check("log_likelihood", log_likelihood, dims=1, finite=False)
    return math.log(len(log_likelihood)) - log_likelihood.logsumexp(0)


def joint_nll(log_likelihood: Tensor) -> Tensor:
    """-log mean_i prod_t p(y_t | draw i): log p(y_t | draw) [n, *, tau] -> [*], the total over the tau inputs.

    Draws are shared by the tau inputs, so that correlations between them count; divide by tau for nats an input.
    """
    _check("log_likelihood", log_likelihood, dims=2, finite=False)
    return mixture_nll(log_likelihood.sum(-1))


def gaussian_crps(mean: Tensor, std: Tensor | float, y: Tensor) -> Tensor:
    """CRPS of Normal(mean, std^2), std (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)) at z = (y - mean) / std.

    Shapes that fit -> [*], the largest (Gneiting et al., Calibrated Probabilistic Forecasting Using Ensemble Model
    Output Statistics and Minimum CRPS Estimation, 2005).
    """
    std = _positive(std, mean, y)
    return _expected_distance(y - mean, std) - std / math.sqrt(math.pi)


def mixture_crps(mean: Tensor, std: Tensor | float, y: Tensor) -> Tensor:
    """CRPS of an equal mixture of Normal(mean_i, std_i^2): mean [n, *], std fits mean, y [*] -> [*].

    E|X - y| - E|X - X'| / 2 in closed form (Grimit et al., The Continuous Ranked Probability Score for Circular
    Variables and its Application to Mesoscale Forecast Ensemble Verification, 2006); n^2 terms.
    """
    _check("mean", mean, dims=1)
    _shape("y", y.shape, mean.shape[1:])
    std = _positive(std, mean, y)
    variance = std.expand_as(mean).square()
    between = _expected_distance(mean - mean[:, None], (variance + variance[:, None]).sqrt())
    return _expected_distance(y - mean, std).mean(0) - between.mean((0, 1)) / 2


def crps(draws: Tensor, y: Tensor) -> Tensor:
    """Unbiased ("fair") estimate of the CRPS, E|X - y| - E|X - X'| / 2: draws [n, *], y [*] -> [*].

    The second mean, over pairs of different draws, is a weighted sum of the sorted draws (Ferro, Fair Scores for
    Ensemble Forecasts, 2014). Unbiased, so an estimate at one target may be negative.
    """
    _check("draws", draws, dims=1)
    _check("y", y)
    _shape("y", y.shape, draws.shape[1:])
    n = len(draws)
    if n < 2:
        raise ValueError(f"got {n} draw, wanted at least 2: the distance between draws is estimated")
    error = draws - y
    weight = 2 * torch.arange(n, device=y.device, dtype=y.dtype) + 1 - n
    between = (weight.view(-1, *(1 for _ in y.shape)) * error.sort(0).values).sum(0) / (n * (n - 1))
    return error.abs().mean(0) - between


def brier_score(probs: Tensor, label: Tensor) -> Tensor:
    """sum_c (p_c - 1[c = label])^2: probs [B, C], label [B] int64 -> [B], 0 to 2 (Brier, 1950)."""
    _labels(probs, label)
    return (probs - nn.functional.one_hot(label, probs.shape[-1])).square().sum(-1)


# --- calibration of quantiles ----------------------------------------------------------------------------------------


def gaussian_pit(mean: Tensor, std: Tensor | float, y: Tensor) -> Tensor:
    """Probability integral transform Phi((y - mean) / std): shapes that fit -> [*], uniform if calibrated.

    For a mixture, mean [n, *], average over the first dimension.
    """
    std = _positive(std, mean, y)
    return torch.special.ndtr((y - mean) / std)


def pit(draws: Tensor, y: Tensor) -> Tensor:
    """PIT values from the rank of the target among draws: draws [n, *], y [*] -> [*].

    (draws below + half of the ties + 1/2) / (n + 1): uniform on the n + 1 midpoints if calibrated.
    """
    _check("draws", draws, dims=1)
    _check("y", y)
    _shape("y", y.shape, draws.shape[1:])
    rank = ((draws < y).to(y.dtype) + (draws <= y).to(y.dtype)).sum(0) / 2
    return (rank + 0.5) / (len(draws) + 1)


class QuantileReliability(NamedTuple):
    """Points of a reliability diagram for quantiles, on the diagonal if calibrated.

    Attributes:
        level: nominal probabilities, [levels].
        observed: share of targets below the predicted quantile of that level, [levels].
    """

    level: Tensor
    observed: Tensor


def quantile_reliability(values: Tensor, levels: int = 100) -> QuantileReliability:
    """Shares of PIT values [*] below the levels (k + 1/2) / levels; a value at a level counts half.

    Of PIT values by rank among n draws, levels = n + 1 asks exactly what n draws can answer.
    """
    _check("values", values)
    if levels < 1 or values.min() < 0 or values.max() > 1:
        low, high = float(values.min()), float(values.max())
        raise ValueError(f"got levels={levels} and values in [{low:g}, {high:g}], wanted levels > 0, values in [0, 1]")
    level = (torch.arange(levels, device=values.device, dtype=values.dtype) + 0.5) / levels
    return QuantileReliability(level, _share_below(values, level))


def quantile_ece(values: Tensor, levels: int = 100) -> Tensor:
    """Mean over levels of |share of PIT values below - level|: PIT values [*] -> 0-d.

    About .31 / sqrt(B) by chance where B independent forecasts are calibrated (a mean absolute Brownian bridge), 1/2 at
    worst (Chung et al., Uncertainty Toolbox, 2021).
    """
    level, observed = quantile_reliability(values, levels)
    return (observed - level).abs().mean()


# --- calibration of classes ------------------------------------------------------------------------------------------


class Reliability(NamedTuple):
    """Points of a reliability diagram for classes, on the diagonal if calibrated; NaN in empty bins.

    Attributes:
        confidence: mean probability of the predicted class, [bins].
        accuracy: share of right predictions, [bins].
        counts: inputs in each bin, int64 [bins].
    """

    confidence: Tensor
    accuracy: Tensor
    counts: Tensor


def reliability(probs: Tensor, label: Tensor, bins: int = 15, equal_mass: bool = False) -> Reliability:
    """Confidence and accuracy of the most probable class: probs [B, C], label [B] int64.

    Bins are (lower, upper], of equal width on [0, 1] or between quantiles of the confidences, so that each holds as
    many inputs (equal confidences stay together).
    """
    _labels(probs, label)
    if bins < 1:
        raise ValueError(f"got bins={bins}, wanted at least 1")
    confidence, predicted = probs.max(-1)
    edges = torch.arange(1, bins, device=probs.device, dtype=probs.dtype) / bins
    index = torch.bucketize(confidence, confidence.quantile(edges) if equal_mass else edges)
    counts = torch.bincount(index, minlength=bins)
    sums = [torch.bincount(index, x.to(probs.dtype), minlength=bins) for x in (confidence, predicted == label)]
    return Reliability(sums[0] / counts, sums[1] / counts, counts)


def expected_calibration_error(probs: Tensor, label: Tensor, bins: int = 15, equal_mass: bool = False) -> Tensor:
    """Mean |accuracy - confidence| over bins, weighted by count: probs [B, C], label [B] -> 0-d.

    Guo et al. (On Calibration of Modern Neural Networks, 2017); it is above 0 by chance, more so with more bins.
    """
    confidence, accuracy, counts = reliability(probs, label, bins, equal_mass)
    return ((accuracy - confidence).abs() * counts).nansum() / len(label)


# --- what is epistemic -----------------------------------------------------------------------------------------------


def predictive_entropy(probs: Tensor) -> Tensor:
    """Total uncertainty H(mean_i p_i), nats: probs [n, *, C] -> [*]."""
    _probabilities(probs)
    return torch.special.entr(probs.mean(0)).sum(-1)


def expected_entropy(probs: Tensor) -> Tensor:
    """Aleatoric uncertainty mean_i H(p_i), nats: probs [n, *, C] -> [*]."""
    _probabilities(probs)
    return torch.special.entr(probs).sum(-1).mean(0)


def mutual_information(probs: Tensor) -> Tensor:
    """Epistemic uncertainty, predictive less expected entropy, nats: probs [n, *, C] -> [*], 0 to log min(n, C).

    BALD: what the label would tell of the draw (Houlsby et al., Bayesian Active Learning, 2011).
    """
    return predictive_entropy(probs) - expected_entropy(probs)


def auroc(inside: Tensor, outside: Tensor) -> Tensor:
    """P(score off the data > score on the data) + P(equal) / 2: scores [B], [B'] -> 0-d.

    The area under the curve of a detector of inputs off the data, by ranks (Hanley and McNeil, 1982): .5 by chance.
    """
    _check("inside", inside, finite=False)
    _check("outside", outside, finite=False)
    return _share_below(inside, outside.flatten()).mean()


# --- returns ---------------------------------------------------------------------------------------------------------


class ReturnCalibration(nn.Module):
    """Is the return that follows where it was predicted to be as its episode began?

    Predicted is the mixture over posterior draws of the value at the first observation, widened by a return noise that
    is learned from earlier episodes: the mean squared error of the predictive mean less the epistemic variance, with a
    forgetting of 1/50 an episode. It is kept as its quantiles of .05, .10, ..., .95; the 90 % band lies between the
    outermost. Truncated episodes have no realised return; they are left out and counted.

    Arguments:
        num_envs: E.
        window: episodes whose PIT values and errors are kept, and the coverage is averaged over.
    """

    value: Tensor
    variance: Tensor
    quantiles: Tensor
    noise: Tensor
    pits: Tensor
    squares: Tensor
    counts: Tensor

    def __init__(self, num_envs: int, window: int = 100) -> None:
        super().__init__()
        self.register_buffer("value", torch.full((num_envs,), torch.nan))
        self.register_buffer("variance", torch.zeros(num_envs))
        self.register_buffer("quantiles", torch.full((19, num_envs), torch.nan))
        self.register_buffer("noise", torch.zeros(()))  # variance of the return around the value
        self.register_buffer("pits", torch.full((window,), torch.nan))
        self.register_buffer("squares", torch.full((2, window), torch.nan))  # of the errors, and as predicted
        self.register_buffer("counts", torch.zeros(2, dtype=torch.int64))  # scored, left out

    def predict(self, env: Tensor, draws: Tensor) -> None:
        """Values draws [n, k] of the episodes that begin in environments env [k]."""
        self.value[env] = draws.mean(0)
        self.variance[env] = draws.var(0, correction=0)
        levels = torch.arange(1, 20, device=draws.device) / 20
        self.quantiles[:, env] = mixture_quantiles(draws, self.noise_std, levels)

    def score(self, env: int, discounted: float, truncated: bool) -> None:
        """The discounted return of the episode that ended in environment `env`."""
        if truncated or not self.value[env].isfinite():
            self.counts[1] += int(truncated)
            return
        predicted = self.quantiles[:, env]
        rank = ((predicted < discounted).sum() + (predicted <= discounted).sum()) / 2
        slot = self.counts[0] % len(self.pits)
        self.pits[slot] = (rank + 0.5) / 20
        error = (discounted - self.value[env]).square()
        self.squares[:, slot] = torch.stack([error, self.variance[env] + self.noise.clamp(min=0)])
        excess = error - self.variance[env]
        rate = max(1 / (int(self.counts[0]) + 1), 1 / 50)
        self.noise += rate * (excess - self.noise)
        self.counts[0] += 1

    @property
    def noise_std(self) -> Tensor:
        """Standard deviation of the return around the value, 0-d, in return units."""
        return self.noise.clamp(min=0).sqrt()

    @property
    def coverage(self) -> float:
        """Share of the last `window` scored episodes whose return lay in its band; NaN before the first."""
        return float((self.scored - 0.5).abs().lt(0.475).float().mean())

    @property
    def error(self) -> tuple[float, float]:
        """Of the last scored episodes, in return units: the root mean squared error, and the one that was predicted.

        Equal where calibrated; the first is above the second where the posterior is too sure; NaN before the first.
        """
        error, predicted = self.squares.nanmean(1).sqrt().tolist()
        return error, predicted

    @property
    def scored(self) -> Tensor:
        """PIT values of the last scored episodes to the nearest of 20 bins, at most `window`; uniform if calibrated."""
        return self.pits[self.pits.isfinite()]

    @property
    def ece(self) -> float:
        """Quantile ECE of the last scored episodes; NaN before the first."""
        return float(quantile_ece(self.scored, levels=20)) if len(self.scored) else math.nan


# --- checks and parts ------------------------------------------------------------------------------------------------


def _check(name: str, x: Tensor, dims: int = 0, finite: bool = True) -> None:
    """Refuse what is empty, not floating point, of fewer dimensions, NaN or, where asked, infinite."""
    if x.numel() == 0 or not x.is_floating_point() or x.dim() < dims:
        raise ValueError(
            f"got {name} {list(x.shape)} {x.dtype}, wanted floats, one or more, of at least {dims} dimensions"
        )
    bad = ~x.isfinite() if finite else x.isnan()
    if bad.any():
        kind = "NaN or infinite" if finite else "NaN"
        raise ValueError(f"got {name} with {int(bad.sum())} values {kind}, wanted none: drop them before")


def _shape(name: str, got: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if got != wanted:
        raise ValueError(f"got {name} {list(got)}, wanted {list(wanted)}: shapes must fit, use reshape or expand")


def _positive(std: Tensor | float, mean: Tensor, *y: Tensor) -> Tensor:
    """std as a tensor, once it is seen to be positive and every shape to be the last dimensions of the largest."""
    std = torch.as_tensor(std, dtype=mean.dtype, device=mean.device)
    inputs = (mean, std, *y)
    largest = max((x.shape for x in inputs), key=len)
    for name, x in zip(("mean", "std", "y"), inputs, strict=False):
        _shape(name, x.shape, largest[len(largest) - x.dim() :])
        _check(name, x)
    if (std <= 0).any():
        raise ValueError(f"got a std of {std.min():g}, wanted positive ones: a point forecast has no density")
    return std


def _probabilities(probs: Tensor) -> None:
    _check("probs", probs)
    if probs.min() < 0 or ((probs.sum(-1) - 1).abs() > 1e-3).any():
        raise ValueError("got probs that are negative or do not sum to 1, wanted probabilities: use logits.softmax(-1)")


def _labels(probs: Tensor, label: Tensor) -> None:
    _probabilities(probs)
    _shape("label", label.shape, probs.shape[:1])
    if probs.dim() != 2 or label.dtype != torch.int64 or label.min() < 0 or label.max() >= probs.shape[-1]:
        raise ValueError(f"got labels {label.dtype} of probs {list(probs.shape)}, wanted int64 in 0..C - 1 of [B, C]")


def _share_below(values: Tensor, x: Tensor) -> Tensor:
    """Share of values [*] below each x [k], those equal counted half: -> [k]."""
    ordered = values.flatten().sort().values
    below = torch.searchsorted(ordered, x) + torch.searchsorted(ordered, x, right=True)
    return below.to(values.dtype) / (2 * len(ordered))


def _expected_distance(error: Tensor, std: Tensor) -> Tensor:
    """E|X| of X ~ Normal(error, std^2)."""
    z = error / std
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
    return std * (z * (2 * torch.special.ndtr(z) - 1) + 2 * density)
