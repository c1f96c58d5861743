"""HSX files: written here record by record, read, and damaged."""

import struct

import numpy as np
import pytest
import torch

from deeph_zero.cli.main import entry_point
from deeph_zero.data.formats.hsx import HSXSource
from deeph_zero.data.formats.proof import order_deviation
from deeph_zero.data.formats.protocol import read_record
from deeph_zero.errors import InputError

from .conftest import CELLS, assert_same
from .siesta_files import hsx, ints, record


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("double", [True, False])
def test_a_crystal(tmp_path, crystal, version, double):
    (tmp_path / "a.HSX").write_bytes(hsx(crystal, version=version, double=double))
    found = read_record(HSXSource(tmp_path / "a.HSX"), 0)
    assert_same(crystal, found, atol=1e-12 if double else 1e-7)
    assert found.matrices.facts["fermi"] == -0.25
    assert found.structure.charge == 0


def test_two_spins(tmp_path, crystal):
    (tmp_path / "a.HSX").write_bytes(hsx(crystal, [lambda f: f, lambda f: 0.5 * f]))
    found = read_record(HSXSource(tmp_path / "a.HSX"), 0).matrices
    assert found.spin_polarised
    torch.testing.assert_close(found.fock.values[1], 0.5 * found.fock.values[0])


def test_spin_orbit_coupling_has_the_sign_of_l_times_s(tmp_path, crystal):
    """On the p shell of H (atom 1): H_SO = l·s in SIESTA's eight components."""
    mol = crystal.matrices
    start = mol.sizes[0] + 1  # py, pz, px with signs -, +, -
    l_x, l_y, l_z = (np.zeros((24, 24 * 27)) for _ in range(3))  # -i times these
    y, z, x = start, start + 1, start + 2
    home = 24 * CELLS.index((0, 0, 0))
    for matrix, (a, b), sign in ((l_x, (y, z), -1), (l_y, (z, x), -1), (l_z, (x, y), 1)):
        matrix[a, home + b], matrix[b, home + a] = sign, -sign
    # <nu| H |mu> is stored for (mu, nu): the conjugate of uu = -i/2 l_z, ud = (-i l_x - l_y)/2
    parts = [
        lambda f: f, lambda f: f,
        lambda f: 0 * f + 0.5 * l_y, lambda f: 0 * f - 0.5 * l_x,
        lambda f: 0 * f + 0.5 * l_z, lambda f: 0 * f - 0.5 * l_z,
        lambda f: 0 * f - 0.5 * l_y, lambda f: 0 * f + 0.5 * l_x,
    ]  # fmt: skip
    (tmp_path / "a.HSX").write_bytes(hsx(crystal, parts))
    found = read_record(HSXSource(tmp_path / "a.HSX"), 0).matrices
    assert found.spinor
    where = found.fock.cells.eq(0).all(1) & found.fock.pairs.eq(1).all(1)
    block = found.fock.block(int(where.nonzero()[0, 0])).numpy()
    plain = np.kron(np.eye(2), mol.fock.to_dense()[10:14, 10:14].numpy())
    coupling = block - plain
    p = [1, 2, 3, 5, 6, 7]  # x, y, z of both spins
    np.testing.assert_allclose(
        np.linalg.eigvalsh(coupling[np.ix_(p, p)]), [-1, -1, 0.5, 0.5, 0.5, 0.5], atol=1e-12
    )
    assert coupling[1, 2] == pytest.approx(-0.5j)  # <px up| l_z s_z |py up>


def test_a_molecule_and_a_folded_crystal_are_told_apart(tmp_path, crystal, molecule, capsys):
    (tmp_path / "a.HSX").write_bytes(hsx(molecule, cells=[(0, 0, 0)]))
    found = read_record(HSXSource(tmp_path / "a.HSX"), 0)
    assert_same(molecule, found)
    assert order_deviation(found) < 1e-10
    folded = hsx(crystal)
    home = molecule.matrices.overlap
    total = sum(crystal.matrices.overlap.to_dense(cell) for cell in CELLS)
    values = type(home).from_dense(total, home.sizes)
    import dataclasses

    matrices = dataclasses.replace(molecule.matrices, overlap=values, density=None)
    folded = hsx(dataclasses.replace(molecule, matrices=matrices), cells=[(0, 0, 0)])
    (tmp_path / "b.HSX").write_bytes(folded)
    found = read_record(HSXSource(tmp_path / "b.HSX"), 0)
    assert found.structure.pbc.all()
    assert entry_point(["convert", str(tmp_path / "b.HSX"), str(tmp_path / "c.h5")]) == 0
    words = "were folded into one; these matrices are those of k = 0 only"
    assert words in capsys.readouterr().err
    # what is written from them is read again, and says so too
    for name, to in (("d", "deeph"), ("e", "deeph-legacy")):
        target = tmp_path / name
        assert entry_point(["convert", str(tmp_path / "c.h5"), str(target), "--to", to]) == 0
        assert entry_point(["convert", str(target), str(tmp_path / f"{name}.h5")]) == 0
        assert words in capsys.readouterr().err


def test_damage_is_one_line(tmp_path, crystal, capsys):
    whole = hsx(crystal)
    cases = {
        "empty": (b"", "expected the version, the file ends at byte 0"),
        "cut": (whole[:5000], "the record is cut off or damaged"),
        "text": (b"hello " * 50, "the record is cut off or damaged"),
        "version": (whole[:4] + ints(7).tobytes() + whole[8:], "expected version 1 or 2"),
        "spins": (whole[:36] + ints(3).tobytes() + whole[40:], "spins (1, 2, 4 or 8)"),
        "huge": (whole[:32] + ints(2**31 - 1).tobytes() + whole[36:], "expected sizes of atoms"),
        "nan": (whole.replace(np.float64(crystal.structure.coords[1, 0]).tobytes(), b"\xff" * 8),
                "expected finite positions"),
        "label": (whole.replace(b"H.extra", b"Q.extra"), "put label.XV beside the file"),
    }  # fmt: skip
    for name, (content, message) in cases.items():
        path = tmp_path / f"{name}.HSX"
        path.write_bytes(content)
        assert entry_point(["convert", str(path), str(tmp_path / "o.h5")]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert f"{name}.HSX" in line
        assert message in line
    assert not (tmp_path / "o.h5").exists()
    with pytest.raises(InputError, match=r"one \.HSX file in the folder, got cut\.HSX"):
        HSXSource(tmp_path)


# ---- more damage, with its place in the file ---------------------------------------------------


def test_elements_stand_in_the_file_beside(tmp_path, crystal):
    """Where labels do not begin with one: SIESTA's .XV has atomic numbers."""
    content = hsx(crystal).replace(b"C".ljust(20), b"first".ljust(20), 1)
    (tmp_path / "a.HSX").write_bytes(content)
    with pytest.raises(InputError, match=r"got 'first'; put a\.XV beside the file"):
        HSXSource(tmp_path / "a.HSX").structure(0)
    head = "1 0 0\n0 1 0\n0 0 1\n3\n"
    (tmp_path / "a.XV").write_text(head + "1 6 0 0 0\n2 1 0 0 0\n1 6 0 0 0\n")
    assert HSXSource(tmp_path / "a.HSX").structure(0).numbers.tolist() == [6, 1, 6]
    for atoms in ("1 6\n2 1\n", "1 6\n2 x\n1 6\n", "1 6\n2 200\n1 6\n"):
        (tmp_path / "a.XV").write_text(head + atoms)
        with pytest.raises(InputError, match=r"a\.XV: expected an atomic number of each atom"):
            HSXSource(tmp_path / "a.HSX").structure(0)


def with_record(content, number, change):
    """The file with one of its records changed; their numbers count from 0."""
    at, parts = 0, []
    while at < len(content):
        size = struct.unpack_from("<i", content, at)[0]
        parts.append(content[at + 4 : at + 4 + size])
        at += size + 8
    parts[number] = change(parts[number])
    return b"".join(record(part) for part in parts)


def put(values, at):
    """Other whole numbers at a place of a record."""
    return lambda part: part[:at] + ints(*values).tobytes() + part[at + 4 * len(values) :]


RECORDS = {
    "cells": (4, lambda part: part[:-4], "bytes of cells and atoms, got"),
    "species": (4, put([3], 27 * 12 + 72), r"expected species from 1 to 2, got \[3, 2, 1\]"),
    "ends": (4, put([11], 27 * 12 + 72 + 12), "expected 24 orbitals, the species have 24; check"),
    "labels": (5, lambda part: part[:-1], "expected 2 species, got a record of 63 bytes"),
    "shells": (6, put([9], 4 * (3 * 2 + 1)), r"expected 2l\+1 orbitals of each shell of 'C'"),
    "negative": (8, put([-1], 0), "expected numbers of columns, got negative ones"),
    "columns": (9, put([0], 0), "expected columns from 1 to 648, got 0 to 648"),
}  # fmt: skip


@pytest.mark.parametrize("case", RECORDS)
def test_damaged_records(tmp_path, crystal, case):
    number, change, words = RECORDS[case]
    (tmp_path / "a.HSX").write_bytes(with_record(hsx(crystal), number, change))
    with pytest.raises(InputError, match=words):
        HSXSource(tmp_path / "a.HSX").matrices(0)
