"""Pairs of tensors and a document: a round trip, every moment of a crash, and damaged files."""

import errno
import hashlib
import json
import os
import pathlib

import pytest
import torch

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host import tensor_files
from deeph_zero.host.tensor_files import read_pair, write_pair

TENSORS = {
    "weights": torch.arange(6.0).reshape(2, 3).double(),
    "steps": torch.tensor([7]),
    "flag": torch.tensor(data=True),
}


def read(folder, **more):
    return read_pair(folder, "state", what="checkpoint", **more)


@pytest.fixture
def pair(tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_files.time, "sleep", lambda _: None)  # no run goes on beside us
    write_pair(tmp_path, "state", TENSORS, {"step": 1})
    return tmp_path


def test_what_was_written_is_read(tmp_path):
    folder = tmp_path / "new" / "folder"
    write_pair(folder, "state", TENSORS, {"step": 1, "nested": {"a": [1, None]}})
    tensors, document = read(folder)
    assert tensors.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert tensors[name].dtype == value.dtype
        assert torch.equal(tensors[name], value)
    assert (
        document.pop("sha256")
        == hashlib.sha256((folder / "state.safetensors").read_bytes()).hexdigest()
    )
    assert document == {"step": 1, "nested": {"a": [1, None]}}
    assert sorted(p.name for p in folder.iterdir()) == ["state.json", "state.safetensors"]


@pytest.mark.parametrize("place", range(5))
def test_a_death_at_any_moment_leaves_the_old_or_the_new_pair(pair, monkeypatch, place):
    """The process ends before the n-th of: write, write, rename, rename; tensors come first."""
    calls = [0]

    def dying(function):
        def call(*args, **keywords):
            calls[0] += 1
            if calls[0] > place:
                raise KeyboardInterrupt
            return function(*args, **keywords)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(tensor_files, "_write_synced", dying(tensor_files._write_synced))
        patch.setattr(pathlib.Path, "replace", dying(pathlib.Path.replace))
        try:
            write_pair(pair, "state", {"weights": torch.ones(2)}, {"step": 2})
        except KeyboardInterrupt:
            assert place < 4
    tensors, document = read(pair)
    new = place >= 3
    assert document["step"] == 1 + new
    assert torch.equal(tensors["weights"], torch.ones(2) if new else TENSORS["weights"])
    # and the next write finds its way from there
    write_pair(pair, "state", {"weights": torch.zeros(1)}, {"step": 3})
    assert read(pair)[1]["step"] == 3
    assert sorted(p.name for p in pair.iterdir()) == ["state.json", "state.safetensors"]


def test_a_full_disk_leaves_the_old_pair(pair, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ComputationError, match=r"state.safetensors.*No space left"):
            write_pair(pair, "state", {"weights": torch.ones(2)}, {"step": 2})
    assert read(pair)[1]["step"] == 1
    assert sorted(p.name for p in pair.iterdir()) == ["state.json", "state.safetensors"]


def test_a_link_in_the_way_is_not_written_through(pair):
    (pair / "mine").write_text("mine")
    (pair / "state.safetensors.new").symlink_to(pair / "mine")
    write_pair(pair, "state", TENSORS, {"step": 2})
    assert (pair / "mine").read_text() == "mine"
    assert read(pair)[1]["step"] == 2


def test_no_number_that_json_lacks_is_written(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_pair(tmp_path, "state", TENSORS, {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def swap(folder):
    write_pair(folder / "other", "state", {"weights": torch.ones(1)}, {})
    (folder / "other" / "state.json").replace(folder / "state.json")


DAMAGES = {
    "no tensors": (
        lambda f: (f / "state.safetensors").unlink(),
        r"state\.safetensors cannot be read \(No such file",
    ),
    "no document": (
        lambda f: (f / "state.json").unlink(),
        r"state\.json cannot be read \(No such file",
    ),
    "cut tensors": (
        lambda f: (f / "state.safetensors").write_bytes(b"x" * 20),
        r"truncated or not a safetensors file \(20 bytes\)",
    ),
    "empty tensors": (lambda f: (f / "state.safetensors").write_bytes(b""), r"\(0 bytes\)"),
    "no json": (lambda f: (f / "state.json").write_text("{"), "is not valid JSON"),
    "binary json": (lambda f: (f / "state.json").write_bytes(b"\xff\xfe"), "is not valid JSON"),
    "a list": (lambda f: (f / "state.json").write_text("[]"), "which holds a list"),
    "null": (lambda f: (f / "state.json").write_text("null"), "which holds nothing"),
    "no checksum": (lambda f: (f / "state.json").write_text("{}"), "do not belong together"),
    "another pair": (swap, "do not belong together .*; copy both again from one run"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_pair_is_one_line(pair, case):
    damage, words = DAMAGES[case]
    damage(pair)
    with pytest.raises(InputError, match=words) as info:
        read(pair)
    assert "checkpoint" in str(info.value)
    assert len(str(info.value).splitlines()) == 1


def test_the_document_is_checked_before_the_tensors(pair):
    (pair / "state.safetensors").write_bytes(b"x")

    def check(document):
        assert document["step"] == 1
        raise InputError("of another version")

    with pytest.raises(InputError, match="of another version"):
        read(pair, check=check)


def test_a_pickle_is_not_loaded(pair):
    torch.save({"weights": torch.ones(1)}, pair / "state.safetensors")
    blob = (pair / "state.safetensors").read_bytes()
    digest = hashlib.sha256(blob).hexdigest()
    (pair / "state.json").write_text(json.dumps({"sha256": digest}))
    with pytest.raises(InputError, match="not a safetensors file"):
        read(pair)
