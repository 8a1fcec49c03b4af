"""What an agent sees of each space, written out."""

import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Graph, MultiBinary, MultiDiscrete, Sequence, Text, Tuple
from gymnasium.vector.utils import batch_space

from bayesrl.envs import flatten, observation_layout
from bayesrl.envs.spaces import OneHot, from_json, to_json

IMAGE = Box(0, 255, (2, 2, 1), np.uint8)
FLOAT = Box(-1, 1, (2,), np.float32)

LAYOUTS = [
    (FLOAT, (2,), "float32", 0),
    (Box(-np.inf, np.inf, (2, 3), np.float64), (6,), "float32", 0),
    (Box(0, 1, (), np.float32), (1,), "float32", 0),
    (IMAGE, (2, 2, 1), "uint8", 0),
    (Box(0, 255, (2, 2), np.uint8), (4,), "float32", 0),
    (Box(0, 255, (2, 2, 1), np.int32), (4,), "float32", 0),
    (Box(0, 1, (2, 2, 2), np.uint8), (8,), "float32", 0),
    (Box(0, 1, (2, 2), np.int64), (4,), "float32", 0),
    (Box(-1, 1, (3,), np.int8), (3,), "float32", 0),
    (Discrete(4), (1,), "int64", 4),
    (Discrete(4, start=-2), (1,), "int64", 4),
    (OneHot((2, 3)), (1,), "int64", 6),
    (MultiBinary(3), (3,), "float32", 0),
    (MultiBinary([2, 2]), (4,), "float32", 0),
    (MultiDiscrete([2, 3]), (2,), "int64", 5),
    (MultiDiscrete([[2, 3], [1, 2]]), (4,), "int64", 8),
    (Tuple([Discrete(2), MultiBinary(2)]), (4,), "float32", 0),
    (Tuple([Discrete(2), MultiDiscrete([3, 2])]), (3,), "int64", 7),
    (Tuple([Discrete(2), FLOAT]), (4,), "float32", 0),
    (Tuple([IMAGE, IMAGE]), (8,), "uint8", 0),
    (Tuple([IMAGE, Discrete(2)]), (6,), "float32", 0),
    (Dict(b=FLOAT, a=Tuple([Discrete(3), Discrete(2)])), (7,), "float32", 0),
]


@pytest.mark.parametrize(("space", "shape", "dtype", "categories"), LAYOUTS, ids=lambda value: str(value)[:40])
def test_layout_and_what_flatten_returns_agree(space, shape, dtype, categories):
    assert observation_layout(space) == (shape, dtype, categories)
    batched = batch_space(space, 3)
    batched.seed(0)
    out = flatten(space, batched.sample())
    assert (out.shape, out.dtype) == ((3, *shape), np.dtype(dtype))
    if categories:
        assert 0 <= out.min() <= out.max() <= categories


@pytest.mark.parametrize(
    ("space", "batch", "wanted"),
    [
        (FLOAT, np.array([[0.5, -1]]), [[0.5, -1]]),
        (Box(0, 9, (2, 2), np.int64), np.array([[[1, 2], [3, 4]]]), [[1, 2, 3, 4]]),
        (Discrete(3), np.array([2, 0]), [[2], [0]]),
        (Discrete(3, start=5), np.array([5, 7]), [[0], [2]]),
        (OneHot((2, 2)), np.array([[[0, 0], [1, 0]], [[0, 0], [0, 0]]]), [[2], [4]]),
        (MultiDiscrete([2, 3]), np.array([[1, 0], [0, 2]]), [[1, 2], [0, 4]]),
        (MultiDiscrete([2, 3], start=[1, -1]), np.array([[2, -1]]), [[1, 2]]),
        (Tuple([OneHot((2,)), Discrete(3)]), (np.array([[0, 1], [0, 0]]), np.array([2, 0])), [[1, 4], [5, 2]]),
        (Tuple([OneHot((2,)), FLOAT]), (np.array([[0, 0]]), np.array([[0.5, 1]])), [[0, 0, 0.5, 1]]),
        (MultiBinary(3), np.array([[1, 0, 1]]), [[1, 0, 1]]),
        (
            Dict(b=FLOAT, a=Discrete(2)),  # the space's order, whatever the batch's
            {"a": np.array([1, 0]), "b": np.array([[0.5, 0.25], [-1, 1]])},
            [[0.5, 0.25, 0, 1], [-1, 1, 1, 0]],
        ),
        (Tuple([FLOAT, Discrete(2)]), (np.array([[0.5, 0.25]]), np.array([1])), [[0.5, 0.25, 0, 1]]),
        (
            Dict(outer=Dict(inner=Discrete(2)), image=IMAGE),
            {"outer": {"inner": np.array([0])}, "image": np.full((1, 2, 2, 1), 255)},
            [[1, 0, 255, 255, 255, 255]],
        ),
    ],
)
def test_flatten_by_hand(space, batch, wanted):
    np.testing.assert_array_equal(flatten(space, batch), wanted)


def test_an_image_keeps_its_pixels():
    batch = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1)
    out = flatten(IMAGE, batch)
    np.testing.assert_array_equal(out, batch)
    assert out is not batch


def test_a_vector_environment_s_batches_are_what_flatten_takes():
    envs = gym.make_vec("FrozenLake-v1", 2, "sync")
    obs, _ = envs.reset(seed=0)
    np.testing.assert_array_equal(flatten(envs.single_observation_space, obs), [[0], [0]])


@pytest.mark.parametrize(
    "space", [Graph(FLOAT, None), Sequence(FLOAT), Text(3), Dict(a=Text(3)), Dict(), Tuple([])], ids=str
)
def test_other_spaces_are_refused_in_one_sentence(space):
    with pytest.raises(ValueError, match=r"got observation space .*, wanted Box, Discrete, .*; wrap the environment"):
        observation_layout(space)


@pytest.mark.parametrize(
    "space",
    [
        Discrete(3, start=-2),
        MultiDiscrete([2, 5], start=[1, 0]),
        MultiBinary([2, 3]),
        OneHot((4, 4)),
        Box(0, 255, (3, 3, 1), np.uint8),
        Box(np.array([-np.inf, 0.1], np.float32), np.array([1.0, np.inf], np.float32)),
        Dict({"b": Tuple([Box(-np.inf, np.inf, (2, 2)), Discrete(2)]), "a": OneHot((3,))}),
    ],
)
def test_json_gives_the_same_space(space):
    again = from_json(json.loads(json.dumps(to_json(space), allow_nan=False)))
    assert again == space and type(again) is type(space) and observation_layout(again) == observation_layout(space)
