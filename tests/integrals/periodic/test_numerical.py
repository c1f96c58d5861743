"""Numerical orbitals against the Gaussians they are made of."""

import numpy as np

from deeph_zero.data.radial.ion import read_ion
from deeph_zero.data.radial.upf import read_upf
from deeph_zero.integrals.periodic.kpoints import make_kpoints
from deeph_zero.integrals.periodic.numerical import NumericalOrbitals
from deeph_zero.integrals.periodic.projection import (
    GaussianOrbitals,
    KleinmanBylander,
    OrbitalsOnMesh,
    fourier_resampled,
    projected,
)


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
