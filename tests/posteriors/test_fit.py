"""Supervised use: training, held-out data, and rejected input."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from bayesrl.likelihoods import Categorical, Gaussian, Heteroscedastic, Histogram
from bayesrl.networks import cnn, mlp, recurrent
from bayesrl.networks.network import Network
from bayesrl.optim import Adam
from bayesrl.posteriors import Batch, Ensemble, Hypermodel, Point
from bayesrl.posteriors.data import Data, predictive_nll


def small(outputs: int = 1, shape: tuple[int, ...] = (1,), size: int = 1) -> Network:
    return mlp(shape, outputs, size=size, hidden=[32, 32], prior=[16])


def wave(N: int = 200, seed: int = 0, noise: float = 0.1) -> tuple[Tensor, Tensor]:
    """y = sin(3 x) + N(0, noise^2) on [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    x = 2 * torch.rand(N, 1, generator=generator) - 1
    return x, torch.sin(3 * x[:, 0]) + noise * torch.randn(N, generator=generator)


FAST = partial(Adam, lr=2e-3)
MAKERS = {
    "point": partial(Point, optimizer=FAST),
    "ensemble": partial(Ensemble, members=5, optimizer=FAST),
    "hypermodel": partial(Hypermodel, optimizer=FAST),
}


# --- what is learned -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
def test_regression(name: str) -> None:
    """The mean is within a root mean square of 0.1 of the truth; with a constant prediction it is 0.7."""
    torch.manual_seed(0)
    x, y = wave()
    posterior = MAKERS[name](small(), likelihood=Gaussian(0.1))
    fitted = posterior.fit(x, y, updates=300, progress=False)
    assert fitted == (300, {}, 300)
    grid = torch.linspace(-0.95, 0.95, 50)[:, None]
    with torch.no_grad():
        assert (posterior.mean(grid) - torch.sin(3 * grid)).square().mean().sqrt() < 0.1


def test_two_targets() -> None:
    torch.manual_seed(0)
    x, y = wave()
    posterior = Point(small(2), optimizer=FAST)
    posterior.fit(x, torch.stack([y, -y], 1), updates=300, progress=False)
    mean, epistemic, aleatoric = posterior.predict(x)
    assert mean.shape == epistemic.shape == aleatoric.shape == (200, 2)
    truth = torch.sin(3 * x)
    assert (mean - torch.cat([truth, -truth], 1)).square().mean().sqrt() < 0.1


@pytest.mark.parametrize("name", MAKERS)
def test_classification(name: str) -> None:
    """Inside or outside of a circle: 95 % of new points right, where the larger class has 64 % of them."""
    torch.manual_seed(0)
    x = 2 * torch.rand(600, 2) - 1
    label = (x.norm(dim=1) < 0.68).long()
    posterior = MAKERS[name](small(2, (2,)), likelihood=Categorical(2))
    posterior.fit(x[:300], label[:300], updates=200, progress=False)
    mean, epistemic, aleatoric = posterior.predict(x[300:])
    assert mean.shape == (300, 2) and epistemic.shape == aleatoric.shape == (300,)
    assert (mean.argmax(-1) == label[300:]).float().mean() > 0.95
    assert (epistemic >= -1e-6).all() and (epistemic + aleatoric <= math.log(2) + 1e-6).all()


def test_images() -> None:
    """A bright row or a bright column in noise: 95 % of new ones right, 50 % by chance."""
    torch.manual_seed(0)
    images, label = torch.randn(300, 8, 8, 1), torch.randint(2, (300,))
    for image, vertical in zip(images, label, strict=True):
        (image.transpose(0, 1) if vertical else image)[torch.randint(8, ())] += 3
    network = cnn((8, 8, 1), 2, convolutions=[(8, 3, 1, 1), (16, 3, 2, 1)], hidden=[32], prior=[16])
    posterior = Point(network, Categorical(2), FAST)
    posterior.fit(images[:200], label[:200], updates=200, batch_size=32, progress=False)
    assert (posterior.predict(images[200:]).mean.argmax(-1) == label[200:]).float().mean() > 0.95


def test_sequences() -> None:
    """Whether the one observation of 8 that carries a mark is positive: 95 % of new ones right, 50 % by chance."""
    torch.manual_seed(0)
    value, marked = torch.randn(500, 8), torch.randint(8, (500,))
    windows = torch.stack([torch.ones(500, 8), value, torch.nn.functional.one_hot(marked, 8).float()], -1)
    label = (value[torch.arange(500), marked] > 0).long()
    network = recurrent((2,), 2, history=8, units=16, hidden=[16], prior=[8])
    posterior = Point(network, Categorical(2), partial(Adam, lr=0.01))
    posterior.fit(windows[:300], label[:300], updates=120, batch_size=64, progress=False)
    assert (posterior.predict(windows[300:]).mean.argmax(-1) == label[300:]).float().mean() > 0.95


def test_double_precision() -> None:
    torch.manual_seed(0)
    x, y = wave(50)
    posterior = Hypermodel(small()).double()
    posterior.fit(x.double(), y.double(), updates=20, held_out=0.2, every=10, progress=False)
    assert posterior.predict(x.double()).mean.dtype == torch.float64


def test_deterministic_after_a_seed() -> None:
    x, y = wave(60)
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        posterior = Ensemble(small(), members=3)
        fitted = posterior.fit(x, y, updates=60, batch_size=16, held_out=0.2, every=20, progress=False)
        results.append((fitted, [p.clone() for p in posterior.parameters()]))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(p, q) for p, q in zip(results[0][1], results[1][1], strict=True))


# --- held-out data ----------------------------------------------------------------------------------------------------


def test_early_stopping_keeps_the_best() -> None:
    """A large net overfits to noise of 1 that it takes for 0.1: fitting stops early and restores the best weights."""
    torch.manual_seed(0)
    x, y = wave(40, noise=1.0)
    test = wave(200, seed=1, noise=1.0)
    posterior = Point(mlp((1,), 1, hidden=[64, 64]))
    fitted = posterior.fit(x, y, updates=3000, held_out=test, every=25, patience=4, progress=False)
    assert list(fitted.nll) == list(range(25, fitted.updates + 1, 25))
    assert fitted.nll[fitted.best] == min(fitted.nll.values())
    assert fitted.updates == fitted.best + 4 * 25 < 3000
    assert predictive_nll(posterior, *test) == pytest.approx(fitted.nll[fitted.best], rel=1e-6)
    assert fitted.nll[fitted.updates] > fitted.nll[fitted.best]


def test_the_last_update_is_looked_at() -> None:
    torch.manual_seed(0)
    fitted = Point(small()).fit(*wave(60), updates=25, held_out=0.5, every=10, progress=False)
    assert list(fitted.nll) == [10, 20, 25]


def test_held_out_data_is_not_learned() -> None:
    """Three of ten observations are held out: no batch contains them, nor does `refresh`, with the others once."""
    seen: list[Tensor] = []

    class Watched(Point):
        def fit_step(self, batch: Batch, z: Tensor) -> dict[str, Tensor]:
            seen.append(batch.x)
            return super().fit_step(batch, z)

        def refresh(self, batches: list[Batch]) -> None:
            self.refreshed = batches

    torch.manual_seed(0)
    x, y = torch.arange(10.0)[:, None], torch.zeros(10)
    posterior = Watched(small())
    posterior.fit(x, y, updates=50, batch_size=4, held_out=0.3, progress=False)
    learned = set(torch.cat(seen).flatten().tolist())
    assert len(learned) == 7
    batches = posterior.refreshed
    assert [b.x.shape[0] for b in batches] == [4, 3]
    assert set(torch.cat([b.x for b in batches]).flatten().tolist()) == learned
    assert all(torch.equal(b.weight, torch.ones(1, len(b.x))) and b.size == 7 for b in batches)


def test_an_epoch_shows_everything_once() -> None:
    """10 observations in batches of 3: nothing twice within 3 batches; fewer than a batch: everything in each."""
    torch.manual_seed(0)
    batches = Data(Point(small()), torch.zeros(10, 1), torch.zeros(10)).shuffled(3)
    epochs = [torch.cat([next(batches) for _ in range(3)]).tolist() for _ in range(20)]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert set().union(*epochs) == set(range(10))
    batches = Data(Point(small()), torch.zeros(10, 1), torch.zeros(10)).shuffled(128)
    assert all(sorted(next(batches).tolist()) == list(range(10)) for _ in range(3))


def test_masks_are_one_bootstrap() -> None:
    """Targets that are spoiled wherever a member's mask is 0 change nothing in it, over 40 updates and 10 epochs."""
    x, y = wave(40)
    mask = torch.rand(40, 3, generator=torch.Generator().manual_seed(0)) < 0.5
    learned = []
    for spoiled in (False, True):
        torch.manual_seed(1)
        posterior = Ensemble(small(), members=3)
        posterior.tags = lambda n: mask  # type: ignore[method-assign]
        posterior.fit(x, torch.where(mask[:, 1], y, 50.0) if spoiled else y, updates=40, batch_size=10, progress=False)
        learned.append(posterior.theta.detach())
    assert torch.equal(learned[0][1], learned[1][1])
    assert not torch.equal(learned[0][0], learned[1][0])


def test_perturbations_are_those_of_the_tags() -> None:
    """Targets of the linear hypermodel are y + sigma_z xi^T c, with the c that is stored with each observation."""
    torch.manual_seed(0)
    posterior = Hypermodel(small(), noise=0.0, perturbation=0.5)
    data = Data(posterior, torch.randn(6, 1), torch.arange(6.0))
    z, index = posterior.index(4), torch.tensor([5, 2, 2])
    batch = data.batch(index, z)
    assert batch.size == 6
    expected = index + 0.5 * z @ data.tags[index].T
    assert batch.y.shape == (4, 3, 1)
    assert torch.allclose(batch.y[..., 0], expected)


# --- what is predicted -----------------------------------------------------------------------------------------------


def test_parts_of_a_point() -> None:
    """One function: nothing epistemic, and the variance of its noise; whatever the number of inputs."""
    torch.manual_seed(0)
    posterior = Point(small(2, size=2), Heteroscedastic(0.3))
    x = torch.randn(600, 1)
    mean, epistemic, aleatoric = posterior.predict(x)
    out = posterior(posterior.index(1), x)
    assert torch.allclose(mean, out[0, :, ::2], atol=1e-6)
    assert epistemic.abs().max() < 1e-12
    assert torch.allclose(aleatoric, posterior.likelihood.variance(out)[0], rtol=1e-5)
    fixed = Point(small(), Gaussian(0.2)).predict(x)
    assert torch.allclose(fixed.aleatoric, torch.full((600, 1), 0.04))


def test_parts_of_members() -> None:
    """Mean and variance over the members' functions, n a multiple of their number."""
    torch.manual_seed(0)
    posterior = Ensemble(small(), members=4)
    x = torch.randn(5, 1)
    f = posterior(torch.arange(4)[:, None], x)
    mean, epistemic, _ = posterior.predict(x)
    assert torch.allclose(mean, f.mean(0), atol=1e-6)
    assert torch.allclose(epistemic, f.var(0, correction=0), atol=1e-6)


def test_nll_of_the_mixture_by_hand() -> None:
    """-log of the mean over members of a product over targets of densities, averaged over observations."""
    torch.manual_seed(0)
    posterior = Ensemble(small(2), members=2, likelihood=Gaussian(0.5))
    x, y = torch.randn(300, 1), torch.randn(300, 2)
    f = posterior(torch.arange(2)[:, None], x)
    density = (torch.exp(-((y - f) ** 2) / (2 * 0.25)) / math.sqrt(2 * math.pi * 0.25)).prod(-1).mean(0)
    assert predictive_nll(posterior, x, y) == pytest.approx(-density.log().mean().item(), rel=1e-4)


def test_nll_of_classes_by_hand() -> None:
    torch.manual_seed(0)
    posterior = Ensemble(small(3), members=2, likelihood=Categorical(3))
    x, y = torch.randn(300, 1), torch.randint(3, (300,))
    p = posterior(torch.arange(2)[:, None], x).softmax(-1).mean(0)
    assert predictive_nll(posterior, x, y) == pytest.approx(-p[torch.arange(300), y].log().mean().item(), rel=1e-4)


# --- what is refused -------------------------------------------------------------------------------------------------

X, Y, LABEL = torch.randn(8, 1), torch.randn(8), torch.zeros(8, dtype=torch.int64)
NAN = Y.index_fill(0, torch.tensor([3]), torch.nan)


@pytest.mark.parametrize(
    ("x", "y", "match"),
    [
        (X, NAN, r"^got targets with nan at \[3\], wanted finite numbers$"),
        (torch.full((8, 1), torch.inf), Y, r"^got inputs with inf at \[0, 0\], wanted finite numbers$"),
        (X[:0], Y[:0], r"^got inputs \[0, 1\] and targets \[0\], wanted as many of both"),
        (X, Y[:5], r"^got inputs \[8, 1\] and targets \[5\], wanted as many of both"),
        (X, torch.tensor(1.0), r"^got inputs \[8, 1\] and targets \[\], wanted as many of both"),
        (X.numpy(), Y, "^got ndarray and Tensor, wanted tensors: use torch.as_tensor$"),
        (X.double(), Y, "^got inputs of torch.float64 for a posterior of torch.float32, wanted the same"),
        (X, Y.half(), "^got targets of torch.float16 for a posterior of torch.float32, wanted the same"),
        (torch.randn(8, 3), Y, r"^got inputs of shape \[3\] and torch.float32 that the network cannot take"),
        (torch.ones(8, 1, dtype=torch.int64), Y, r"^got inputs of shape \[1\] and torch.int64 that the network cannot"),
        (
            X,
            torch.randn(8, 3),
            r"^got targets \[8, 3\] for a network with 1 outputs, 1 for each target, wanted \[N, 1\]",
        ),
        (X, torch.randn(8, 1, 1), r"^got targets \[8, 1, 1\] for a network with 1 outputs"),
        (X, LABEL, r"^got targets of torch.int64, wanted numbers of torch.float32, or classes with"),
    ],
)
def test_data_is_checked(x: Tensor, y: Tensor, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Point(small()).fit(x, y, updates=1, progress=False)


@pytest.mark.parametrize(
    ("y", "outputs", "match"),
    [
        (LABEL + 3, 3, "^got class labels from 3 to 3, wanted 0 to 2$"),
        (LABEL - 1, 3, "^got class labels from -1 to -1, wanted 0 to 2$"),
        (Y, 3, r"^got targets \[8\] of torch.float32, wanted class labels \[N\]: use .long"),
        (LABEL[:, None], 3, r"^got targets \[8, 1\] of torch.int64, wanted class labels \[N\]"),
        (LABEL, 4, "^got a network with 4 outputs for 3 classes, wanted one for each$"),
    ],
)
def test_classes_are_checked(y: Tensor, outputs: int, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Point(small(outputs), Categorical(3)).fit(X, y, updates=1, progress=False)


def test_class_numbers_are_no_targets_of_a_histogram() -> None:
    with pytest.raises(ValueError, match=r"wanted numbers of torch\.float32"):
        Point(small(1, size=51), Histogram()).fit(X, LABEL, updates=1, progress=False)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"updates": 0}, "wanted at least 1"),
        ({"every": 0}, "wanted at least 1"),
        ({"held_out": 1.0}, "got held_out=1.0 of 8 observations"),
        ({"held_out": 0.01}, "got held_out=0.01 of 8 observations"),
        ({"held_out": (X, NAN)}, "got targets with nan"),
    ],
)
def test_options_are_checked(options: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Point(small()).fit(X, Y, progress=False, **options)


def test_divergence_is_told() -> None:
    posterior = Point(small())
    with torch.no_grad():
        posterior.theta.fill_(1e30)
    with pytest.raises(ValueError, match="wanted a finite number: lower the lr"):
        posterior.fit(X, Y, updates=2, progress=False)
