"""DeepH's folders: written, looked at by hand, read, and damaged."""

import json

import h5py
import numpy as np
import pytest
from pyscf import gto

from deeph_zero.cli.main import entry_point
from deeph_zero.data.formats.deeph import DeepHSink, DeepHSource
from deeph_zero.data.formats.poscar import parse_poscar
from deeph_zero.data.formats.protocol import Record, permuted, read_record
from deeph_zero.errors import InputError
from deeph_zero.testing import WATER

from .conftest import ATOMS, BASIS, LATTICE, assert_same, named, of_spinors, polarised, written

GROUPED = [0, 2, 1]  # carbon, carbon, hydrogen
EV, BOHR = 27.2113845, 0.529177249


@pytest.mark.parametrize("kind", [None, polarised, of_spinors])
def test_a_crystal_there_and_back(tmp_path, crystal, kind):
    record = kind(crystal) if kind else crystal
    found = DeepHSource(written(tmp_path / "a", DeepHSink, record))
    assert len(found) == 1
    back = read_record(found, 0)
    assert_same(record, back, atoms=GROUPED)
    assert back.matrices.facts.get("fermi", 0.0) == pytest.approx(
        record.matrices.facts.get("fermi", 0.0), abs=1e-12
    )


def test_molecules_there_and_back(tmp_path, molecule):
    found = DeepHSource(written(tmp_path / "a", DeepHSink, molecule, molecule))
    assert len(found) == 2
    back = read_record(found, 1)
    assert back.structure.lattice is None
    assert_same(molecule, back, atoms=GROUPED)
    density = back.matrices.density.values
    np.testing.assert_allclose(density, 0.5 * back.matrices.overlap.values, atol=1e-14)


def test_the_new_layout_is_that_of_the_documents(tmp_path, crystal):
    """A block of carbon and the hydrogen of the next cell, by hand."""
    folder = written(tmp_path / "a", DeepHSink, crystal)
    info = json.loads((folder / "info.json").read_text())
    assert info["elements_orbital_map"] == {"C": [0, 0, 1, 2], "H": [0, 1]}
    assert (info["atoms_quantity"], info["orbits_quantity"]) == (3, 24)
    assert (info["spinful"], info["orthogonal_basis"]) == (False, False)
    assert info["fermi_energy_eV"] == pytest.approx(-0.25 * EV)
    numbers, coords, lattice = parse_poscar((folder / "POSCAR").read_text())
    assert numbers.tolist() == [6, 6, 1]
    np.testing.assert_allclose(lattice, LATTICE * BOHR, atol=1e-14)
    np.testing.assert_allclose(coords[2], np.array(ATOMS[1][1]) * BOHR, atol=1e-14)
    shift = np.array([0, -1, 1]) @ LATTICE
    mol = gto.M(
        atom=[("C", ATOMS[0][1]), ("H", np.array(ATOMS[1][1]) + shift)],
        basis=BASIS, unit="Bohr", spin=1, verbose=0,
    )  # fmt: skip
    names = {"s": [""], "p": ["y", "z", "x"], "d": ["xy", "yz", "z^2", "xz", "x2-y2"]}
    labels = mol.ao_labels(fmt=None)
    rows = named([x for x in labels if x[0] == 0], names)
    columns = [10 + k for k in named([x for x in labels if x[0] == 1], names)]
    overlap, kinetic = mol.intor("int1e_ovlp"), mol.intor("int1e_kin")
    for name, matrix in (
        ("overlap.h5", overlap),
        ("hamiltonian.h5", (kinetic + 0.1 * overlap) * EV),
    ):
        with h5py.File(folder / name) as file:
            where = file["atom_pairs"][()].tolist().index([0, -1, 1, 0, 2])
            start, end = file["chunk_boundaries"][where : where + 2]
            block = file["entries"][start:end].reshape(file["chunk_shapes"][where])
        np.testing.assert_allclose(block, matrix[np.ix_(rows, columns)], atol=1e-12)


def test_spins_are_stored_in_one_block(tmp_path, crystal):
    folder = written(tmp_path / "a", DeepHSink, polarised(crystal))
    with h5py.File(folder / "hamiltonian.h5") as h, h5py.File(folder / "overlap.h5") as s:
        assert (h["atom_pairs"][()] == s["atom_pairs"][()]).all()
        assert (h["chunk_shapes"][()] == 2 * s["chunk_shapes"][()]).all()
        assert (h["chunk_boundaries"][()] == 4 * s["chunk_boundaries"][()]).all()
        block = h["entries"][:400].reshape(20, 20)
    np.testing.assert_allclose(block[10:, 10:], 0.5 * block[:10, :10], atol=1e-12)
    assert not block[:10, 10:].any()
    assert json.loads((folder / "info.json").read_text())["spinful"] is True


# ---- damage -----------------------------------------------------------------------------------


def spoil_json(folder, **changes):
    info = json.loads((folder / "info.json").read_text())
    (folder / "info.json").write_text(json.dumps(info | changes))


def spoil(folder, name, key, value):
    with h5py.File(folder / name, "r+") as file:
        del file[key]
        if value is not None:
            file[key] = value


DAMAGE = [
    (lambda f: (f / "hamiltonian.h5").write_bytes(b"x"), "hamiltonian.h5: cannot be read"),
    (lambda f: (f / "hamiltonian.h5").unlink(), "expected hamiltonian.h5, there is none"),
    (lambda f: (f / "info.json").write_text("{"), "info.json: expected JSON"),
    (lambda f: (f / "info.json").write_text("[1]"), "info.json: expected keys and values"),
    (lambda f: spoil_json(f, elements_orbital_map={"C": [0]}), "expected the shells of H"),
    (lambda f: spoil_json(f, elements_orbital_map={"C": [0], "H": [0]}), "expected chunk_shapes"),
    (lambda f: spoil_json(f, elements_orbital_map={"C": [99], "H": [0]}), "0 <= l <= 12"),
    (lambda f: spoil_json(f, spinful=True), "check spinful and the map"),
    (lambda f: (f / "POSCAR").write_text("x\n" * 9), "POSCAR line 3: expected 3 numbers"),
    (lambda f: spoil(f, "overlap.h5", "entries", None), "overlap.h5: expected entries"),
    (lambda f: spoil(f, "overlap.h5", "entries", np.zeros(3)), "chunks of"),
    (lambda f: spoil(f, "overlap.h5", "atom_pairs", np.zeros(3)), "expected atom_pairs of whole"),
    (
        lambda f: spoil(f, "overlap.h5", "atom_pairs", np.full((243, 5), 7)),
        "expected atoms from 0 to 2",
    ),
    (lambda f: spoil(f, "hamiltonian.h5", "entries", np.full(15552, np.nan)), "NaN or infinity"),
]


@pytest.mark.parametrize("case", range(len(DAMAGE)))
def test_damage_is_one_line_and_nothing_is_written(tmp_path, crystal, capsys, case):
    damage, message = DAMAGE[case]
    folder = written(tmp_path / "a", DeepHSink, crystal)
    damage(folder)
    assert entry_point(["convert", str(folder), str(tmp_path / "b.h5"), "--from", "deeph"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert str(folder) in line
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


# ---- the command ------------------------------------------------------------------------------


def test_through_every_layout_with_the_command(tmp_path, crystal):
    a = written(tmp_path / "a", DeepHSink, crystal)
    names = [str(tmp_path / n) for n in ("b", "c.h5", "d")]
    assert entry_point(["convert", str(a), names[0], "--to", "deeph-legacy", "-q"]) == 0
    assert entry_point(["convert", names[0], names[1], "-q"]) == 0
    assert entry_point(["convert", names[1], names[2], "-q"]) == 0
    assert_same(crystal, read_record(DeepHSource(tmp_path / "d"), 0), atoms=GROUPED)
    with h5py.File(names[1]) as file:
        group = file["0000"]
        assert dict(group.attrs)["basis"] == "numerical"
        assert group.attrs["format_version"] == 2
        assert group["lattice"].shape == (3, 3)
        assert group["block_offsets"][-1] == len(group["blocks"]) == len(group["overlap_blocks"])
    assert entry_point(["convert", str(a), names[0]]) == 2
    assert entry_point(["convert", str(a), names[2], "--overwrite", "-q"]) == 0


def test_only_folders_of_the_format_are_replaced(tmp_path, crystal, capsys):
    a = written(tmp_path / "a", DeepHSink, crystal)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").write_text("x")
    assert entry_point(["convert", str(a), str(tmp_path / "b"), "--overwrite"]) == 2
    assert "holds thesis.tex, which is no file of this format" in capsys.readouterr().err
    assert (tmp_path / "b" / "thesis.tex").read_text() == "x"


def test_a_bad_structure_costs_itself_only(tmp_path, molecule, capsys):
    a = written(tmp_path / "a", DeepHSink, molecule, molecule, molecule)
    (a / "dft" / "0001" / "info.json").write_text("{")
    assert entry_point(["convert", str(a), str(tmp_path / "b.h5"), "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["n_structures"] == 2
    assert [entry["frame"] for entry in json.loads(out)["failed"]] == [1]
    assert "1 of 3 structures failed" in err


def test_a_database_becomes_a_folder_with_the_overlap_of_its_basis(tmp_path):
    from deeph_zero.data.qh9 import Writer

    mol = gto.M(atom=WATER, basis="def2-svp", verbose=0)
    writer = Writer(tmp_path / "a.db")
    kinetic = mol.intor("int1e_kin")
    writer.add(mol.atom_charges(), mol.atom_coords(unit="Angstrom"), kinetic)
    writer.close()
    assert entry_point(["convert", str(tmp_path / "a.db"), str(tmp_path / "b"), "-q"]) == 0
    found = read_record(DeepHSource(tmp_path / "b"), 0)
    assert found.matrices.facts["basis"] == "def2-svp"
    overlap, fock = found.matrices.overlap.to_dense(), found.matrices.fock.to_dense()
    np.testing.assert_allclose(overlap.numpy(), mol.intor("int1e_ovlp"), atol=1e-12)
    np.testing.assert_allclose(fock.numpy(), kinetic, atol=1e-12)


# ---- what info.json may leave out or say otherwise ----------------------------------------------


@pytest.mark.parametrize("name", ["molecule", "crystal"])
def test_without_a_word_on_it_cells_tell_a_crystal(tmp_path, name, request):
    folder = written(tmp_path / "a", DeepHSink, request.getfixturevalue(name))
    info = json.loads((folder / "info.json").read_text())
    del info["pbc"]
    (folder / "info.json").write_text(json.dumps(info))
    found = DeepHSource(folder).structure(0)
    assert found.pbc.tolist() == [name == "crystal"] * 3
    assert (found.lattice is None) == (name == "molecule")


@pytest.mark.parametrize(
    ("constants", "used"),
    [
        ({"hartree_in_eV": 27.211386, "bohr_in_angstrom": 0.5291772}, True),
        ({"hartree_in_eV": 27.3, "bohr_in_angstrom": 0.5291772}, False),
        ({"hartree_in_eV": 27.211386, "bohr_in_angstrom": 1.0}, False),
        ({"hartree_in_eV": "27.2", "bohr_in_angstrom": 0.5291772}, False),
        ({}, False), ("text", False), (None, False),
    ],
)  # fmt: skip
def test_constants_are_used_where_they_can_be_meant(tmp_path, molecule, constants, used):
    folder = written(tmp_path / "a", DeepHSink, molecule)
    spoil_json(folder, constants=constants)
    (folder / "POSCAR").write_text((folder / "POSCAR").read_text())
    source = DeepHSource(folder)
    scale = 0.5291772 if used else BOHR
    _, coords, _ = parse_poscar((folder / "POSCAR").read_text())
    np.testing.assert_allclose(source.structure(0).coords * scale, coords, rtol=1e-12)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"charge": "one"}, "info.json: expected charge, a whole number, got 'one'"),
        ({"spin": 0.5}, "info.json: expected spin, a whole number, got '0.5'"),
        ({"charge": True}, "info.json: expected charge, a whole number"),
        (
            {"elements_orbital_map": [0]},
            "expected elements_orbital_map, {element: .l, ....}; add it",
        ),
        ({"elements_orbital_map": {"C": 3, "H": [0]}}, "C"),
    ],
)
def test_facts_that_cannot_be_meant(tmp_path, molecule, changes, words):
    folder = written(tmp_path / "a", DeepHSink, molecule)
    spoil_json(folder, **changes)
    with pytest.raises(InputError, match=words):
        read_record(DeepHSource(folder), 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pairs: pairs[:, :4], r"expected atom_pairs of shape \[pairs, 5\]"),
        (lambda pairs: pairs[:0], r"expected atom_pairs of shape \[pairs, 5\]"),
        (
            lambda pairs: pairs + np.array([10**7, 0, 0, 0, 0]),
            "expected cells near home in atom_pairs",
        ),
    ],
)
def test_pairs_that_cannot_be_meant(tmp_path, crystal, change, words):
    folder = written(tmp_path / "a", DeepHSink, crystal)
    with h5py.File(folder / "overlap.h5") as file:
        pairs = file["atom_pairs"][()]
    spoil(folder, "overlap.h5", "atom_pairs", change(pairs))
    with pytest.raises(InputError, match=words):
        DeepHSource(folder).matrices(0)


def test_two_bases_of_an_element_have_no_place(tmp_path, molecule):
    swapped = permuted(molecule, [1, 0, 2]).matrices
    with pytest.raises(InputError, match="expected one basis per element, got two of C"):
        written(tmp_path / "a", DeepHSink, Record(molecule.structure, swapped))
