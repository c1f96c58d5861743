"""A potential gives the Fock matrix back that it came from, in Gaussians."""

import numpy as np
import pytest
from pyscf.pbc import dft, gto, tools
from pyscf.pbc.dft.numint import NumInt
from pyscf.pbc.gto.pseudo import get_vlocG, pp_int

from deeph_zero.data.radial.upf import read_upf
from deeph_zero.integrals.periodic.kpoints import KPoints, make_kpoints
from deeph_zero.integrals.periodic.projection import (
    GaussianOrbitals,
    KleinmanBylander,
    fourier_resampled,
    grid_overlap_error,
    projected,
)
from deeph_zero.integrals.periodic.radial import RadialFunction

TWO = {"triplet": True}


KMESH = {"diamond": (3, 1, 2), "molecule": (1, 1, 1), "triplet": (1, 1, 1)}


def _points(cell, kpts):
    return KPoints(scaled=cell.get_scaled_kpts(kpts), weights=np.full(len(kpts), 1 / len(kpts)))


@pytest.mark.parametrize("name", KMESH)
def test_fock_of_pyscf_comes_back(name, potential_cells, potential_run):
    cell = potential_cells[name]
    found = potential_run(cell, KMESH[name], two=name in TWO)
    points = _points(cell, found.mf.kpts)
    values = found.values.reshape(len(found.values), -1)
    orbitals = GaussianOrbitals(cell, tuple(cell.mesh), [])
    fock, ovlp = projected(orbitals, values, cell.vol, points)
    expected = np.asarray(found.mf.get_fock()).reshape(fock.shape)
    # the same sums, and rounding; without a beta electron PySCF leaves out a potential of 1e-9 Eh
    assert np.abs(fock.numpy() - expected).max() < (1e-9 if name in TWO else 1e-12)
    assert np.abs(ovlp.numpy() - found.mf.get_ovlp()).max() < 1e-13


def _smooth():
    """Hydrogen with functions whose products a coarse mesh holds."""
    cell = gto.Cell()
    cell.atom, cell.a = "H .1 .2 0; H .2 .1 .75", [[1.9, 0.1, 0], [0, 1.8, 0.2], [0.1, 0, 2.1]]
    cell.basis = {"H": [[0, [1.2, 1]], [0, [0.9, 1]], [1, [1.0, 1]]]}
    cell.pseudo, cell.precision, cell.verbose = "gth-pade", 1e-11, 0
    return cell


def _density(cell, dms):
    """ρ and its gradient of each spin, by the orbitals' own gradients, [nspin, 4, n]."""
    ao = np.asarray(NumInt().eval_ao(cell, cell.get_uniform_grids(cell.mesh), deriv=1))
    rows = np.einsum("xgi,sij,gj->sxg", ao, dms, ao[0])
    rows[:, 1:] *= 2
    return rows


def _gga_potential(cell, dms):
    """v = dE/dρ - ∇·(dE/d∇ρ) of PBE with everything else that is local; the divergence by FFT."""
    waves, rows = cell.get_Gv(cell.mesh), _density(cell, dms)
    given = rows[0] if len(rows) == 1 else tuple(rows)
    of_rho, of_sigma = NumInt().eval_xc("pbe", given, spin=len(rows) - 1)[1][:2]
    of_rho = of_rho.reshape(len(waves), -1).T
    of_sigma = of_sigma.reshape(len(waves), -1).T
    if len(rows) == 1:
        flow = 2 * of_sigma * rows[:, 1:]
    else:  # of aa, ab, bb
        up, both, down = of_sigma
        a, b = rows[:, 1:]
        flow = np.stack([2 * up * a + both * b, 2 * down * b + both * a])
    v = of_rho.copy()
    for s, x in np.ndindex(len(rows), 3):
        v[s] -= tools.ifft(1j * waves[:, x] * tools.fft(flow[s, x], cell.mesh), cell.mesh).real
    total = tools.fft(rows[:, 0].sum(0), cell.mesh)
    v += tools.ifft(total * tools.get_coulG(cell, mesh=cell.mesh), cell.mesh).real
    cores = -np.einsum("ag,ag->g", cell.get_SI(), get_vlocG(cell))
    return v + tools.ifft(cores, cell.mesh).real * np.prod(cell.mesh) / cell.vol


@pytest.mark.parametrize("kind", [dft.RKS, dft.UKS])
def test_the_potential_of_a_gradient_functional_gives_its_matrix(kind):
    """PySCF integrates by parts; both are one where the mesh holds the products of orbitals."""
    errors = []
    for points in (11, 15, 21):
        cell = _smooth()
        cell.mesh = [points] * 3
        mf = kind(cell.build(), xc="pbe")
        dms = np.asarray(dft.RKS(cell).get_init_guess(key="1e"))[None]
        if kind is dft.UKS:
            dms = np.concatenate([0.7 * dms, 0.3 * dms])
        dm = dms if kind is dft.UKS else dms[0]
        orbitals = GaussianOrbitals(cell, tuple(cell.mesh), [])
        gamma = _points(cell, np.zeros((1, 3)))
        fock, _ = projected(orbitals, _gga_potential(cell, dms), cell.vol, gamma)
        expected = np.asarray(mf.get_fock(dm=dm)).reshape(fock[:, 0].shape)
        errors.append(np.abs(fock[:, 0].numpy() - expected).max())
    assert errors[2] < 1e-9
    assert errors[2] < 0.01 * errors[1] < 1e-4 * errors[0]


def test_a_finer_grid_of_the_same_waves_is_the_same_potential(potential_cells, potential_run):
    cell = potential_cells["diamond"]
    values = potential_run(cell, KMESH["diamond"], two=False).values
    finer = fourier_resampled(values, (20, 21, 22))
    back = fourier_resampled(finer.reshape(1, 20, 21, 22), values.shape[1:])
    assert np.abs(back - values.reshape(1, -1)).max() < 1e-12
    # a wave of known form, on an odd and an even grid
    x, y, z = (np.arange(n) / n for n in (6, 5, 4))
    grid = np.meshgrid(x, y, z, indexing="ij")
    fx, fy, fz = (np.arange(n) / n for n in (9, 8, 4))
    fine = np.meshgrid(fx, fy, fz, indexing="ij")

    def wave(a, b, c):
        return np.cos(2 * np.pi * (2 * a - b + c)) + np.sin(2 * np.pi * (a + 2 * b)) - 0.3

    got = fourier_resampled(wave(*grid)[None], (9, 8, 4))
    assert np.abs(got[0] - wave(*fine).ravel()).max() < 1e-12


def test_coarse_grids_are_told(potential_cells):
    cell = potential_cells["diamond"]
    gamma = _points(cell, np.zeros((1, 3)))
    errors = []
    for mesh in ((7, 7, 7), (15, 15, 15), (25, 25, 25)):
        orbitals = GaussianOrbitals(cell, mesh, [])
        errors.append(grid_overlap_error(orbitals, cell.vol, int(np.prod(mesh)), gamma))
    assert errors[0] > 1e-3 > errors[1] > errors[2]
    assert errors[2] < 1e-9


def test_projectors_of_a_upf_file_are_those_of_gth(radial_files, cell_with_p_projectors):
    cell = cell_with_p_projectors
    path = radial_files.write("C.upf", radial_files.gth_upf(cell))
    read = read_upf(path)
    assert (read.number, read.valence, [b.l for b in read.projectors]) == (6, 4, [0, 0, 1])
    kb = KleinmanBylander.of(read.projectors, read.strengths)
    bare = cell.copy()
    bare.pseudo = None
    bare.build()
    atoms = [(kb, cell.atom_coords())]
    points = make_kpoints((3, 1, 1))
    _, fixed = GaussianOrbitals(bare, tuple(cell.mesh), atoms).overlap_and_fixed(points)
    kpts = points.absolute(cell)
    kinetic = np.asarray(cell.pbc_intor("int1e_kin", kpts=kpts))
    expected = kinetic + np.asarray(pp_int.get_pp_nl(cell, kpts))
    # waves beyond the grid's sphere have 1e-10 of the projectors
    assert np.abs(fixed.numpy() - expected).max() < 1e-9


def test_spin_orbit_files_are_averaged(radial_files):
    """Two sets of p projectors, as strong for j = 1/2 and 3/2 as the one they stand for."""
    r = np.linspace(0, 7, 1401)
    spacing = np.full(len(r), r[1])
    s, p = radial_files.gth(0, 1, 0.4, r) * r, radial_files.gth(1, 1, 0.5, r) * r
    plain = radial_files.upf([(0, s), (1, p)], np.diag([4.0, 3.0]), r, spacing)
    both = radial_files.upf(
        [(0, s), (1, p), (1, p)],
        np.diag([4.0, 6.0, 1.5]),
        r,
        spacing,
        so="T",
        spins=[0.5, 0.5, 1.5],
    )
    one, two = (read_upf(radial_files.write(n, t)) for n, t in (("a.upf", plain), ("b.upf", both)))
    assert not one.spin_orbit
    assert two.spin_orbit
    # (1/3) 6 + (2/3) 1.5 = 3
    vectors = np.random.default_rng(1).normal(size=(20, 3))

    def operator(read):
        kb = KleinmanBylander.of(read.projectors, read.strengths)
        table = kb.at(vectors)
        return table.conj().T @ kb.strengths @ table

    assert np.abs(operator(one) - operator(two)).max() < 1e-12


# ---- parts ---------------------------------------------------------------------------------------


def test_strengths_are_spread_over_m():
    functions = [RadialFunction(l, np.arange(3.0), np.ones(3), np.ones(3)) for l in (0, 1, 0)]
    strengths = np.array([[2.0, 0, 0.5], [0, -3.0, 0], [0.5, 0, 1.0]])
    found = KleinmanBylander.of(functions, strengths)
    wanted = np.diag([2.0, -3, -3, -3, 1])
    wanted[0, 4] = wanted[4, 0] = 0.5
    np.testing.assert_array_equal(found.strengths, wanted)
    none = KleinmanBylander.of([], np.zeros((0, 0)))
    assert none.at(np.zeros((4, 3))).shape == (0, 4)
    assert none.strengths.shape == (0, 0)


@pytest.mark.parametrize(("old", "new"), [(9, 6), (8, 6), (9, 5), (8, 5), (6, 6), (6, 9), (6, 8)])
def test_fields_on_other_grids_keep_their_waves(old, new):
    """Waves that both grids hold, one axis at a time; what a coarser one cannot hold goes."""
    most = (min(old, new) - 1) // 2

    def field(n, *, more):
        x = np.arange(n) / n
        line = 0.7 + np.cos(2 * np.pi * most * x) - 0.4 * np.sin(2 * np.pi * x)
        lost = more and old // 2 > new // 2
        return line + (np.cos(2 * np.pi * (old // 2) * x) if lost else 0)

    for axis in range(3):
        shape = [2, 3, 4]
        shape[axis] = old
        target = list(shape)
        target[axis] = new
        values = np.ones(shape) * np.expand_dims(
            field(old, more=True), [k for k in range(3) if k != axis]
        )
        found = fourier_resampled(values[None], target).reshape(target)
        wanted = np.expand_dims(field(new, more=False), [k for k in range(3) if k != axis])
        np.testing.assert_allclose(found, np.ones(target) * wanted, atol=1e-12)


def test_gaussians_reach_as_far_as_their_overlaps(potential_cells):
    """exp(-ab/(a+b) d²) is a millionth there."""
    cell = potential_cells["diamond"]
    orbitals = GaussianOrbitals(cell, tuple(cell.mesh), [])
    reach = orbitals.reach()
    smallest = min(float(cell.bas_exp(b).min()) for b in range(cell.nbas))
    np.testing.assert_allclose(reach, np.full((2, 2), np.sqrt(np.log(1e6) * 2 / smallest)))
    assert orbitals.shells == ((0, 1), (0, 1))
