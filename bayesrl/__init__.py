"""Bayesian reinforcement learning: posteriors over functions, put to work for decisions.

    import bayesrl

    result = bayesrl.Trainer("CartPole-v1", posterior="ensemble", steps=20_000, seed=0).train()
    action, uncertainty = result.policy(obs)

Names are imported when they are first used, so that `import bayesrl` is fast.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayesrl.version import __version__ as __version__

if TYPE_CHECKING:  # what _MODULES says, for type checkers and editors
    from bayesrl.agents.bayes_ac import BayesAC as BayesAC
    from bayesrl.agents.bayes_dqn import BayesDQN as BayesDQN
    from bayesrl.agents.pets import PETS as PETS
    from bayesrl.agents.psrl import PSRL as PSRL
    from bayesrl.agents.tabular_psrl import TabularPSRL as TabularPSRL
    from bayesrl.agents.uniform import Uniform as Uniform
    from bayesrl.api import load as load
    from bayesrl.api import make_env as make_env
    from bayesrl.deployment.policy import Policy as Policy
    from bayesrl.experiment.result import Result as Result
    from bayesrl.experiment.trainer import Trainer as Trainer
    from bayesrl.likelihoods import Categorical as Categorical
    from bayesrl.likelihoods import Gaussian as Gaussian
    from bayesrl.likelihoods import Heteroscedastic as Heteroscedastic
    from bayesrl.likelihoods import Histogram as Histogram
    from bayesrl.likelihoods import LearnedGaussian as LearnedGaussian
    from bayesrl.likelihoods import Likelihood as Likelihood
    from bayesrl.likelihoods import StudentT as StudentT
    from bayesrl.networks import Network as Network
    from bayesrl.networks import cnn as cnn
    from bayesrl.networks import mlp as mlp
    from bayesrl.networks import recurrent as recurrent
    from bayesrl.networks import residual as residual
    from bayesrl.posteriors import NUTS as NUTS
    from bayesrl.posteriors import SGMCMC as SGMCMC
    from bayesrl.posteriors import ConcreteDropout as ConcreteDropout
    from bayesrl.posteriors import Dropout as Dropout
    from bayesrl.posteriors import Ensemble as Ensemble
    from bayesrl.posteriors import FullRank as FullRank
    from bayesrl.posteriors import Hypermodel as Hypermodel
    from bayesrl.posteriors import Laplace as Laplace
    from bayesrl.posteriors import LaplaceDiagonal as LaplaceDiagonal
    from bayesrl.posteriors import LastLayer as LastLayer
    from bayesrl.posteriors import LinearHypermodel as LinearHypermodel
    from bayesrl.posteriors import LowRank as LowRank
    from bayesrl.posteriors import MeanField as MeanField
    from bayesrl.posteriors import Point as Point
    from bayesrl.posteriors import Posterior as Posterior
    from bayesrl.training.callbacks import Callback as Callback
    from bayesrl.training.callbacks import EarlyStopping as EarlyStopping

# Where each name is found.
_MODULES = {
    "BayesAC": "bayesrl.agents.bayes_ac",
    "BayesDQN": "bayesrl.agents.bayes_dqn",
    "PETS": "bayesrl.agents.pets",
    "PSRL": "bayesrl.agents.psrl",
    "TabularPSRL": "bayesrl.agents.tabular_psrl",
    "Uniform": "bayesrl.agents.uniform",
    "load": "bayesrl.api",
    "make_env": "bayesrl.api",
    "Policy": "bayesrl.deployment.policy",
    "Result": "bayesrl.experiment.result",
    "Trainer": "bayesrl.experiment.trainer",
    "Categorical": "bayesrl.likelihoods",
    "Gaussian": "bayesrl.likelihoods",
    "Heteroscedastic": "bayesrl.likelihoods",
    "Histogram": "bayesrl.likelihoods",
    "LearnedGaussian": "bayesrl.likelihoods",
    "Likelihood": "bayesrl.likelihoods",
    "StudentT": "bayesrl.likelihoods",
    "Network": "bayesrl.networks",
    "cnn": "bayesrl.networks",
    "mlp": "bayesrl.networks",
    "recurrent": "bayesrl.networks",
    "residual": "bayesrl.networks",
    "NUTS": "bayesrl.posteriors",
    "SGMCMC": "bayesrl.posteriors",
    "ConcreteDropout": "bayesrl.posteriors",
    "Dropout": "bayesrl.posteriors",
    "Ensemble": "bayesrl.posteriors",
    "FullRank": "bayesrl.posteriors",
    "Hypermodel": "bayesrl.posteriors",
    "Laplace": "bayesrl.posteriors",
    "LaplaceDiagonal": "bayesrl.posteriors",
    "LastLayer": "bayesrl.posteriors",
    "LinearHypermodel": "bayesrl.posteriors",
    "LowRank": "bayesrl.posteriors",
    "MeanField": "bayesrl.posteriors",
    "Point": "bayesrl.posteriors",
    "Posterior": "bayesrl.posteriors",
    "Callback": "bayesrl.training.callbacks",
    "EarlyStopping": "bayesrl.training.callbacks",
}
__all__ = ["__version__", *_MODULES]


# In a checkout these packages are symbolic links, which git writes as text files where links are switched off.
for _package in ("agents", "envs", "configs"):
    if not (_path := Path(__file__).with_name(_package)).is_dir():
        raise ImportError(
            f"got {'a text file' if _path.exists() else 'nothing'} at {_path}, wanted a symbolic link to the folder "
            f"../{_package}: clone again with `git clone -c core.symlinks=true`, the default on Linux and macOS, "
            "and in developer mode on Windows, or install a wheel"
        )


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'bayesrl' has no attribute {name!r}; it has {', '.join(sorted(_MODULES))}")
    value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
