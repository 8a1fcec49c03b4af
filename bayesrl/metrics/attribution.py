"""Attribution: the relevance of input features and of weights, as pure functions of a posterior and stored inputs.

    permutation_i = mean_x |f(x) - f(x with feature i of another input)|     total effect of a feature
    gradient_i    = mean_x |df(x) / dx_i| sd(x_i)                            local effect of a feature, at the inputs
    snr_w         = |mean_w| / sd_w                                          over posterior draws of the weight w
    ARD scale     = prior scale of a feature over its initial value          learned by `priors.ARD`

f(x) is a draw's expected target at one chosen output, such as Q at the greedy action, so that both effects are in units
of the target and have one value for each draw; `band` returns their mean and interval. Inputs are fixed: the interval
is the posterior's uncertainty and does not include the choice of inputs. For dependent features, permuted inputs may be
combinations that never occur, and the gradient is more reliable.

Permutation: Breiman (Random Forests, 2001); Fisher et al. (All Models are Wrong, but Many are Useful, 2019). Gradients:
Simonyan et al. (Deep Inside Convolutional Networks, 2014). Signal-to-noise and pruning by it: Graves (Practical
Variational Inference for Neural Networks, 2011); Blundell et al. (Weight Uncertainty in Neural Networks, 2015).

Shapes: n draws, B batch, K targets, P weights, D features, C categories of inputs that are indices of ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from bayesrl.networks.network import WeightLayout
from bayesrl.posteriors import Posterior, WeightSpace
from bayesrl.priors import ARD
from bayesrl.rl.td import at, greedy

CHUNK = 10  # draws that are evaluated at once, which limits memory
SHARES = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1)


class Band(NamedTuple):
    """Mean and central interval over draws.

    Attributes:
        mean, low, high: tensors of one shape, [*].
    """

    mean: Tensor
    low: Tensor
    high: Tensor


def band(draws: Tensor, level: float = 0.9) -> Band:
    """Compute the mean and the central interval over draws: [n, *] -> [*]."""
    if not 0 < level < 1:
        raise ValueError(f"got level={level}, wanted a probability between 0 and 1")
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=draws.dtype, device=draws.device)
    return Band(draws.mean(0), *draws.quantile(tails, 0))


# --- relevance of features -------------------------------------------------------------------------------------------


def derangement(B: int, generator: Generator | None = None) -> Tensor:
    """Draw a permutation of B inputs without fixed points, a random cycle: [B] int64."""
    if B < 2:
        raise ValueError(f"got {B} inputs, wanted two or more: a feature takes its value from another input")
    order = torch.randperm(B, generator=generator)
    return torch.empty_like(order).index_copy_(0, order, order.roll(1))


def permutation(posterior: Posterior, z: Tensor, x: Tensor, chosen: Tensor, other: Tensor) -> Tensor:
    """Compute the mean absolute change of f when one feature is replaced by that of another input.

    Arguments:
        posterior: the posterior to explain.
        z: indices of draws, [n, *].
        x: inputs, [B, *, D] of any dtype; the D features of images are their channels.
        chosen: the output to explain, [B] int64.
        other: the input that provides the replacement, [B] int64, as from `derangement`.

    Returns:
        Effects, [n, D].
    """
    return torch.stack([change.mean(1) for change in _changes(posterior, z, x, chosen, other)], 1)


def by_category(posterior: Posterior, z: Tensor, x: Tensor, chosen: Tensor, other: Tensor, categories: int) -> Tensor:
    """Compute the effects of `permutation` by category, for inputs that are indices of ones.

    Arguments:
        posterior, z, chosen, other: as in `permutation`.
        x: indices, [B, k] int64.
        categories: C.

    Returns:
        Means over the inputs that contain a category, [n, C]; NaN for a category that no input contains.
    """
    total = torch.zeros(len(z), categories + 1, device=x.device)
    for column, change in zip(x.T, _changes(posterior, z, x, chosen, other), strict=True):
        total.index_add_(1, column, change.to(total.dtype))
    return (total / torch.bincount(x.flatten(), minlength=categories + 1))[:, :-1]


def gradient(posterior: Posterior, z: Tensor, x: Tensor, chosen: Tensor) -> Tensor:
    """Compute the mean absolute derivative of f, scaled by the standard deviation of each number of x.

    Arguments:
        posterior, z, chosen: as in `permutation`.
        x: inputs, [B, *shape], floating point.

    Returns:
        Effects, [n, *shape].
    """
    if not x.is_floating_point():
        raise ValueError(f"got inputs {x.dtype}, wanted numbers: indices of ones have no gradient, use by_category")
    std, x = x.std(0, correction=0), x.detach().clone().requires_grad_()
    slopes = []
    for one in z.split(1):
        (slope,) = torch.autograd.grad(at(posterior.expected(one, x), chosen[None]).sum(), x)
        slopes.append(slope.abs().mean(0) * std)
    return torch.stack(slopes)


def ard(posterior: Posterior) -> Tensor | None:
    """Return the learned prior scale of each feature over its initial value, [D]; None without `priors.ARD`."""
    return next((part.relevance for part in posterior.modules() if isinstance(part, ARD)), None)


@torch.no_grad()
def _changes(posterior: Posterior, z: Tensor, x: Tensor, chosen: Tensor, other: Tensor) -> Iterator[Tensor]:
    """Yield |f(x) - f(x with the feature of another input)| for each feature, [n, B]."""
    before = _values(posterior, z, x, chosen)
    for i in range(x.shape[-1]):
        changed = x.clone()
        changed[..., i] = x[other, ..., i]
        yield (_values(posterior, z, changed, chosen) - before).abs()


def _values(posterior: Posterior, z: Tensor, x: Tensor, chosen: Tensor) -> Tensor:
    """Return f of each draw, [n, B]."""
    return torch.cat([at(q := posterior.expected(some, x), chosen.expand(len(q), -1)) for some in z.split(CHUNK)])


# --- weights ---------------------------------------------------------------------------------------------------------


class Moments(NamedTuple):
    """Moments of each weight over posterior draws.

    Attributes:
        mean, std: mean and standard deviation, [P].
    """

    mean: Tensor
    std: Tensor

    @property
    def snr(self) -> Tensor:
        """Signal-to-noise ratio |mean| / std, [P]: infinite for a constant weight, 0 for one that is always 0."""
        return torch.where(self.mean == 0, 0.0, self.mean.abs() / self.std)


@torch.no_grad()
def moments(posterior: WeightSpace, z: Tensor) -> Moments:
    """Compute moments of the weights over draws z [n, *]; the SNR of a zero mean is about 0.8 / sqrt(n) by chance."""
    first = posterior.weights(z[:1])[0]
    total, square = (torch.zeros_like(first, dtype=torch.float64) for _ in range(2))
    for some in z.split(CHUNK):
        shifted = (posterior.weights(some) - first).double()  # exactly 0 for a constant weight
        total += shifted.sum(0)
        square += shifted.square().sum(0)
    mean = total / len(z)
    std = (square / len(z) - mean.square()).clamp(min=0).sqrt()
    return Moments(first + mean.to(first.dtype), std.to(first.dtype))


def feature_snr(layout: WeightLayout, snr: Tensor) -> Tensor:
    """Compute the root mean square over the first layer's weights of each feature: snr [P] -> [D]."""
    feature = layout.feature.to(snr.device)
    first = feature >= 0
    square = torch.zeros(int(feature.max()) + 1, device=snr.device, dtype=snr.dtype)
    square.index_add_(0, feature[first], snr[first].square())
    return (square / torch.bincount(feature[first])).sqrt()


class Pruning(NamedTuple):
    """Effect of setting the weights with the lowest signal-to-noise ratio to 0.

    Attributes:
        share: share of the uncertain weights that are set to 0, [k].
        error: root mean square change of the outputs over their standard deviation, [k]; 1 for constant outputs.
        changed: share of the inputs with another greatest output, [k].
    """

    share: Tensor
    error: Tensor
    changed: Tensor


def pruned(moments: Moments, share: float) -> Tensor:
    """Return the mean weights [P], with a share of the uncertain ones, those of the lowest SNR, set to 0."""
    if not 0 <= share <= 1:
        raise ValueError(f"got share={share}, wanted a share of the weights in [0, 1]")
    uncertain = moments.std > 0
    order = torch.where(uncertain, moments.snr, torch.inf).argsort(stable=True)
    return moments.mean.index_fill(0, order[: round(share * int(uncertain.sum()))], 0.0)


@torch.no_grad()
def pruning(
    posterior: WeightSpace,
    z: Tensor,
    x: Tensor,
    shares: Sequence[float] = SHARES,
    mask: Tensor | None = None,
) -> Pruning:
    """Compare pruned mean weights with the mean of the draws.

    At share 0 the result is the effect of averaging weights, which is large where draws are unrelated networks, as in
    an ensemble.

    Arguments:
        posterior: the posterior to prune.
        z: indices of draws, [n, *].
        x: inputs, [B, *].
        shares: shares of the uncertain weights to set to 0.
        mask: valid outputs, [B, K] bool; None for all.
    """
    expected = torch.stack([posterior.expected(some, x).sum(0) for some in z.split(CHUNK)]).sum(0) / len(z)
    prior_function, found = prior_function_mean(posterior, z, x), moments(posterior, z)
    got = torch.stack([mean_weight_output(posterior, pruned(found, share), x, prior_function) for share in shares])
    error = (got - expected).square().mean((1, 2)).sqrt() / expected.std(correction=0)
    changed = (greedy(got, mask) != greedy(expected, mask)).to(error.dtype).mean(1)
    return Pruning(torch.tensor(shares, dtype=error.dtype), error.cpu(), changed.cpu())


def mean_weight_output(posterior: WeightSpace, theta: Tensor, x: Tensor, prior_function: Tensor) -> Tensor:
    """Return the expected target of a single weight vector that replaces all draws.

    Arguments:
        posterior: the posterior that theta is taken from.
        theta: weights, such as the mean over draws, [P].
        x: inputs, [B, *].
        prior_function: `prior_function_mean` at x over the same draws, [B, *out] or 0-d.

    Returns:
        Expected targets, [B, K].
    """
    return posterior.likelihood.mean(posterior.network.one(theta, x) + prior_function)


def has_prior_function(posterior: WeightSpace) -> bool:
    """Return whether the posterior adds other functions to the network of its weights."""
    return type(posterior).forward is not WeightSpace.forward


@torch.no_grad()
def prior_function_mean(posterior: WeightSpace, z: Tensor, x: Tensor) -> Tensor:
    """Return the mean over draws z of what the posterior adds to its network at x: [B, *out], or a 0-d zero."""
    total = torch.zeros((), device=x.device)
    for some in z.split(CHUNK) if has_prior_function(posterior) else ():
        total = total + (posterior(some, x) - posterior.network(posterior.weights(some), x)).sum(0)
    return total / len(z)


class Histogram(NamedTuple):
    """A histogram.

    Attributes:
        edges: edges of the bins, [bins + 1].
        counts: counts in the bins, [bins] int64.
    """

    edges: Tensor
    counts: Tensor


def histograms(layout: WeightLayout, values: Tensor, bins: int = 40) -> dict[str, Histogram]:
    """Return a histogram for each layer, with the same edges, of a number for each weight [P].

    Numbers that are not finite are ignored.
    """
    values, layer = values.cpu(), layout.layer
    finite = values.isfinite()
    low, high = values[finite].aminmax() if finite.any() else (values.new_zeros(()), values.new_ones(()))
    edges = torch.linspace(float(low), float(high if high > low else low + 1), bins + 1, dtype=values.dtype)
    out = {}
    for number, name in enumerate(layout.names):
        bin_index = torch.bucketize(values[finite & (layer == number)], edges[1:-1], right=True)
        out[name] = Histogram(edges, torch.bincount(bin_index, minlength=bins))
    return out
