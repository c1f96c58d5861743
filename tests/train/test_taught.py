"""Geometries with what training adds: orbitals of targets, labels, teachers, places of others."""

import dataclasses

import numpy as np
import pytest
import torch

from deeph_zero.data.labels import Label
from deeph_zero.ks.counts import Builds
from deeph_zero.nn.reading import Reading
from deeph_zero.train.taught import Absent, MatchOrbitals, here, labelled_problem, make_problem
from deeph_zero.train.teacher import GivenTarget

from .hydrogen import CUTOFF, METHOD, hydrogen, layout, problem

SETTINGS = {"cutoff": CUTOFF, "dtype": torch.float64}


@pytest.fixture(scope="module", params=[0, 1], ids=["closed", "open"])
def one(request):
    molecule = hydrogen(charge=request.param, spin=request.param)
    return make_problem(molecule, METHOD, Reading(layout(), **SETTINGS))


def test_a_teacher_begins_at_the_build_that_the_inputs_cost(one):
    assert one.ks.builds.fine == 1
    assert one.teacher.builds == 0
    assert one.builds
    assert one.label is None


def test_orbitals_are_those_of_the_target(one):
    found, ovlp = one.target_orbitals(), one.ks.data.ovlp
    assert found.target is one.teacher.target
    mo_coeff = found.mo_coeff
    inner = mo_coeff.mT @ ovlp @ mo_coeff
    torch.testing.assert_close(inner, torch.eye(inner.shape[-1]).to(inner).expand_as(inner))
    diagonal = mo_coeff.mT @ found.target @ mo_coeff
    torch.testing.assert_close(diagonal, torch.diag_embed(found.mo_energy))
    assert float(found.filled.max()) == 1.0
    expected = [1.0] if one.molecule.spin == 0 else [1.0, 0.0]
    assert found.filled.reshape(-1, found.filled.shape[-1]).sum(-1).tolist() == expected


def test_pair_weights_are_a_partition_and_follow_the_target(one):
    found = one.target_orbitals()
    total = found.occ_occ + found.occ_virt + found.virt_virt
    torch.testing.assert_close(total, torch.ones_like(total))
    assert found is one.target_orbitals()
    target = one.teacher.target
    one.teacher.target = target + 0.0
    assert found is not one.target_orbitals()
    one.teacher.target = target


def test_levels_that_are_partly_filled_belong_to_all_blocks():
    filled = torch.tensor([1.0, 0.25, 0.0])
    found = MatchOrbitals(
        target=torch.eye(3), mo_coeff=torch.eye(3), mo_energy=filled, filled=filled
    )
    pair = [float(getattr(found, name)[0, 1]) for name in ("occ_occ", "occ_virt", "virt_virt")]
    assert pair == [0.25, 0.75, 0.0]
    own = [float(getattr(found, name)[1, 1]) for name in ("occ_occ", "occ_virt", "virt_virt")]
    assert own == [0.25, 0.0, 0.75]


def label_of(prepared):
    """The base, moved: a label that no SCF made."""
    fock = prepared.fock0 + 0.1 * prepared.ks.data.ovlp
    orbitals = prepared.ks.orbitals(fock)
    dm = prepared.ks.density(fock)
    return Label(
        fock=fock, dm=dm, energy=-1.0, mo_energy=orbitals.mo_energy, mo_occ=orbitals.mo_occ
    )


def test_a_label_alone_teaches_without_any_integral_for_builds():
    found = labelled_problem(
        hydrogen(), METHOD, Reading(layout(), inputs="geometry", **SETTINGS), label_of
    )
    assert not found.builds
    assert found.ks.builds == Builds()
    assert found.ks.data.grid is None
    assert isinstance(found.teacher, GivenTarget)
    assert torch.equal(found.teacher.target, found.label.fock)
    assert (found.teacher.finished, found.teacher.residual) == (True, 0.0)
    at = found.label_orbitals()
    assert at is found.label_orbitals()
    torch.testing.assert_close(at.mo_energy, found.label.mo_energy)
    np.testing.assert_allclose(found.target_orbitals().mo_energy, found.label.mo_energy, atol=1e-12)


@pytest.mark.parametrize("level", [0, 2])
def test_geometry_inputs_begin_at_the_coarse_grid_where_there_is_one(level):
    method = dataclasses.replace(METHOD, grid_level=level)
    found = problem(method=method, inputs="geometry")
    coarse = found.ks.layer.coarse is not None
    assert coarse is (level == 2)
    assert (found.start is None) is coarse
    assert found.ks.builds.fine == (0 if coarse else 1)
    assert (found.ks.builds.coarse > 0) is coarse
    if coarse:  # nearly solved, for no build on the target grid
        rms = [found.teacher.rms(*first(found, f)) for f in (found.fock0, found.teacher.target)]
        assert rms[1] < 0.5 * rms[0]


def first(found, fock):
    dm = found.ks.density(fock)
    return found.ks.build(dm).fock, dm


def test_a_geometry_goes_to_data_from_elsewhere_and_stays_what_it_is(one):
    moved = one.on(one.ks.data)
    assert moved.ks is not one.ks
    assert moved.teacher.ks is moved.ks
    assert moved.teacher.target is one.teacher.target
    assert (moved.matrices, moved.start) == (None, None)
    assert moved.molecule is one.molecule
    before = one.ks.builds
    moved.teacher.advance()
    assert one.ks.builds == before


def test_a_geometry_of_another_process_is_asked_for_in_vain(one):
    assert here(one) is one
    with pytest.raises(AssertionError, match="geometry of another process"):
        here(Absent(hydrogen()))
