"""What was computed of a crystal, beside its results."""

import numpy as np
import pytest
from pyscf.pbc import dft

from deeph_zero.integrals.periodic.calculation import crystal_calculation
from deeph_zero.integrals.periodic.info import crystal_info


def test_facts_of_a_crystal(crystal):
    cell = crystal("lih")
    found = crystal_calculation(cell, kmesh=(2, 1, 3), smearing=0.01, unrestricted=True)
    info = crystal_info(found)
    np.testing.assert_array_equal(info.lattice, cell.lattice_vectors())
    np.testing.assert_array_equal(info.kpts, found.kpoints.scaled)
    np.testing.assert_array_equal(info.kweights, found.kpoints.weights)
    assert (info.pbc, info.kmesh, info.fft_mesh) == ((True,) * 3, (2, 1, 3), tuple(cell.mesh))
    assert (info.nao, info.charge, sum(info.nelec)) == (cell.nao, 0, cell.tot_electrons())
    assert (info.xc, info.kind, info.basis, info.pseudo) == ("pbe", "GGA", "gth-szv", "gth-pbe")
    assert (info.unrestricted, info.smearing, info.integrals, info.gauge) == (
        True, 0.01, "FFTDF", "lattice",
    )  # fmt: skip


def test_a_layer_repeats_in_two_directions(crystal):
    info = crystal_info(crystal_calculation(crystal("slab", dimension=2), xc="lda,vwn"))
    assert (info.pbc, info.kind) == ((True, True, False), "LDA")


@pytest.mark.parametrize(
    ("xc", "exxdiv"), [("pbe", None), ("pbe0", "ewald"), ("hse06", "ewald"), ("hf", "ewald")]
)
def test_only_exact_exchange_has_a_divergence(crystal, xc, exxdiv):
    assert crystal_info(crystal_calculation(crystal("chain"), xc=xc)).exxdiv == exxdiv


def test_functions_of_no_name_and_fitted_integrals(crystal):
    cell = crystal("helium")
    info = crystal_info(crystal_calculation(dft.KRKS(cell, xc="pbe").density_fit()))
    assert (info.basis, info.pseudo, info.integrals, info.kmesh) == ("custom", None, "GDF", None)
