"""Reading structures: units, frame splitting, and what a bad frame says."""

from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st

from deeph_zero.data.structures import from_atoms, listed, read_structures
from deeph_zero.errors import InputError
from deeph_zero.units import BOHR_IN_ANGSTROM

WATER = "3\n{}\nO 0 0 0.1\nH 0 0.76 0.58\nH 0.05 -0.74 0.61\n"
GOOD = WATER.format("good")


def write(tmp_path: Path, text: str | bytes, name: str = "m.xyz") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_angstrom_becomes_bohr_once(tmp_path):
    molecules, bad = read_structures([write(tmp_path, GOOD)])
    assert bad == []
    (molecule,) = molecules
    assert molecule.numbers.tolist() == [8, 1, 1]
    expected = np.array([[0, 0, 0.1], [0, 0.76, 0.58], [0.05, -0.74, 0.61]]) / 0.52917721092
    np.testing.assert_allclose(molecule.coords, expected, rtol=0, atol=1e-14)
    assert (molecule.charge, molecule.spin, molecule.frame) == (0, 0, 0)
    assert molecule.file == str(tmp_path / "m.xyz")


def test_coordinates_are_pyscf_to_the_last_digit(tmp_path, water):
    (molecule,), _ = read_structures([write(tmp_path, GOOD)])
    np.testing.assert_allclose(molecule.coords, water.atom_coords(), rtol=0, atol=1e-14)


def test_frame_keys_win_over_defaults(tmp_path):
    text = WATER.format("charge=1 spin=1") + GOOD + WATER.format('charge=-1.0 spin="3"')
    molecules, bad = read_structures([write(tmp_path, text)], charge=2, spin=2)
    assert bad == []
    assert [(m.charge, m.spin, m.frame) for m in molecules] == [(1, 1, 0), (2, 2, 1), (-1, 3, 2)]


def test_an_overruled_charge_is_said_once(tmp_path, caplog):
    path = write(tmp_path, WATER.format("charge=2") * 3 + GOOD)
    with caplog.at_level("WARNING", logger="deeph_zero"):
        molecules, _ = read_structures([path], charge=1, spin=1)
    assert [(m.charge, m.spin) for m in molecules] == [(2, 1)] * 3 + [(1, 1)]
    assert [record.getMessage() for record in caplog.records] == [
        f"{path} frame 0 (and 2 more): the charge 2 that the frame states is used, not 1"
    ]


def test_files_of_our_own_overrule_a_charge_as_others_do(tmp_path, caplog):
    path = tmp_path / "labels.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("0000")
        group["numbers"], group["positions"] = [1, 1], [[0.0, 0, 0], [0.1, 0, 1.4]]
        group.attrs.update({"charge": 1, "spin": 1})
    with caplog.at_level("WARNING", logger="deeph_zero"):
        (molecule,), bad = read_structures([path], charge=0, spin=1)
    assert (molecule.charge, bad) == (1, [])
    assert caplog.messages == [f"{path} frame 0: the charge 1 that the frame states is used, not 0"]


def test_two_files_keep_their_order(tmp_path):
    paths = [write(tmp_path, GOOD * 2, "b.xyz"), write(tmp_path, GOOD, "a.xyz")]
    molecules, _ = read_structures(paths)
    assert [(Path(m.file).name, m.frame) for m in molecules] == [
        ("b.xyz", 0), ("b.xyz", 1), ("a.xyz", 0),
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", ["traj", "json", "pdb", "gen", "sdf", "xyz.gz"])
def test_other_formats_go_through_ase(tmp_path, suffix):
    atoms = Atoms("OH2", [[0, 0, 0.1], [0, 0.76, 0.58], [0.05, -0.74, 0.61]])
    path = tmp_path / f"m.{suffix}"
    ase.io.write(path, atoms)
    molecules, bad = read_structures([path])
    assert bad == []
    np.testing.assert_allclose(
        molecules[0].coords * BOHR_IN_ANGSTROM, atoms.positions, rtol=0, atol=1e-3
    )


BROKEN = {
    "unknown element": (WATER.format("").replace("O 0", "Xx 0"), "Xx"),
    "ghost": (WATER.format("").replace("O 0", "X 0"), "ghost atoms are not supported"),
    "short line": (WATER.format("").replace("O 0 0 0.1", "O 0 0"), "'O 0 0'"),
    "word for a number": (WATER.format("").replace("0.76", "abc"), "'H 0 abc 0.58'"),
    "nan": (WATER.format("").replace("0.76", "nan"), "expected finite coordinates, got 0 nan"),
    "inf": (WATER.format("").replace("0.76", "inf"), "expected finite coordinates, got 0 inf"),
    "one point": (WATER.format("").replace("0.05 -0.74 0.61", "0 0.76 0.58"), "atoms 2 and 3"),
    "no atoms": ("0\n\n", "no atoms"),
    "wire": (WATER.format('Lattice="9 0 0 0 9 0 0 0 9" pbc="T F F"'), "periodic in two"),
    "lattice": (WATER.format('Lattice="9 0 0 0 9 0 0 0 9"'), "periodic"),
    "half a charge": (WATER.format("charge=0.5"), "charge= with a whole number, got '0.5'"),
    "charge a word": (WATER.format("charge=high"), "'high'"),
    "charge nan": (WATER.format("charge=nan"), "'nan'"),
    "charge in prose": (WATER.format("the charge is one"), "bare word 'charge'"),
    "spin negative": (WATER.format("spin=-1"), "got -1"),
    "cut off": ("\n".join(GOOD.splitlines()[:4]) + "\n", "expected 3 atom lines, got 2"),
    "no body": ("3\n", "expected 3 atom lines"),
    "count too small": (GOOD.replace("3\n", "2\n", 1), "correct the atom count"),
    "columns": (WATER.format("Properties=species:S:1:pos:R:3:f:R:3"), "correct"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_frame_does_not_cost_its_neighbours(tmp_path, case):
    text, word = BROKEN[case]
    molecules, bad = read_structures([write(tmp_path, GOOD + text + GOOD)])
    assert [m.frame for m in molecules] == [0, 2]
    (problem,) = bad
    assert problem.frame == 1
    assert word in problem.error
    assert str(problem).startswith(f"{tmp_path / 'm.xyz'} frame 1: ")
    assert len(str(problem).splitlines()) == 1
    assert problem.as_dict() == {
        "file": str(tmp_path / "m.xyz"),
        "frame": 1,
        "error": problem.error,
    }


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("empty.xyz", b"", "empty"),
        ("blank.xyz", b" \n\n", "empty"),
        ("junk.xyz", bytes(range(256)), "binary"),
        ("zero.xyz", b"3\n\0\0\0", "binary"),
        ("junk.abc", bytes(range(256)), "format ASE knows"),
        ("text.txt", b"hello", "format ASE knows"),
    ],
)
def test_file_that_is_no_structure(tmp_path, name, content, word):
    molecules, bad = read_structures([write(tmp_path, content, name)])
    assert molecules == []
    assert [b.frame for b in bad] == [None]
    assert word in bad[0].error


def test_missing_file_and_folder(tmp_path):
    molecules, bad = read_structures([tmp_path / "no.xyz", tmp_path, write(tmp_path, GOOD)])
    assert len(molecules) == 1
    assert ["there is none" in bad[0].error, "folder" in bad[1].error] == [True, True]


def test_truncated_other_format_keeps_what_came_before(tmp_path):
    path = write(tmp_path, "not a trajectory", "m.traj")
    molecules, bad = read_structures([path])
    assert molecules == []
    assert len(bad) == 1


def test_windows_line_ends_and_trailing_blank_lines(tmp_path):
    molecules, bad = read_structures(
        [write(tmp_path, (GOOD + "\n" + GOOD + "\n\n").replace("\n", "\r\n"))]
    )
    assert (len(molecules), bad) == (2, [])


def test_lines_without_a_count(tmp_path):
    molecules, bad = read_structures([write(tmp_path, "O 0 0 0\nH 0 0 1\n" + GOOD)])
    assert len(molecules) == 1
    assert "line 1: expected the number of atoms, got 'O 0 0 0'" in bad[0].error


def test_numeric_comment_is_no_frame(tmp_path):
    molecules, bad = read_structures([write(tmp_path, WATER.format("17") * 2)])
    assert (len(molecules), bad) == (2, [])


def test_ten_thousand_frames(tmp_path):
    path = write(tmp_path, GOOD * 10_000)
    molecules, bad = read_structures([path])
    assert (len(molecules), len(bad)) == (10_000, 0)


def test_from_atoms_checks_too():
    with pytest.raises(InputError, match="on one point"):
        from_atoms(Atoms("HH", [[0, 0, 0], [0, 0, 0.05]]))
    atoms = Atoms("H", info={"charge": 1})
    assert from_atoms(atoms).charge == 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([*sorted(BROKEN), "good"]), min_size=1, max_size=6))
def test_any_mixture_is_split_without_loss(tmp_path_factory, cases):
    """Frames of any kind in any order: each good one is found, each bad one reported."""
    text = "".join(GOOD if case == "good" else BROKEN[case][0] + GOOD for case in cases)
    path = write(tmp_path_factory.mktemp("mix"), text)
    molecules, bad = read_structures([path])
    assert len(molecules) == len(cases)
    assert len(bad) == sum(case != "good" for case in cases)


@pytest.mark.parametrize("source", ["smiles:", "smiles:  ", "a.smi"])
def test_no_smiles_is_one_line(tmp_path, source):
    write(tmp_path, "# only a comment\n", "a.smi")
    name = source if source.startswith("smiles") else tmp_path / source
    molecules, bad = read_structures([name])
    assert (molecules, len(bad)) == ([], 1)
    assert "got none" in str(bad[0])
    assert ("a SMILES behind the colon" in str(bad[0])) == isinstance(name, str)


def test_a_kind_of_warning_is_one_line_per_file(tmp_path, caplog):
    path = write(tmp_path, WATER.format("total_spin=1") * 50 + WATER.format("0 2"))
    with caplog.at_level("WARNING", logger="deeph_zero"):
        molecules, _ = read_structures([path])
    assert len(molecules) == 51
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(": ")[0] for line in lines] == [
        f"{path} frame 0 (and 49 more)", f"{path} frame 50",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", [str, Path])
def test_one_file_needs_no_list(tmp_path, kind):
    path = tmp_path / "water.xyz"
    path.write_text("3\n\nO 0 0 0.1\nH 0 0.76 0.58\nH 0.05 -0.74 0.61\n")
    molecules, bad = read_structures(kind(path))
    assert [one.natm for one in molecules] == [3]
    assert bad == []


@pytest.mark.parametrize("given", [3, None, [3], Atoms("H2", [[0, 0, 0], [0, 0, 0.7]])])
def test_what_is_no_file_is_one_line(given):
    with pytest.raises(InputError, match=r"^paths: expected names of structure files, got \w+; g"):
        listed(given)
