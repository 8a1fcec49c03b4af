"""Posteriors obey the contract on images and on windows too."""

from bayesrl.network import Network
from bayesrl.posteriors import Ensemble, Hypermodel, Learner, Point
from bayesrl.testing import Images, PosteriorContract, Sequences


class PointContract(PosteriorContract):
    def make(self, network: Network) -> Learner:
        return Point(network)


class EnsembleContract(PosteriorContract):
    def make(self, network: Network) -> Learner:
        return Ensemble(network, members=3)


class HypermodelContract(PosteriorContract):
    def make(self, network: Network) -> Learner:
        return Hypermodel(network)


class TestPointOnImages(Images, PointContract): ...


class TestPointOnSequences(Sequences, PointContract): ...


class TestEnsembleOnImages(Images, EnsembleContract): ...


class TestEnsembleOnSequences(Sequences, EnsembleContract): ...


class TestHypermodelOnImages(Images, HypermodelContract): ...


class TestHypermodelOnSequences(Sequences, HypermodelContract): ...
