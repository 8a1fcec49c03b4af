"""Networks as pure functions of a weight vector and a batch."""

from bayesrl.networks.builders import cnn, mlp, recurrent, residual
from bayesrl.networks.layers import GRU, MinGRU
from bayesrl.networks.network import Network

__all__ = ["GRU", "MinGRU", "Network", "cnn", "mlp", "recurrent", "residual"]
