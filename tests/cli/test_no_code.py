"""Opening a file of a stranger never runs what is in it, whatever route it takes."""

import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from deeph_zero.host.hdf5 import PredictionWriter
from deeph_zero.integrals import no_eval

CODE = "open('ran_code','w').close()or(0.15)"
EVIL = f"#BASIS SET: x\nH S\n 3.42 {CODE}\n 0.62 0.53\n"
EVIL_ECP = f"H S\n 1.0 1.0\nECP\nH nelec 0\nH ul\n2 1.0 {CODE}\nEND\n"
O = ("--grid-level", "0", "--threads", "1", "-q")
HYDROGEN = "2\n\nH 0 0 0\nH 0 0.1 0.74\n"


@pytest.fixture
def place(folder):
    (folder / "hi.xyz").write_text(HYDROGEN)
    for name, text in (("m/b.nw", EVIL), ("evil.nw", EVIL), ("ecp.nw", EVIL_ECP)):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def group(basis):
    eye = np.eye(2)
    arrays = {
        "numbers": np.array([1, 1]),
        "positions": np.array([[0.0, 0.1, 0.0], [0.0, 0.0, 1.4]]),
        **dict.fromkeys(("overlap", "fock", "density"), eye),
        "mo_energy": np.array([-0.5, 0.5]),
        "mo_occ": np.array([2.0, 0.0]),
    }
    attributes = {"file": "a.xyz", "frame": 0, "charge": 0, "spin": 0, "xc": "pbe", "basis": basis}
    return arrays, attributes | {"energy": -1.1, "grid_level": 0, "density_fit": True}


def write_h5(path, basis):
    with PredictionWriter(path) as writer:
        writer.write(*group(basis))
    entry = {"file": "a.xyz", "frame": 0, "energy": -1.1, "converged": True}
    document = {"structures": [entry], "failed": [], "xc": "pbe", "basis": "x"}
    path.with_suffix(".json").write_text(json.dumps(document))
    return document


def h5_report(place, basis):
    write_h5(place / "l.h5", basis)
    return "report", "l.h5", "-o", "o.html"


def run_report(place, basis):
    (place / "r").mkdir()
    document = write_h5(place / "r" / "predictions.h5", basis)
    (place / "r" / "summary.json").write_text(json.dumps(document))
    return "report", "r", "-o", "o.html"


def model(place, name, basis):
    path = place / "model" / "model.json"
    document = json.loads(path.read_text())
    document["method"][name] = basis
    if name in document:
        document[name] = basis
    path.write_text(json.dumps(document))
    return "predict", "model", "good.xyz", "-o", "o.h5"


def config(place, name, basis):
    lines = ['[data]\ntrain = ["hi.xyz"]\n[method]\ngrid_level = 0']
    (place / "c.toml").write_text("\n".join([*lines, f"{name} = {json.dumps(basis)}\n"]))
    return "train", "c.toml", "-o", "o"


def label_training(place, basis):
    write_h5(place / "l.h5", basis)
    text = '[data]\ntrain = ["hi.xyz"]\nlabels = ["l.h5"]\n[training]\nloss = "supervised"\n'
    (place / "c.toml").write_text(text)
    return "train", "c.toml", "-o", "o"


ROUTES = {
    "report of an .h5": h5_report,
    "report of a run": run_report,
    "model": lambda place, basis: model(place, "basis", basis),
    "auxbasis of a model": lambda place, basis: model(place, "auxbasis", basis),
    "config": lambda place, basis: config(place, "basis", basis),
    "auxbasis of a config": lambda place, basis: config(place, "auxbasis", basis),
    "labels": label_training,
    "--basis": lambda _place, basis: ("label", "hi.xyz", "--basis", basis, "-o", "o.h5", *O),
    "--auxbasis": lambda _place, basis: ("label", "hi.xyz", "--auxbasis", basis, "-o", "o.h5", *O),
    "fit --basis": lambda _place, basis: ("fit", "hi.xyz", "--basis", basis, "-o", "o", *O),
}


@pytest.mark.parametrize("basis", [EVIL, EVIL_ECP, "m/b.nw", "evil.nw", "ecp.nw"])
@pytest.mark.parametrize("route", ROUTES)
def test_basis_texts_and_files_never_run(place, run, route, basis):
    # a structure file beside the labels and the config names what it says only
    argv = ROUTES[route](place, basis)
    before = {p.name for p in place.iterdir()}
    ended = run(*argv)
    harmless = route.startswith("report") and basis in ("evil.nw", "ecp.nw")  # names of no set
    assert ended.code == (0 if harmless else 2), ended
    assert ended.err.count("\n") == (0 if harmless else 1)
    assert not ended.err or ended.err.startswith("error: ")
    assert {p.name for p in place.iterdir()} == before | ({"o.html"} if harmless else set())


def test_a_file_of_a_basis_name_in_the_working_folder_changes_nothing(place, run):
    argv = ("label", "hi.xyz", "--basis", "sto-3g", "-o", "o.h5", *O)
    assert run(*argv).code == 0
    energy = json.loads((place / "o.json").read_text())["structures"][0]["energy"]
    for name in ("sto-3g", "ano", "def2-universal-jfit"):
        (place / name).write_text(EVIL)
    assert run(*argv, "--overwrite").code == 0
    assert json.loads((place / "o.json").read_text())["structures"][0]["energy"] == energy
    # PySCF looks for this one itself, to see whether there is such a set
    (place / "def2-svp-jkfit").write_text(EVIL)
    ended = run(*argv, "--overwrite")
    assert ended.code == 1
    assert "rename the file, or work in another folder" in ended.err
    assert not (place / "ran_code").exists()


def test_a_model_keeps_its_basis_set(place, run):
    (place / "mine.nw").write_text("# any\nH S\n 3.42 0.15\n 0.62 0.53\nO S\n 9.0 1.0\n")
    assert run("fit", "hi.xyz", "--basis", "mine.nw", "-o", "r", "--epochs", "1", *O).code in (0, 1)
    (place / "mine.nw").unlink()
    assert run("predict", "r", "hi.xyz", "-o", "p.h5", "--refine", "1e-5", "-q").code == 0
    assert run("train", "r/config.toml", "-o", "r2", "-q").code in (0, 1)
    found = json.loads((place / "p.json").read_text())
    assert found["basis"].startswith("mine.nw [")
    with h5py.File(place / "p.h5") as file:
        text = file["0000"].attrs["basis"]
    assert "H S\n3.42 0.15\n0.62 0.53\n" in text
    assert "O" not in text.replace("BASIS", "").split()
    assert run("report", "p.h5", "-o", "p.html").code == 0
    assert run("evaluate", "r", "p.h5", "-o", "e.json", "-q").code == 0


CHECK = "import deeph_zero, pyscf, os; print(os.environ['PYSCF_CONFIG_FILE'], pyscf.DEBUG)"


@pytest.mark.parametrize("own", ["none", "home", "variable"])
def test_pyscf_runs_no_settings_of_the_working_folder(tmp_path, own):
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir()
    home.mkdir()
    (work / ".pyscf_conf.py").write_text("open('ran_code', 'w').close()\n")
    environment = os.environ | {"HOME": str(home)}
    environment.pop("PYSCF_CONFIG_FILE", None)
    mine = home / (".pyscf_conf.py" if own == "home" else "mine.py")
    if own != "none":
        mine.write_text("DEBUG = True\n")
    if own == "variable":
        environment["PYSCF_CONFIG_FILE"] = str(mine)
    ended = subprocess.run(
        [sys.executable, "-c", CHECK],
        cwd=work, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not (work / "ran_code").exists()
    name, debug = ended.stdout.split()
    assert debug == str(own != "none")
    assert name == str(mine) if own != "none" else name.endswith("pyscf_conf.py")


def test_pyscfs_own_eval_is_off():
    assert no_eval.left_on() == []
    from pyscf import gto

    with pytest.raises(ValueError, match="Failed to parse"):
        gto.basis.parse("H S\n 1.0 1.0*2\n")


def test_doctor_lists_the_switch(monkeypatch):
    from deeph_zero.cli import doctor

    found = doctor.describe_installation("cpu", 1)
    assert found["pyscf_eval"] == "off"
    monkeypatch.setattr(no_eval, "left_on", lambda: ["pyscf.gto.mole"])
    assert doctor.describe_installation("cpu", 1)["pyscf_eval"] == "on"
