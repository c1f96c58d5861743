"""DeepH's legacy folders: written, looked at by hand, and read."""

import h5py
import numpy as np
import pytest
from pyscf import gto

from deeph_zero.data.formats.deeph_legacy import LegacySink, LegacySource
from deeph_zero.data.formats.protocol import read_record

from .conftest import ATOMS, BASIS, LATTICE, assert_same, of_spinors, polarised, written

EV, BOHR = 27.2113845, 0.529177249


@pytest.mark.parametrize("kind", [None, polarised, of_spinors])
def test_a_crystal_there_and_back(tmp_path, crystal, kind):
    record = kind(crystal) if kind else crystal
    found = LegacySource(written(tmp_path / "a", LegacySink, record))
    assert len(found) == 1
    back = read_record(found, 0)
    assert_same(record, back)
    assert back.matrices.facts.get("fermi", 0.0) == pytest.approx(
        record.matrices.facts.get("fermi", 0.0), abs=1e-12
    )


def test_molecules_there_and_back(tmp_path, molecule):
    found = LegacySource(written(tmp_path / "a", LegacySink, molecule, molecule))
    assert len(found) == 2
    back = read_record(found, 1)
    assert back.structure.lattice is None
    assert_same(molecule, back)
    density = back.matrices.density.values
    np.testing.assert_allclose(density, 0.5 * back.matrices.overlap.values, atol=1e-14)


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


def test_the_old_layout_is_openmxs(tmp_path, crystal):
    folder = written(tmp_path / "a", LegacySink, crystal)
    names = {"s": [""], "p": ["x", "y", "z"], "d": ["z^2", "x2-y2", "xy", "xz", "yz"]}
    mol = gto.M(atom=[ATOMS[0], ATOMS[2]], basis=BASIS, unit="Bohr", verbose=0)
    rows = named([x for x in mol.ao_labels(fmt=None) if x[0] == 0], names)
    with h5py.File(folder / "overlaps.h5") as file:
        block = file["[0, 0, 0, 1, 3]"][()]
    matrix = mol.intor("int1e_ovlp")[:10, 10:]
    np.testing.assert_allclose(block, matrix[np.ix_(rows, rows)], atol=1e-12)
    lattice = np.loadtxt(folder / "lat.dat")
    np.testing.assert_allclose(lattice[:, 1], LATTICE[1] * BOHR, atol=1e-14)
    reciprocal = np.loadtxt(folder / "rlat.dat")
    np.testing.assert_allclose(lattice.T @ reciprocal, 2 * np.pi * np.eye(3), atol=1e-12)
    assert (folder / "element.dat").read_text().split() == ["6", "1", "6"]
