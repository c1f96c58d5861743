"""`predict` and `label` within --max-time, and what they say of degenerate ground states."""

import dataclasses
import json

import h5py
import numpy as np
import pytest
from pyscf import dft, gto

from deeph_zero.cli import checks
from deeph_zero.cli.main import entry_point
from deeph_zero.host.runtime import Deadline
from deeph_zero.kohnsham import KohnSham

FRAMES = "3\n{}\nO 0 0 0.1\nH 0 0.76 0.58\nH 0.05 -0.74 0.61\n" * 3
TINY = ("--basis", "sto-3g", "--grid-level", "0", "--threads", "1")
OH = "2\nspin=1\nO 0 0 0\nH 0 0 0.97\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "frames.xyz").write_text(FRAMES)
    (tmp_path / "oh.xyz").write_text(OH)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def test_max_time_of_label_ends_between_frames(folder, monkeypatch, capfd):
    asked = []

    def expired(self):
        """After two frames, with the limit of the option."""
        assert self.at is not None
        asked.append(self)
        return len(asked) > 2

    def read_first(*args, **more):
        found = read(*args, **more)
        monkeypatch.setattr(Deadline, "expired", expired)
        return found

    read = checks.read_and_check
    monkeypatch.setattr(checks, "read_and_check", read_first)
    code = entry_point(["label", "frames.xyz", *TINY, "-o", "l.h5", "--max-time", "10m"])
    err = capfd.readouterr().err
    assert code == 1
    assert err == (
        "error: not finished: 2 of 3 structures done, stopped by max_time; the result is kept in "
        "l.h5; go on with --resume\n"
    )
    summary = json.loads((folder / "l.json").read_text())
    assert (summary["stopped_by"], summary["n_structures"]) == ("max_time", 2)
    assert summary["converged"] is False
    with h5py.File(folder / "l.h5") as file:
        assert list(file) == ["0000", "0001"]


def test_without_a_limit_nothing_is_said_of_stopping(folder, capfd):
    assert entry_point(["label", "frames.xyz", *TINY, "-o", "l.h5"]) == 0
    assert "stopped by" not in capfd.readouterr().out
    assert json.loads((folder / "l.json").read_text())["stopped_by"] is None


def test_a_limit_spent_on_reading_leaves_complete_empty_files(folder, capfd, monkeypatch):
    steps = ("--steps", "1")
    assert entry_point(["fit", "frames.xyz", *TINY, *steps, "-o", "run"]) == 1
    capfd.readouterr()
    code = entry_point(["predict", "run", "frames.xyz", "-o", "p.h5", "--max-time", "1e-6"])
    assert code == 1
    assert "the time limit ended while reading frames.xyz, 0 of its" in capfd.readouterr().err
    assert not (folder / "p.json").exists()
    with monkeypatch.context() as patch:
        read = checks.read_and_check

        def read_in_time(*args, **more):
            found = read(*args, **more | {"deadline": None})
            patch.setattr(Deadline, "expired", lambda _: True)
            return found

        patch.setattr(checks, "read_and_check", read_in_time)
        code = entry_point(["predict", "run", "frames.xyz", "-o", "p.h5", "--max-time", "1h"])
    assert code == 1
    assert "not finished: 0 of 3 structures done" in capfd.readouterr().err
    assert json.loads((folder / "p.json").read_text())["stopped_by"] == "max_time"
    assert entry_point(["predict", "run", "frames.xyz", "-o", "q.h5", "--max-time", "1h"]) == 0
    assert json.loads((folder / "q.json").read_text())["n_structures"] == 3


@pytest.mark.parametrize("broken", [False, True], ids=["plain", "broken"])
def test_labels_of_oh_have_pyscfs_broken_symmetry_energy(folder, capfd, broken):
    argv = ["label", "oh.xyz", "--grid-level", "1", "--threads", "1", "-o", "l.h5"]
    code = entry_point([*argv, *(["--break-symmetry"] if broken else [])])
    captured = capfd.readouterr()
    assert (code, captured.err) == (0, "")
    (entry,) = json.loads((folder / "l.json").read_text())["structures"]
    # occupations of an SCF are integers: what it converges to is not degenerate any more
    assert "degenerate" not in entry
    mol = gto.M(atom="O 0 0 0; H 0 0 0.97", basis="def2-svp", spin=1, verbose=0)
    mf = dft.UKS(mol, xc="pbe").density_fit()
    mf.grids.level = 1
    dm = np.array(mf.get_init_guess())
    lobe = mol.search_ao_label("O 2px")
    dm[1][np.ix_(lobe, lobe)] *= 0.1  # the beta hole in one p orbital
    mf.kernel(dm0=dm)
    assert mf.converged
    assert entry["energy"] == pytest.approx(mf.e_tot, abs=1e-6)


def test_labels_pass_degeneracy_on(folder, capfd, monkeypatch):
    def degenerate(self, *start, **settings):
        return dataclasses.replace(original(self, *start, **settings), degenerate=True)

    original = KohnSham.scf
    monkeypatch.setattr(KohnSham, "scf", degenerate)
    assert entry_point(["label", "frames.xyz", *TINY, "-o", "l.h5"]) == 0
    assert capfd.readouterr().err.count("(3 of 3 structures)") == 1
    entries = json.loads((folder / "l.json").read_text())["structures"]
    assert [e["degenerate"] for e in entries] == [True] * 3


def test_predictions_pass_degeneracy_on(folder, capfd):
    (folder / "two.xyz").write_text(OH * 2)
    argv = ("--basis", "def2-svp", "--grid-level", "1", "--threads", "1")
    entry_point(["fit", "oh.xyz", *argv, "--epochs", "2", "-o", "run"])
    capfd.readouterr()
    assert entry_point(["predict", "run", "two.xyz", "-o", "p.h5"]) == 0
    assert capfd.readouterr().err.count("(2 of 2 structures)") == 1
    entries = json.loads((folder / "p.json").read_text())["structures"]
    assert [e["degenerate"] for e in entries] == [True, True]
