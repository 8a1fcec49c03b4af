"""Contract tests for posteriors: a test class that defines one factory inherits a test of every property.

    class TestMyPosterior(PosteriorContract):
        def make(self, network: Network) -> Learner:
            return MyPosterior(network)

pytest collects the inherited tests. A mixin before the contract changes their inputs and their network, as in `class
TestMyPosteriorInDouble(Double, TestMyPosterior)`:

    Double       double precision
    Indices      inputs that are indices of ones
    Images       images and a convolutional network
    Sequences    windows of observations and a recurrent network

`DrawsContract` tests a `Posterior` that is not a `Learner`.

Shapes: n draws, B batch, A outputs.
"""

from __future__ import annotations

import copy
import io

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from bayesrl.networks.builders import cnn, mlp, recurrent
from bayesrl.networks.network import Network
from bayesrl.posteriors import Batch, Learner, Posterior
from bayesrl.rl.observation_windows import window


class DrawsContract:
    """Tests of the `Posterior` interface; a subclass defines `make`.

    Attributes:
        shape: shape of an input.
        outputs: A.
        dtype: data type of weights and of floating-point inputs.
    """

    shape: tuple[int, ...] = (3,)
    outputs: int = 2
    dtype: torch.dtype = torch.float32

    def make(self, network: Network) -> Posterior:
        """Return a new posterior over functions [B, *shape] -> [B, A]."""
        raise NotImplementedError

    def network(self) -> Network:
        """Return a small network [B, *shape] -> [B, A]."""
        return mlp(self.shape, self.outputs, hidden=[32, 32], prior=[16])

    def fresh(self, seed: int = 0) -> Posterior:
        """Seed torch and return a new posterior of the data type."""
        torch.manual_seed(seed)
        return self.make(self.network()).to(self.dtype)

    def inputs(self, B: int = 7, seed: int = 1) -> Tensor:
        """Return inputs, [B, *shape]."""
        return torch.randn(B, *self.shape, generator=torch.Generator().manual_seed(seed), dtype=self.dtype)

    def test_shapes(self) -> None:
        """Indices, draws, paired draws and means have the documented shapes, also for n = 0."""
        posterior, x = self.fresh(), self.inputs()
        z = posterior.index(5)
        assert z.shape[0] == 5
        assert posterior(z, x).shape == (5, 7, self.outputs)
        assert posterior.paired(posterior.index(7), x).shape == (7, self.outputs)
        assert posterior.mean(x).shape == (7, self.outputs)
        assert posterior.index(0).shape[0] == 0

    def test_equal_index_is_the_same_function(self) -> None:
        """An index selects one function, whatever other indices and inputs are evaluated with it."""
        posterior, x = self.fresh(), self.inputs()
        z = posterior.index(5)
        assert torch.equal(posterior(z, x), posterior(z, x))
        assert torch.allclose(posterior(z[2:4], x), posterior(z, x)[2:4], atol=1e-5)
        assert torch.allclose(posterior(z, x[2:5]), posterior(z, x)[:, 2:5], atol=1e-5)

    def test_paired_is_the_diagonal_of_forward(self) -> None:
        """`paired` evaluates draw i on input i."""
        posterior, x = self.fresh(), self.inputs()
        z = posterior.index(7)
        diagonal = posterior(z, x)[torch.arange(7), torch.arange(7)]
        assert torch.allclose(posterior.paired(z, x), diagonal, atol=1e-5)

    def test_functions_are_the_draws_on_batches_of_their_own(self) -> None:
        """`functions` evaluates draw i on batch i."""
        posterior = self.fresh()
        z, x = posterior.index(3), torch.stack([self.inputs(seed=seed) for seed in (1, 2, 3)])
        each = posterior.functions(z)(x)
        assert each.shape == (3, 7, self.outputs)
        assert torch.allclose(each, torch.stack([posterior(z, x[i])[i] for i in range(3)]), atol=1e-5)

    def test_index_follows_its_generator(self) -> None:
        """A generator determines the indices; with one, torch's global random state does not change."""
        posterior = self.fresh()
        first, again = (posterior.index(6, torch.Generator().manual_seed(3)) for _ in range(2))
        assert torch.equal(first, again)
        before = torch.get_rng_state()
        posterior.index(6, torch.Generator().manual_seed(3))
        posterior.central(6)
        posterior.mean(self.inputs())
        assert torch.equal(before, torch.get_rng_state()), "drawing from a generator changed the global random state"

    def test_mean_is_the_mean_of_draws(self) -> None:
        """`mean` agrees with the average of 2,000 draws within 5 standard errors, at each of 14 values.

        The standard error includes that of the 100 draws of the default `mean`. By chance, the test fails for one of
        100,000 seeds.
        """
        posterior, x = self.fresh(), self.inputs()
        draws = posterior(posterior.index(2000), x)
        averaged = type(posterior).mean is Posterior.mean
        error = draws.std(0) * (1 / 2000 + (1 / 100 if averaged else 0)) ** 0.5
        assert ((draws.mean(0) - posterior.mean(x)).abs() <= 5 * error + 1e-4).all()

    def test_central_indices_average_to_the_mean(self) -> None:
        """The functions of `central` average to the mean of 2,000 draws, within 5 standard errors at each output.

        The standard error includes that of the average over `central`, unless it is a single index. By chance, the test
        fails for one of 100,000 seeds.
        """
        posterior, x = self.fresh(), self.inputs()
        draws, z = posterior(posterior.index(2000), x), posterior.central(100)
        assert len(z) <= 100 and torch.equal(z, posterior.central(100)) and len(posterior.central(2)) <= 2
        error = draws.std(0) * (1 / 2000 + (len(z) > 1) / len(z)) ** 0.5
        assert ((draws.mean(0) - posterior(z, x).mean(0)).abs() <= 5 * error + 1e-4).all()

    def test_tags_and_bootstrap(self) -> None:
        """Weights and perturbations have one value for each draw and observation; weights are not negative."""
        posterior = self.fresh()
        z, tags = posterior.index(4), posterior.tags(9)
        weight, shift = posterior.bootstrap(z, tags)
        assert tags.shape[0] == 9
        assert weight.shape == shift.shape == (4, 9)
        assert (weight >= 0).all()

    def test_snapshot_and_saved_are_the_same(self) -> None:
        """A snapshot, and a posterior that loads the saved state, are the same functions; a snapshot is frozen."""
        one, other, x = self.fresh(0), self.fresh(1), self.inputs()
        z = one.index(5)
        file = io.BytesIO()
        torch.save(one.state_dict(), file)
        file.seek(0)
        other.load_state_dict(torch.load(file, weights_only=True))
        frozen = one.snapshot()
        assert not any(p.requires_grad for p in frozen.parameters())
        assert torch.equal(frozen(z, x), one(z, x))
        assert torch.equal(other(z, x), one(z, x))


class PosteriorContract(DrawsContract):
    """Tests of the `Posterior` and `Learner` interfaces; a subclass defines `make`."""

    def make(self, network: Network) -> Learner:
        """Return a new learner over functions [B, *shape] -> [B, A]."""
        raise NotImplementedError

    def fresh(self, seed: int = 0) -> Learner:
        """Seed torch and return a new learner of the data type."""
        torch.manual_seed(seed)
        return self.make(self.network()).to(self.dtype)

    def batch(self, posterior: Learner, z: Tensor, B: int = 32, seed: int = 2) -> Batch:
        """Return a batch with the targets sin(x_0 + action) for every draw."""
        generator = torch.Generator().manual_seed(seed)
        x = self.inputs(B, seed)
        action = torch.randint(self.outputs, (B,), generator=generator)
        y = torch.sin(x.flatten(1)[:, 0] + action).expand(len(z), B).to(self.dtype)
        weight, _ = posterior.bootstrap(z, posterior.tags(B))
        return Batch(x, action, y, weight, torch.tensor(float(B), dtype=self.dtype))

    @staticmethod
    def learn(posterior: Learner, batch: Batch, z: Tensor) -> dict[str, Tensor]:
        """Make one update, with the same random numbers at every call."""
        torch.manual_seed(7)
        return posterior.learn(batch, z)

    def test_snapshot_stands_still(self) -> None:
        """Updates change the posterior and not its snapshot."""
        posterior, x = self.fresh(), self.inputs()
        z = posterior.index(posterior.draws)
        frozen = posterior.snapshot()
        assert not any(p.requires_grad for p in frozen.parameters())
        with torch.no_grad():
            before = posterior(z, x)
            assert torch.equal(frozen(z, x), before)
        for _ in range(3):
            posterior.learn(self.batch(posterior, z), z)
        with torch.no_grad():
            assert torch.equal(frozen(z, x), before)
            assert not torch.equal(posterior(z, x), before)

    def test_learning_lowers_the_loss(self) -> None:
        """150 updates on a fixed batch reduce the mean squared error of the draws to less than a half."""
        posterior = self.fresh()
        z = posterior.index(posterior.draws)
        batch = self.batch(posterior, z)
        assert batch.action is not None

        def error() -> Tensor:
            out = posterior(z, batch.x)
            taken = out.gather(-1, batch.action.expand(len(z), -1)[..., None])[..., 0]  # type: ignore[union-attr]
            return (batch.weight * (taken - batch.y).square()).mean()

        before = error()
        for _ in range(150):
            info = posterior.learn(batch, posterior.index(posterior.draws) if posterior.draws > 1 else z)
        assert info["loss"].shape == () and info["loss"].isfinite()
        assert error() < before / 2

    def test_weight_zero_teaches_nothing(self) -> None:
        """The targets of observations with a weight of 0 have no effect on an update."""
        one, other = self.fresh(), self.fresh()
        z = one.index(one.draws)
        torch.manual_seed(5)
        batch = self.batch(one, z)
        weight = batch.weight.clone()
        weight[:, ::2] = 0
        corrupted = batch.y.clone()
        corrupted[:, ::2] = 100.0
        self.learn(one, batch._replace(weight=weight), z)
        self.learn(other, batch._replace(weight=weight, y=corrupted), z)
        for p, q in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(p, q)

    def test_learn_is_one_graph(self) -> None:
        """A graph of `learn` that is traced on one batch agrees with eager execution on another.

        `learn` therefore has no synchronization and no branch on data.
        """
        eager = self.fresh()
        z = eager.index(eager.draws)
        torch.manual_seed(5)
        first, second = self.batch(eager, z, seed=2), self.batch(eager, z, seed=3)
        traced = copy.deepcopy(eager)
        graph = make_fx(lambda x, a, y, w, s, z: self.learn(traced, Batch(x, a, y, w, s), z))(*first, z)
        self.learn(eager, first, z)
        loss = self.learn(eager, second, z)["loss"]
        torch.manual_seed(7)
        with torch.no_grad():
            assert torch.allclose(graph(*second, z)["loss"], loss, rtol=1e-5)
        for p, q in zip(eager.parameters(), traced.parameters(), strict=True):
            assert torch.allclose(p, q, atol=1e-6)

    def test_saved_and_loaded_goes_on_the_same(self) -> None:
        """A posterior that loads the saved state, and a deep copy, learn exactly as the original does."""
        one, other = self.fresh(0), self.fresh(1)
        z = one.index(one.draws)
        torch.manual_seed(5)
        batch = self.batch(one, z)
        self.learn(one, batch, z)
        file = io.BytesIO()
        torch.save(one.state_dict(), file)
        file.seek(0)
        other.load_state_dict(torch.load(file, weights_only=True))
        copied = copy.deepcopy(one)
        for posterior in (one, other, copied):
            self.learn(posterior, batch, z)
        for p, q, r in zip(one.parameters(), other.parameters(), copied.parameters(), strict=True):
            assert torch.equal(p, q)
            assert torch.equal(p, r)

    def test_precision_can_be_changed(self) -> None:
        """Conversion to the other precision and back preserves the functions to single precision, and learning."""
        posterior = self.fresh()
        z, x = posterior.index(posterior.draws), self.inputs()
        with torch.no_grad():
            before = posterior(z, x)
        moved = copy.deepcopy(posterior).to(torch.float64 if self.dtype == torch.float32 else torch.float32)
        assert moved.mean(x.to(next(moved.parameters()).dtype) if x.is_floating_point() else x).dtype != self.dtype
        moved.to(self.dtype)
        with torch.no_grad():
            assert torch.allclose(moved(z, x), before, atol=1e-5)
        assert moved(z, x).dtype == self.dtype
        assert moved.learn(self.batch(moved, z), z)["loss"].isfinite()


class Double:
    """Mixin for the contract in double precision."""

    dtype = torch.float64


class Indices:
    """Mixin for inputs that are indices of ones, as in DeepSea and Discrete spaces, [B, 2]."""

    shape: tuple[int, ...] = (2,)
    outputs: int

    def network(self) -> Network:
        return mlp(self.shape, self.outputs, 9, hidden=[32, 32], prior=[16])

    def inputs(self, B: int = 7, seed: int = 1) -> Tensor:
        return torch.randint(10, (B, 2), generator=torch.Generator().manual_seed(seed))


class Images:
    """Mixin for images, [B, 6, 5, 2] with channels last, and a convolutional network."""

    shape: tuple[int, ...] = (6, 5, 2)
    outputs: int

    def network(self) -> Network:
        return cnn(self.shape, self.outputs, convolutions=[[8, 3, 1, 1], [8, 3, 2, 0]], hidden=[32], prior=[16])


class Sequences:
    """Mixin for windows of 3 observations of 2 numbers, each after a flag, [B, 3, 3], and a recurrent network."""

    shape: tuple[int, ...] = (3, 3)
    outputs: int
    dtype: torch.dtype

    def network(self) -> Network:
        return recurrent((2,), self.outputs, history=3, units=16, hidden=[16], prior=[8])

    def inputs(self, B: int = 7, seed: int = 1) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        real = torch.arange(3) >= torch.randint(3, (B, 1), generator=generator)
        return window(torch.randn(B, 3, 2, generator=generator, dtype=self.dtype), real)
