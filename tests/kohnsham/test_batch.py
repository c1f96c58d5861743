"""Several molecules as one layer: each as it is alone, and what is no batch."""

import numpy as np
import pytest
import torch
from pyscf import dft, gto
from pyscf.pbc import gto as pbcgto

from deeph_zero.errors import InputError
from deeph_zero.kohnsham import KohnSham
from deeph_zero.kohnsham.batch import KohnShamBatch

SETTINGS = {"xc": "lda,vwn", "grid_level": 0}


def mole(atom, **settings):
    return gto.M(atom=atom, basis="sto-3g", verbose=0, **settings)


@pytest.fixture(scope="module")
def mols():
    """Of unlike sizes, the last one an open shell."""
    return [
        mole("H 0 0 0; H 0.1 0.2 0.7"),
        mole("Li 0 0 0; H 0.1 0.2 1.6"),
        mole("H 0 0 0; H 0.1 0.2 0.9", charge=1, spin=1),
    ]


@pytest.fixture(scope="module")
def batch(mols):
    return KohnShamBatch.from_pyscf(mols, **SETTINGS)


def test_layers_are_those_of_each(mols, batch):
    assert len(batch) == 3
    for mol, layer in zip(mols, batch.layers, strict=True):
        alone = KohnSham.from_pyscf(mol, **SETTINGS)
        assert layer.info == alone.info
        assert torch.equal(layer.data.ovlp, alone.data.ovlp)


def test_an_scf_of_all_ends_where_each_does(mols, batch):
    found = batch.scf(conv_tol=1e-10, conv_tol_grad=1e-6)
    for mol, one in zip(mols, found, strict=True):
        alone = KohnSham.from_pyscf(mol, **SETTINGS).scf(conv_tol=1e-10, conv_tol_grad=1e-6)
        assert one.converged
        assert one.energy == pytest.approx(alone.energy, abs=1e-9)
        assert one.dm.shape == alone.dm.shape
        torch.testing.assert_close(one.dm, alone.dm, atol=1e-6, rtol=0)
        # rounding decides a cycle that ends near the tolerance
        assert abs(one.iterations - alone.iterations) <= 1
        assert abs(one.fock_builds - alone.fock_builds) <= 1


def test_results_have_derivatives_as_those_of_one_have(batch):
    for ks, one in zip(batch.layers, batch.scf(), strict=True):
        assert one.ks is ks
    found = batch.scf(conv_tol=1e-11, conv_tol_grad=1e-7)[0]
    alone = KohnSham.scf(batch.layers[0], conv_tol=1e-11, conv_tol_grad=1e-7)
    torch.testing.assert_close(found.polarizability(), alone.polarizability(), atol=1e-6, rtol=0)


def test_builds_at_the_start_are_taken_where_they_were_made(batch):
    starts = [layer.data.dm_guess for layer in batch.layers]
    builds = list(batch.build(starts))
    plain = batch.scf(starts, max_cycle=3)
    given = batch.scf(starts, first_builds=[builds[0], None, builds[2]], max_cycle=3)
    spent = [a.fock_builds - b.fock_builds for a, b in zip(plain, given, strict=True)]
    assert spent == [1, 0, 1]
    for one, other in zip(plain, given, strict=True):
        assert other.energy == pytest.approx(one.energy, abs=1e-10)


def test_one_molecule_stops_while_others_go_on(batch):
    start = batch.scf(conv_tol=1e-10, conv_tol_grad=1e-7)[0].dm
    guesses = [start, *(layer.data.dm_guess for layer in batch.layers[1:])]
    found = batch.scf(guesses, conv_tol=1e-8, conv_tol_grad=1e-5)
    assert found[0].iterations < found[1].iterations
    assert all(one.converged for one in found)


def test_mean_field_objects_bring_their_settings(mols):
    mfs = [dft.RKS(mols[0], xc="pbe").density_fit(), dft.UKS(mols[2], xc="pbe").density_fit()]
    for mf in mfs:
        mf.grids.level = 0
    found = KohnShamBatch.from_pyscf(mfs)
    assert [layer.info.xc for layer in found.layers] == ["pbe", "pbe"]
    assert [layer.unrestricted for layer in found.layers] == [False, True]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (3, "expected several molecules or objects, got one int; put it into a list"),
        ([], "expected at least one molecule, got none"),
        (["H2"], "got str"),
    ],
    ids=["number", "none", "text"],
)
def test_what_is_no_batch_is_refused(given, words):
    with pytest.raises(InputError, match=words):
        KohnShamBatch.from_pyscf(given, **SETTINGS)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (3, "expected a list of KohnSham layers, got one int; KohnShamBatch.from_pyscf takes"),
        (None, "got one NoneType"),
        ("water", "got one str"),
        ([], "expected at least one molecule, got none"),
        ([3], r"expected layers \(KohnSham\) of molecules, got int"),
    ],
    ids=repr,
)
def test_what_are_no_layers_is_refused(given, words):
    with pytest.raises(InputError, match=words):
        KohnShamBatch(given)


def test_molecules_and_crystals_are_no_layers(mols):
    cell = pbcgto.M(
        atom="He 0 0 0", a=3 * np.eye(3), basis="sto-3g", mesh=[5, 5, 5], precision=1e-3, verbose=0
    )
    crystal = KohnSham.from_pyscf(cell, kmesh=(1, 1, 1), xc="lda,vwn")
    for given, name in ((mols, "Mole"), ([crystal], "CrystalKohnSham")):
        with pytest.raises(InputError, match=f"got {name}; .*from_pyscf takes"):
            KohnShamBatch(given)


def test_a_batch_prints_in_a_line(batch):
    assert repr(batch) == "KohnShamBatch(3 molecules, merged)"


def test_one_molecule_is_no_batch(mols):
    with pytest.raises(InputError, match="got one Mole; put it into a list"):
        KohnShamBatch.from_pyscf(mols[0], **SETTINGS)


def test_crystals_are_taken_one_by_one(mols):
    cell = pbcgto.M(atom="He 0 0 0", a=3 * np.eye(3), basis="sto-3g", verbose=0)
    with pytest.raises(InputError, match=r"got a crystal \(Cell\); take crystals one by one"):
        KohnShamBatch.from_pyscf([mols[0], cell], **SETTINGS)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"max_cycles": 3}, "did you mean max_cycle"),
        ({"conv_tol": "small"}, "conv_tol"),
        ({"max_cycle": -1}, "max_cycle"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_settings_are_checked(batch, changed, words):
    with pytest.raises(InputError, match=words):
        batch.scf(**changed)


def test_numbers_of_matrices_and_builds_are_those_of_the_molecules(batch):
    starts = [layer.data.dm_guess for layer in batch.layers]
    with pytest.raises(InputError, match="3"):
        batch.scf(starts[:2])
    with pytest.raises(InputError, match="3"):
        batch.scf(starts, first_builds=[None])
    with pytest.raises(InputError, match="shape"):
        batch.scf(starts[::-1])
