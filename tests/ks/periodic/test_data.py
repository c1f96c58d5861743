"""A crystal's data: the list of its terms, and what is left out where it is absent."""

import dataclasses

import pytest
import torch

from deeph_zero.ks.periodic.data import AtKPoints, CrystalData
from deeph_zero.ks.periodic.step_coulomb import CoulombOnMesh
from deeph_zero.ks.periodic.terms.constant import Constant
from deeph_zero.ks.periodic.terms.fixed_operator import FixedOperator
from deeph_zero.ks.periodic.terms.on_mesh import MeshTerm

from .made_up import WEIGHTS, Values, bloch_matrix, mesh


def no_atoms():
    return torch.zeros(1, 1, 24, dtype=torch.float64)


@pytest.fixture
def data():
    on_mesh = MeshTerm(Values(), WEIGHTS, mesh().weight, [])
    return CrystalData(
        ovlp=bloch_matrix()[0], weights=WEIGHTS, constant=Constant("ewald", -3.0), mesh=mesh(),
        fixed=FixedOperator("kinetic", bloch_matrix()[0], WEIGHTS), mesh_term=on_mesh,
        nelec=(1.5, 1.5), unrestricted=False, lindep_threshold=1e-9, rho_guess=None,
        step_coulomb=lambda: CoulombOnMesh(Values(), WEIGHTS, mesh(), no_atoms),
        coarse=None, coarse_mesh=(1, 1, 1), at=None,
    )  # fmt: skip


def test_terms_are_all_there_is_of_the_energy(data):
    assert data.terms == (data.fixed, data.mesh_term, data.constant)
    more = Constant("further", 1.0)
    wider = dataclasses.replace(data, further=(more,))
    assert wider.terms == (data.fixed, data.mesh_term, more, data.constant)
    names = [term.name for term in wider.terms]
    assert len(set(names)) == len(names)


def test_what_a_plain_crystal_lacks(data):
    assert (data.exxdiv, data.dm_guess, data.start_term, data.further) == (None, None, None, ())
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.exxdiv = "ewald"


def test_matrices_elsewhere_are_made_by_a_function():
    assert isinstance(lambda _: None, AtKPoints)
    assert not isinstance(3, AtKPoints)
