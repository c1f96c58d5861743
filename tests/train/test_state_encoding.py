"""Nested state as JSON and tensors: everything comes back as what it was, nothing is pickled."""

import collections
import dataclasses
import json
import math

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeph_zero.train.state_encoding import decode_state, encode_state


@dataclasses.dataclass(frozen=True)
class Spec:
    width: int = 3


def _equal(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(_equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple | collections.deque):
        return len(a) == len(b) and all(map(_equal, a, b))
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def test_state_of_every_kind_comes_back_as_what_it_was():
    shared = torch.arange(6.0)
    tree = {
        "a/b": shared[2:],
        "a": {"b": shared.reshape(2, 3).T},
        0: {"step": torch.tensor(3.0), "betas": (0.9, 0.999)},
        "milestones": collections.Counter({10: 1}),
        "queue": collections.deque([1.0, torch.ones(2)], maxlen=4),
        "best": math.inf,
        "nan": math.nan,
        "set": {1, 2},
        "$tensor": "not a tensor",
        "dtype": torch.float64,
        "rng": np.arange(4, dtype=np.uint32),
        "number": np.float64(0.1),
        "empty": [torch.empty(0, 3), {}, [], ()],
        "blob": b"\x00\xff",
        (1, "x"): None,
    }
    document, tensors = encode_state(tree)
    blob = safetensors.torch.save(tensors)
    text = json.dumps(document, allow_nan=False)
    back = decode_state(json.loads(text), safetensors.torch.load(blob))
    assert _equal(tree, back)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)


TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=8,
)


@given(TREES)
@settings(deadline=None, max_examples=25)
def test_nested_state_round_trips(tree):
    document, tensors = encode_state(tree)
    assert _equal(tree, decode_state(json.loads(json.dumps(document)), tensors))


def test_an_object_that_needs_pickle_is_refused_with_its_path():
    with pytest.raises(TypeError, match=r"Spec at /optimizer/0"):
        encode_state({"optimizer": [Spec()]})


def test_saved_tensors_do_not_follow_later_steps():
    weight = torch.zeros(2)
    _, tensors = encode_state([weight])
    weight += 1
    assert tensors["/0"].sum() == 0
