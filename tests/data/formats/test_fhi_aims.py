"""FHI-aims' text: written here by hand, read, and damaged."""

import numpy as np
import pytest
import torch

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.cli.main import entry_point
from deeph_zero.data.formats.fhi_aims import AimsSource, _as_written
from deeph_zero.data.formats.proof import settled_order
from deeph_zero.data.formats.protocol import read_record
from deeph_zero.errors import InputError

from .conftest import CELLS, LATTICE, assert_same, polarised, stored

BOHR = 0.52917721092


# PySCF's functions of a shell in the program's order, and their signs, written down by hand
AIMS = {0: ([0], [1]), 1: ([1, 2, 0], [1, 1, -1]), 2: ([0, 1, 2, 3, 4], [1, 1, 1, -1, 1])}


def aims_functions(folder, record):
    folder.mkdir()
    shells = record.matrices.shells
    lines = ["", "  fn.   type   at.   n   l   m"]
    for atom, ls in enumerate(shells, start=1):
        for k, l in enumerate(ls):
            for m in range(-l, l + 1):
                lines.append(f"{len(lines) - 1:5d} atomic {atom:5d} {k + 1:3d} {l:3d} {m:3d}")
    (folder / "basis-indices.out").write_text("\n".join(lines) + "\n")
    return folder


def aims(folder, record):
    aims_functions(folder, record)
    shells = record.matrices.shells
    atoms = [
        f"atom {x:.16f} {y:.16f} {z:.16f} {s}"
        for (x, y, z), s in zip(record.structure.coords * BOHR, "CHC", strict=True)
    ]
    (folder / "geometry.in").write_text("# made\n" + "\n".join(atoms) + "\n")
    every = [l for ls in shells for l in ls]
    for name, matrix in (
        ("hamiltonian.out", record.matrices.fock),
        ("overlap-matrix.out", record.matrices.overlap),
    ):
        dense = stored(matrix.to_dense().numpy(), every, AIMS)
        rows = [
            f"{i + 1:6d}{j + 1:6d}{dense[i, j]:26.16E}" for j in range(24) for i in range(j + 1)
        ]
        (folder / name).write_text("\n".join(rows) + "\n")
    return folder


def test_a_molecule_of_aims(tmp_path, molecule):
    source = AimsSource(aims(tmp_path / "a", molecule))
    found = read_record(source, 0)
    assert_same(molecule, found, atol=1e-14)
    order, deviation = settled_order(source, 0)
    assert (order, deviation < 1e-8) == ("aims", True)
    assert entry_point(["convert", str(tmp_path / "a"), str(tmp_path / "b.h5"), "-q"]) == 0


@pytest.mark.parametrize(
    "case",
    [
        ("hamiltonian.out", lambda t: t[: len(t) // 2], "hamiltonian.out"),
        ("hamiltonian.out", lambda t: t + "99 1 0.0\n", "expected functions from 1 to 24"),
        ("overlap-matrix.out", lambda t: t.replace("E-", "X-"), "expected 3 numbers"),
        ("geometry.in", lambda t: t + "lattice_vector 9 0 0\n", "expected three independent lat"),
        (
            "geometry.in",
            lambda t: t + "lattice_vector 9 0 0\nlattice_vector 0 9 0\nlattice_vector 0 0 9\n",
            "run FHI-aims with output_rs_matrices plain",
        ),
        ("geometry.in", lambda t: t.replace("atom", "atom_frac"), "atom_frac without a lattice"),
        ("geometry.in", lambda t: t.replace(" H", " Qq"), "expected 'atom x y z element'"),
        ("basis-indices.out", lambda t: t.replace(" -1", " 0"), "expected m from -l to l"),
    ],
)
def test_damage_of_aims_is_one_line(tmp_path, molecule, capsys, case):
    name, change, message = case
    folder = aims(tmp_path / "a", molecule)
    (folder / name).write_text(change((folder / name).read_text()))
    assert entry_point(["convert", str(folder), str(tmp_path / "b.h5")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert str(folder) in line


def aims_crystal(folder, record, *, moved=(), fractional=False):
    """One element a line: upper triangle of <i R|H|j 0>, atoms moved to a cell of aims' own."""
    aims_functions(folder, record)
    s, m = record.structure, record.matrices
    shift = np.zeros((3, 3), dtype=int)
    for atom, by in moved:
        shift[atom] = by
    # what FHI-aims computes is about the moved atoms, its geometry.in is not
    given = s.coords - shift @ LATTICE
    rows = given @ np.linalg.inv(LATTICE) if fractional else given * BOHR
    lines = ["lattice_vector " + " ".join(f"{x:.16f}" for x in v) for v in LATTICE * BOHR]
    word = "atom_frac" if fractional else "atom"
    lines += [
        f"{word} " + " ".join(f"{x:.16f}" for x in row) + f" {e}"
        for row, e in zip(rows, "CHC", strict=True)
    ]
    (folder / "geometry.in").write_text("\n".join(lines) + "\n")
    (folder / "aims.out").write_text(
        "  | Chemical potential (Fermi level) in eV                 :  -.50000000E+01\n"
        "  | Chemical potential (Fermi level) in eV                 :  -.68028464E+01\n"
    )
    cells = sorted(CELLS, key=lambda cell: cell != (0, 0, 0))
    every = [l for ls in m.shells for l in ls]
    spins = [m.fock.with_values(v) for v in m.fock.values] if m.spin_polarised else [m.fock]
    names = ["_up", "_dn"] if m.spin_polarised else [""]
    files = {f"rs_hamiltonian{n}.out": f for n, f in zip(names, spins, strict=True)}
    files["rs_overlap.out"] = m.overlap
    # <i R|A|j 0> = <i 0|A|j -R>
    dense = {
        name: [stored(a.to_dense(tuple(-x for x in c)).numpy(), every, AIMS) for c in cells]
        for name, a in files.items()
    }
    first, last, columns, values = [], [], [], {name: [] for name in files}
    for k in range(len(cells)):
        row_first, row_last = [], []
        for i in range(24):
            # zeros are left out, and rows may have nothing at all
            kept = [j for j in range(i, 24) if abs(dense["rs_overlap.out"][k][i, j]) > 0]
            row_first.append(len(columns) + 1 if kept else 0)
            columns += [j + 1 for j in kept]
            row_last.append(len(columns) if kept else -1)
            for name in files:
                values[name] += [dense[name][k][i, j] for j in kept]
        first.append(row_first)
        last.append(row_last)
    none = [0] * 23
    table = lambda rows: "\n".join(" ".join(map(str, row)) for row in rows)  # noqa: E731
    (folder / "rs_indices.out").write_text(
        f"n_hamiltonian_matrix_size:        {len(columns) + 1}\n"
        f"n_cells_in_hamiltonian:          {len(cells) + 1}\nn_basis:           24\n"
        f"cell_index\n{table([*cells, [999999999] * 3])}\n"
        f"index_hamiltonian(1,:,:)\n{table([*first, [*none, 0]])}\n"
        f"index_hamiltonian(2,:,:)\n{table([*last, [*none, -1]])}\n"
        f"column_index_hamiltonian\n{table([[c] for c in [*columns, 0]])}\n"
    )
    for name, own in values.items():
        (folder / name).write_text("".join(f"  {x:24.16E}\n" for x in [*own, 0.0]))
    return folder


@pytest.mark.parametrize("kind", [None, polarised])
def test_a_crystal_of_aims(tmp_path, crystal, kind):
    record = kind(crystal) if kind else crystal
    source = AimsSource(aims_crystal(tmp_path / "a", record, fractional=kind is None))
    found = read_record(source, 0)
    assert_same(record, found, atol=1e-13)
    assert found.matrices.facts["fermi"] == pytest.approx(-0.25, abs=1e-6)
    order, deviation = settled_order(source, 0)
    assert (order, deviation < 1e-8) == ("aims", True)


@pytest.mark.parametrize("moved", [[(1, (-1, 0, 0))], [(0, (0, 1, 0)), (2, (0, -1, -1))]])
def test_atoms_that_aims_moved_are_where_they_were(tmp_path, crystal, moved):
    source = AimsSource(aims_crystal(tmp_path / "a", crystal, moved=moved))
    shift = np.zeros((3, 3), dtype=int)
    for atom, by in moved:
        shift[atom] = by
    found = read_record(source, 0)
    np.testing.assert_allclose(found.structure.coords, crystal.structure.coords - shift @ LATTICE)
    bonds = []
    for record in (crystal, found):
        s, o = record.structure, record.matrices.overlap
        i, j = o.pairs.numpy().T
        lengths = np.linalg.norm(s.coords[j] - s.coords[i] + o.cells.numpy() @ LATTICE, axis=1)
        sizes = [float(block.abs().max()) for block in o.blocks()]
        bonds.append(sorted(zip(np.round(lengths, 9), np.round(sizes, 12), strict=True)))
    assert bonds[0] == bonds[1]
    order, deviation = settled_order(source, 0)
    assert (order, deviation < 1e-8) == ("aims", True)


@pytest.mark.parametrize(
    "case",
    [
        ("rs_hamiltonian.out", lambda t: t[: len(t) // 2], "lines with an element each"),
        ("rs_overlap.out", lambda t: t.replace("E-01", "X-01", 1), "rs_overlap.out line"),
        ("rs_indices.out", lambda t: t[: len(t) // 2], "the file is cut off"),
        ("rs_indices.out", lambda t: t.replace("n_basis:           24", "n_basis: 25"), "24 func"),
        ("rs_indices.out", lambda t: t.replace("\n24\n", "\n99\n", 1), "columns from 1 to 24"),
        ("rs_indices.out", lambda t: t.replace("999999999", "x", 1), "expected whole numbers"),
        ("rs_indices.out", lambda t: t.replace("1,:,:)\n1 ", "1,:,:)\n2 "), "every element once"),
        ("geometry.in", lambda t: t.replace("lattice_vector", "#", 1), "three independent"),
        ("rs_overlap.out", None, "expected rs_overlap.out"),
    ],
)
def test_damage_of_a_crystal_of_aims_is_one_line(tmp_path, crystal, capsys, case):
    name, change, message = case
    folder = aims_crystal(tmp_path / "a", crystal)
    if change is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(change((folder / name).read_text()))
    assert entry_point(["convert", str(folder), str(tmp_path / "b.h5")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert str(folder) in line
    assert not (tmp_path / "b.h5").exists()


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("geometry.in", lambda _: "# nothing\n", r"geometry\.in: expected atoms, got none"),
        ("basis-indices.out", lambda t: t + " 25 atomic 3 1\n", "expected 'fn type atom n l m'"),
        ("rs_hamiltonian.out", None, r"expected rs_hamiltonian\.out, got rs_hamiltonian\.h5; run "),
        ("rs_indices.out", lambda t: t.replace("n_basis:           24", "n_basis: 0"), "at its be"),
    ],
)  # fmt: skip
def test_other_faults_of_a_crystal(tmp_path, crystal, name, change, words):
    folder = aims_crystal(tmp_path / "a", crystal)
    if change is None:
        (folder / name).rename((folder / name).with_suffix(".h5"))
    else:
        (folder / name).write_text(change((folder / name).read_text()))
    with pytest.raises(InputError, match=words):
        read_record(AimsSource(folder), 0)


def test_without_its_output_there_is_no_fermi_level(tmp_path, crystal):
    folder = aims_crystal(tmp_path / "a", crystal)
    (folder / "aims.out").unlink()
    found = read_record(AimsSource(folder), 0)
    assert "fermi" not in found.matrices.facts
    assert_same(crystal, found, atol=1e-13)


@pytest.mark.parametrize("where", [(0.5, 0, 0), (0, 0.5, 0.5), (0.5, 0.5, 0.5)])
@pytest.mark.parametrize("side", [0, 1])
def test_an_atom_on_the_border_is_where_its_overlaps_are(where, side):
    """FHI-aims may have it on either side; large overlaps are of atoms that are near."""
    lattice = np.array([[6.0, 0.3, 0], [0, 6.5, 0.2], [0.1, 0, 7.0]])
    coords = np.array([[0.0, 0, 0], np.array(where) @ lattice])
    pairs, cells, values = [], [], []
    for cell in (c for c in np.ndindex(5, 5, 5)):
        shift = np.array(cell) - 2
        apart = np.linalg.norm(coords[1] - coords[0] + shift @ lattice)
        pairs += [(0, 1), (1, 0)]
        cells += [shift, -shift]
        values += [np.exp(-0.3 * apart**2)] * 2
    pairs, cells = torch.tensor(pairs), torch.tensor(np.array(cells))
    stored = np.tile(values, (2, 1))
    whole = BlockMatrix.packed(pairs, cells, torch.from_numpy(stored), (1, 1))
    # as if the second atom had been moved across
    step = torch.tensor(np.ceil(where).astype(int)) * side
    moved = cells + step * (pairs[:, 1:] - pairs[:, :1])
    given = BlockMatrix.packed(pairs, moved, whole.values, (1, 1))
    found = _as_written(given, coords, lattice)
    assert torch.equal(found.cells, cells)
