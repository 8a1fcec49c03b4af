"""Products of matrices by the kernel and by torch's library: `python tests/benchmarks/products.py`.

The sizes of the default network, a batch of 128 and 20 draws; layouts as in a forward pass (N), for the gradient of
inputs (N) and of weights (T). CPU time of one thread, rounds interleaved, medians.
"""

from __future__ import annotations

import statistics
from functools import partial

import torch
from peers import interleaved, ratio

from bayesrl import product

ROUNDS, CALLS = 15, 200
SIZES = [(128, 4, 128), (128, 128, 128), (40, 128, 128), (128, 40, 128), (128, 64, 64), (512, 512, 512)]


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    product.declare()
    product.load()
    print("| M, K, N | library, us | kernel, us | ratio | kernel, GFLOP/s |\n|---|---|---|---|---|")
    for M, K, N in SIZES:
        for layout in ("a w'", "a b", "a' b"):
            a = torch.randn(K, M).T if layout == "a' b" else torch.randn(M, K)
            b = torch.randn(N, K).T if layout == "a w'" else torch.randn(K, N)
            made = {
                "library": partial(torch.mm, a, b),
                "kernel": partial(torch.ops.bayesrl.product.default, a, b, None, False),
            }
            seconds = interleaved(made, ROUNDS, CALLS if M < 512 else 3)
            library, kernel = (statistics.median(values) for values in seconds.values())
            print(
                f"| {M}, {K}, {N}, {layout} | {library * 1e6:.1f} | {kernel * 1e6:.1f} "
                f"| {ratio(seconds['kernel'], seconds['library']):.2f} | {2e-9 * M * K * N / kernel:.0f} |"
            )


if __name__ == "__main__":
    main()
