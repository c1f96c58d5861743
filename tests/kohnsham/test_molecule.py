"""Layers of a Method: the same as from keywords, resolved once, and smeared without a new start."""

import copy
import dataclasses
import pickle

import pytest
import torch
from pyscf import gto

from deeph_zero.errors import InputError
from deeph_zero.kohnsham import KohnSham
from deeph_zero.method import CrystalMethod, Method
from deeph_zero.testing import WATER

METHOD = Method(xc="pbe0", basis="sto-3g", grid_level=0, unrestricted=True)


@pytest.fixture(scope="module")
def mol():
    return gto.M(atom=WATER, basis="sto-3g", verbose=0)


@pytest.fixture(scope="module")
def ks(mol):
    return KohnSham.of_method(mol, METHOD)


def test_a_method_and_keywords_make_one_layer(mol, ks):
    other = KohnSham.from_pyscf(mol, xc="pbe0", grid_level=0, unrestricted=True)
    assert ks.info == other.info
    dm = ks.data.dm_guess
    one, two = ks.build(dm), other.build(dm)
    assert torch.equal(one.fock, two.fock)
    assert float(one.energy) == float(two.energy)


def test_a_molecule_itself_is_no_integrals(mol):
    with pytest.raises(InputError, match=r"got Mole; make the layer with KohnSham\.from_pyscf"):
        KohnSham(mol)


def test_what_was_solved_is_resolved(ks):
    method = ks.info.method
    assert method == dataclasses.replace(METHOD, auxbasis=ks.info.auxbasis)
    assert "jkfit" in ks.info.auxbasis
    assert (ks.info.xc, ks.info.density_fit, ks.info.grid_level) == ("pbe0", True, 0)
    assert repr(ks) == "KohnSham(pbe0/sto-3g, nao=7, nelec=(5, 5))"


def test_without_builds_there_is_no_integral_for_them(mol):
    bare = KohnSham.of_method(mol, METHOD, builds=False)
    assert bare.info.method == KohnSham.of_method(mol, METHOD).info.method
    assert (bare.info.ngrids, bare.info.naux, bare.info.grid_level) == (0, 0, None)


def test_the_spin_treatment_has_to_fit_the_molecule(mol):
    cation = gto.M(atom=WATER, basis="sto-3g", charge=1, spin=1, verbose=0)
    closed = dataclasses.replace(METHOD, unrestricted=False)
    with pytest.raises(InputError, match="unrestricted=True"):
        KohnSham.of_method(cation, closed)
    assert not KohnSham.of_method(mol, closed).unrestricted


def test_the_device_is_looked_at_before_anything_is_computed():
    with pytest.raises(InputError, match="device: expected auto, cpu, cuda or cuda:1, got 'gpu'"):
        KohnSham.from_pyscf(gto.M(atom="H 0 0 0; H 0 0 1", verbose=0), device="gpu")


def test_a_crystals_method_is_none_of_a_molecule(mol):
    with pytest.raises(InputError, match="expected a molecule's method"):
        KohnSham.of_method(mol, dataclasses.replace(METHOD, crystal=CrystalMethod()))


def test_smearing_later_is_smearing_from_the_start(mol, ks):
    width = 0.1
    fock = ks.build(ks.data.dm_guess).fock
    later = ks.smeared(width)
    start = KohnSham.of_method(mol, dataclasses.replace(METHOD, smearing=width))
    assert torch.equal(later.density(fock), start.density(fock))
    assert (later.density(fock) - ks.density(fock)).abs().max() > 1e-4
    assert later.info.method == start.info.method
    assert later.fock_builds == ks.fock_builds > 0


def test_dependent_functions_are_dropped_where_the_method_says(mol, ks):
    values = torch.linalg.eigvalsh(ks.data.ovlp)
    threshold = float(values[0] + values[1]) / 2
    fewer = KohnSham.from_pyscf(mol, grid_level=0, lindep_threshold=threshold)
    assert (ks.nmo, fewer.nmo) == (7, 6)
    assert fewer.info.method.lindep_threshold == threshold


def test_results_hold_no_integrals_and_make_them_again():
    small = gto.M(atom=WATER, basis="sto-3g", verbose=0)
    kept = KohnSham.from_pyscf(small, grid_level=0)
    wanted = kept.scf(conv_tol_grad=1e-8).polarizability()
    result = KohnSham.from_pyscf(small, grid_level=0).scf(conv_tol_grad=1e-8)
    assert result.made_by() is None
    assert torch.allclose(result.polarizability(), wanted, atol=1e-6)


def test_a_result_can_be_sent_to_another_process(ks):
    result = ks.scf()
    there = pickle.loads(pickle.dumps(result))
    assert torch.equal(there.fock, result.fock)
    assert torch.equal(ks.polarizability(there), ks.polarizability(result))
    assert torch.equal(copy.deepcopy(result).polarizability(), ks.polarizability(result))


@pytest.mark.parametrize("xc", ["pbe0", "m06"])
def test_a_layer_can_be_sent_to_another_process(mol, xc):
    ks = KohnSham.from_pyscf(mol, xc=xc, grid_level=0)
    dm = ks.data.dm_guess
    there = pickle.loads(pickle.dumps(ks))
    assert torch.equal(there.build(dm).fock, ks.build(dm).fock)
    assert there.fock_builds == ks.fock_builds


def test_a_smeared_layer_can_be_sent_and_copied(mol):
    ks = KohnSham.from_pyscf(mol, xc="lda,vwn", grid_level=0).smeared(0.02)
    wanted = ks.orbitals(ks.data.hcore).mo_occ
    for there in (pickle.loads(pickle.dumps(ks)), copy.deepcopy(ks)):
        assert there.smearing == 0.02
        assert torch.equal(there.orbitals(ks.data.hcore).mo_occ, wanted)
        assert there._again().smearing == 0.02
