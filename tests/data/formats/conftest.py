"""A crystal and a molecule with matrices of PySCF's integrals, s to d, no symmetry."""

import importlib
import json

import h5py
import numpy as np
import pytest
import torch
from pyscf import dft, gto

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.cli.main import entry_point
from deeph_zero.data.formats.protocol import (
    Matrices,
    Record,
    Structure,
    from_dense,
    on_blocks,
    permuted,
)
from deeph_zero.jobs.convert import atomic_shells
from deeph_zero.testing import WATER

BASIS = {
    "C": [[0, [0.9, 1.0]], [0, [0.4, 1.0]], [1, [0.7, 1.0]], [2, [0.8, 1.0]]],
    "H": [[0, [0.6, 1.0]], [1, [0.9, 1.0]]],
}
COMMON = ["--grid-level", "0", "--xc", "pbe", "--device", "cpu", "--threads", "1", "-q"]
"""Options of `convert` that make it quick and silent."""
SHELLS = {6: (0, 0, 1, 2), 1: (0, 1)}
LATTICE = np.array([[4.1, 0.2, -0.3], [0.4, 4.6, 0.1], [-0.2, 0.5, 5.2]])
ATOMS = [("C", (0.1, 0.2, -0.1)), ("H", (1.4, 1.3, 0.5)), ("C", (-0.4, 2.1, 2.2))]
CELLS = [(a, b, c) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)]


def named(labels, names):
    """Positions of one atom's functions in an order given by the names of its components."""
    return [
        k
        for shell in ("s", "p", "d")
        for which in dict.fromkeys(x[2] for x in labels if x[2].endswith(shell))
        for component in names[shell]
        for k, x in enumerate(labels)
        if x[2] == which and x[3] == component
    ]


def assert_labels(path, mf):
    """A database of one water becomes labels, with PySCF's numbers in PySCF's order."""
    out = path.parent / "b.h5"
    assert entry_point(["convert", str(path), str(out), *COMMON]) == 0
    (row,) = json.loads(out.with_suffix(".json").read_text())["structures"]
    assert row["source_ao_order"] in ("psi4", "orca")
    with h5py.File(out) as file:
        group = file["0000"]
        np.testing.assert_allclose(group["fock"], mf.get_fock(), atol=2e-6)
        np.testing.assert_allclose(group["density"], mf.make_rdm1(), atol=2e-5)
        assert group.attrs["energy"] == pytest.approx(mf.e_tot, abs=1e-7)


def there_and_back(path, kind, source):
    """A database of one water by way of DeepH's folders: its copy, with the same numbers."""
    folder, copy = path.parent / "folder", path.parent / "copy.db"
    assert entry_point(["convert", str(path), str(folder), "-q"]) == 0
    assert entry_point(["convert", str(folder), str(copy), "--to", kind, "-q"]) == 0
    one, two = (source(p, atomic_shells, "def2-svp") for p in (path, copy))
    assert len(two) == 1
    np.testing.assert_allclose(one.structure(0).coords, two.structure(0).coords, atol=1e-6)
    for part in ("fock", "overlap"):
        a, b = (getattr(s.matrices(0), part).to_dense().numpy() for s in (one, two))
        np.testing.assert_allclose(a, b, atol=2e-6)
    return copy


def images():
    """Every atom in every cell, home first."""
    cells = sorted(CELLS, key=lambda cell: cell != (0, 0, 0))
    return cells, [
        (symbol, np.array(xyz) + np.array(cell) @ LATTICE)
        for cell in cells
        for symbol, xyz in ATOMS
    ]


def blocks_of(integral):
    """⟨i, 0| A |j, R⟩ of an integral that knows no other atom."""
    cells, atoms = images()
    cluster = gto.M(atom=atoms, basis=BASIS, unit="Bohr", verbose=0, spin=None)
    matrix = torch.from_numpy(cluster.intor(integral))
    starts = cluster.aoslice_by_atom()[:, 2:]
    sizes = [int(b - a) for a, b in starts[:3]]
    pairs, where, blocks = [], [], []
    for number, cell in enumerate(cells):
        for i, j in np.ndindex(3, 3):
            (a, b), (c, d) = starts[i], starts[3 * number + j]
            pairs.append((i, j))
            where.append(cell)
            blocks.append(matrix[a:b, c:d])
    return BlockMatrix.from_blocks(torch.tensor(pairs), torch.tensor(where), blocks, sizes)


def structure(lattice=None):
    return Structure(
        numbers=np.array([6, 1, 6]),
        coords=np.array([xyz for _, xyz in ATOMS]),
        lattice=lattice,
        pbc=np.full(3, lattice is not None),
        name="made",
    )


def shells():
    return tuple(SHELLS[z] for z in (6, 1, 6))


@pytest.fixture(scope="session")
def crystal():
    """H is a kinetic energy, plus a tenth of S so that no element is zero by chance."""
    overlap, kinetic = blocks_of("int1e_ovlp"), blocks_of("int1e_kin")
    fock = kinetic.with_values(kinetic.values + 0.1 * overlap.values)
    matrices = Matrices(shells=shells(), fock=fock, overlap=overlap, facts={"fermi": -0.25})
    return Record(structure(LATTICE), matrices)


@pytest.fixture(scope="session")
def molecule(crystal):
    matrices = crystal.matrices
    dense = (matrices.fock.to_dense().numpy(), matrices.overlap.to_dense().numpy())
    return Record(structure(), from_dense(shells(), *dense, density=0.5 * dense[1]))


def polarised(record):
    """Two unlike spins."""
    m = record.matrices
    fock = m.fock.with_values(torch.stack([m.fock.values, 0.5 * m.fock.values]))
    return Record(record.structure, Matrices(shells=m.shells, fock=fock, overlap=m.overlap))


def of_spinors(record):
    """Spins mixed by a complex, Hermitian matrix."""
    m = record.matrices
    blocks = []
    for part in m.fock.blocks():
        rows = [torch.cat([part, 0.3j * part], 1), torch.cat([-0.3j * part, 0.5 * part], 1)]
        blocks.append(torch.cat(rows, 0))
    sizes = [2 * n for n in m.fock.sizes]
    fock = BlockMatrix.from_blocks(m.fock.pairs, m.fock.cells, blocks, sizes)
    return Record(record.structure, Matrices(shells=m.shells, fock=fock, overlap=m.overlap))


def assert_same(one, other, atol=1e-12, *, atoms=None):
    """Structures and matrices of two records; blocks of zeros may be missing in one."""
    one = one if atoms is None else permuted(one, atoms)
    assert one.structure.numbers.tolist() == other.structure.numbers.tolist()
    np.testing.assert_allclose(one.structure.coords, other.structure.coords, atol=1e-11)
    assert one.structure.pbc.tolist() == other.structure.pbc.tolist()
    if one.structure.lattice is not None:
        np.testing.assert_allclose(one.structure.lattice, other.structure.lattice, atol=1e-11)
    a, b = one.matrices, other.matrices
    assert a.shells == b.shells
    assert a.spinor == b.spinor
    assert a.spin_polarised == b.spin_polarised
    assert (a.overlap is None) == (b.overlap is None)
    same_elements(a.fock, b.fock, atol)
    if a.overlap is not None:
        same_elements(a.overlap, b.overlap, atol)


def same_elements(one, other, atol):
    """The larger of two matrices decides which blocks are compared."""
    small, large = sorted((one, other), key=len)
    found = on_blocks(small, large)
    torch.testing.assert_close(found.values, large.values.to(found.values), rtol=0, atol=atol)


# ---- writers of files -------------------------------------------------------------------------


def written(path, sink, *records):
    """A folder of a sink."""
    path.mkdir()
    out = sink(path, len(records))
    for record in records:
        out.write(record)
    return path


def stored(matrix, ls, table):
    """A dense matrix with the functions and signs of each shell as a table by l says."""
    places, signs = [], []
    for l in ls:
        places += [len(signs) + k for k in table[l][0]]
        signs += table[l][1]
    return matrix[..., np.array(places)[:, None], places] * np.outer(signs, signs)


ORCA = {"s": [""], "p": ["z", "x", "y"], "d": ["z^2", "xz", "yz", "x2-y2", "xy"]}


def in_order(mol, matrix):
    """As Psi4 and ORCA list the functions of a shell, by PySCF's own names."""
    labels = mol.ao_labels(fmt=None)
    inside = [ORCA[x[2][-1]].index(x[3]) for x in labels]
    order = sorted(range(len(labels)), key=lambda k: (labels[k][0], "spd".index(labels[k][2][-1]),
                                                      labels[k][2], inside[k]))  # fmt: skip
    return matrix[np.ix_(order, order)]


def lmdb_file(path, values):
    """An LMDB of keys and values, written by the library."""
    with importlib.import_module("lmdb").open(
        str(path), subdir=False, lock=False, map_size=2**26
    ) as env:
        for key, value in values:
            with env.begin(write=True) as transaction:
                transaction.put(key, value)
    return path


class Evil:
    """What a pickle calls when it is loaded."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.fixture(scope="session")
def water_scf():
    """Converged water in def2-SVP, PBE."""
    mf = dft.RKS(gto.M(atom=WATER, basis="def2-svp", verbose=0), xc="pbe")
    mf.grids.level = 0
    mf.conv_tol, mf.conv_tol_grad = 1e-11, 1e-6
    mf.kernel()
    return mf
