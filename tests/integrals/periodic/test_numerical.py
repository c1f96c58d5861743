"""Numerical orbitals against the Gaussians they are made of."""

import numpy as np
import pytest
import torch
from pyscf.pbc import gto
from pyscf.pbc.df import ft_ao
from scipy.special import gamma

from deeph_zero.data.radial.ion import read_ion
from deeph_zero.data.radial.upf import read_upf
from deeph_zero.integrals.periodic.kpoints import KPoints, make_kpoints
from deeph_zero.integrals.periodic.numerical import NumericalOrbitals, NumericalValues
from deeph_zero.integrals.periodic.projection import (
    GaussianOrbitals,
    KleinmanBylander,
    OrbitalsOnMesh,
    fourier_resampled,
    projected,
)
from deeph_zero.integrals.periodic.radial import RadialFunction, simpson


def test_numerical_orbitals_are_the_gaussians_they_were_made_of(
    radial_files, cell_with_p_projectors
):
    cell = cell_with_p_projectors
    path = radial_files.write("C.upf", radial_files.gth_upf(cell))
    end, points = 11.0, 2201
    r = np.linspace(0, end, points)
    functions = {0: [(1.1, 0.5), (0.42, 0.7)], 1: [(0.8, 1.0)], 2: [(0.9, 1.0)]}
    gaussian, tables = [], []
    for l, primitives in functions.items():
        gaussian.append([l, *([e, c] for e, c in primitives)])
    cell.basis = {"C": gaussian}
    cell.build()
    for b in range(3):
        l = cell.bas_angular(b)
        values = cell._libcint_ctr_coeff(b)[:, 0] @ np.exp(-cell.bas_exp(b)[:, None] * r**2)
        tables.append((l, values))
    ion = read_ion(radial_files.write("C.ion", radial_files.ion("C", 6, 4, tables, end)))
    assert [f.l for f in ion.orbitals] == [0, 1, 2]
    upf = read_upf(path)
    atoms = [(KleinmanBylander.of(upf.projectors, upf.strengths), cell.atom_coords())]
    orbitals = NumericalOrbitals(cell.atom_coords(), cell.lattice_vectors(), [ion.orbitals] * 2)
    mesh = (31, 30, 33)
    kpoints = make_kpoints((2, 1, 3))
    rng = np.random.default_rng(0)
    values = fourier_resampled(rng.normal(size=(2, 7, 6, 7)), mesh)
    fock, ovlp = projected(OrbitalsOnMesh(orbitals, mesh, atoms), values, cell.vol, kpoints)
    bare = cell.copy()
    bare.pseudo = None
    bare.build()
    other = GaussianOrbitals(bare, mesh, atoms)
    expected, wanted = projected(other, values, cell.vol, kpoints)
    assert float((ovlp - wanted).abs().max()) < 1e-7
    assert float((fock - expected).abs().max()) < 1e-6


# ---- parts, against Gaussians in closed form ---------------------------------------------------

EXPONENTS = {0: 0.8, 1: 0.9, 2: 1.1}


def tabulated(l):
    """A normalised Gaussian as a table."""
    r = np.linspace(0, 9, 901)
    a = EXPONENTS[l]
    norm = np.sqrt(2 * (2 * a) ** (l + 1.5) / gamma(l + 1.5))
    return RadialFunction(
        l, r, norm * r ** (l + 1) * np.exp(-a * r**2), simpson(np.full(901, r[1]))
    )


S, P, D = (tabulated(l) for l in range(3))


@pytest.fixture(scope="module")
def gaussians():
    """A cell of two atoms, one of s and p, one of d; and the same as tables."""
    cell = gto.Cell()
    cell.a, cell.unit, cell.verbose = [[6.1, 0.2, 0], [0.4, 6.3, 0.1], [0, 0.5, 6.6]], "B", 0
    cell.atom = "H 0.2 0.1 0.3; He 2.9 3.0 3.2"
    cell.basis = {
        "H": [[0, [EXPONENTS[0], 1]], [1, [EXPONENTS[1], 1]]], "He": [[2, [EXPONENTS[2], 1]]],
    }  # fmt: skip
    cell.spin, cell.mesh, cell.precision = 1, [21, 21, 21], 1e-10
    cell.build()
    lattice = cell.lattice_vectors()
    return cell, NumericalOrbitals(cell.atom_coords(), lattice, [(S, P), (D,)])


KPT = np.array([0.21, -0.13, 0.4])


def test_sizes_and_volume(gaussians):
    cell, orbitals = gaussians
    assert (orbitals.sizes, orbitals.nao) == ((4, 5), 9)
    assert orbitals.volume == pytest.approx(cell.vol)
    np.testing.assert_allclose(orbitals.reciprocal, cell.reciprocal_vectors())


def test_transforms_are_pyscfs(gaussians):
    cell, orbitals = gaussians
    vectors = cell.get_Gv([5, 5, 5])
    kpt = KPT @ orbitals.reciprocal
    wanted = ft_ao.ft_ao(cell, vectors, kpt=kpt)
    np.testing.assert_allclose(orbitals.transforms(vectors, kpt), wanted, atol=1e-7)


def test_waves_are_all_of_a_sphere(gaussians):
    _, orbitals = gaussians
    kpt = KPT @ orbitals.reciprocal
    indices, vectors = orbitals.waves(kpt, 3.0)
    every = np.array(list(np.ndindex(13, 13, 13))) - 6
    inside = np.linalg.norm(every @ orbitals.reciprocal + kpt, axis=1) <= 3.0
    assert set(map(tuple, indices)) == set(map(tuple, every[inside]))
    np.testing.assert_allclose(vectors, indices @ orbitals.reciprocal)


@pytest.mark.parametrize(("radius", "error"), [(5.5, 2e-3), (9.0, 1e-6)])
def test_overlap_and_kinetic_energy_are_pyscfs(gaussians, radius, error):
    """What is beyond the waves is added on each atom; between atoms it cancels."""
    cell, orbitals = gaussians
    points = KPoints(scaled=KPT[None], weights=np.ones(1))
    overlap, kinetic = orbitals.overlap_and_kinetic(points, radius)
    kpts = points.absolute(cell)
    for found, name in ((overlap, "int1e_ovlp"), (kinetic, "int1e_kin")):
        wanted = np.asarray(cell.pbc_intor(name, kpts=kpts))
        assert np.abs(found - wanted).max() < error
        # without what is beyond, the diagonal is short of it
        assert np.abs(np.diagonal(found - wanted, 0, 1, 2)).max() < error


def test_the_norm_that_a_sphere_misses(gaussians):
    _, orbitals = gaussians
    q = np.linspace(0, 40, 4001)
    missing = []
    for l, function in enumerate((S, P, D)):
        a = EXPONENTS[l]
        norm = 2 * (2 * a) ** (l + 1.5) / gamma(l + 1.5)
        # |f(q)|^2 of the radial transform, by its own formula
        radial = np.sqrt(np.pi) / 4 * q**l / (2 * a) ** l / a**1.5 * np.exp(-(q**2) / (4 * a))
        density = 2 / np.pi * norm * (q * radial) ** 2
        assert np.trapezoid(density, q) == pytest.approx(1, abs=1e-9)
        assert function.norm() == pytest.approx(1, abs=1e-9)
        missing.append(np.trapezoid(density[300:], q[300:]))
    # by trapezoids of unlike steps
    assert orbitals.missing_norm(3.0) == pytest.approx(max(missing), abs=1e-5)
    assert orbitals.missing_norm(9.0) < 1e-6


def test_values_on_the_grid_are_pyscfs(gaussians):
    cell, orbitals = gaussians
    mesh = (20, 21, 22)
    values = NumericalValues(orbitals, KPT, mesh)
    parts = [values.block(b) for b in range(values.n_blocks)]
    found = torch.cat([p.groups[0].ao[0, 0] for p in parts], -1).numpy()
    points = cell.get_uniform_grids(mesh, wrap_around=False)
    (wanted,) = cell.pbc_eval_gto("GTOval_sph", points, kpts=cell.get_abs_kpts(KPT[None]))
    # waves beyond the sphere have a few 1e-5 of the functions
    np.testing.assert_allclose(found, wanted.T, atol=2e-4)
    assert np.abs(wanted).max() > 0.3
