"""Matrices as pictures: the largest elements stay, blocks have names, zeros are drawn."""

import numpy as np
import pytest

from deeph_zero.report import data, heat
from deeph_zero.report.data import Matrices


def test_heat_map_of_a_large_matrix_keeps_its_largest_elements():
    matrix = np.full((1000, 1000), 1e-3)
    matrix[617, 203] = 5.0
    small = heat.coarse(matrix)
    assert small.shape == (heat.MAX_PIXELS, heat.MAX_PIXELS)
    assert np.argwhere(small == 5.0).tolist() == [[247, 81]]
    assert heat.coarse(matrix[:300, :300]).shape == (300, 300)


def test_heat_map_of_nothing(water):
    arrays, _ = water.group(noise=0.0)
    zero = np.zeros_like(arrays["fock"])
    m = data.Matrices(
        numbers=np.array([8]), coords=np.zeros((1, 3)), charge=0, spin=0, basis="", overlap=zero,
        fock=zero, fock_rebuilt=zero, dm=zero, mo_energy=np.zeros(7), mo_occ=np.zeros(7),
    )  # fmt: skip
    assert set(heat.heat_maps(m, None)) == {"fock", "residual"}


def matrices(n, atoms, spins=1):
    rng = np.random.default_rng(2)
    fock, rebuilt = (rng.normal(size=(spins, n, n)) for _ in range(2))
    occ = np.zeros((spins, n))
    if spins == 1:
        fock, rebuilt, occ = fock[0], rebuilt[0], occ[0]
    return Matrices(
        numbers=np.full(atoms, 6), coords=np.zeros((atoms, 3)), charge=0, spin=0, basis="",
        overlap=np.eye(n), fock=fock, fock_rebuilt=rebuilt, dm=fock, mo_energy=occ, mo_occ=occ,
    )  # fmt: skip


def image(figure):
    (drawn,) = figure.axes[0].get_images()
    return np.asarray(drawn.get_array())


@pytest.mark.parametrize("spins", [1, 2])
def test_every_spin_has_its_matrix_and_its_residual(spins):
    m = matrices(5, 1, spins)
    maps = heat.heat_maps(m, None)
    ends = [""] if spins == 1 else ["_alpha", "_beta"]
    assert list(maps) == [f"{name}{end}" for name in ("fock", "residual") for end in ends]
    for k, end in enumerate(ends):
        plane = m.fock_rebuilt if spins == 1 else m.fock_rebuilt[k]
        np.testing.assert_allclose(image(maps["fock" + end][1]), np.abs(plane))
        other = m.fock if spins == 1 else m.fock[k]
        np.testing.assert_allclose(image(maps["residual" + end][1]), np.abs(other - plane))
    assert maps["residual" + ends[-1]][0].endswith(", β") is (spins == 2)


def test_blocks_are_named_in_their_middles():
    _, figure = heat.heat_maps(matrices(9, 3), [0, 5, 7, 9])["fock"]
    axes = figure.axes[0]
    assert axes.get_xticks().tolist() == axes.get_yticks().tolist() == [2.5, 6.0, 8.0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["C1", "C2", "C3"]
    lines = {
        float(x) for c in axes.collections for path in c.get_paths() for x in path.vertices[:, 0]
    }
    assert {5.0, 7.0} <= lines


def test_of_many_atoms_some_have_names_and_none_a_line():
    n = 4 * heat.MAX_NAMES + 4
    _, figure = heat.heat_maps(matrices(n, n), list(range(n + 1)))["fock"]
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert 2 < len(names) <= heat.MAX_NAMES
    assert names[:2] == ["C1", "C6"]
    assert list(axes.collections) == []


@pytest.mark.parametrize("n", [399, 400, 401, 799, 1203])
def test_no_element_is_lost_when_a_matrix_is_drawn_coarser(n):
    rng = np.random.default_rng(n)
    matrix = rng.random((n, n))
    small = heat.coarse(matrix)
    assert len(small) == min(n, heat.MAX_PIXELS)
    assert small.max() == matrix.max()
    assert set(small.ravel()) <= set(matrix.ravel())
    # every patch holds the largest of its elements: the row maxima survive
    assert small.max(axis=1).min() >= np.sort(matrix.max(axis=1))[0]
