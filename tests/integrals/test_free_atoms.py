"""Free atoms in s Gaussians against the orbitals they were made of."""

import numpy as np
import pytest
from pyscf import gto
from scipy.special import erf

from deeph_zero.errors import InputError
from deeph_zero.integrals import free_atoms
from deeph_zero.integrals.free_atoms import BACKGROUND, free_atom_clouds
from deeph_zero.integrals.minao import free_atom

RADII = np.array([0.3, 0.7, 1.1, 2.0, 3.5])


def _orbitals(symbol):
    occupations, shells = free_atom(symbol)
    atom = gto.M(atom=f"{symbol} 0 0 0", basis={symbol: list(shells)}, spin=None, verbose=0)
    return atom, np.array(occupations)


def _potential(exponents, electrons):
    """Of Gaussian charges, at the radii."""
    return erf(np.sqrt(exponents) * RADII[:, None]) @ electrons / RADII


@pytest.mark.parametrize("symbol", ["H", "C", "O", "Na", "Cl", "Fe"])
def test_the_coulomb_potential_is_that_of_the_natural_orbitals(symbol):
    atom, occupations = _orbitals(symbol)
    found = free_atom_clouds(symbol)
    expected = []
    for r in RADII:
        with atom.with_rinv_origin((0, r, 0)):
            expected.append(np.diag(atom.intor("int1e_rinv")) @ occupations)
    assert found.electrons.sum() == pytest.approx(gto.charge(symbol), abs=1e-10)
    np.testing.assert_allclose(
        _potential(found.exponents, found.electrons), expected, rtol=3e-4, atol=6e-3
    )


@pytest.mark.parametrize("symbol", ["H", "C", "O", "Cl"])
def test_exchange_is_what_the_atom_adds_to_its_surroundings(symbol):
    atom, occupations = _orbitals(symbol)
    along = np.outer(RADII, [0.48, 0.6, 0.64])
    density = atom.eval_gto("GTOval_sph", along) ** 2 @ occupations
    expected = -((3 / np.pi) ** (1 / 3)) * (np.cbrt(density + BACKGROUND) - np.cbrt(BACKGROUND))
    found = free_atom_clouds(symbol)
    exchange = _potential(found.exponents, found.screening - found.electrons)
    np.testing.assert_allclose(exchange, expected, rtol=0, atol=0.02)
    assert found.screening.sum() == pytest.approx(found.electrons.sum(), abs=1e-10)


def test_a_core_potential_takes_its_shells():
    found = free_atom_clouds("I", 28)
    assert found.electrons.sum() == pytest.approx(25, abs=1e-10)
    whole = free_atom_clouds("I")
    assert found.width == pytest.approx(whole.width, rel=0.05), "the valence is the same"
    # far away the missing core is missing charge
    assert (_potential(whole.exponents, whole.electrons - found.electrons)[-1]) == pytest.approx(
        28 / RADII[-1], rel=1e-3
    )


def test_heavier_neighbours_of_a_row_are_narrower():
    widths = [free_atom_clouds(s).width for s in ("Li", "C", "N", "O", "F")]
    assert widths == sorted(widths)


def test_an_element_without_orbitals_is_named(monkeypatch):
    def nothing(_symbol):
        raise KeyError(0)

    monkeypatch.setattr(free_atoms, "free_atom", nothing)
    free_atom_clouds.cache_clear()
    with pytest.raises(InputError, match=r"got Xe; use inputs='physics'"):
        free_atom_clouds("Xe")
