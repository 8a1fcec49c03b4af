"""The kernel's products are products, and the captured update that uses them is the update."""

import pytest
import torch
from test_capture import filled, run, twins
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from bayesrl import product
from bayesrl.capture import Captured
from bayesrl.network import mlp
from bayesrl.posteriors import SGMCMC, Ensemble, Hypermodel

SIZES = [(8, 1, 1), (128, 128, 128), (40, 129, 33), (13, 17, 31), (64, 3, 258), (9, 200, 2), (1, 5, 64)]


def error(y: Tensor, a: Tensor, b: Tensor, bias: Tensor | None, relu: bool) -> float:
    """The greatest difference from float64, in units of the bound K eps sum |a| |b| of a sum of K rounded products."""
    exact = a.double() @ b.double() + (0 if bias is None else bias.double())
    exact = exact.relu() if relu else exact
    size = a.double().abs() @ b.double().abs() + (0 if bias is None else bias.double().abs())
    return ((y - exact).abs() / (size * (a.shape[-1] + 1) * torch.finfo(torch.float32).eps)).max().item()


@pytest.mark.parametrize("M, K, N", SIZES)
@pytest.mark.parametrize("batch", [(), (3,)])
def test_products_in_every_layout(M: int, K: int, N: int, batch: tuple[int, ...]) -> None:
    """Rows or columns side by side, parts of larger matrices, one for the batch, every bias, with ReLU and without."""
    product.declare()
    product.load()
    torch.manual_seed(0)
    a, b = torch.randn(*batch, M, K), torch.randn(*batch, K, N)
    wide = torch.randn(*batch, K + 3, 2 * N + 1)
    lefts = [a, a.mT.contiguous().mT, torch.randn(*batch, M + 1, K + 2)[..., 1:, 1:-1], a.new_ones(K).expand(a.shape)]
    rights = [b, b.mT.contiguous().mT, wide[..., 3:, 1:][..., ::2], torch.randn(K, N).expand(b.shape)]
    biases = [None, torch.randn(*batch, M, 1), torch.randn(*batch, 1, N), torch.randn(N)]
    for left in lefts:
        for right in rights:
            for i, bias in enumerate(biases):
                y = torch.ops.bayesrl.product(left, right, bias, i % 2 == 0)
                assert y.shape == (*batch, M, N) and y.is_contiguous()
                assert error(y, left, right, bias, i % 2 == 0) < 1


def test_what_is_no_number_stays_none() -> None:
    """Through the ReLU too, as torch's: a loss that is NaN must be seen."""
    product.declare()
    product.load()
    a = torch.ones(9, 3)
    a[4, 1] = torch.nan
    y = torch.ops.bayesrl.product(a, torch.ones(3, 40), None, True)
    assert y[4].isnan().all() and y.isnan().sum() == 40


def test_only_products_that_pay_are_rewritten() -> None:
    """Of a layer with its ReLU, a small one, one in float64 and a bias for each number, the first alone."""
    module = make_fx(
        lambda x, w, v, bias: (torch.addmm(w[0], x, w).relu() @ v, (x.double() @ w.double()), torch.addmm(bias, x, w))
    )(*(given := (torch.randn(64, 64), torch.randn(64, 64), torch.randn(64, 2), torch.randn(64, 64))))
    product.declare()
    names = [str(node.target) for node in product.rewritten(module, given).graph.nodes]
    assert names.count("bayesrl.product.default") == 1 and "aten.relu.default" not in names
    assert sum("mm" in name for name in names) == 3
    assert sum("mm" in str(node.target) for node in module.graph.nodes) == 4


@pytest.mark.parametrize("missing", ["processor", "compiler"])
def test_without_the_kernel_a_graph_is_compiled_as_it_is(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the rewritten graph would give, nothing but zeros, is not seen."""
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(64, 64, bias=False), torch.randn(64, 64)

    def fails() -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(
        torch.backends.cpu, "get_cpu_capability", lambda: "AVX2" if missing == "processor" else "AVX512"
    )
    monkeypatch.setattr(product, "load", fails)
    monkeypatch.setattr(product, "rewritten", lambda module, given: make_fx(lambda *args: args[0] * 0)(*given))
    graph = Captured(layer.forward, layer, x)
    graph.compile()
    torch.testing.assert_close(graph(x), layer(x))


@pytest.mark.parametrize("posterior", [Hypermodel, Ensemble, SGMCMC])
def test_the_update_with_the_kernel_is_the_update(posterior: type) -> None:
    """Losses within 1e-4 of their size over ten updates of a network whose layers pay, the noise of chains the same."""
    eager, compiled = twins(filled(lambda _: posterior(mlp((3,), 2, hidden=[64, 64])), batch=64))
    z = compiled.posterior.index(compiled.posterior.draws)
    compiled.step = Captured(compiled.update, compiled, compiled.replay.index(64), z)
    compiled.step.compile()
    torch.testing.assert_close(run(eager)[0], run(compiled)[0], rtol=1e-4, atol=0)
