"""What an SCF of a crystal gives beyond its mesh: blocks, H at any k-point, bands."""

import numpy as np
import pytest
import torch

from deeph_zero.errors import InputError
from deeph_zero.kohnsham.crystal import CrystalKohnSham
from deeph_zero.kohnsham.crystal_result import CrystalResult, CrystalSource

KPTS = [[0.0, 0.0, 0.0], [0.1, -0.2, 0.3], [0.5, 0.0, 0.25]]


@pytest.fixture(scope="module", params=[False, True], ids=["closed", "open"])
def result(request, crystal):
    """Hydrogen in a cell without symmetry, at two k-points."""
    cell = crystal("chain", charge=int(request.param), spin=int(request.param))
    ks = CrystalKohnSham.from_pyscf(cell, xc="lda,vwn", kmesh=(1, 1, 2))
    return ks.scf(conv_tol=1e-7, conv_tol_grad=1e-3)


def test_it_knows_its_layer(result):
    assert isinstance(result, CrystalResult)
    assert isinstance(result.layer, CrystalSource)
    assert "layer" not in repr(result), "a layer holds integrals"


def test_matrices_at_its_own_kpoints_are_those_of_the_scf(result):
    kpts = result.layer.info.kpts
    np.testing.assert_allclose(result.hamiltonian(kpts), result.fock, atol=1e-9)


def test_blocks_sum_to_the_matrix_at_any_kpoint(result):
    """F(k) = Σ exp(2πi k·R) F(R), and blocks are adjoints of their partners."""
    shape = result.fock.shape
    slices = [slice(0, 1), slice(1, 2)]
    found = {}
    at = torch.zeros(shape[0], len(KPTS), *shape[-2:], dtype=torch.complex128)
    for i, j, cell, own in result.blocks():
        found[i, j, cell] = block = own if own.ndim == 3 else own[None]
        for n, k in enumerate(KPTS):
            phase = np.exp(2j * np.pi * np.dot(k, cell))
            at[:, n, slices[i], slices[j]] += phase * block
    exact = result.hamiltonian(KPTS)
    np.testing.assert_allclose(at, exact.to(at), atol=2e-5)
    assert len(found) > 4
    for (i, j, cell), block in found.items():
        back = found[j, i, tuple(-n for n in cell)]
        torch.testing.assert_close(block, back.mT, atol=1e-9, rtol=0)


def test_kpoints_are_fractions_in_rows(result):
    for bad in ([0.0, 0.0, 0.0], [[0.0, 0.0]], [[0.0, 0.0, np.nan]]):
        with pytest.raises(InputError, match="k"):
            result.hamiltonian(bad)
    exact = result.hamiltonian(KPTS)
    for given in (np.array(KPTS), torch.tensor(KPTS, dtype=torch.float64)):
        assert torch.equal(result.hamiltonian(given), exact)


def test_bands_are_levels_along_a_path(result):
    bands = result.bands("GX", points=5)
    assert bands.path.labels == ("G", "X")
    assert bands.energies.shape == (len(result.fock), 5, 2)
    assert bool((bands.energies.diff(dim=-1) >= 0).all()), "ascending at every k"
    assert bands.fermi == result.fermi
    at = result.hamiltonian(bands.path.kpts)
    again = result.layer.levels_of(at, bands.path.kpts)
    np.testing.assert_allclose(bands.energies, again, atol=1e-10)
    gamma = result.hamiltonian([[0.0, 0, 0]])
    np.testing.assert_allclose(
        bands.energies[:, 0], result.layer.levels_of(gamma, np.zeros((1, 3)))[:, 0], atol=1e-9
    )


def test_points_that_the_zone_does_not_have_are_named(result):
    with pytest.raises(InputError, match="Q"):
        result.bands("GQ", points=5)
