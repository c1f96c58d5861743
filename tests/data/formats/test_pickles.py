"""Pickles of strangers: arrays and plain values, and code that is not run."""

import os
import pickle

import numpy as np
import pytest

from deeph_zero.data.formats.pickles import unpickled
from deeph_zero.errors import InputError

from .conftest import Evil

PLAIN = {
    "a": np.arange(6.0).reshape(2, 3), "b": np.array([1, 2], dtype=np.int32), "c": [1, "x", None],
    "d": {"e": b"raw", "f": 2.5}, "g": np.float64(0.5), "h": np.array([True, False]),
    "i": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "j": np.array(3 + 4j),
}  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_and_plain_values_are_read(protocol):
    found = unpickled(pickle.dumps(PLAIN, protocol=protocol))
    assert found.keys() == PLAIN.keys()
    for key in "abghij":
        np.testing.assert_array_equal(found[key], PLAIN[key])
        assert np.asarray(found[key]).dtype == np.asarray(PLAIN[key]).dtype
    assert found["c"] == [1, "x", None]
    assert found["d"] == PLAIN["d"]


@pytest.mark.parametrize(
    "value",
    [
        Evil(os.system, "touch pwned"),
        Evil(eval, "open('pwned', 'w')"),
        {"a": [np.zeros(2), Evil(np.load, "x")]},
        Evil(np.memmap, "pwned", "w+"),
        np.array([Evil(os.system, "touch pwned")], dtype=object),
        np.array(["text"]),
        np.zeros(2, dtype=[("a", "f8")]),
    ],
)
def test_no_code_is_run(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"only numbers|a whole pickle"):
        unpickled(pickle.dumps(value))
    assert list(tmp_path.iterdir()) == []


def test_damaged_pickles_are_refused():
    whole, lines = pickle.dumps({"a": np.arange(100.0), "b": "x"}), []
    random = np.random.default_rng(1)
    for k in range(300):
        content = bytearray(whole)
        for place in random.integers(0, len(whole), 1 + k % 4):
            content[place] = random.integers(256)
        try:
            unpickled(bytes(content) if k % 2 else bytes(content[: random.integers(len(whole))]))
        except InputError as error:
            lines.append(str(error).count("\n"))
    assert len(lines) > 150
    assert set(lines) == {0}
