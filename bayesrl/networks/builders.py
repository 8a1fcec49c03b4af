"""Builders: each makes a `Network` from the shape of an input and the number of outputs.

Shapes: B batch, A outputs, D features, W window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from bayesrl.networks.layers import CNN, MLP, MinGRU, Recurrent, ResidualMLP, Streams
from bayesrl.networks.network import Network


def mlp(
    shape: Sequence[int],
    outputs: int,
    categories: int = 0,
    size: int = 1,
    hidden: Sequence[int] = (128, 128),
    dueling: bool = False,
    normalize: bool = False,
    prior: Sequence[int] = (64, 64),
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> Network:
    """Build a multilayer perceptron [B, *shape] -> [B, A].

    Arguments:
        shape: shape of one input.
        outputs: A.
        categories: length of the binary vector, where inputs are the indices of its ones; else 0.
        size: numbers for each output, the likelihood's `size`.
        hidden: layer widths; the last is D.
        dueling: whether the last layer is a value and an advantage stream, each D wide (Wang et al., 2016).
        normalize: whether LayerNorm precedes every activation (Ba et al., 2016).
        prior: layer widths of frozen prior functions.
        activation: such as `nn.ReLU`, or the smooth `nn.SiLU`; prior functions use ReLU.
    """
    prior_body = MLP(shape, prior, categories)
    if not dueling:
        return Network(MLP(shape, hidden, categories, normalize, activation), outputs, prior=prior_body, size=size)
    if len(hidden) < 2:
        raise ValueError(f"got hidden={list(hidden)} and dueling, wanted two or more layer widths, such as [128, 128]")
    body = Streams(MLP(shape, hidden[:-1], categories, normalize, activation), hidden[-1])
    return Network(body, outputs, True, prior_body, size)


def residual(
    shape: Sequence[int],
    outputs: int,
    categories: int = 0,
    size: int = 1,
    width: int = 128,
    blocks: int = 2,
    expansion: int = 4,
    prior: Sequence[int] = (64, 64),
) -> Network:
    """Build residual blocks with LayerNorm, [B, *shape] -> [B, A] (Lee et al., SimBa, 2025).

    Arguments:
        shape: shape of one input.
        outputs: A.
        categories: length of the binary vector, where inputs are the indices of its ones; else 0.
        size: numbers for each output, the likelihood's `size`.
        width: D.
        blocks: number of residual blocks.
        expansion: width inside a block, in units of D.
        prior: layer widths of frozen prior functions, which are multilayer perceptrons.
    """
    body = ResidualMLP(shape, width, blocks, expansion, categories)
    return Network(body, outputs, prior=MLP(shape, prior, categories), size=size)


SMALL = ((16, 3, 1, 1), (32, 3, 2, 1))


def cnn(
    shape: Sequence[int],
    outputs: int,
    categories: int = 0,
    size: int = 1,
    convolutions: Sequence[Sequence[int]] = SMALL,
    hidden: Sequence[int] = (128,),
    prior: Sequence[int] = (64,),
) -> Network:
    """Build a convolutional network for images, [B, height, width, channels] -> [B, A].

    Arguments:
        shape: shape of one image, [height, width, channels].
        outputs: A.
        categories: 0, as images are not indices.
        size: numbers for each output, the likelihood's `size`.
        convolutions: channels, kernel, stride and padding of each.
        hidden: widths of the dense layers; the last is D.
        prior: widths of the dense layers of frozen prior functions, whose convolutions have half the channels.
    """
    body = CNN(shape, convolutions, hidden)
    return Network(body, outputs, prior=CNN(shape, _halved(convolutions), prior), size=size)


def recurrent(
    shape: Sequence[int],
    outputs: int,
    categories: int = 0,
    size: int = 1,
    history: int = 24,
    units: int = 64,
    hidden: Sequence[int] = (64,),
    convolutions: Sequence[Sequence[int]] = (),
    cell: Callable[[int, int], nn.Module] = MinGRU,
    prior: Sequence[int] = (32,),
) -> Network:
    """Build a recurrent network over the last W observations of an episode, [B, W, 1 + prod(shape)] -> [B, A].

    Arguments:
        shape: shape of one observation.
        outputs: A.
        categories: length of the binary vector, where observations are the indices of its ones; else 0.
        size: numbers for each output, the likelihood's `size`.
        history: W.
        units: width of the cell's state.
        hidden: layer widths of the encoder; the last is also D.
        convolutions: channels, kernel, stride and padding of each, for an encoder of images; empty for other inputs.
        cell: (inputs, units) -> the cell, `MinGRU` or `GRU`.
        prior: layer widths of the encoder of frozen prior functions; the last is also the width of their cell.
    """

    if units < 1:
        raise ValueError(f"got units={units}, wanted 1 or more, such as 64")

    def body(hidden: Sequence[int], units: int, convolutions: Sequence[Sequence[int]]) -> Recurrent:
        encoder = CNN(shape, convolutions, hidden) if convolutions else MLP(shape, hidden, categories)
        return Recurrent(encoder, cell(hidden[-1], units), units, shape, hidden[-1], history)

    prior_body = body(prior, prior[-1], _halved(convolutions))
    return Network(body(hidden, units, convolutions), outputs, prior=prior_body, size=size)


def _halved(convolutions: Sequence[Sequence[int]]) -> list[list[int]]:
    return [[(channels + 1) // 2, *rest] for channels, *rest in convolutions]
