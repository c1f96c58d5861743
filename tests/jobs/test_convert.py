"""Databases in QH9's layout: made with PySCF, read, checked against PySCF, and written again.

The fixture is written here with nothing of the package: a table ``data`` of plain bytes. Water and
hydrogen cyanide have p and d functions, and no symmetry that would make two AO orders the same.
"""

import json
import sqlite3

import h5py
import numpy as np
import pytest
import torch
from pyscf import dft, gto

from deeph_zero.ao.convention import AO_ORDERS, stored_order
from deeph_zero.cli.main import entry_point
from deeph_zero.data.labels import LabelStore
from deeph_zero.data.qh9 import Matrices, is_qh9
from deeph_zero.data.structures import read_structures
from deeph_zero.integrals.mole import build_mole, shell_ls
from deeph_zero.jobs import convert
from deeph_zero.kohnsham import KohnSham
from deeph_zero.testing import WATER

HCN = "H 0.1 -0.2 -1.05; C 0 0.05 0; N 0.02 -0.1 1.16"
COMMON = ["--device", "cpu", "--threads", "1", "-q"]
GRID = ["--grid-level", "0"]


def solved(atom, xc="b3lyp5"):
    mol = gto.M(atom=atom, basis="def2-svp", verbose=0)
    mf = dft.RKS(mol, xc=xc)
    mf.grids.level = 0
    mf.conv_tol, mf.conv_tol_grad = 1e-11, 1e-6
    mf.kernel()
    return mf


@pytest.fixture(scope="module")
def references():
    return [solved(WATER), solved(HCN)]


def in_order(mf, fock, name):
    """The matrix as another program orders its AOs: by hand, from PySCF's own labels."""
    by_name = {
        "pyscf": {"p": ["x", "y", "z"], "d": ["xy", "yz", "z^2", "xz", "x2-y2"]},
        "m": {"p": ["y", "z", "x"], "d": ["xy", "yz", "z^2", "xz", "x2-y2"]},
        "orca": {"p": ["z", "x", "y"], "d": ["z^2", "xz", "yz", "x2-y2", "xy"]},
    }[name]
    labels = mf.mol.ao_labels(fmt=None)

    def key(k):
        atom, _, shell, component = labels[k]
        l = shell[-1]
        inside = by_name[l].index(component) if l in by_name else 0
        return atom, "spd".index(l), shell, inside

    order = sorted(range(len(labels)), key=key)
    return fock[np.ix_(order, order)]


def write(path, references, order="pyscf", matrices=None):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE data (id INTEGER, N INTEGER, Z BLOB, pos BLOB, Ham BLOB)")
        for k, mf in enumerate(references):
            fock = mf.get_fock() if matrices is None else matrices[k]
            row = (
                7 + k,
                mf.mol.natm,
                mf.mol.atom_charges().astype(np.int32).tobytes(),
                mf.mol.atom_coords(unit="Angstrom").tobytes(),
                np.ascontiguousarray(in_order(mf, fock, order)).tobytes(),
            )
            connection.execute("INSERT INTO data VALUES (?, ?, ?, ?, ?)", row)
    connection.close()
    return path


@pytest.fixture
def database(tmp_path, references):
    return write(tmp_path / "QH9Stable.db", references)


def run(*words):
    return entry_point(["convert", *map(str, words), *COMMON])


# ---- orders -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AO_ORDERS)
def test_places_undo_the_order_of_another_program(references, name):
    for mf in references:
        fock = mf.get_fock()
        ls = [l for atom in shell_ls(mf.mol) for l in atom]
        got = convert.pyscf_array(ls, in_order(mf, fock, name), name)
        np.testing.assert_array_equal(got, fock)


def test_the_orders_differ_and_the_overlap_tells_them_apart(references):
    assert len({stored_order(1, name) for name in AO_ORDERS}) == len(AO_ORDERS)
    overlap = references[0].get_ovlp()
    for name in AO_ORDERS[1:]:
        assert np.abs(in_order(references[0], overlap, name) - overlap).max() > 0.1


@pytest.mark.parametrize("name", AO_ORDERS)
def test_an_order_is_found_from_self_consistency_alone(references, name):
    mf = references[0]
    ks = KohnSham.from_pyscf(mf.mol, xc="b3lyp5", density_fit=False, grid_level=0)
    ls = [l for atom in shell_ls(mf.mol) for l in atom]
    fock = mf.get_fock()
    found = convert.understand(ks, ls, in_order(mf, fock, name), agreement=1e-3)
    assert found.order == name
    assert found.deviation < 1e-5
    np.testing.assert_array_equal(found.fock.numpy(), fock)


# ---- the labels -------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["pyscf", "m"])
def test_converted_labels_are_pyscfs_numbers(tmp_path, references, order):
    source, out = write(tmp_path / "a.db", references, order), tmp_path / "labels.h5"
    assert run(source, out, *GRID) == 0
    summary = json.loads((tmp_path / "labels.json").read_text())
    assert summary["xc"] == "b3lyp5"
    assert summary["density_fit"] is False
    assert [e["source_id"] for e in summary["structures"]] == ["7", "8"]
    assert {e["source_ao_order"] for e in summary["structures"]} == {order}
    store = LabelStore([out])
    with h5py.File(out) as file:
        overlaps = [file[name]["overlap"][()] for name in sorted(file)]
    for k, mf in enumerate(references):
        label = store.read(k)
        assert store.molecules[k].numbers.tolist() == mf.mol.atom_charges().tolist()
        np.testing.assert_allclose(store.molecules[k].coords, mf.mol.atom_coords(), atol=1e-12)
        np.testing.assert_allclose(overlaps[k], mf.get_ovlp(), atol=1e-10)
        np.testing.assert_allclose(label.fock.numpy(), mf.get_fock(), atol=1e-12)
        np.testing.assert_allclose(label.dm.numpy(), mf.make_rdm1(), atol=1e-5)
        np.testing.assert_allclose(label.mo_energy.numpy(), mf.mo_energy, atol=1e-6)
        assert abs(label.energy - mf.e_tot) < 1e-8
        assert label.converged
        # [F, P] S = 0 in the order that was found, in no other
        f, p, s = label.fock.numpy(), label.dm.numpy(), overlaps[k]
        assert np.abs(f @ p @ s - s @ p @ f).max() < 1e-5


def test_a_model_is_evaluated_against_a_converted_database(tmp_path, references, database):
    from deeph_zero.model_files.folder import save_model
    from deeph_zero.model_files.meta import model_meta
    from deeph_zero.nn.network import FockNetwork
    from deeph_zero.nn.spec import default_spec
    from deeph_zero.prepared.molecule import basis_layout
    from deeph_zero.settings.config import MethodConfig

    labels, table = tmp_path / "labels.h5", tmp_path / "eval.json"
    assert run(database, labels, *GRID, "--first", "1") == 0
    mol = references[0].mol
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = FockNetwork(default_spec(basis_layout([mol]), "tiny"))
    method = MethodConfig(xc="b3lyp5", grid_level=0, density_fit=False)
    info = KohnSham.from_pyscf(mol, xc="b3lyp5", density_fit=False, grid_level=0).info
    save_model(tmp_path / "run", network, model_meta(method, info, network.spec))
    words = ["evaluate", str(tmp_path / "run"), str(labels), "-o", str(table), "--no-scf", *COMMON]
    assert entry_point(words) == 0
    (row,) = json.loads(table.read_text())["structures"]
    assert abs(row["reference_energy"] - references[0].e_tot) < 1e-8
    assert row["energy_error"] > 0


def test_there_and_back_again(tmp_path, references, database):
    labels, copy = tmp_path / "labels.h5", tmp_path / "copy.db"
    assert run(database, labels, *GRID) == 0
    assert run(labels, copy) == 0
    before, after = read_structures([database])[0], read_structures([copy])[0]
    for k, (one, other) in enumerate(zip(before, after, strict=True)):
        np.testing.assert_allclose(other.coords, one.coords, atol=1e-12)
        nao = references[k].mol.nao
        first, second = Matrices(database).read(k, nao)[1], Matrices(copy).read(k, nao)[1]
        np.testing.assert_array_equal(second, first)
    assert run(labels, copy) == 2
    assert run(labels, copy, "--overwrite", "--first", "1") == 0
    assert len(read_structures([copy])[0]) == 1


def test_a_database_is_a_source_of_structures(database, references, tmp_path):
    assert is_qh9(database)
    molecules, bad = read_structures([database], charge=3, spin=1)
    assert bad == []
    assert [(m.charge, m.spin, m.frame) for m in molecules] == [(0, 0, 0), (0, 0, 1)]
    for molecule, mf in zip(molecules, references, strict=True):
        built = build_mole(molecule, basis="def2-svp")
        np.testing.assert_allclose(built.intor("int1e_ovlp"), mf.get_ovlp(), atol=1e-10)
    import ase.db

    with ase.db.connect(tmp_path / "other.db") as db:
        db.write(ase.Atoms("OH", [[0, 0, 0], [0, 0, 1]]))
    assert not is_qh9(tmp_path / "other.db")
    (molecule,), _ = read_structures([tmp_path / "other.db"], spin=1)
    assert molecule.numbers.tolist() == [8, 1]


# ---- what goes wrong --------------------------------------------------------------------------


def error_line(capsys):
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_evaluate_says_what_to_do_with_a_database(database, tmp_path, capsys):
    assert entry_point(["evaluate", str(tmp_path), str(database), *COMMON]) == 2
    line = error_line(capsys)
    assert "got a QH9 database" in line
    assert line.endswith("QH9Stable.db QH9Stable.h5`")


def test_another_functional_is_noticed(database, tmp_path, capsys):
    for xc in ("b3lyp", "pbe"):
        assert run(database, tmp_path / "o.h5", *GRID, "--xc", xc) == 2
        line = error_line(capsys)
        assert "QH9Stable.db frame 0: expected a Fock matrix that its own density gives" in line
        assert "--xc" in line
    assert [p.name for p in tmp_path.iterdir()] == ["QH9Stable.db"]


def test_a_fitted_matrix_is_told_of_agreement(tmp_path, capsys):
    mf = dft.RKS(gto.M(atom="H 0 0 0; F 0.1 0 0.93", basis="def2-svp", verbose=0), xc="b3lyp5")
    mf = mf.density_fit(auxbasis="def2-universal-jkfit")
    mf.grids.level = 0
    mf.run(conv_tol=1e-11, conv_tol_grad=1e-6)
    source, wanted = write(tmp_path / "fitted.db", [mf]), [*GRID, "--agreement", "5e-5"]
    assert run(source, tmp_path / "o.h5", *wanted) == 2
    line = error_line(capsys)
    assert line.endswith("or a larger --agreement where it was made with density fitting")
    assert run(source, tmp_path / "o.h5", *GRID, "--xc", "pbe") == 2
    assert "--agreement" not in error_line(capsys)  # another functional is no matter of that
    assert run(source, tmp_path / "o.h5", *GRID, "--agreement", "1e-3") == 0


def test_a_bad_row_costs_itself_only(tmp_path, references, capsys):
    matrices = [mf.get_fock() for mf in references]
    matrices.append(1.1 * matrices[0])
    source = write(tmp_path / "a.db", [*references, references[0]], matrices=matrices)
    with sqlite3.connect(source) as connection:
        connection.execute("INSERT INTO data VALUES (99, 3, x'0800', x'00', x'00')")
    connection.close()
    assert run(source, tmp_path / "o.h5", *GRID) == 1
    assert "2 of 4 structures failed" in capsys.readouterr().err.splitlines()[-1]
    failed = json.loads((tmp_path / "o.json").read_text())["failed"]
    assert sorted(entry["frame"] for entry in failed) == [2, 3]
    assert len(LabelStore([tmp_path / "o.h5"])) == 2


def broken(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE systems (id INTEGER)")
    connection.close()


def empty(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE data (id INTEGER, N INTEGER, Z BLOB, pos BLOB, Ham BLOB)")
    connection.close()


def nothing(path):
    assert not path.exists()


WRONG = [
    (nothing, "a.db", "o.h5", "there is no such file"),
    (lambda path: path.write_text("hello " * 100), "a.db", "o.h5", "SQLite cannot read it"),
    (broken, "a.db", "o.h5", "it has no table data"),
    (empty, "a.db", "o.h5", "the table data is empty"),
    (empty, "a.db", "o.xyz", "expected a name ending in .h5, .hdf5"),
    (lambda path: path.write_text("x"), "a.h5", "o.db", "expected labels in HDF5"),
]


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line(tmp_path, capsys, case):
    make, source, target, message = case
    make(tmp_path / source)
    before = sorted(p.name for p in tmp_path.iterdir())
    assert run(tmp_path / source, tmp_path / target) == 2
    assert message in error_line(capsys)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_another_basis_is_noticed_by_its_size(database, tmp_path, capsys):
    assert run(database, tmp_path / "o.h5", *GRID, "--basis", "sto-3g") == 2
    assert "expected a Fock matrix of 7 functions, got 576 numbers (24 functions)" in error_line(
        capsys
    )


def test_an_open_shell_cannot_be_written(tmp_path, capsys):
    (tmp_path / "oh.xyz").write_text("2\nspin=1\nO 0 0 0\nH 0.1 0.2 0.94\n")
    labels = tmp_path / "oh.h5"
    small = ["--basis", "sto-3g", "--grid-level", "0"]
    assert entry_point(["label", str(tmp_path / "oh.xyz"), "-o", str(labels), *small, *COMMON]) == 0
    capsys.readouterr()
    assert run(labels, tmp_path / "o.db") == 2
    assert "expected a neutral closed shell, got charge 0, spin 1" in error_line(capsys)
    assert not (tmp_path / "o.db").exists()
