"""Two spins in one block, taken apart where they do not mix and put together again."""

import dataclasses

import numpy as np
import pytest
import torch

from deeph_zero.data.formats.spins import to_spinor, unmixed

from .conftest import of_spinors, polarised


def test_two_spins_there_and_back(crystal):
    fock = polarised(crystal).matrices.fock
    doubled = to_spinor(fock, crystal.matrices.sizes)
    assert doubled.sizes == (20, 8, 20)
    block = doubled.block(1)
    n = fock.block(1).shape[-2]
    assert torch.equal(block[:n, : block.shape[1] // 2], fock.block(1)[0])
    assert not block[:n, block.shape[1] // 2 :].any()
    back, none = unmixed(doubled, None)
    assert none is None
    assert torch.equal(back.values, fock.values)
    assert back.sizes == fock.sizes


def test_a_matrix_without_spin_stands_for_both(molecule):
    fock = molecule.matrices.fock
    back, density = unmixed(
        to_spinor(fock, fock.sizes), to_spinor(molecule.matrices.density, fock.sizes)
    )
    assert torch.equal(back.values, torch.stack([fock.values] * 2))
    assert torch.equal(density.values, torch.stack([molecule.matrices.density.values] * 2))


def test_what_is_of_spinors_stays(crystal):
    fock = of_spinors(crystal).matrices.fock
    assert to_spinor(fock, crystal.matrices.sizes) is fock
    found, density = unmixed(fock, to_spinor(crystal.matrices.overlap, crystal.matrices.sizes))
    assert torch.equal(found.values, fock.values)
    assert found.sizes == fock.sizes
    assert density.values.is_complex()


def test_complex_numbers_that_are_real_do_not_mix(crystal):
    doubled = to_spinor(polarised(crystal).matrices.fock, crystal.matrices.sizes)
    found, _ = unmixed(doubled.with_values(doubled.values + 0j), None)
    assert found.values.dtype == torch.float64
    assert found.values.ndim == 2


@pytest.mark.parametrize("where", ["ud", "du", "imaginary"])
def test_one_mixing_element_is_enough(molecule, where):
    doubled = to_spinor(polarised(molecule).matrices.fock, molecule.matrices.sizes)
    blocks = [b.clone() + 0j for b in doubled.blocks()]
    n = blocks[0].shape[0] // 2
    if where == "imaginary":
        blocks[0][0, 1] += 1e-3j
    else:
        blocks[0][(0, n) if where == "ud" else (n, 0)] = 1e-3
    fock = dataclasses.replace(doubled, values=torch.cat([b.reshape(-1) for b in blocks]))
    found, _ = unmixed(fock, None)
    assert found.sizes == doubled.sizes
    np.testing.assert_array_equal(found.values, fock.values)
