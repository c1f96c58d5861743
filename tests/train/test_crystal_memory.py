"""Solved crystals on disk: taken over where they are the same, solved again where they are not."""

import dataclasses
import json

import pytest
import torch

from deeph_zero.errors import ComputationError
from deeph_zero.train.crystal_memory import Memory
from deeph_zero.train.crystals import TaughtCrystal

from .hydrogen_crystal import crystal, ready


@pytest.fixture(scope="module", params=[(1, 1, 1), (2, 1, 1)], ids=["real", "complex"])
def taught(request):
    """Numbers in the place of a solution: nothing is computed from them here."""
    prepared = ready(kmesh=request.param)
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(prepared.ovlp.values.shape, generator=generator, dtype=torch.float64)
    fock = torch.randn(prepared.fock0.shape, generator=generator, dtype=prepared.fock0.dtype)
    correction = prepared.ovlp.with_values(values)
    return TaughtCrystal(prepared=prepared, correction=correction, fock=fock, fock_builds=9)


@pytest.fixture
def memory(tmp_path, taught):
    found = Memory(tmp_path)
    found.keep(3, crystal(), taught)
    return found


def test_what_was_solved_comes_back_bit_by_bit_for_no_build(tmp_path, memory, taught):
    found = Memory(tmp_path).recall(3, crystal(), taught.prepared)
    assert found is not None
    assert torch.equal(found.correction.values, taught.correction.values)
    assert found.fock.dtype == taught.fock.dtype
    assert torch.equal(found.fock, taught.fock)
    assert (found.fock_builds, found.coarse_builds) == (0, 0)
    assert found.prepared is taught.prepared
    assert memory.recall(2, crystal(), taught.prepared) is None


@pytest.mark.parametrize(
    "other",
    [{"coords": crystal(1).coords}, {"charge": 1}, {"moments": (1.0, 0.0)}],
    ids=lambda changed: next(iter(changed)),
)
def test_another_crystal_in_the_place_is_solved(memory, taught, other):
    assert memory.recall(3, dataclasses.replace(crystal(), **other), taught.prepared) is None


def test_other_kpoints_are_solved(memory, taught):
    more = ready(kmesh=(1, 1, 5))
    assert more.fock0.shape != taught.fock.shape
    assert memory.recall(3, crystal(), more) is None


@pytest.mark.parametrize("how", ["cut", "text", "key", "kind", "gone"])
def test_damaged_files_are_solved_once_more(tmp_path, memory, taught, how):
    folder = tmp_path / "checkpoints"
    tensors, document = folder / "crystal_3.safetensors", folder / "crystal_3.json"
    if how == "cut":
        tensors.write_bytes(tensors.read_bytes()[:-9])
    elif how == "text":
        document.write_text("{")
    elif how == "gone":
        tensors.unlink()
    else:
        found = json.loads(document.read_text())
        found.pop("complex" if how == "key" else "kind")
        document.write_text(json.dumps(found))
    assert memory.recall(3, crystal(), taught.prepared) is None
    memory.keep(3, crystal(), taught)
    assert memory.recall(3, crystal(), taught.prepared) is not None


def test_what_is_forgotten_leaves_other_files_alone(tmp_path, memory, taught):
    memory.keep(1, crystal(), taught)
    other = tmp_path / "checkpoints" / "last.ckpt"
    other.mkdir()
    memory.forget()
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]
    other.rmdir()
    memory.forget()
    assert list(tmp_path.iterdir()) == []
    memory.forget()


def test_a_disk_that_refuses_is_an_error_and_keeps_the_last(memory, taught, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(ComputationError, match="No space left"):
            memory.keep(3, crystal(1), taught)
    assert memory.recall(3, crystal(), taught.prepared) is not None
