"""Orbitals and densities on the grid, against PySCF's own, and how they are packed."""

import numpy as np
import pytest
from pyscf.dft import numint
from pyscf.tools import cubegen

from deeph_zero.errors import InputError
from deeph_zero.report import volumes
from deeph_zero.report.data import Matrices


def matrices(solved, **changes) -> Matrices:
    arrays, attributes = solved.group(**changes)
    return Matrices(
        numbers=arrays["numbers"].astype(np.int64),
        coords=arrays["positions"],
        charge=attributes["charge"],
        spin=attributes["spin"],
        basis=attributes["basis"],
        overlap=arrays["overlap"],
        fock=arrays["fock"],
        fock_rebuilt=arrays["fock_rebuilt"],
        dm=arrays["density"],
        mo_energy=arrays["mo_energy"],
        mo_occ=arrays["mo_occ"],
    )


def small_box(solved) -> volumes.Box:
    coords = solved.mol.atom_coords()
    return volumes.Box(origin=coords.min(0) - 3.0, spacing=0.7, shape=(11, 14, 12))


@pytest.mark.reference
def test_fields_equal_pyscf_cubes(water, ch3):
    for solved in (water, ch3):
        m, box = matrices(solved), small_box(solved)
        points = box.points(slice(None))
        ao = numint.eval_ao(solved.mol, points)
        found = volumes.evaluate(m, volumes.mole_of(m), box)
        dms = np.asarray(solved.mf.make_rdm1())
        total = dms.sum(0) if dms.ndim == 3 else dms
        rho = numint.eval_rho(solved.mol, ao, total)
        np.testing.assert_allclose(found["density"].ravel(), rho, atol=2e-5 * rho.max())
        names = {"homo_alpha": (0, 4), "lumo_beta": (1, 4)} if dms.ndim == 3 else {"homo": (0, 4)}
        for name, (spin, p) in names.items():
            coeff = np.asarray(solved.mf.mo_coeff).reshape(-1, len(total), len(total))[spin]
            psi = ao @ coeff[:, p]
            sign = np.sign(psi @ found[name].ravel())  # the phase has no meaning
            np.testing.assert_allclose(sign * found[name].ravel(), psi, atol=2e-5)
    # the order of points is the one of cube files
    cube = cubegen.Cube(water.mol, *box.shape, margin=3.0)
    order = np.argsort(np.lexsort(cube.get_coords().T[::-1]))
    np.testing.assert_array_equal(order, np.arange(len(order)))
    np.testing.assert_array_equal(np.lexsort(points.T[::-1]), np.arange(len(points)))


def test_spin_density_integrates_to_the_unpaired_electrons(ch3):
    m = matrices(ch3)
    box = volumes.make_box(m.coords)
    found = volumes.evaluate(m, volumes.mole_of(m), box)
    assert box.spacing**3 * float(found["spin_density"].sum()) == pytest.approx(1.0, abs=0.01)
    assert set(found) == {
        "homo_alpha", "homo_beta", "lumo_alpha", "lumo_beta", "density", "spin_density",
    }  # fmt: skip
    lumo = found["lumo_beta"]
    assert box.spacing**3 * float((lumo**2).sum()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("largest", [0.4, 3.0])
def test_packing_keeps_what_surfaces_need(largest):
    x = np.linspace(-4, 4, 40)
    field = largest * np.exp(-(x[:, None, None] ** 2) - x[:, None] ** 2 / 2) * np.sin(x)
    back = volumes.unpack(volumes.pack(field)).reshape(field.shape)
    expected = np.clip(field, -volumes.CLIP, volumes.CLIP)
    seen = np.abs(expected) > 0.002
    assert seen.sum() > 1000
    np.testing.assert_allclose(back[seen], expected[seen], rtol=0.02)
    assert np.abs(back[~seen]).max() < 0.0022
    assert len(volumes.pack(field)) < 2 * field.size


def test_a_large_molecule_gets_a_coarser_grid():
    small = volumes.make_box(np.zeros((1, 3)))
    large = volumes.make_box(np.array([[0.0, 0.0, 0.0], [60.0, 40.0, 20.0]]))
    assert small.spacing == volumes.SPACING
    assert large.spacing > 2 * volumes.SPACING
    assert np.prod(large.shape) < 1.2 * volumes.MAX_POINTS
    ends = large.origin + large.spacing * (np.array(large.shape) - 1)
    assert (ends >= np.array([66.0, 46.0, 26.0])).all()


def test_the_basis_has_to_fit_the_matrices(water):
    m = matrices(water)
    with pytest.raises(InputError, match="expected 24 orbitals with basis def2-svp, got 7"):
        volumes.mole_of(type(m)(**{**m.__dict__, "basis": "def2-svp"}))


def test_first_view_is_a_rotation_that_shows_the_plane(water):
    view = volumes.scene(matrices(water), water.mol)["view"]
    assert np.linalg.norm(view["turn"]) == pytest.approx(1.0, abs=1e-5)
    assert view["radius"] > 1.5
