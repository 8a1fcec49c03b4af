"""Every posterior obeys the contract on images and on windows too; on vectors in the file of its method."""

from collections.abc import Callable

from bayesrl.networks.network import Network
from bayesrl.posteriors import (
    SGMCMC,
    ConcreteDropout,
    Dropout,
    Ensemble,
    FullRank,
    Hypermodel,
    Laplace,
    LaplaceDiagonal,
    LastLayer,
    Learner,
    LowRank,
    MeanField,
    Point,
)
from bayesrl.testing import Double, Images, PosteriorContract, Sequences

MADE: dict[str, Callable[[Network], Learner]] = {
    "Point": Point,
    "Ensemble": lambda network: Ensemble(network, members=3),
    "Hypermodel": Hypermodel,
    "MeanField": MeanField,
    "LowRank": LowRank,
    "FullRank": FullRank,
    "LastLayer": LastLayer,
    "Laplace": lambda network: Laplace(network, rows=8),
    "LaplaceDiagonal": lambda network: LaplaceDiagonal(network, rows=8),
    "Dropout": lambda network: Dropout(network, draws=5),
    "ConcreteDropout": lambda network: ConcreteDropout(network, draws=5),
    "SGMCMC": lambda network: SGMCMC(network, chains=3),
}


def contract(name: str, *mixins: type) -> type:
    """A class of tests that pytest finds."""
    return type(
        f"Test{name}{mixins[0].__name__}",
        (*mixins, PosteriorContract),
        {"make": lambda self, network: MADE[name](network)},
    )


# Images in single precision, windows in double.
globals().update({made.__name__: made for name in MADE for made in (contract(name, Images),)})
globals().update({made.__name__: made for name in MADE for made in (contract(name, Sequences, Double),)})
