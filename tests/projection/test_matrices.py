"""A potential gives the Fock matrix back that it came from, in Gaussians and numerical orbitals."""

import numpy as np
import pytest
import torch
from pyscf.pbc import dft, gto, tools
from pyscf.pbc.dft.numint import NumInt
from pyscf.pbc.gto.pseudo import get_vlocG, pp_int

from deeph_zero.data.radial.ion import read_ion
from deeph_zero.data.radial.upf import read_upf
from deeph_zero.integrals.periodic.block_mesh import blocks_of, mesh_for
from deeph_zero.integrals.periodic.kpoints import KPoints, make_kpoints
from deeph_zero.integrals.periodic.numerical import NumericalOrbitals
from deeph_zero.integrals.periodic.projection import (
    GaussianOrbitals,
    KleinmanBylander,
    OrbitalsOnMesh,
    fourier_resampled,
    grid_overlap_error,
    projected,
)

TWO = {"triplet": True}
KMESH = {"diamond": (3, 1, 2), "molecule": (1, 1, 1), "triplet": (1, 1, 1)}


def _points(cell, kpts):
    return KPoints(scaled=cell.get_scaled_kpts(kpts), weights=np.full(len(kpts), 1 / len(kpts)))


@pytest.mark.parametrize("name", KMESH)
def test_fock_of_pyscf_comes_back(name, cells, run):
    cell = cells[name]
    found = run(cell, KMESH[name], two=name in TWO)
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


def test_a_finer_grid_of_the_same_waves_is_the_same_potential(cells, run):
    cell = cells["diamond"]
    values = run(cell, KMESH["diamond"], two=False).values
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


def test_coarse_grids_are_told(cells):
    cell = cells["diamond"]
    gamma = _points(cell, np.zeros((1, 3)))
    errors = []
    for mesh in ((7, 7, 7), (15, 15, 15), (25, 25, 25)):
        orbitals = GaussianOrbitals(cell, mesh, [])
        errors.append(grid_overlap_error(orbitals, cell.vol, int(np.prod(mesh)), gamma))
    assert errors[0] > 1e-3 > errors[1] > errors[2]
    assert errors[2] < 1e-9


def _carbon_upf(files, cell, **header):
    """GTH's carbon as a UPF file, all of its projectors in both spins where there are two."""
    parameters = cell._pseudo["C"]
    r = np.linspace(0, 7, 1401)
    betas, blocks = [], []
    for l, (radius, n, h) in enumerate(parameters[5:]):
        if n:
            betas += [(l, r * files.gth(l, i, radius, r)) for i in range(1, n + 1)]
            blocks.append(2 * np.array(h, dtype=float))
    size = sum(len(b) for b in blocks)
    strengths = np.zeros((size, size))
    at = 0
    for block in blocks:
        strengths[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    spacing = np.full(len(r), r[1])
    return files.write("C.upf", files.upf(betas, strengths, r, spacing, **header)), betas


@pytest.fixture
def with_p_projectors():
    """Carbon with a made-up pseudopotential that has s and p channels, two of s."""
    cell = gto.Cell()
    cell.atom, cell.a = "C 0 .05 0; C .9 .85 .93", [[0, 3.6, 3.4], [3.3, 0, 3.4], [3.5, 3.6, 0.1]]
    cell.basis, cell.mesh, cell.verbose = "gth-dzvp", [39, 41, 40], 0
    h_s, h_p = [[9.5, -1.2], [-1.2, 0.7]], [[-2.1]]
    cell.pseudo = {"C": [[2, 2], 0.34, 1, [-8.5], 2, [0.45, 2, h_s], [0.5, 1, h_p]]}
    return cell.build()


def test_projectors_of_a_upf_file_are_those_of_gth(files, with_p_projectors):
    cell = with_p_projectors
    path, _ = _carbon_upf(files, cell)
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


def test_numerical_orbitals_are_the_gaussians_they_were_made_of(files, with_p_projectors):
    cell = with_p_projectors
    path, _ = _carbon_upf(files, cell)
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
    ion = read_ion(files.write("C.ion", files.ion("C", 6, 4, tables, end)))
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


def test_spin_orbit_files_are_averaged(files):
    """Two sets of p projectors, as strong for j = 1/2 and 3/2 as the one they stand for."""
    r = np.linspace(0, 7, 1401)
    spacing = np.full(len(r), r[1])
    s, p = files.gth(0, 1, 0.4, r) * r, files.gth(1, 1, 0.5, r) * r
    plain = files.upf([(0, s), (1, p)], np.diag([4.0, 3.0]), r, spacing)
    both = files.upf(
        [(0, s), (1, p), (1, p)],
        np.diag([4.0, 6.0, 1.5]),
        r,
        spacing,
        so="T",
        spins=[0.5, 0.5, 1.5],
    )
    one, two = (read_upf(files.write(n, t)) for n, t in (("a.upf", plain), ("b.upf", both)))
    assert not one.spin_orbit
    assert two.spin_orbit
    # (1/3) 6 + (2/3) 1.5 = 3
    vectors = np.random.default_rng(1).normal(size=(20, 3))

    def operator(read):
        kb = KleinmanBylander.of(read.projectors, read.strengths)
        table = kb.at(vectors)
        return table.conj().T @ kb.strengths @ table

    assert np.abs(operator(one) - operator(two)).max() < 1e-12


def test_blocks_give_the_matrices_of_their_mesh_back(cells, run):
    cell = cells["diamond"]
    values = run(cell, KMESH["diamond"], two=False).values.reshape(1, -1)
    orbitals = GaussianOrbitals(cell, tuple(cell.mesh), [])
    kpoints = make_kpoints((4, 3, 5))
    fock, ovlp = projected(orbitals, values, cell.vol, kpoints)
    h, s = blocks_of(
        [fock[0], ovlp], kpoints, cell.lattice_vectors(), cell.atom_coords(), (4, 4), threshold=0.0
    )
    again = torch.from_numpy(kpoints.scaled)
    # V_nl ends unevenly about k on a grid this coarse; S does not
    assert float((s.at_k(again) - ovlp).abs().max()) < 1e-12
    assert float((h.at_k(again) - fock[0]).abs().max()) < 1e-4
    assert h.asymmetry() < 1e-12
    assert not h.values.is_complex()


def test_mesh_keeps_images_apart_that_reach_each_other():
    lattice = np.diag([5.0, 9.0, 40.0])
    coords = np.array([[0.1, 0.2, 3.0], [2.0, 4.0, 18.0]])
    assert mesh_for(lattice, coords, np.full((2, 2), 4.9)) == (1, 1, 1)
    # 12 bohr: R from -2 to 2 along x, -1 to 1 along y; the other side of the vacuum is 25 away
    assert mesh_for(lattice, coords, np.full((2, 2), 12.0)) == (5, 3, 1)
    assert mesh_for(lattice, coords, np.full((2, 2), 26.0))[2] == 2
