"""Highest filled and lowest empty levels as files and summaries have them."""

import dataclasses

import numpy as np
import pytest
import torch

from deeph_zero.integrals.periodic.cell import build_cell
from deeph_zero.ks.periodic.certificate import crystal_certificate
from deeph_zero.method import CrystalMethod, Method
from deeph_zero.molecule import Molecule
from deeph_zero.predict.crystal import CrystalPrediction
from deeph_zero.predict.crystal_record import CrystalState, crystal_prediction_entry
from deeph_zero.prepared.crystal import crystal_layout, prepare_structure

LEVELS = torch.tensor([[[-0.5, -0.1], [-0.3, 0.2]]], dtype=torch.float64)


def state(levels, occ, fermi, entropy=0.0):
    nothing = torch.zeros(len(levels), 2, 2, 2)
    return CrystalState(
        fock=nothing, dm=nothing, mo_energy=levels, mo_occ=torch.tensor(occ, dtype=torch.float64),
        fermi=fermi, entropy_energy=entropy, energy=None, free_energy=None, converged=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("occ", "fermi", "entropy", "expected"),
    [
        ([[[2, 0], [2, 0]]], -0.2, 0.0, (-0.3, -0.1)),
        # filled in part in order: a metal, whose level is both
        ([[[2, 0], [1, 0]]], -0.3, 0.0, (-0.3, -0.3)),
        # smeared: up to the Fermi level, however little is above
        ([[[2, 0.9], [2, 0.1]]], -0.12, 1e-3, (-0.3, -0.1)),
        ([[[2, 1.1], [2, 0.1]]], -0.08, 1e-3, (-0.1, 0.2)),
    ],
)
def test_levels_on_both_sides_of_the_fermi_level(occ, fermi, entropy, expected):
    found = state(LEVELS, occ, (fermi,), entropy)
    assert found.frontier == pytest.approx(expected)
    assert found.gap == pytest.approx(expected[1] - expected[0])


def test_spins_and_bands_without_an_empty_level():
    both = torch.cat([LEVELS, LEVELS - 0.6])
    # the spins overlap: alpha fills a level above an empty one of beta
    found = state(both, [[[1, 1], [1, 1]], [[1, 0], [1, 0]]], (0.3, -0.8))
    assert found.frontier == pytest.approx((0.2, -0.7))
    assert found.gap == 0.0
    assert state(LEVELS, [[[2, 2], [2, 2]]], (0.2,)).gap is None


def test_doubts_of_the_estimate_are_in_the_entry():
    lattice = np.array([[4.0, 0, 0], [0, 5.2, 0], [0, 0.1, 5.5]])
    molecule = Molecule(
        numbers=np.array([1, 1]), coords=np.array([[0.1, 0, 0.2], [1.2, 0.7, 0.9]]),
        lattice=lattice, pbc=(True, True, True),
    )  # fmt: skip
    crystal = CrystalMethod(pseudo="gth-lda", kmesh=(1, 1, 1), ke_cutoff=20.0)
    method = Method(xc="lda,vwn", basis="gth-szv", crystal=crystal)
    layout = crystal_layout(build_cell(molecule, method))
    ready = prepare_structure(molecule, method, layout, cutoff=8.0, dtype=torch.float64)
    nothing = ready.correction(ready.potential)
    nothing = nothing.with_values(torch.zeros_like(nothing.values))
    ks, fock = ready.ks, ready.fock0
    built = ks.build(ks.density(fock))
    found = CrystalPrediction(
        molecule,
        method,
        ready,
        nothing,
        fock,
        built.dm,
        built,
        crystal_certificate(ks, fock, built),
    )
    assert "doubts" not in crystal_prediction_entry(found)
    assert found.coarse_builds == 0
    assert found.certificate is not None
    doubtful = dataclasses.replace(found.certificate, doubts=("levels cross",), coarse_builds=3)
    found = dataclasses.replace(found, certificate=doubtful)
    assert crystal_prediction_entry(found)["doubts"] == ["levels cross"]
    assert found.coarse_builds == 3
