"""What a report reads: entries beside groups, columns of metrics, and files that are broken."""

import contextlib
import os
import shutil

import h5py
import numpy as np
import pytest

from deeph_zero.errors import InputError
from deeph_zero.host.files import write_json
from deeph_zero.report import data


def test_half_a_line_of_metrics_is_left_out(water_run):
    with (water_run / "metrics.csv").open("a") as stream:
        stream.write("90,9,9.5,0.0")
    assert len(data.read_source(water_run).metrics["loss"]) == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shutil.rmtree, "does not exist"),
        (lambda run: (run / "summary.json").unlink(), "expected .*summary.json"),
        (lambda run: (run / "summary.json").write_text("{"), "expected JSON"),
        (lambda run: (run / "summary.json").write_text("[]"), "expected a JSON object"),
        (lambda run: (run / "summary.json").write_text("{}"), "a list of structures"),
        (lambda run: (run / "predictions.h5").write_bytes(b"x"), "expected an HDF5 file"),
        (lambda run: (run / "model.json").write_text("x"), "expected JSON"),
    ],
)
def test_broken_runs_are_wrong_input(water_run, change, message):
    change(water_run)
    with pytest.raises(InputError, match=message):
        data.read_source(water_run)


@pytest.mark.parametrize("seed", range(12))
def test_bytes_that_changed_are_no_internal_error(water_run, seed):
    path = water_run / "predictions.h5"
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(0, len(content), 40):
        content[place] = rng.integers(256)
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        source = data.read_source(water_run)
        for structure in source.structures:
            source.matrices(structure)


@pytest.mark.parametrize("name", ["predictions.h5", "metrics.csv", "model.json"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "loop"])
def test_what_is_no_file_is_not_taken_for_none(water_run, name, kind):
    path = water_run / name
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(name)
    with pytest.raises(InputError, match=f"{name}: expected a file, this is"):
        data.read_source(water_run)


def matrices(**changes):
    n = 3
    plain = {
        "numbers": np.array([8, 1, 1]), "coords": np.zeros((3, 3)), "charge": 0, "spin": 0,
        "basis": "", "overlap": np.eye(n), "fock": np.eye(n), "fock_rebuilt": None,
        "dm": np.eye(n), "mo_energy": np.zeros(n), "mo_occ": np.array([2.0, 2.0, 0.0]),
    }  # fmt: skip
    return data.Matrices(**plain | changes)


def test_what_matrices_say_of_themselves():
    closed = matrices()
    assert closed.symbols == ["O", "H", "H"]
    assert not closed.unrestricted
    assert closed.occupied() == [2]
    assert closed.hamiltonian is closed.fock
    pair = np.stack([np.eye(3)] * 2)
    occ = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    opened = matrices(dm=pair, fock=pair, fock_rebuilt=2 * pair, mo_energy=occ, mo_occ=occ)
    assert opened.unrestricted
    assert opened.occupied() == [2, 1]
    assert opened.hamiltonian is opened.fock_rebuilt
    smeared = matrices(mo_occ=np.array([2.0, 1.2, 0.8]))
    assert smeared.occupied() == [2]


def test_entries_find_their_groups_in_any_order(tmp_path, water, make):
    entries = [make.entry(water, file="b.xyz"), make.entry(water), make.entry(water, frame=7)]
    groups = [water.group(), water.group(file="b.xyz")]
    source = data.read_source(make.run(tmp_path / "run", entries, groups))
    assert [s.group for s in source.structures] == ["0001", "0000", None]
    assert [s.name for s in source.structures] == ["b.xyz:0", "mol.xyz:0", "mol.xyz:7"]
    assert [s.natm for s in source.structures] == [3, 3, 0]
    assert source.structures[0].formula == "H₂O"
    assert source.structures[0].error_estimate == 3.4e-6
    assert source.matrices(source.structures[2]) is None
    found = source.matrices(source.structures[0])
    np.testing.assert_array_equal(found.dm, water.mf.make_rdm1())
    np.testing.assert_array_equal(found.coords, water.mol.atom_coords())


def test_a_structure_given_twice_has_two_groups(tmp_path, water, make):
    entries = [make.entry(water), make.entry(water)]
    source = data.read_source(make.run(tmp_path / "run", entries, [water.group(), water.group()]))
    assert [s.group for s in source.structures] == ["0000", "0001"]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("", {}),
        ("step,loss\n", {}),
        ("step,loss\n1,0.5\n2,\n3,odd\n4,nan\n5,0.1", {"step": [1, 2, 3, 4], "loss": [0.5]}),
        ("step,loss\n1\n", {"step": [1], "loss": []}),
        ("step\n1,2,3\n", {"step": [1]}),
    ],
)
def test_columns_of_metrics(water_run, text, columns):
    (water_run / "metrics.csv").write_text(text)
    found = data.read_source(water_run).metrics
    assert found.keys() == columns.keys()
    for name, values in columns.items():
        known = found[name][np.isfinite(found[name])]
        assert known.tolist() == values
        assert len(found[name]) == len(found["step"])


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("positions", (2, 3), "positions of shape"),
        ("overlap", (6, 6), "a matrix of shape"),
        ("fock_rebuilt", (2, 7, 7), "a matrix of shape"),
        ("mo_occ", (6,), "group 0000"),
        ("density", (7,), "group 0000"),
    ],
)
def test_arrays_that_do_not_belong_together(water_run, name, shape, words):
    with h5py.File(water_run / "predictions.h5", "a") as handle:
        del handle["0000"][name]
        handle["0000"][name] = np.zeros(shape)
    source = data.read_source(water_run)
    with pytest.raises(InputError, match=words) as info:
        source.matrices(source.structures[0])
    assert "predictions.h5" in str(info.value)
    assert str(info.value).endswith("write the file again")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"structures": [3]}, r"got 3 as structures\[0\]"),
        ({"structures": "none"}, "expected structures to be a list, got 'none'"),
        ({"structures": [], "failed": {}}, "expected failed to be a list"),
        ({"structures": None}, "expected a summary with a list of structures, got none"),
    ],
)
def test_a_summary_without_a_list_is_none(water_run, changes, words):
    write_json(water_run / "summary.json", changes)
    with pytest.raises(InputError, match=words):
        data.read_source(water_run)


def test_a_file_of_labels_is_known_by_what_it_lacks(tmp_path, water_run):
    out = tmp_path / "o.h5"
    shutil.copy(water_run / "predictions.h5", out)
    write_json(tmp_path / "o.json", {"structures": []})
    assert data.read_source(out).kind == "predict"
    with h5py.File(out, "a") as handle:
        del handle["0000"].attrs["refined"]
    assert data.read_source(out).kind == "label"
    write_json(tmp_path / "o.json", {"structures": [], "points": 60})
    assert data.read_source(out).kind == "matrices"
    (tmp_path / "o.json").unlink()
    with pytest.raises(InputError, match=r"expected .*o\.json, which does not exist; a run that"):
        data.read_source(out)


@pytest.mark.parametrize(
    ("errors", "count", "chosen"),
    [
        ([3e-6, 2e-4, "no group", 5e-7, 1e-5], 9, [1, 3, 0, 4]),
        ([3e-6, 2e-4, "no group", 5e-7, 1e-5], 2, [1, 3]),
        ([None, None, 1e-6], 3, [2, 0, 1]),
        ([1e-6, 1e-6], 2, [0, 1]),
        ([1e-6], 3, [0]),
        (["no group"], 3, []),
        ([1e-6, 2e-6], 0, []),
    ],
)
def test_the_worst_and_the_best_are_looked_at_first(errors, count, chosen):
    structures = [
        data.Structure(
            entry={
                "file": "a",
                "frame": k,
                "energy_error_estimate": e if e != "no group" else None,
            },
            group=None if e == "no group" else f"{k:04d}",
        )
        for k, e in enumerate(errors)
    ]
    assert [s.entry["frame"] for s in data.choose(structures, count)] == chosen
