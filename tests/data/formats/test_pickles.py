"""Pickles of strangers: arrays and plain values, and code that is not run."""

import io
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


class Made:
    """Stands for what NumPy's arrays are made with, given something else."""

    def __init__(self, name, *arguments, state=None):
        self.name, self.arguments, self.state = name, arguments, state

    def __reduce__(self):
        make = {"dtype": np.dtype, "_frombuffer": frombuffer, "scalar": scalar}[self.name]
        return (make, self.arguments) if self.state is None else (make, self.arguments, self.state)


frombuffer = np.arange(2.0).__reduce_ex__(5)[0]
scalar = np.float64(1).__reduce__()[0]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Made("_frombuffer", b"12345678", np.dtype("f8")), "expected an array, got a damaged one"),
        (
            Made("_frombuffer", b"1234", np.dtype("f8"), (1,), "C"),
            "got 4 bytes; the file is damaged",
        ),
        (
            Made("_frombuffer", "text", np.dtype("f8"), (1,), "C"),
            "expected an array of numbers, got",
        ),
        (
            Made("_frombuffer", b"12345678", "f8", (1,), "C"),
            "expected an array of numbers, got ano",
        ),
        (
            Made("_frombuffer", b"", np.dtype("f8"), (-1,), "C"),
            "expected an array of numbers, got ano",
        ),
        (Made("_frombuffer", b"", np.dtype("f8"), (2**50,), "C"), "expected an array of numbers"),
        (Made("_frombuffer", b"12345678", np.dtype("M8[s]"), (1,), "C"), "got the type 'M8'"),
        (Made("scalar", np.dtype("f8")), "expected a number, got a damaged one"),
        ({1, 2}, "expected data, got set; only numbers"),
    ],
)
def test_arrays_that_are_none(value, words):
    with pytest.raises(InputError, match=words):
        unpickled(pickle.dumps(value, protocol=4))


def test_what_is_nested_too_deep():
    value = []
    for _ in range(15):
        value = [value]
    assert unpickled(pickle.dumps(value)) == value
    for _ in range(15):
        value = [value]
    with pytest.raises(InputError, match="it is nested too deep"):
        unpickled(pickle.dumps(value))


def test_references_to_what_lies_outside():
    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return "tensor\n7" if obj == "here" else None

    buffer = io.BytesIO()
    Pickler(buffer, protocol=4).dump(["here"])
    with pytest.raises(InputError, match="expected data, got a reference to") as caught:
        unpickled(buffer.getvalue())
    assert "\n" not in str(caught.value)


def test_numbers_of_either_byte_order():
    values = np.arange(5, dtype=">f8")
    found = unpickled(pickle.dumps(values))
    np.testing.assert_array_equal(found, values)
    assert found.dtype.isnative
    assert unpickled(pickle.dumps(b"raw", protocol=2)) == b"raw"
