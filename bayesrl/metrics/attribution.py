"""What does a posterior go by, and which of its weights does it need? Pure functions of a posterior and stored inputs.

    permutation_i = mean_x |f(x) - f(x with feature i of another input)|     a feature's whole effect, through jumps too
    gradient_i    = mean_x |df(x) / dx_i| sd(x_i)                            its effect nearby; keeps x where data is
    snr_w         = |mean_w| / sd_w                                          over posterior draws of the weight w
    ARD scale     = a feature's prior scale over its start                   learned by `priors.ARD`

f(x) is a draw's expected target at one chosen output, such as Q at the greedy action, so both effects are in the
target's units and have one value for each draw: `band` gives their mean and interval. The inputs are held fixed; the
interval is what the posterior leaves open, not what other inputs would change. Permuted inputs combine features that
never occurred together where features depend on each other; there the gradient is the safer one.

Permutation: Breiman (Random Forests, 2001); Fisher et al. (All Models are Wrong, but Many are Useful, 2019). Gradients:
Simonyan et al. (Deep Inside Convolutional Networks, 2014). Signal-to-noise and pruning by it: Graves (Practical
Variational Inference for Neural Networks, 2011); Blundell et al. (Weight Uncertainty in Neural Networks, 2015).

Shapes: n draws, B inputs, K outputs, P weights, F features, C categories of inputs that are indices of ones.
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

DRAWS = 10  # at once, which bounds the memory
SHARES = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1)


class Band(NamedTuple):
    """Mean and central interval over draws.

    Attributes:
        mean, low, high: [*].
    """

    mean: Tensor
    low: Tensor
    high: Tensor


def band(draws: Tensor, level: float = 0.9) -> Band:
    """Of draws [n, *], for each of the rest."""
    if not 0 < level < 1:
        raise ValueError(f"got level={level}, wanted a probability between 0 and 1")
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=draws.dtype, device=draws.device)
    return Band(draws.mean(0), *draws.quantile(tails, 0))


# --- relevance of features -------------------------------------------------------------------------------------------


def elsewhere(B: int, generator: Generator | None = None) -> Tensor:
    """For each of B inputs another one, every one of them once: [B] int64, a random cycle."""
    if B < 2:
        raise ValueError(f"got {B} inputs, wanted two or more: a feature takes its value from another input")
    order = torch.randperm(B, generator=generator)
    return torch.empty_like(order).index_copy_(0, order, order.roll(1))


def permutation(posterior: Posterior, z: Tensor, x: Tensor, chosen: Tensor, other: Tensor) -> Tensor:
    """Mean absolute change of f where one feature is another input's: -> [n, F].

    Arguments:
        z: indices of draws, [n, *].
        x: inputs [B, *, F] of any dtype; F are the channels of images.
        chosen: the output that is looked at, [B] int64.
        other: the input that gives its value, [B] int64, as from `elsewhere`.
    """
    return torch.stack([change.mean(1) for change in _changes(posterior, z, x, chosen, other)], 1)


def by_category(posterior: Posterior, z: Tensor, x: Tensor, chosen: Tensor, other: Tensor, categories: int) -> Tensor:
    """`permutation` of indices of ones, x [B, k] int64, told apart by category: -> [n, C], NaN where none shows it.

    The mean is over the inputs that show the category, each of which takes another input's index in its place.
    """
    total = torch.zeros(len(z), categories + 1, device=x.device)
    for column, change in zip(x.T, _changes(posterior, z, x, chosen, other), strict=True):
        total.index_add_(1, column, change.to(total.dtype))
    return (total / torch.bincount(x.flatten(), minlength=categories + 1))[:, :-1]


def gradient(posterior: Posterior, z: Tensor, x: Tensor, chosen: Tensor) -> Tensor:
    """Mean absolute change of f along one standard deviation of each number of x [B, *shape]: -> [n, *shape].

    Arguments: as `permutation` takes them; x are numbers.
    """
    if not x.is_floating_point():
        raise ValueError(f"got inputs {x.dtype}, wanted numbers: indices of ones have no gradient, use by_category")
    spread, x = x.std(0, correction=0), x.detach().clone().requires_grad_()
    slopes = []
    for one in z.split(1):
        (slope,) = torch.autograd.grad(at(posterior.expected(one, x), chosen[None]).sum(), x)
        slopes.append(slope.abs().mean(0) * spread)
    return torch.stack(slopes)


def ard(posterior: Posterior) -> Tensor | None:
    """Each feature's learned prior scale relative to its start, [F]; None where the prior is not `priors.ARD`."""
    return next((part.relevance for part in posterior.modules() if isinstance(part, ARD)), None)


@torch.no_grad()
def _changes(posterior: Posterior, z: Tensor, x: Tensor, chosen: Tensor, other: Tensor) -> Iterator[Tensor]:
    """For each feature |f(x) - f(x with another input's)|, [n, B]."""
    before = _values(posterior, z, x, chosen)
    for i in range(x.shape[-1]):
        changed = x.clone()
        changed[..., i] = x[other, ..., i]
        yield (_values(posterior, z, changed, chosen) - before).abs()


def _values(posterior: Posterior, z: Tensor, x: Tensor, chosen: Tensor) -> Tensor:
    """f of each draw, [n, B]."""
    return torch.cat([at(q := posterior.expected(some, x), chosen.expand(len(q), -1)) for some in z.split(DRAWS)])


# --- weights ---------------------------------------------------------------------------------------------------------


class Moments(NamedTuple):
    """Of each weight over posterior draws.

    Attributes:
        mean, std: [P].
    """

    mean: Tensor
    std: Tensor

    @property
    def snr(self) -> Tensor:
        """|mean| / std, [P]: infinite where a weight is the same in every draw, 0 where it is 0 in every draw."""
        return torch.where(self.mean == 0, 0.0, self.mean.abs() / self.std)


@torch.no_grad()
def moments(posterior: WeightSpace, z: Tensor) -> Moments:
    """Over draws z [n, *]; a weight whose mean is 0 is given an SNR of about .8 / sqrt(n) by chance."""
    first = posterior.weights(z[:1])[0]
    total, square = (torch.zeros_like(first, dtype=torch.float64) for _ in range(2))
    for some in z.split(DRAWS):
        shifted = (posterior.weights(some) - first).double()  # exactly 0 where all draws agree
        total += shifted.sum(0)
        square += shifted.square().sum(0)
    mean = total / len(z)
    std = (square / len(z) - mean.square()).clamp(min=0).sqrt()
    return Moments(first + mean.to(first.dtype), std.to(first.dtype))


def feature_snr(layout: WeightLayout, snr: Tensor) -> Tensor:
    """Root mean square over the first layer's weights of each feature: snr [P] -> [features]."""
    feature = layout.feature.to(snr.device)
    first = feature >= 0
    square = torch.zeros(int(feature.max()) + 1, device=snr.device, dtype=snr.dtype)
    square.index_add_(0, feature[first], snr[first].square())
    return (square / torch.bincount(feature[first])).sqrt()


class Pruning(NamedTuple):
    """What is left of the posterior mean when the weights of lowest signal-to-noise are 0.

    Attributes:
        share: of the uncertain weights that is 0, [k].
        error: root mean square change of the outputs over their standard deviation, [k]; 1 is a constant's.
        changed: share of the inputs whose greatest output is another, [k].
    """

    share: Tensor
    error: Tensor
    changed: Tensor


def pruned(moments: Moments, share: float) -> Tensor:
    """The mean weights, 0 where the SNR is in the lowest share of those that differ between draws: -> [P]."""
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
    """The pruned mean weights against the mean of draws z [n, *] at x [B, *]; mask [B, K] bool of outputs that count.

    At share 0 it tells what the mean weights alone already lose, which is much where draws are different networks, such
    as an ensemble's.
    """
    wanted = torch.stack([posterior.expected(some, x).sum(0) for some in z.split(DRAWS)]).sum(0) / len(z)
    rest, found = frozen(posterior, z, x), moments(posterior, z)
    got = torch.stack([collapsed(posterior, pruned(found, share), x, rest) for share in shares])
    error = (got - wanted).square().mean((1, 2)).sqrt() / wanted.std(correction=0)
    changed = (greedy(got, mask) != greedy(wanted, mask)).to(error.dtype).mean(1)
    return Pruning(torch.tensor(shares, dtype=error.dtype), error.cpu(), changed.cpu())


def collapsed(posterior: WeightSpace, theta: Tensor, x: Tensor, rest: Tensor) -> Tensor:
    """The expected target of one weight vector in the place of all draws: theta [P], x [B, *] -> [B, K].

    Arguments:
        rest: what `frozen` gives at x, for the same draws whose mean theta is: prior functions and the weights that
            cancel them must be of one kind.
    """
    return posterior.likelihood.mean(posterior.network.one(theta, x) + rest)


def adds(posterior: WeightSpace) -> bool:
    """Whether its functions are more than the network of its weights."""
    return type(posterior).forward is not WeightSpace.forward


@torch.no_grad()
def frozen(posterior: WeightSpace, z: Tensor, x: Tensor) -> Tensor:
    """What it adds to the network of its weights, such as prior functions, averaged over z: [B, *out], or 0-d zero."""
    total = torch.zeros((), device=x.device)
    for some in z.split(DRAWS) if adds(posterior) else ():
        total = total + (posterior(some, x) - posterior.network(posterior.weights(some), x)).sum(0)
    return total / len(z)


class Histogram(NamedTuple):
    """Counts between edges.

    Attributes:
        edges: [bins + 1].
        counts: [bins] int64.
    """

    edges: Tensor
    counts: Tensor


def histograms(layout: WeightLayout, values: Tensor, bins: int = 40) -> dict[str, Histogram]:
    """Of a number for each weight [P], layer by layer between the same edges; what is not finite is left out."""
    values, layer = values.cpu(), layout.layer
    finite = values.isfinite()
    low, high = values[finite].aminmax() if finite.any() else (values.new_zeros(()), values.new_ones(()))
    edges = torch.linspace(float(low), float(high if high > low else low + 1), bins + 1, dtype=values.dtype)
    out = {}
    for number, name in enumerate(layout.names):
        place = torch.bucketize(values[finite & (layer == number)], edges[1:-1], right=True)
        out[name] = Histogram(edges, torch.bincount(place, minlength=bins))
    return out
