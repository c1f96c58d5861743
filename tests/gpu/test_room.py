"""A device whose memory is short: batches are halved, remembered so, and give the same numbers."""

import pytest
import torch
from pyscf import gto

from deeph_zero.jobs.workers import outcomes
from deeph_zero.kohnsham import KohnSham
from deeph_zero.kohnsham.batch import KohnShamBatch
from deeph_zero.ks.batch.padded import PaddedBucket
from deeph_zero.ks.parallel import room as room_module
from deeph_zero.ks.parallel.graphs import GRAPHS_HERE
from deeph_zero.ks.parallel.room import SHARE, STACK_SHARE, Room, free_bytes
from deeph_zero.prepared.molecule import AO_MEMORY_MB, ao_memory

from . import test_labels, test_predictions

pytestmark = pytest.mark.gpu


class Full:
    """Stacks of at most two molecules fit; tells what was tried."""

    def __init__(self, monkeypatch, most=2):
        self.tried, self.released = [], 0
        real, release = PaddedBucket.__init__, GRAPHS_HERE.release

        def make(bucket, layers, *more):
            self.tried.append(len(layers))
            if len(layers) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
            real(bucket, layers, *more)

        def give_back():
            self.released += 1
            release()

        monkeypatch.setattr(PaddedBucket, "__init__", make)
        monkeypatch.setattr(GRAPHS_HERE, "release", give_back)


def moles(n):
    return [
        gto.M(atom=f"H 0 0 0; H .1 .2 {0.7 + 0.02 * k}", basis="sto-3g", verbose=0)
        for k in range(n)
    ]


def batch(n):
    return KohnShamBatch.from_pyscf(moles(n), xc="pbe", grid_level=0, device="cuda")


def assert_same(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.cpu(), other.cpu(), rtol=1e-12, atol=1e-12)


WORK = {
    "build": lambda b, dms: [one.fock for one in b.build(dms)],
    "response": lambda b, dms: b.response(dms, dms),
    "density": lambda b, dms: b.density(dms),
    "filled": lambda b, dms: [dm for dm, _ in b.batch.filled(b.to_layers(dms), 0.0)],
    "steps": lambda b, dms: b.dielectric_steps(dms, dms),
    "scf": lambda b, dms: [one.dm for one in b.scf(dms)],
}


@pytest.mark.parametrize("name", WORK)
def test_each_call_of_a_batch_is_done_in_halves(monkeypatch, name):
    some = batch(4)
    dms = [one.data.dm_guess for one in some.layers]
    wanted = WORK[name](batch(4), dms)
    full = Full(monkeypatch)
    assert_same(WORK[name](some, dms), wanted)
    assert full.tried[0] == 4
    assert full.released >= 1
    assert set(full.tried[1:]) == {2}
    counted = {"build": 1, "response": 1}.get(name)
    assert counted is None or {one.fock_builds for one in some.layers} == {counted}
    full.tried.clear()
    WORK[name](some, dms)  # once was enough
    assert max(full.tried, default=0) <= 2


def test_gradients_through_a_halved_batch(monkeypatch):
    Full(monkeypatch)
    some = batch(3)
    dms = [one.data.dm_guess.clone().requires_grad_() for one in some.layers]
    energies, _ = some(dms)
    found = torch.autograd.grad(energies.sum(), dms)
    assert_same(found, [one.fock for one in some.build([dm.detach() for dm in dms])])


def test_a_molecule_that_does_not_fit_alone(monkeypatch):
    Full(monkeypatch, most=0)
    some = batch(2)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        some.build([one.data.dm_guess for one in some.layers])


def test_predictions_remember_how_many_fit(monkeypatch):
    model, alone = test_predictions.model("cuda"), test_predictions.model("cpu")
    molecules = [test_predictions.hydrogen(k) for k in range(3)]
    full = Full(monkeypatch)
    found = model.predict_all(molecules, coupled=False)
    for one, molecule in zip(found, molecules, strict=True):
        assert one.energy == pytest.approx(alone.predict(molecule, coupled=False).energy, abs=1e-8)
    full.tried.clear()
    model.predict_all(molecules, coupled=False)
    assert max(full.tried) == 1


@pytest.mark.parametrize("where", ["in a stack", "around"])
def test_labels_remember_how_many_fit(monkeypatch, where):
    from deeph_zero.jobs import label

    def solve(batch, *more, **settings):
        tried.append(len(batch))
        if where == "around" and len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return real(batch, *more, **settings)

    tried, real = [], KohnShamBatch.scf
    if where == "in a stack":
        Full(monkeypatch)
    monkeypatch.setattr(KohnShamBatch, "scf", solve)
    monkeypatch.setattr(label, "TOGETHER", 4)
    tasks = iter(enumerate(test_labels.hydrogens(7)))
    found = list(outcomes(test_labels.job(), tasks, workers=1, threads=1))
    assert [one.error for one in found] == [None] * 7
    assert [one.task[0] for one in found] == list(range(7))
    assert tried == ([4, 2] if where == "in a stack" else [4, 2, 2, 2])


def test_room():
    def work(some):
        tried.append(len(some))
        if len(some) > 3:
            raise torch.OutOfMemoryError
        return [2 * one for one in some]

    room, tried = Room(8), []
    assert room.over(work, range(8)) == [2 * k for k in range(8)]
    assert tried == [8, 4, 2, 2, 2, 2]
    assert room.over(work, []) == []
    with pytest.raises(torch.OutOfMemoryError):
        Room(2).over(lambda _: work(range(4)), [0, 1])


def card(monkeypatch, free, total):
    monkeypatch.setattr(room_module, "free_bytes", lambda _: free)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (free, total))


def test_what_torch_holds_and_does_not_use_is_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (7 * 10**9, 10**10))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda *_: 5 * 10**8)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda *_: 2 * 10**8)
    assert free_bytes("cuda") == 73 * 10**8
    assert ao_memory(torch.device("cuda")) == pytest.approx(SHARE * 7300)
    assert ao_memory("cpu") == AO_MEMORY_MB


@pytest.mark.parametrize(("free", "total"), [(10**9, 10**9), (40_000, 40_000), (10**9, 10**10)])
def test_ao_values_take_no_more_than_the_card_has(monkeypatch, free, total):
    """Of a large card, of one with room for some of them, of one that others use."""
    here = KohnSham.from_pyscf(moles(1)[0], xc="pbe", grid_level=0)
    card(monkeypatch, free, total)
    there = KohnSham.from_pyscf(moles(1)[0], xc="pbe", grid_level=0, device="cuda")
    wanted, needed = here.build(here.data.dm_guess), here.data.grid.memory_bytes
    assert SHARE * 40_000 < needed < SHARE * 10**9
    assert there.data.grid.memory_bytes == min(needed, SHARE * free)
    for _ in range(2):
        assert_same([there.build(there.data.dm_guess).fock], [wanted.fock])
    # a block is kept whole or not at all
    assert there.data.grid.kept_bytes == (needed if free == total == 10**9 else 0)


def test_a_stack_leaves_room_beside_it(monkeypatch):
    some = batch(4)
    dms = [one.data.dm_guess for one in some.layers]
    wanted = [one.fock for one in batch(4).build(dms)]
    naux = some.layers[0].data.coulomb.cderi.shape[0]
    three = 3 * 8 * naux * (3 + 4)
    card(monkeypatch, int(three / STACK_SHARE), 10**10)
    full = Full(monkeypatch, most=9)
    assert_same([one.fock for one in some.build(dms)], wanted)
    assert full.tried == [4, 2, 2]
    card(monkeypatch, 1, 10**10)  # one alone is tried, whatever is said to be free
    assert_same([one.fock for one in batch(2).build(dms[:2])], wanted[:2])
    assert full.tried[3:] == [2, 1, 1]


def test_one_molecule_says_so_in_one_line(capsys, tmp_path, monkeypatch):
    from deeph_zero.cli.main import entry_point

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GB")

    monkeypatch.setattr(KohnSham, "scf", full)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "h.xyz").write_text("2\n\nH 0 0 0\nH 0 0 .7\n")
    words = ["label", "h.xyz", "-o", "h.h5", "--device", "cuda", "--basis", "sto-3g"]
    assert entry_point([*words, "--grid-level", "0", "--threads", "1"]) != 0
    assert "out of memory" in capsys.readouterr().err
