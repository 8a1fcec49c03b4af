"""Ranks, k-hat, R-hat and effective sample sizes against posteriors, tails and chains whose answers are known."""

import math
import re

import pytest
import torch

from bayesrl.metrics.diagnostics import ess_bulk, ess_tail, psis, rhat, sbc_chi2, sbc_ranks

# --- simulation-based calibration ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "chi2"), [(1.0, 19.0), (0.8, 214.8), (1.25, 156.7)])
def test_sbc_accepts_the_exact_posterior_and_rejects_a_wrong_width(scale, chi2):
    """theta ~ N(0, 1), y ~ N(theta, 1), so that theta | y ~ N(y / 2, 1 / 2), given with its sd times `scale`.

    Expected: 19 + 1,999 sum_bins (share - 0.05)^2 / 0.05; 216.1 and 157.6 in the limit of many draws, less for 999.
    The mean of 8 independent quantities, whose sd is at most 35, within 4 standard errors.
    """
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    ranks = sbc_ranks(
        prior=lambda: normal(8),
        simulator=lambda theta: theta + normal(8),
        posterior=lambda y: y / 2 + scale * 0.5**0.5 * normal(999, 8),
        repetitions=2000,
    )
    assert ranks.shape == (2000, 8) and ranks.dtype == torch.int64
    scores = sbc_chi2(ranks, draws=999)
    sd = 6.2 if scale == 1 else 35
    assert scores.mean().item() == pytest.approx(chi2, abs=4 * sd / math.sqrt(8))
    assert (scores < 44).all() if scale == 1 else (scores > 70).all()  # p = 0.001 at 44


@pytest.mark.parametrize(("scale", "chi2"), [(0.8, 216.12), (1.25, 157.59)])
def test_sbc_in_the_limit_of_draws(scale, chi2):
    """Shares of bins Phi(c z) at quantiles z, as 2,000 ranks would fall on average; their own noise adds 16 to 20."""
    p = torch.arange(21).double() / 20
    share = torch.special.ndtr(scale * torch.special.ndtri(p)).diff()
    noise = (share * (1 - share) / 0.05).sum()
    counts = (share * 200_000).round().long()
    ranks = torch.arange(20).repeat_interleave(counts)
    assert sbc_chi2(ranks, draws=19).item() / 100 + noise.item() == pytest.approx(chi2, abs=0.05)


def test_equally_filled_bins_have_no_chi2():
    assert sbc_chi2(torch.arange(100), draws=99) == 0
    assert sbc_chi2(torch.zeros(100, dtype=torch.int64), draws=99, bins=2) == 100


# --- importance sampling ---------------------------------------------------------------------------------------------


def test_khat_finds_the_tail_that_mean_field_leaves_out():
    """Reverse KL fits q = N(0, (1 - rho^2) I) to a Gaussian of correlation rho, and p / q has tail index rho exactly.

    At rho = 0.9 one estimate from 10,000 draws is 0.82 +- 0.10 (not yet at its limit); 40 have a standard error of
    0.016, and their own sd one of 0.02.
    """
    generator, rho = torch.Generator().manual_seed(0), 0.9
    u = torch.randn(10_000, 40, 2, generator=generator, dtype=torch.float64)  # draws of q over its sd
    khat = psis(rho * u.prod(-1)).khat
    assert khat.mean().item() == pytest.approx(0.82, abs=0.06)
    assert khat.std().item() == pytest.approx(0.1, abs=0.06)
    assert (psis(0.3 * u.prod(-1)).khat < 0.7).all()


@pytest.mark.parametrize("k", [0.2, 0.5, 0.8, 1.2])
def test_khat_of_pareto_weights_is_their_index(k):
    """w = u^-k; the mean of 40, each of sd 0.1 at most, within 4 standard errors of 0.016 and a pull to 0.5."""
    u = torch.rand(10_000, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    khat = psis(-k * u.log()).khat
    assert khat.mean().item() == pytest.approx(k, abs=0.065 + 0.05 * abs(k - 0.5))


def psis_by_loops(x):
    """Zhang and Stephens (2009) and Vehtari et al. (2024), value by value: log weights -> sorted, smoothed; k-hat."""
    w = sorted(math.exp(v - max(x)) for v in x)
    size = math.ceil(min(len(w) / 5, 3 * math.sqrt(len(w))))
    cutoff = w[-size - 1]
    tail = [v - cutoff for v in w[-size:]]
    quartile, points = tail[math.floor(size / 4 + 0.5) - 1], 30 + math.floor(math.sqrt(size))
    grid = [1 / tail[-1] + (1 - math.sqrt(points / (j - 0.5))) / (3 * quartile) for j in range(1, points + 1)]

    def shape(theta):
        return sum(math.log1p(-theta * v) for v in tail) / size

    profile = [size * (math.log(-theta / shape(theta)) - shape(theta) - 1) for theta in grid]
    weights = [1 / sum(math.exp(other - one) for other in profile) for one in profile]
    theta = sum(one * weight for one, weight in zip(grid, weights, strict=True))
    k = (size * shape(theta) + 10 * 0.5) / (size + 10)
    scale = -shape(theta) / theta
    for i in range(size):
        w[i - size] = min(1.0, cutoff + scale / k * ((1 - (i + 0.5) / size) ** -k - 1))
    return [math.log(v / sum(w)) for v in w], k


@pytest.mark.parametrize("n", [50, 1000])
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_psis_is_its_definition(n, scale):
    """Tails of a fifth and of 3 sqrt(n); at scale 3 the largest raw weight caps the smoothed; 1e-8 is rounding."""
    x = scale * torch.randn(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    expected, khat = psis_by_loops(x.tolist())
    out = psis(x)
    assert out.khat.item() == pytest.approx(khat, rel=1e-8)
    assert out.log_weights.sort().values.tolist() == pytest.approx(expected, abs=1e-8)


def test_smoothing_steadies_an_estimate():
    """p = N(0, 1), q = N(0, 0.6): k = 0.4. The variance of p, 1, from 1,000 draws: less noise, a bias under 0.1."""
    generator = torch.Generator().manual_seed(2)
    x = 0.6**0.5 * torch.randn(1000, 400, generator=generator, dtype=torch.float64)
    raw = -0.5 * x.square() * (1 - 1 / 0.6)
    smoothed = psis(raw).log_weights
    assert torch.allclose(smoothed.exp().sum(0), torch.ones(400).double())
    plain, steady = ((weight * x.square()).sum(0) for weight in (raw.softmax(0), smoothed.exp()))
    assert steady.std() < 0.9 * plain.std()
    assert steady.mean().item() == pytest.approx(1, abs=0.1)
    assert (smoothed.gather(0, raw.argsort(0)).diff(dim=0) >= 0).all(), "the order of the weights is kept"


def test_khat_knows_no_unit_and_no_column_but_its_own():
    x = torch.randn(200, 2, 3, generator=torch.Generator().manual_seed(3))
    one, shifted = psis(x), psis(x + 5)
    assert one.khat.shape == (2, 3) and one.log_weights.shape == x.shape and one.khat.dtype == x.dtype
    assert torch.allclose(one.khat, shifted.khat, atol=1e-4)
    assert torch.allclose(one.khat[1, 2], psis(x[:, 1, 2]).khat)


def test_khat_of_weights_without_a_tail():
    draws = torch.randn(1000, generator=torch.Generator().manual_seed(4))
    clipped = draws.clamp(max=0)
    for bounded in (torch.zeros(1000), clipped, torch.tensor([0.0, -math.inf]).repeat(500)):
        out = psis(bounded)
        assert out.khat == -math.inf and torch.allclose(out.log_weights, bounded.log_softmax(0))
    assert psis(torch.cat([torch.zeros(997), torch.tensor([5.0, 6.0, 7.0])])).khat == math.inf
    assert psis(20 * torch.arange(1000.0)).khat > 1, "one weight has it all"
    for rounding in (1e-7 * draws, 1e-16 * draws.double()):
        assert psis(rounding).khat < 0.5, "equal weights up to rounding"


# --- Markov chains ---------------------------------------------------------------------------------------------------


def autoregression(rho, chains, draws, runs, seed=0):
    """x_t = rho x_(t-1) + sqrt(1 - rho^2) e_t, stationary, of unit variance: [chains, draws, runs]."""
    e = torch.randn(chains, draws, runs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = [e[:, 0]]
    for t in range(1, draws):
        x.append(rho * x[-1] + (1 - rho**2) ** 0.5 * e[:, t])
    return torch.stack(x, 1)


def tail_autocorrelation(r):
    """Correlation of 1[x < q] and 1[y < q] at the 5 % quantile q of a normal pair of correlation r, by its integral."""
    q = -1.6448536
    s = torch.linspace(0, r, 2001, dtype=torch.float64)
    joint = torch.trapezoid(torch.exp(-(q**2) / (1 + s)) / (2 * math.pi * (1 - s.square()).sqrt()), s)
    return joint.item() / (0.05 * 0.95)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, -0.5])
def test_ess_of_an_autoregression(rho):
    """Bulk n (1 - rho) / (1 + rho); tail n / (1 + 2 sum of the indicator's autocorrelations).

    Mean of 30 runs of 4 x 2,000. One is known to 3 to 13 %, so the mean to 2.5 %; Geyer's sum stops where chance makes
    it negative, which costs up to 3 %, and the smaller of two tails up to 5 %.
    """
    chains = autoregression(rho, 4, 2000, 30)
    n = 8000
    assert ess_bulk(chains).mean().item() == pytest.approx(n * (1 - rho) / (1 + rho), rel=0.08)
    tau = 1 + 2 * sum(tail_autocorrelation(rho**lag) for lag in range(1, 100))
    assert ess_tail(chains).mean().item() == pytest.approx(n / tau, rel=0.1)
    assert rhat(chains).mean() < 1.012


def ess_by_loops(chains):
    """The definition of Vehtari et al. (2021), lag by lag, from split chains of normal scores [m, n]."""
    m, n = chains.shape
    mean = chains.mean(1, keepdim=True)
    lags = [((chains - mean)[:, : n - t] * (chains - mean)[:, t:]).sum(1).mean().item() / n for t in range(n)]
    within = lags[0] * n / (n - 1)
    total = lags[0] + mean[:, 0].var().item()
    rho = [1.0] + [1 - (within - lags[t]) / total for t in range(1, n)]
    tau, smallest, k = -1.0, math.inf, 0
    while k < (n - 1) // 2 - 1 and rho[2 * k] + rho[2 * k + 1] > 0:
        smallest = min(smallest, rho[2 * k] + rho[2 * k + 1])
        tau, k = tau + 2 * smallest, k + 1
    return m * n / max(tau + max(rho[2 * k], 0), 1 / math.log10(m * n))


def scores_by_loops(x):
    """Normal scores of the ranks of x [chains, draws], average ranks by counting."""
    flat = x.flatten()
    rank = [((flat < v).sum() + ((flat == v).sum() + 1) / 2).item() for v in flat]
    return torch.special.ndtri((torch.tensor(rank).double() - 0.375) / (len(flat) + 0.25)).view_as(x)


@pytest.mark.parametrize(("draws", "rho"), [(4, 0.0), (5, 0.0), (9, 0.3), (60, 0.6), (61, -0.4), (300, 0.95)])
def test_rhat_and_ess_are_their_definitions(draws, rho):
    """On rounded draws, so that there are ties; 1e-9 is rounding."""
    chains = (autoregression(rho, 3, draws, 1, seed=5) * 4).round()[..., 0]
    half = draws // 2
    halves = torch.cat([chains[:, :half], chains[:, draws - half :]])
    scores = scores_by_loops(halves)
    assert ess_bulk(chains).item() == pytest.approx(ess_by_loops(scores), rel=1e-9)
    tails = [(halves <= chains.flatten().quantile(p)).double() for p in (0.05, 0.95)]
    expected = [ess_by_loops(tail) for tail in tails if tail.min() < tail.max()]
    assert ess_tail(chains).item() == pytest.approx(min(expected), rel=1e-9)
    ratios = []
    for z in (scores, scores_by_loops((halves - chains.flatten().quantile(0.5)).abs())):
        within = z.var(1).mean().item()
        ratios.append(math.sqrt(((half - 1) / half * within + z.mean(1).var().item()) / within))
    assert rhat(chains).item() == pytest.approx(max(ratios), rel=1e-9)


def test_rhat_detects_chains_that_differ():
    """Two of four chains at +-delta: sqrt(1 + 8 delta^2 / 7), the variance of 8 half chains' means; 0.02 for scores."""
    chains = autoregression(0.0, 4, 2000, 1)
    assert rhat(chains).item() < 1.005
    for delta in (0.25, 0.5):
        shifted = chains + delta * torch.tensor([1.0, 1, -1, -1]).view(4, 1, 1)
        assert rhat(shifted).item() == pytest.approx(math.sqrt(1 + 8 * delta**2 / 7), abs=0.02)
        assert rhat(shifted).item() > 1.01
    scaled = chains * torch.tensor([1.0, 1, 1, 3]).view(4, 1, 1)
    assert rhat(scaled).item() > 1.05, "equal means and unequal scales: the folded R-hat"
    drifting = chains + torch.linspace(-1, 1, 2000).view(1, -1, 1)
    assert rhat(drifting).item() > 1.05, "equal chains that drift together: the halves"
    stuck = torch.arange(4.0).view(4, 1, 1).expand(4, 100, 1)
    assert rhat(stuck).item() == math.inf and ess_bulk(stuck).item() < 10


def test_chains_keep_their_further_dimensions_apart_and_survive_monotone_maps():
    chains = autoregression(0.5, 2, 100, 6).view(2, 100, 2, 3)
    for function in (rhat, ess_bulk, ess_tail):
        out = function(chains)
        assert out.shape == (2, 3)
        assert torch.allclose(out[1, 2], function(chains[:, :, 1, 2]))
    assert torch.allclose(ess_bulk(chains.exp()), ess_bulk(chains))


@pytest.mark.parametrize("draws", [4, 5, 10, 1000])
def test_constant_chains_say_nothing(draws):
    chains = torch.full((4, draws), 0.1)
    assert all(function(chains).isnan() for function in (rhat, ess_bulk, ess_tail))


# --- the door --------------------------------------------------------------------------------------------------------


def ranks_of(truth, draws):
    return sbc_ranks(lambda: truth, lambda theta: theta, lambda data: draws, repetitions=1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sbc_ranks(torch.rand, torch.rand, torch.rand, 0), "repetitions=0"),
        (lambda: ranks_of(torch.zeros(2), torch.zeros(9, 3)), "got draws [9, 3] of a truth [2]"),
        (lambda: ranks_of(torch.zeros(2), torch.zeros(0, 2)), "got draws [0, 2]"),
        (lambda: ranks_of(torch.tensor(math.nan), torch.zeros(9)), "got truth with 1 values NaN"),
        (lambda: sbc_chi2(torch.arange(100), draws=100), "100 draws and 20 bins"),
        (lambda: sbc_chi2(torch.arange(100), draws=99, bins=0), "0 bins"),
        (lambda: sbc_chi2(torch.arange(99), draws=99), "wanted 100 or more"),
        (lambda: sbc_chi2(torch.arange(101), draws=99), "each in 0..99"),
        (lambda: psis(torch.zeros(24)), "at least 25"),
        (lambda: psis(torch.full((30,), math.nan)), "NaN"),
        (lambda: psis(torch.full((30,), -math.inf)), "p > 0"),
        (lambda: psis(torch.zeros(30, 0)), "got log_weights [30, 0]"),
        (lambda: rhat(torch.zeros(100)), "at least 2 dimensions"),
        (lambda: ess_bulk(torch.zeros(4, 3)), "at least 4"),
        (lambda: ess_tail(torch.full((4, 10), math.inf)), "infinite"),
    ],
)
def test_what_does_not_fit_gets_one_sentence(call, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        call()
