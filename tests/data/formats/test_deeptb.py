"""DeePTB's LMDB and dftio's folders: there and back, and Gaussians in either unit."""

import json
import pickle

import numpy as np
import pytest

from deeph_zero.cli.main import entry_point
from deeph_zero.data.formats.deeptb import DeePTBSink, DeePTBSource, DftioSink, DftioSource
from deeph_zero.data.formats.protocol import read_record
from deeph_zero.data.formats.registry import recognise
from deeph_zero.errors import InputError
from deeph_zero.units import HARTREE_IN_EV

from .conftest import assert_same, lmdb_file, polarised

lmdb = pytest.importorskip("lmdb", reason="the extra lmdb is not installed")


COMMON = ["--grid-level", "0", "--xc", "pbe", "--device", "cpu", "--threads", "1", "-q"]


BASIS = {"common_options": {"basis": {"C": "2s1p1d", "H": "1s1p"}}}


def test_deeptb_there_and_back(tmp_path, crystal, molecule):
    sink = DeePTBSink(tmp_path / "a.mdb")
    for record in (crystal, molecule):
        sink.write(record)
    sink.close()
    (tmp_path / "input.json").write_text(json.dumps(BASIS))
    assert recognise(tmp_path / "a.mdb") == "deeptb"
    source = DeePTBSource(tmp_path / "a.mdb", lambda *_: (), None)
    assert len(source) == 2
    for k, record in enumerate((crystal, molecule)):
        assert_same(record, read_record(source, k))
    with pytest.raises(InputError, match="two spins"):
        sink.write(polarised(crystal))


def test_dftio_there_and_back(tmp_path, crystal, molecule):
    (tmp_path / "a").mkdir()
    sink = DftioSink(tmp_path / "a", 2)
    for record in (crystal, molecule):
        sink.write(record)
    assert recognise(tmp_path / "a") == "dftio"
    source = DftioSource(tmp_path / "a")
    for k, record in enumerate((crystal, molecule)):
        assert_same(record, read_record(source, k))
    assert (tmp_path / "a" / "0000" / "basis.dat").read_text() == "{'C': '2s1p1d', 'H': '1s1p'}\n"
    (tmp_path / "a" / "0001" / "basis.dat").write_text("__import__('os').system('true')")
    with pytest.raises(InputError, match=r"basis\.dat: expected"):
        source.matrices(1)


@pytest.mark.parametrize("unit", ["eV", "hartree"])
def test_a_gaussian_basis_is_understood_in_either_unit(tmp_path, water_scf, capsys, unit):
    """As DeePTB's users made it: i <= j only, p as y, z, x, positions in single precision."""
    mol, named = water_scf.mol, {}
    components = {"s": [""], "p": ["y", "z", "x"], "d": ["xy", "yz", "z^2", "xz", "x2-y2"]}
    labels = mol.ao_labels(fmt=None)
    order = sorted(range(24), key=lambda k: (labels[k][0], "spd".index(labels[k][2][-1]),
                   labels[k][2], components[labels[k][2][-1]].index(labels[k][3])))  # fmt: skip
    factor = HARTREE_IN_EV if unit == "eV" else 1.0
    starts = [0, 14, 19, 24]
    pairs = {"hamiltonian": water_scf.get_fock() * factor, "overlap": mol.intor("int1e_ovlp")}
    for what, matrix in pairs.items():
        full = matrix[np.ix_(order, order)]
        named[what] = {
            f"{i}_{j}_0_0_0": full[starts[i] : starts[i + 1], starts[j] : starts[j + 1]]
            for i in range(3)
            for j in range(i, 3)
        }
    value = {
        "atomic_numbers": mol.atom_charges(),
        "pos": mol.atom_coords(unit="Angstrom").astype(np.float32),
        "cell": np.zeros((3, 3), np.float32),
        "pbc": np.zeros(3, bool),
        **named,
    }
    path = lmdb_file(tmp_path / "a.mdb", [(b"\0\0\0\0", pickle.dumps(value))])
    words = ["convert", str(path), str(tmp_path / "b.h5"), "--basis", "def2-svp", *COMMON]
    assert entry_point(words) == 0
    assert ("are in hartree, not in eV" in capsys.readouterr().err) == (unit == "hartree")
    (row,) = json.loads((tmp_path / "b.json").read_text())["structures"]
    assert row["source_ao_order"] == "m"
    assert row["deviation"] < 1e-5
    # without a basis nothing says which shells there are
    assert entry_point(["convert", str(path), str(tmp_path / "c.h5")]) == 2
    assert "expected the shells of O; put DeePTB's input" in capsys.readouterr().err
