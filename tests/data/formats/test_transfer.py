"""From a source to a file: what is left out, what stops everything, and what is recorded."""

import dataclasses
import json
import os
import subprocess
import sys

import h5py
import pytest

from deeph_zero.data.formats.deeph import DeepHSink, DeepHSource
from deeph_zero.data.formats.labels import LabelsSource
from deeph_zero.data.formats.protocol import Record
from deeph_zero.data.formats.transfer import transfer
from deeph_zero.errors import InputError
from deeph_zero.host.files import temporary_beside

from .conftest import written


@pytest.fixture
def run(tmp_path, molecule):
    """Transfers a folder of DeepH with three molecules; keywords as of :func:`transfer`."""
    folder = written(tmp_path / "in", DeepHSink, molecule, molecule, molecule)
    said = []

    def go(out="out.h5", **settings):
        given = {"formats": ("deeph", "labels"), "first": None, "overwrite": False}
        given |= {"say": said.append} | settings
        return transfer(DeepHSource(folder), folder, tmp_path / out, **given), said

    return go


def spoil(tmp_path, *indices):
    for k in indices:
        (tmp_path / "in" / "dft" / f"{k:04d}" / "info.json").write_text("{")


def test_everything_is_written_and_recorded(tmp_path, run):
    done, said = run()
    assert said == []
    assert (done.written, done.order, done.failed, done.stopped_by) == (3, "m", [], None)
    assert done.order_deviation < 1e-10
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["source_format"] == "deeph"
    assert document["n_structures"] == 3
    assert document["written"] == str(tmp_path / "out.h5")
    assert {k: document[k] for k in done.summary(tmp_path / "out.h5")} == done.summary(
        tmp_path / "out.h5"
    )
    found = LabelsSource(tmp_path / "out.h5", lambda *_: ())
    assert len(found) == 3
    # carbon, carbon, hydrogen in DeepH's folder
    assert found.structure(2).numbers.tolist() == [6, 6, 1]


@pytest.mark.parametrize(("out", "name"), [("out.h5", "labels"), ("out", "deeph")])
def test_what_a_killed_one_left_is_removed(tmp_path, run, out, name):
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as ended:
        pass
    there = temporary_beside(tmp_path / out)
    left = there.with_name(there.name.replace(f".{os.getpid()}-", f".{ended.pid}-"))
    left.mkdir() if name == "deeph" else left.write_bytes(b"half")
    run(out, formats=("deeph", name))
    assert not left.exists()


def test_only_the_first_ones(tmp_path, run):
    done, _ = run(first=2)
    assert done.written == 2
    with h5py.File(tmp_path / "out.h5") as file:
        assert len(file) == 2
    assert run(out="more.h5", first=20)[0].written == 3


def test_a_structure_that_cannot_be_read_is_left_out(tmp_path, run):
    spoil(tmp_path, 1)
    done, said = run()
    assert done.written == 2
    (entry,) = done.failed
    assert (entry["file"], entry["frame"]) == (str(tmp_path / "in"), 1)
    assert entry["error"].startswith("info.json: expected JSON")
    (line,) = said
    assert line.startswith(str(tmp_path / "in" / "dft" / "0001"))
    assert line.endswith(entry["error"])


def test_the_order_is_seen_on_the_first_that_can_be_read(tmp_path, run):
    spoil(tmp_path, 0)
    done, _ = run()
    assert (done.order, done.written) == ("m", 2)
    assert done.order_deviation < 1e-10


def test_nothing_that_can_be_read_leaves_nothing(tmp_path, run):
    spoil(tmp_path, 0, 1, 2)
    with pytest.raises(InputError, match=r"info\.json: expected JSON"):
        run()
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_what_the_format_cannot_hold_stops_everything(tmp_path, run):
    def charged(record):
        return Record(dataclasses.replace(record.structure, charge=1), record.matrices)

    with pytest.raises(InputError, match=r"0000: expected a neutral closed shell, got charge 1"):
        run("out.db", formats=("deeph", "qh9"), complete=charged)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_what_can_be_computed_is_added(tmp_path, run):
    def with_facts(record):
        facts = {"xc": "pbe", "basis": "made"}
        return Record(record.structure, dataclasses.replace(record.matrices, facts=facts))

    run(complete=with_facts)
    found = LabelsSource(tmp_path / "out.h5", lambda *_: ())
    assert found.matrices(0).facts["xc"] == "pbe"


def test_the_end_of_the_time_keeps_what_is_written(tmp_path, run):
    done, _ = run(expired=lambda: True)  # one structure is always written
    assert (done.written, done.stopped_by) == (1, "max_time")
    assert json.loads((tmp_path / "out.json").read_text())["stopped_by"] == "max_time"


def test_an_output_that_is_there_is_kept(tmp_path, run):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("x")
    with pytest.raises(InputError, match="exists and is not empty"):
        run("out", formats=("deeph", "dftio"))
    assert (tmp_path / "out" / "file").read_text() == "x"


def test_another_order_than_the_formats_is_said(run, monkeypatch):
    monkeypatch.setattr(DeepHSource, "order", "siesta")
    done, said = run()
    assert done.order == "m"
    (line,) = said
    assert "the functions are in the order 'm', not 'siesta' as in this format" in line
