"""The words of a configuration are the names of what they build: `posterior=last_layer` builds `LastLayer`."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

import bayesrl
from bayesrl.posteriors import SGMCMC

CONFIGS = Path(bayesrl.__file__).parent / "configs"
# A word that names the use of a class or builder with settings of its own, or the dynamics of a sampler.
PRESETS = {
    "posterior": {"world": "Hypermodel"},
    "likelihood": {"dynamics": "WithFlag"},
    "network": {"dueling": "mlp", "normalized": "mlp", "smooth": "mlp", "atari": "cnn", "gru": "recurrent"},
    "exploration": {"optimistic": "OptimisticIndexSampling"},
}
WORDS = [(group, path.stem) for group in PRESETS for path in sorted((CONFIGS / group).glob("*.yaml"))]


def node(group: str, word: str) -> DictConfig:
    """A file of a group over the files of the group that its `defaults` name."""
    own = OmegaConf.load(CONFIGS / group / f"{word}.yaml")
    assert isinstance(own, DictConfig)
    bases = [base for base in own.pop("defaults", []) if isinstance(base, str) and base != "_self_"]
    return OmegaConf.merge(*(node(group, base) for base in bases), own)  # type: ignore[return-value]


def snake_case(name: str) -> str:
    return name.lower() if name.isupper() else re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


@pytest.mark.parametrize(("group", "word"), WORDS)
def test_a_word_is_the_name_of_what_it_builds(group: str, word: str) -> None:
    config = node(group, word)
    name = get_object(config["_target_"]).__name__
    if word in PRESETS[group]:
        assert name == PRESETS[group][word]
    elif name == "SGMCMC":  # one sampler; the word names its dynamics
        default = inspect.signature(SGMCMC).parameters["optimizer"].default.func
        dynamics = get_object(config["optimizer"]["_target_"]) if "optimizer" in config else default
        assert snake_case(dynamics.__name__) == word
    else:
        assert snake_case(name) == word


def test_every_preset_is_a_word() -> None:
    assert {(group, word) for group, words in PRESETS.items() for word in words} <= set(WORDS)
