"""Each likelihood by the formula it stands for."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from bayesrl.likelihoods import (
    Categorical,
    Gaussian,
    Heteroscedastic,
    Histogram,
    LearnedGaussian,
    Likelihood,
    StudentT,
)
from bayesrl.likelihoods.discrete import HistogramDistribution
from bayesrl.networks import mlp
from bayesrl.optim import Adam
from bayesrl.posteriors import Batch, Ensemble, Hypermodel, Point

N, B, K = 3, 5, 4


def numbers() -> list[Likelihood]:
    """Every likelihood of targets that are numbers."""
    return [Gaussian(0.3), LearnedGaussian(0.3), Heteroscedastic(0.3), StudentT(5.0, 0.3), Histogram(-3, 3, 31)]


def name(likelihood: Likelihood) -> str:
    return type(likelihood).__name__


def outputs(likelihood: Likelihood, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Outputs of 3 draws at 5 inputs for 4 targets, [n, B, K * size]."""
    return torch.randn(N, B, K * likelihood.size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def targets(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(N, B, K, generator=torch.Generator().manual_seed(9), dtype=dtype)


def normal(y: Tensor, mean: Tensor, sigma: Tensor | float) -> Tensor:
    sigma = torch.as_tensor(sigma, dtype=y.dtype)
    return -((y - mean) ** 2) / (2 * sigma**2) - sigma.log() - math.log(2 * math.pi) / 2


# --- densities -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", [Gaussian(0.3), LearnedGaussian(0.3)], ids=name)
def test_gaussian(likelihood: Likelihood) -> None:
    likelihood.double()
    out, y = outputs(likelihood), targets()
    assert torch.allclose(likelihood(out).log_prob(y), normal(y, out, 0.3), rtol=1e-6)
    assert torch.allclose(likelihood.variance(out), torch.full_like(out, 0.09), rtol=1e-6)
    assert torch.equal(likelihood.mean(out), out)


def test_student_t() -> None:
    """Its log-density by Gamma functions, and s^2 df / (df - 2)."""
    df, s, likelihood = 5.0, 0.3, StudentT(5.0, 0.3)
    out, y = outputs(likelihood), targets()
    log_p = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - math.log(s * math.sqrt(df * math.pi))
    assert torch.allclose(likelihood(out).log_prob(y), log_p - (df + 1) / 2 * (1 + ((y - out) / s) ** 2 / df).log())
    assert torch.allclose(likelihood.variance(out), torch.full_like(out, 0.15))


def test_heteroscedastic_is_a_normal_of_both_numbers() -> None:
    likelihood = Heteroscedastic(0.3)
    out, y = outputs(likelihood), targets()
    mean, variance = out[..., ::2], likelihood.variance(out)
    assert torch.equal(likelihood.mean(out), mean)
    assert torch.allclose(likelihood(out).log_prob(y), normal(y, mean, variance.sqrt()))


@pytest.mark.parametrize(("sigma", "least", "most"), [(0.1, 1e-3, 10.0), (0.1, 0.05, 0.2)])
def test_heteroscedastic_bounds(sigma: float, least: float, most: float) -> None:
    """Output 0 is sigma exactly; it never leaves the bounds by more than what softplus does, and rises everywhere."""
    likelihood = Heteroscedastic(sigma, least, most)
    log = torch.linspace(-50, 50, 1001, dtype=torch.float64)
    out = torch.stack([torch.zeros_like(log), log], -1)
    s = likelihood.variance(out)[:, 0].sqrt()
    assert s[500].item() == pytest.approx(sigma, rel=1e-12)
    assert s.min().item() == pytest.approx(least, rel=1e-6)
    width = 2 * math.log(most / least)  # the upper bound is itself bounded from below: softplus(width) - width above
    assert s.max().item() == pytest.approx(most * math.exp(math.log1p(math.exp(-width)) / 2), rel=1e-6)
    assert (s[1:] >= s[:-1]).all()


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_weighting_changes_gradients_and_no_likelihood(beta: float) -> None:
    """d log p / d mean is (y - mean) sigma^(2 beta - 2) / mean sigma^(2 beta), the mean over draws and batch.

    With beta = 1 that is the gradient of one noise for all, however unsure a target is.
    """
    plain, likelihood, y = Heteroscedastic(0.3), Heteroscedastic(0.3, beta=beta), targets()
    out = outputs(likelihood).requires_grad_()
    log_p = likelihood(out).log_prob(y)
    assert torch.equal(log_p, plain(out).log_prob(y))
    (gradient,) = torch.autograd.grad(log_p.sum(), out)
    variance = likelihood.variance(out).detach()
    weight = variance**beta / (variance**beta).mean((0, 1), keepdim=True)
    mean = (y - out[..., ::2].detach()) / variance * weight
    assert torch.allclose(gradient[..., ::2], mean)
    (unweighted,) = torch.autograd.grad(plain(out).log_prob(y).sum(), out)
    assert torch.allclose(gradient[..., 1::2], unweighted[..., 1::2] * weight)


def test_heteroscedastic_is_the_exponential_between_its_bounds() -> None:
    """Two e-folds of sigma each way from 0.1 with bounds at 1e-3 and 10: log sigma^2 within 1.1 % of 4."""
    likelihood = Heteroscedastic(0.1)
    log = torch.linspace(-4, 4, 81, dtype=torch.float64)
    variance = likelihood.variance(torch.stack([torch.zeros_like(log), log], -1))[:, 0]
    assert (variance.log() - math.log(0.01) - log).abs().max() < 0.011 * 4


def test_categorical() -> None:
    likelihood = Categorical(3)
    out = torch.randn(N, B, 3, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 0, 1])
    p = out.exp() / out.exp().sum(-1, keepdim=True)
    assert torch.allclose(likelihood(out).log_prob(y.expand(N, B)).exp(), p[:, torch.arange(B), y])
    assert torch.allclose(likelihood.mean(out), p)
    onehot = torch.distributions.OneHotCategorical(p)
    assert torch.allclose(likelihood.variance(out), onehot.variance)


def test_categorical_has_no_actions() -> None:
    with pytest.raises(ValueError, match="use Histogram"):
        Categorical(3)(torch.zeros(N, B, 3), torch.zeros(B, dtype=torch.int64))


# --- the histogram ---------------------------------------------------------------------------------------------------


def test_histogram_is_the_cross_entropy() -> None:
    """By hand, with 4 bins on [-1, 1] and a target of 0.3: the Gaussian's mass in each, of that on the support."""
    likelihood = Histogram(-1.0, 1.0, 4, sigma=0.5)
    logits = torch.tensor([[[0.1, -0.4, 1.3, 0.2]]], dtype=torch.float64)

    def cdf(v: float) -> float:
        return (1 + math.erf((v - 0.3) / (0.5 * 0.5) / math.sqrt(2))) / 2

    mass = [cdf(b) - cdf(a) for a, b in ((-1, -0.5), (-0.5, 0), (0, 0.5), (0.5, 1))]
    log_p = logits[0, 0] - logits[0, 0].exp().sum().log()
    expected = sum(m * lp for m, lp in zip(mass, log_p.tolist(), strict=True)) / sum(mass)
    out = likelihood.double()(logits).log_prob(torch.tensor([[[0.3]]], dtype=torch.float64))
    assert out.shape == (1, 1, 1)
    assert out.item() == pytest.approx(expected, rel=1e-12)


def smoothed(likelihood: Histogram, y: Tensor) -> Tensor:
    """Return the bin probabilities of a target, [B, bins]: the gradient with respect to the log-probabilities."""
    log_p = torch.zeros(len(y), likelihood.size, dtype=y.dtype, requires_grad=True)
    score = HistogramDistribution(log_p, likelihood.edges, likelihood.sigma).log_prob(y)
    return torch.autograd.grad(score.sum(), log_p)[0]


def test_histogram_recovers_the_mean() -> None:
    """The mean of the smoothed target is the target to 1e-4 of a bin, 4 bins or more inside the support."""
    likelihood = Histogram(-3.0, 3.0, 31).double()
    width = 6 / 31
    y = torch.linspace(-3 + 4 * width, 3 - 4 * width, 200, dtype=torch.float64)
    mass = smoothed(likelihood, y)
    assert torch.allclose(mass.sum(-1), torch.ones_like(y))
    assert torch.allclose(likelihood.mean(mass.log()), y[:, None], atol=1e-4 * width)
    variance = (0.75 * width) ** 2 + width**2 / 12  # of the Gaussian, and of rounding it to centers of bins
    assert torch.allclose(likelihood.variance(mass.log()), torch.full((200, 1), variance).double(), rtol=1e-3)


def test_histogram_counts_values_beyond_its_support_at_its_ends() -> None:
    """Finite, equal to the end's, and within a bin of it: half a Gaussian of 0.75 bins has its mean at 0.6 bins."""
    likelihood = Histogram(-3.0, 3.0, 31).double()
    mass = smoothed(likelihood, torch.tensor([-1e6, -3.0, 3.0, 1e6], dtype=torch.float64))
    assert torch.equal(mass[0], mass[1]) and torch.equal(mass[2], mass[3])
    mean = likelihood.mean(mass.log())[:, 0]
    assert (mean - torch.tensor([-3.0, -3.0, 3.0, 3.0])).abs().max() < 6 / 31


@pytest.mark.parametrize("y", [-2.9, -0.4, 0.0, 1.77])
def test_histogram_fitted_predicts_its_target(y: float) -> None:
    """Logits that maximize the likelihood of one target have their mean within half a bin of it (1 at the ends)."""
    likelihood = Histogram(-3.0, 3.0, 31)
    logits = torch.zeros(1, 1, 31, requires_grad=True)
    optimizer = Adam([logits], lr=0.3)
    for _ in range(200):
        loss = -likelihood(logits).log_prob(torch.tensor([[[y]]])).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert abs(likelihood.mean(logits).item() - y) < 6 / 31 / 2


# --- laws of all -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "likelihood", [Gaussian(0.3), LearnedGaussian(0.3), Heteroscedastic(0.3), StudentT(6.0, 0.3)], ids=name
)
def test_moments_are_those_of_samples(likelihood: Likelihood) -> None:
    """40,000 samples: means within 5 standard errors, variances within 8 % (5 standard errors at df 6's kurtosis 6)."""
    torch.manual_seed(0)
    likelihood.double()
    out = outputs(likelihood)
    with torch.no_grad():
        samples = likelihood(out).sample((40_000,))
        sd = likelihood.variance(out).sqrt()
        assert ((samples.mean(0) - likelihood.mean(out)).abs() < 5 * sd / 200).all()
        assert torch.allclose(samples.var(0), sd**2, rtol=0.08)


@pytest.mark.parametrize("likelihood", numbers(), ids=name)
def test_taken_actions(likelihood: Likelihood) -> None:
    """With actions, batch [n, B]: what the whole output says of those actions."""
    likelihood.double()
    out, y = outputs(likelihood), targets()
    action = torch.tensor([3, 0, 1, 1, 2])
    every = likelihood(out).log_prob(y)
    taken = likelihood(out, action).log_prob(y[:, torch.arange(B), action])
    assert every.shape == (N, B, K) and taken.shape == (N, B)
    assert torch.equal(taken, every[:, torch.arange(B), action])


@pytest.mark.parametrize("likelihood", numbers(), ids=name)
def test_parts_sum_to_the_variance_of_the_mixture(likelihood: Likelihood) -> None:
    """Law of total variance: epistemic + aleatoric = mean of E[y^2] - (mean of E[y])^2."""
    likelihood.double()
    out = outputs(likelihood)
    with torch.no_grad():
        mean, epistemic, aleatoric = likelihood.split(out)
        second = (likelihood.variance(out) + likelihood.mean(out) ** 2).mean(0)
    assert mean.shape == epistemic.shape == aleatoric.shape == (B, K)
    assert torch.allclose(epistemic + aleatoric, second - mean**2)
    single = likelihood.split(out[:1])
    assert torch.equal(single.epistemic, torch.zeros(B, K, dtype=torch.float64))


def test_entropies_of_classes() -> None:
    """Predictive entropy = mutual information + expected entropy, by plain sums; 0 <= MI <= log n."""
    out = 3 * torch.randn(N, B, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mean, epistemic, aleatoric = Categorical(4).split(out)
    p = out.softmax(-1)
    predictive = -(p.mean(0) * p.mean(0).log()).sum(-1)
    information = (p * (p / p.mean(0)).log()).sum(-1).mean(0)
    assert torch.allclose(mean.sum(-1), torch.ones(B, dtype=torch.float64))
    assert torch.allclose(epistemic, information)
    assert torch.allclose(epistemic + aleatoric, predictive)
    assert (epistemic > 0).all() and (epistemic < math.log(N)).all()
    certain = torch.full((2, 1, 4), -1e4).index_fill_(-1, torch.tensor([0]), 1e4)
    certain[1] = certain[1].roll(1, -1)
    assert Categorical(4).split(certain).epistemic.item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("likelihood", [*numbers(), Categorical(4)], ids=name)
def test_gradients_by_finite_differences(likelihood: Likelihood) -> None:
    likelihood.double()
    classes = isinstance(likelihood, Categorical)
    out = (outputs(likelihood)[..., :4] if classes else outputs(likelihood)).requires_grad_()
    y = torch.randint(4, (N, B)) if classes else targets()
    assert torch.autograd.gradcheck(lambda out: likelihood(out).log_prob(y), (out,))


@pytest.mark.parametrize("likelihood", numbers(), ids=name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_one_graph(likelihood: Likelihood, dtype: torch.dtype) -> None:
    """Traced on one output, it is the eager one on another, in both precisions, backward and all."""
    likelihood.to(dtype)
    action = torch.tensor([3, 0, 1, 1, 2])

    def score(out: Tensor, y: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        out = out.detach().requires_grad_()
        log_p = likelihood(out, action).log_prob(y)
        return log_p.detach(), torch.autograd.grad(log_p.sum(), out)[0]

    y = targets(dtype)[..., 0]
    graph = make_fx(score)(outputs(likelihood, 0, dtype), y, action)
    second = outputs(likelihood, 1, dtype), y + 0.5, action.flip(0)
    for traced, eager in zip(graph(*second), score(*second), strict=True):
        assert traced.dtype == dtype
        assert torch.allclose(traced, eager, rtol=1e-5)


def test_learned_noise_is_the_residuals() -> None:
    """Taught noise around a constant, a point's sigma becomes the residuals' own root mean square, within 2 %."""
    torch.manual_seed(0)
    posterior = Point(mlp((1,), 1, hidden=[4]), LearnedGaussian(0.1), partial(Adam, lr=0.02))
    x, y = torch.zeros(200, 1), 0.5 * torch.randn(1, 200, 1)
    for _ in range(600):
        posterior.learn(Batch(x, None, y, torch.ones(1, 200), torch.tensor(200.0)), posterior.index(1))
    assert posterior.likelihood.log_sigma.exp().item() == pytest.approx(float(y.std(correction=0)), rel=0.02)


@pytest.mark.parametrize("make", [Hypermodel, Ensemble])
def test_prior_functions_are_of_the_mean(make: type[Hypermodel | Ensemble]) -> None:
    """A hundred times the prior scale changes what draws expect, and not how noisy they think it is."""
    x, out = torch.randn(6, 3), []
    for scale in (0.3, 30.0):
        torch.manual_seed(0)
        posterior = make(mlp((3,), 2, hidden=[8], size=2), prior_scale=scale, likelihood=Heteroscedastic(0.3))
        out.append(posterior(posterior.index(5, torch.Generator().manual_seed(1)), x))
    assert torch.equal(out[0][..., 1::2], out[1][..., 1::2])
    assert (out[0][..., ::2] - out[1][..., ::2]).abs().min() > 0


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Gaussian(0.0), "got sigma=0.0, wanted a positive"),
        (lambda: LearnedGaussian(-1.0), "got sigma=-1.0, wanted a positive"),
        (lambda: Heteroscedastic(0.1, 0.2), "wanted 0 < min_sigma < sigma < max_sigma"),
        (lambda: Heteroscedastic(max_sigma=math.inf), "wanted 0 < min_sigma < sigma < max_sigma"),
        (lambda: Heteroscedastic(beta=1.5), "wanted a number from 0 to 1"),
        (lambda: StudentT(2.0), "wanted more than 2 degrees"),
        (lambda: StudentT(scale=math.nan), "got scale=nan, wanted a positive"),
        (lambda: Categorical(1), "wanted two or more"),
        (lambda: Histogram(1.0, 1.0), "wanted finite low < high"),
        (lambda: Histogram(bins=1), "two or more bins"),
        (lambda: Histogram(sigma=0.0), "got sigma=0.0, wanted a positive"),
    ],
)
def test_arguments_are_checked(make: type, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()
