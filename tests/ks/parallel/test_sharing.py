"""Shared work: same numbers as alone, the same bits every time, errors and settings kept."""

import threading

import pytest
import torch
from pyscf import gto
from torch.autograd import gradcheck, gradgradcheck

from deeph_zero.kohnsham import KohnSham
from deeph_zero.kohnsham.batch import KohnShamBatch
from deeph_zero.ks.linalg.packed import pair_index
from deeph_zero.ks.parallel.sharing import (
    available_threads,
    one_thread_each,
    share,
    threads_per_operation,
    working_alone,
)
from deeph_zero.ks.protocol import AOBlock
from deeph_zero.ks.terms import semilocal, two_electron
from deeph_zero.ks.terms.build import second_response
from deeph_zero.ks.terms.two_electron import FittedTensor
from deeph_zero.ks.xc.functional import SemilocalFunctional
from deeph_zero.testing import WATER

TOLERANCE = 1e-12
"""Only the order of sums differs."""


@pytest.fixture
def two_threads(monkeypatch):
    """Two threads share even the smallest grid and tensor."""
    monkeypatch.setattr(semilocal, "SHARED_VALUES", 0)
    monkeypatch.setattr(two_electron, "_SHARED_J", 0)
    monkeypatch.setattr(two_electron, "_SHARED_K", 0)
    monkeypatch.setattr(two_electron, "_ROWS", 16)
    torch.set_num_threads(2)


def layer(xc, spin=0, **settings):
    charge = spin
    mol = gto.M(atom=WATER, basis="6-31g", charge=charge, spin=spin, verbose=0)
    return KohnSham.from_pyscf(mol, xc=xc, grid_level=0, **settings)


def disturbed(ks, rng):
    noise = 0.05 * torch.randn(ks.data.dm_guess.shape, generator=rng, dtype=torch.float64)
    return ks.density(ks.build(ks.data.dm_guess).fock + noise + noise.mT)


def test_results_are_used_in_order_whoever_is_first():
    torch.set_num_threads(2)
    second_done, threads, used = threading.Event(), set(), []

    def work(piece):
        threads.add(threading.get_ident())
        assert available_threads() == torch.get_num_threads() == 1
        assert working_alone()
        assert not torch.is_grad_enabled() or threading.current_thread() is threading.main_thread()
        if piece == 0:
            assert second_done.wait(10)  # the other thread meanwhile takes piece 1
        elif piece == 1:
            second_done.set()
        return piece

    share(work, iter(range(20)), used.append)
    assert used == list(range(20))
    assert len(threads) == 2
    assert torch.get_num_threads() == available_threads() == 2
    assert not working_alone()


@pytest.mark.parametrize("where", ["work", "pieces", "use"])
def test_an_error_in_any_thread_reaches_the_caller(where):
    torch.set_num_threads(2)
    before = threading.active_count()

    def fails(name, value):
        if where == name and value == 7:
            raise ValueError(name)
        return value

    def pieces():
        for k in range(1000):
            yield fails("pieces", k)

    used = []
    with pytest.raises(ValueError, match=where):
        share(
            lambda piece: fails("work", piece),
            pieces(),
            lambda result: used.append(fails("use", result)),
        )
    assert used == list(range(7))
    assert threading.active_count() == before
    assert torch.get_num_threads() == available_threads() == 2


def test_one_thread_is_a_loop_and_sharing_is_not_nested():
    main = threading.get_ident()
    torch.set_num_threads(1)
    used = []
    share(lambda _: threading.get_ident(), iter(range(3)), used.append)
    assert used == [main] * 3
    torch.set_num_threads(2)

    def outer(_):
        inner = []
        share(lambda _: threading.get_ident(), iter(range(3)), inner.append)
        return inner == [threading.get_ident()] * 3

    found = []
    share(outer, iter(range(4)), found.append)
    assert found == [True] * 4


def test_operations_run_on_one_thread_until_asked_otherwise():
    torch.set_num_threads(2)
    with one_thread_each():
        assert (torch.get_num_threads(), available_threads()) == (1, 2)
        assert not working_alone()
        with threads_per_operation():
            assert torch.get_num_threads() == 2
        with one_thread_each():
            assert (torch.get_num_threads(), available_threads()) == (1, 2)
        assert torch.get_num_threads() == 1
    assert (torch.get_num_threads(), available_threads()) == (2, 2)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    ("xc", "spin"),
    [("lda,vwn", 0), ("pbe", 0), ("pbe0", 1), ("r2scan", 0), ("r2scan", 1), ("m062x", 0)],
)
def test_builds_and_responses_equal_those_of_one_thread(xc, spin, rng):
    ks = layer(xc, spin)
    dm = disturbed(ks, rng)
    along = torch.randn(dm.shape, generator=rng, dtype=torch.float64)
    along = along + along.mT

    def everything():
        found = ks.build(dm)
        second = dm
        if xc != "m062x":
            with torch.no_grad():
                second = second_response(ks.data, *map(ks.to_layer, (dm, along, dm)))
        return [found.energy, found.fock, found.n_electrons, ks.response(dm, along), second]

    shared = everything()
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(shared, everything(), strict=True))
    torch.set_num_threads(1)
    alone = everything()
    for a, b in zip(shared, alone, strict=True):
        torch.testing.assert_close(a, b, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.usefixtures("two_threads")
def test_threads_really_share_the_grid(monkeypatch, rng):
    ks = layer("pbe")
    dm = disturbed(ks, rng)
    threads = set()
    gradient = SemilocalFunctional.gradient
    meeting = threading.Barrier(2, timeout=300)  # on a busy machine a thread may wait long

    def noted(self, rho):
        threads.add(threading.get_ident())
        meeting.wait()  # passes only when both threads are in a functional at the same time
        return gradient(self, rho)

    monkeypatch.setattr(SemilocalFunctional, "gradient", noted)
    monkeypatch.setattr(semilocal, "block_groups", halves)
    ks.build(dm)
    assert len(threads) == 2


def halves(grid, _threads=1):
    blocks = [grid.block(k) for k in range(grid.n_blocks)]
    cut = max(1, len(blocks) // 2)
    return iter([blocks[:cut], blocks[cut:]] if len(blocks) > 1 else [blocks, blocks])


def test_groups_for_threads_are_about_equal_and_in_order():
    class Blocks:
        nao, ngrids, n_blocks = 2, 33 * 1000, 33

        def block(self, k):
            ao, weights = torch.ones(1, 1000, 2).double(), torch.ones(1000).double()
            return AOBlock(ao=ao, index=torch.tensor([k, k]), weights=weights)

    groups = list(semilocal.block_groups(Blocks(), 2))
    assert [len(group) for group in groups] == [17, 16]
    assert [int(b.index[0]) for group in groups for b in group] == list(range(33))
    Blocks.ngrids, Blocks.n_blocks = 200_000, 200
    sizes = [len(group) for group in semilocal.block_groups(Blocks(), 2)]
    assert len(sizes) == 8
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.usefixtures("two_threads")
def test_derivatives_through_shared_builds():
    mol = gto.M(atom="H 0 0 0; H .1 0 .8", basis="sto-3g", charge=0, verbose=0)
    ks = KohnSham.from_pyscf(mol, xc="pbe0", grid_level=0)
    dm = ks.data.dm_guess.clone().requires_grad_()
    assert gradcheck(ks, dm, atol=1e-6)
    assert gradgradcheck(lambda x: ks(x)[1], dm, atol=1e-5)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("memory_mb", [1000.0, 0.0])
def test_fitted_matrices_equal_those_of_one_thread(memory_mb, rng):
    nao = 13
    cderi = torch.randn(70, nao * (nao + 1) // 2, generator=rng, dtype=torch.float64)
    dm = torch.randn(2, nao, nao, generator=rng, dtype=torch.float64)
    dm = dm + dm.mT
    operator = FittedTensor(cderi, nao, memory_mb=memory_mb)
    shared = operator.coulomb(dm), operator.exchange(dm)
    full = cderi[:, pair_index(nao, cderi.device)]
    vj = torch.einsum("lmn,lrs,xrs->xmn", full, full, dm)
    vk = torch.einsum("lmr,xrs,lns->xmn", full, dm, full)
    torch.testing.assert_close(shared[0], vj, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(shared[1], vk, rtol=1e-11, atol=1e-11)
    for _ in range(3):
        assert torch.equal(operator.exchange(dm), shared[1])
        assert torch.equal(operator.coulomb(dm), shared[0])


@pytest.mark.usefixtures("two_threads")
def test_a_batch_shares_its_groups(rng):
    layers = [layer("pbe"), layer("pbe"), layer("pbe", 1)]
    batch = KohnShamBatch(layers, strategy="merged")
    dms = [disturbed(one, rng) for one in layers]
    found, along = batch.build(dms), batch.response(dms, dms)
    again = batch.build(dms)
    torch.set_num_threads(1)
    for k, one in enumerate(layers):
        wanted = one.build(dms[k])
        assert torch.equal(found[k].fock, again[k].fock)
        torch.testing.assert_close(found[k].fock, wanted.fock, rtol=TOLERANCE, atol=TOLERANCE)
        torch.testing.assert_close(found[k].energy, wanted.energy, rtol=TOLERANCE, atol=0)
        response = one.response(dms[k], dms[k])
        torch.testing.assert_close(along[k], response, rtol=TOLERANCE, atol=TOLERANCE)
