"""OpenMX's scfout: written here by hand, read, and damaged."""

import shutil

import numpy as np
import pytest

from deeph_zero.cli.main import entry_point
from deeph_zero.data.formats.openmx import OpenMXSource
from deeph_zero.data.formats.proof import settled_order
from deeph_zero.data.formats.protocol import read_record
from deeph_zero.errors import InputError

from .conftest import CELLS, LATTICE, assert_same, polarised, stored

OPENMX = {0: ([0], [1]), 1: ([0, 1, 2], [1] * 3), 2: ([2, 4, 0, 3, 1], [1] * 5)}


INPUT = """
<Definition.of.Atomic.Species
 C1   C5.0-s2p1d1    C_PBE19
 H    H6.0-s1p1      H_PBE19
Definition.of.Atomic.Species>
<Atoms.SpeciesAndCoordinates
1 C1 0 0 0 2 2
2 H  0 0 0 0.5 0.5
3 C1 0 0 0 2 2
Atoms.SpeciesAndCoordinates>
  Chemical potential (Hartree)      -0.250000000000
"""


def scfout(folder, record):
    """As OpenMX writes it: rows of four with the first unused, atoms counted from one."""
    folder.mkdir()
    m, s = record.matrices, record.structure
    cells = sorted(CELLS, key=lambda cell: cell != (0, 0, 0))
    ints = lambda *x: np.array(x, dtype="<i4").tobytes()  # noqa: E731
    four = lambda x, kind="<f8": np.pad(np.asarray(x), ((0, 0), (1, 0))).astype(kind).tobytes()  # noqa: E731
    spins = 2 if m.spin_polarised else 1
    out = ints(3, 4 * 3 + spins - 1, 3, 0, 0, len(cells) - 1, 1)
    out += four(np.array(cells) @ LATTICE) + four(cells, "<i4")
    out += ints(*m.sizes) + ints(*[3 * 27 - 1] * 3)
    neighbours = [(j, c) for c in range(27) for j in range(3)]
    out += ints(*[j + 1 for j, _ in neighbours]) * 3 + ints(*[c for _, c in neighbours]) * 3
    out += four(LATTICE) + four(np.linalg.inv(LATTICE)) + four(s.coords)
    every = [l for ls in m.shells for l in ls]
    starts = np.cumsum([0, *m.sizes])

    def blocks(matrix):
        dense = [stored(matrix.to_dense(cell).numpy(), every, OPENMX) for cell in cells]
        return b"".join(
            np.ascontiguousarray(
                dense[c][..., starts[i] : starts[i + 1], starts[j] : starts[j + 1]]
            ).tobytes()
            for i in range(3)
            for j, c in neighbours
        )

    for k in range(spins):
        values = m.fock.values[k] if spins == 2 else m.fock.values
        out += blocks(m.fock.with_values(values))
    out += blocks(m.overlap) + bytes(500)
    (folder / "te.scfout").write_bytes(out)
    (folder / "te.out").write_text(INPUT)
    return folder


@pytest.mark.parametrize("kind", [None, polarised])
def test_a_crystal_of_openmx(tmp_path, crystal, kind):
    record = kind(crystal) if kind else crystal
    source = OpenMXSource(scfout(tmp_path / "a", record))
    found = read_record(source, 0)
    assert_same(record, found, atol=1e-14)
    assert found.matrices.facts["fermi"] == -0.25
    order, deviation = settled_order(source, 0)
    assert (order, deviation < 1e-8) == ("openmx", True)


def test_damage_of_openmx_is_one_line(tmp_path, crystal, capsys):
    whole = scfout(tmp_path / "a", crystal)
    content, text = (whole / "te.scfout").read_bytes(), (whole / "te.out").read_text()
    changes = {
        "cut": (content[:9000], text, "the file ends at 9000"),
        "spin": (content[:4] + b"\x0f" + content[5:], text, "got SpinP_switch 3"),
        "zeros": (bytes(100), text, "expected numbers of atoms and cells"),
        "shells": (content, text.replace("s2p1d1", "s2p1"), "functions of the atoms"),
        "word": (content, text.replace("C5.0-s2p1d1", "what"), "expected 'Te Te7.0-s3p2d2"),
        "none": (content, "nothing", "expected <Definition.of.Atomic.Species"),
    }
    for name, (binary, words, message) in changes.items():
        folder = tmp_path / name
        shutil.copytree(whole, folder)
        (folder / "te.scfout").write_bytes(binary)
        (folder / "te.out").write_text(words)
        assert entry_point(["convert", str(folder), str(tmp_path / "o.h5")]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert message in line
        assert "te.scfout" in line


def test_where_the_elements_stand(tmp_path, crystal):
    folder = scfout(tmp_path / "a", crystal)
    text = (folder / "te.out").read_text()
    (folder / "te.out").unlink()
    with pytest.raises(InputError, match=r"expected te\.out or the input te\.dat beside the file"):
        OpenMXSource(folder / "te.scfout").matrices(0)
    for name in ("te_in.dat", "te.dat", "openmx_in.dat"):
        (folder / name).write_text(text)
        found = OpenMXSource(folder / "te.scfout")
        assert found.structure(0).numbers.tolist() == [6, 1, 6]
        (folder / name).unlink()
    (folder / "te.dat").write_text(text.replace("3 C1", "3 C2"))
    with pytest.raises(InputError, match=r"te\.dat: expected atoms of C1, H, got \['C2'\]"):
        OpenMXSource(folder / "te.scfout").matrices(0)
    (folder / "te.dat").write_text(text.split("  Chemical")[0])
    assert OpenMXSource(folder / "te.scfout").matrices(0).facts == {}


def test_neighbours_that_cannot_be(tmp_path, crystal):
    """Behind head, cells and sizes: how many, which atoms they are, and in which cells."""
    folder = scfout(tmp_path / "a", crystal)
    content = (folder / "te.scfout").read_bytes()
    counts = 28 + 27 * (32 + 16) + 12
    for at, value, words in (
        (counts, -1, "expected numbers of neighbours, got others"),
        (counts, 10**7, "expected numbers of neighbours, got others"),
        (counts + 12, 4, "expected neighbours among 3 atoms, got others"),
        (counts + 12, 0, "expected neighbours among 3 atoms, got others"),
        (counts + 12 + 3 * 81 * 4, 27, "expected neighbours among 3 atoms, got others"),
    ):
        changed = content[:at] + np.array([value], "<i4").tobytes() + content[at + 4 :]
        (folder / "te.scfout").write_bytes(changed)
        with pytest.raises(InputError, match=words):
            OpenMXSource(folder / "te.scfout").matrices(0)
