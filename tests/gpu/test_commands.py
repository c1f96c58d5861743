"""Commands give on a device what they give on the CPU."""

import contextlib
import json
import logging
from pathlib import Path

import ase
import ase.units
import h5py
import numpy as np
import pytest
import torch

import deeph_zero as dz
from deeph_zero.cli import selfcheck
from deeph_zero.cli.main import entry_point
from deeph_zero.host.runtime import resolve_device
from deeph_zero.jobs.evaluate import _EvaluateJob
from deeph_zero.jobs.label import _LabelJob
from deeph_zero.jobs.predict import _PredictJob
from deeph_zero.molecule import Molecule
from deeph_zero.settings.config import LabelConfig, PredictConfig
from deeph_zero.settings.evaluate_config import EvaluateConfig

from .pretended import device_used

pytestmark = pytest.mark.gpu

FRAMES = "2\n\nF 0 0 0\nH .1 .2 .9\n2\n\nF 0 0 0\nH .1 .3 .85\n"
CATION = "2\ncharge=1 spin=1\nF 0 0 0\nH .1 .2 .95\n"
METHOD = ("--basis", "sto-3g", "--grid-level", "0")
STATED = {"basis": "sto-3g", "grid_level": 0}
LOSSES = {
    "energy": "",
    "self-consistency": "",
    "fixed-point": "",
    "commutator": 'jk_dtype = "float32"',  # certificates then have integrals of their own
}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "frames.xyz").write_text(FRAMES)
    (tmp_path / "cation.xyz").write_text(CATION)
    monkeypatch.setattr("deeph_zero.cli.fit.report_run", lambda *_: None)  # half of a run's time


@pytest.fixture(autouse=True)
def _quiet():
    """Commands write their own log lines to the terminal; this file compares files."""
    yield
    logging.getLogger("deeph_zero").handlers[:] = []


def computing(device):
    """Nothing on the processor may stand in for the device."""
    return device_used() if device == "cuda" else contextlib.nullcontext()


def both(*words, out, code=(0,)):
    """The command on the device and on the CPU; the names of what each wrote."""
    names = []
    for device in ("cuda", "cpu"):
        name = f"{device}_{out}"
        words_of_all = ("-o", name, "--device", device, "--threads", "1", "--overwrite")
        with computing(device):
            assert entry_point([*words, *words_of_all]) in code
        names.append(name)
    return names


def compare(pair, atol):
    """Every number of two HDF5 files."""
    compared = 0
    with h5py.File(pair[0]) as found, h5py.File(pair[1]) as wanted:
        assert set(found) == set(wanted)
        for group in wanted:
            for key, data in wanted[group].items():
                if key not in ("numbers", "mo_coeff"):
                    assert np.allclose(found[group][key][()], data[()], atol=atol), (group, key)
                    compared += 1
            energies = [one[group].attrs.get("energy", 0.0) for one in (found, wanted)]
            assert energies[0] == pytest.approx(energies[1], abs=atol)
    assert compared > 0


CONFIG = """
[method]
basis = "sto-3g"
grid_level = 0
[model]
size = "tiny"
inputs = "{inputs}"
dtype = "{dtype}"
[data]
train = ["{file}"]
{labels}
[training]
steps = {steps}
calibration = 0
loss = "{loss}"
{more}
"""


def train(file, device, folder, *words, steps=2, **settings):
    """``train`` of a tiny network, for a few steps."""
    settings = {
        "inputs": "physics", "dtype": "float32", "loss": "auto", "labels": "", "more": "",
    } | settings  # fmt: skip
    path = Path(f"{device}_{steps}.toml")
    path.write_text(CONFIG.format(file=file, steps=steps, **settings))
    words = ("train", str(path), "-o", str(folder), "--device", device, "--threads", "1", *words)
    with computing(device):
        assert entry_point([*words]) in (0, 1)  # so few steps need not converge


def fit(file, **settings):
    """The run on the device and that on the CPU."""
    for device in ("cuda", "cpu"):
        train(file, device, f"{device}_run", **settings)
    return "cuda_run", "cpu_run"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps, made on the CPU."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "frames.xyz").write_text(FRAMES)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("deeph_zero.cli.fit.report_run", lambda *_: None)
        train("frames.xyz", "cpu", folder / "run")
    return folder / "run"


@pytest.mark.parametrize("loss", LOSSES)
def test_fit_with_every_loss(loss):
    runs = fit("frames.xyz", loss=loss, more=LOSSES[loss])
    compare([f"{one}/predictions.h5" for one in runs], 2e-5)


@pytest.mark.parametrize("inputs", ["physics", "geometry"])
def test_fit_of_an_open_shell(inputs):
    runs = fit("cation.xyz", inputs=inputs)
    compare([f"{one}/predictions.h5" for one in runs], 2e-5)


def test_fit_to_labels():
    words = ("-o", "labels.h5", "--device", "cpu", "--threads", "1")
    assert entry_point(["label", "frames.xyz", *METHOD, *words]) == 0
    labels = 'labels = ["labels.h5"]'
    # first steps of Adam are as long for weights whose gradient is rounding alone
    settings = {"inputs": "geometry", "dtype": "float64"}
    runs = fit("frames.xyz", loss="supervised", labels=labels, **settings)
    compare([f"{one}/predictions.h5" for one in runs], 2e-5)


def test_a_run_goes_on_where_it_was_left():
    runs = fit("frames.xyz")
    for device, one in zip(("cuda", "cpu"), runs, strict=True):
        train("frames.xyz", device, one, "--resume", steps=3)
    compare([f"{one}/predictions.h5" for one in runs], 2e-5)


@pytest.mark.parametrize("words", [(), ("--no-certificate",), ("--refine", "1e-5", "--forces")])
def test_predict(run, words):
    compare(both("predict", str(run), "frames.xyz", *words, out="p.h5"), 1e-5)


def test_label(tmp_path):
    (tmp_path / "both.xyz").write_text(FRAMES + CATION)
    compare(both("label", "both.xyz", *METHOD, out="labels.h5"), 1e-6)


def test_evaluate(run):
    labels = both("label", "frames.xyz", *METHOD, out="labels.h5")
    tables = both("evaluate", str(run), labels[1], out="table.json")
    found, wanted = (json.loads(Path(one).read_text()) for one in tables)
    assert wanted["errors"]["fock"]["mae"]["max"] > 1e-6
    for name in ("energy_error", "dipole_error", "fock", "rebuilt"):
        assert_near(found["errors"][name], wanted["errors"][name])
    assert found["errors"]["scf"] == wanted["errors"]["scf"]
    for one, other in zip(found["structures"], wanted["structures"], strict=True):
        assert one["energy"] == pytest.approx(other["energy"], abs=1e-8)
        for name in ("fock_builds", "coarse_builds", "frame", "scf"):
            assert one[name] == other[name]


def assert_near(found, wanted):
    """Nested numbers of two tables."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            assert_near(found[name], value)
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, abs=1e-6)
    else:
        assert found == wanted


def test_calculator(run):
    energies = []
    for device in ("cuda", "cpu"):
        atoms = ase.Atoms("FH", [[0, 0, 0], [0.1, 0.2, 0.9]])
        with computing(device):
            atoms.calc = dz.ase.DeepHZero(dz.load(run, device=device))
            energies.append(atoms.get_potential_energy() / ase.units.Hartree)
        assert np.abs(atoms.get_forces()).max() > 0
    assert energies[0] == pytest.approx(energies[1], abs=1e-6)


def test_processes_load_onto_the_device_themselves(run):
    """What a worker is sent has no model."""
    molecule = Molecule(numbers=np.array([9, 1]), coords=np.array([[0, 0, 0], [0.2, 0.3, 1.7]]))
    runtime = {"device": "cuda", "threads": 1}
    predicted = _PredictJob(str(run), PredictConfig.parse({"runtime": runtime}), Path("p.h5"), True)
    labelled = _LabelJob(
        LabelConfig.parse({"runtime": runtime, "model": str(run), "method": STATED})
    )
    compared = _EvaluateJob(str(run), (), EvaluateConfig.parse({"runtime": runtime}))
    for job in (predicted, labelled, compared):
        with computing("cuda"):
            assert job.start(1)(0, molecule, str).fock_builds > 0


def test_guess_and_filled_mean_field(run):
    from pyscf import dft, gto

    mol = gto.M(atom="F 0 0 0; H .1 .2 .9", basis="sto-3g", verbose=0)
    found = []
    for device in ("cuda", "cpu"):
        model = dz.load(run, device=device)
        mf = dft.RKS(mol, xc="pbe").density_fit()
        mf.grids.level = 0
        with computing(device):
            found.append(torch.as_tensor(np.asarray(model.guess(mf))))
            found.append(torch.as_tensor(np.asarray(model.as_scf(mf).mo_energy)))
    torch.testing.assert_close(found[0], found[2], atol=1e-6, rtol=0)
    torch.testing.assert_close(found[1], found[3], atol=1e-6, rtol=0)


def test_the_log_says_where_automatic_choice_computes(caplog):
    with caplog.at_level(logging.INFO, logger="deeph_zero"):
        assert resolve_device("auto").type == "cuda"
    assert "device cpu keeps to the processor" in caplog.text or "device='cpu'" in caplog.text
    assert torch.cuda.get_device_name(0) in caplog.text


def test_doctor_compares_the_device_with_the_processor(monkeypatch):
    for name in ("fock_deviation", "derivative_deviation", "rotation_deviation"):
        monkeypatch.setattr(selfcheck, name, lambda: 0.0)  # they are the processor's
    checks = selfcheck.run_checks("cuda")
    assert [check.name for check in checks if "cuda" in check.name] == [c.name for c in checks[3:]]
    assert len(checks) == 5
    assert {one.data.ovlp.device.type for one in selfcheck._layers("cuda")} == {"cuda"}
    assert all(check.passed for check in checks)
    assert len(selfcheck.run_checks("cpu")) == 3
    monkeypatch.setattr(selfcheck, "device_deviation", lambda _: 1e-3)
    bad = selfcheck.run_checks("cuda")[3]
    assert not bad.passed
    assert "driver" in bad.cure


def test_doctor_says_why_it_did_not_count(monkeypatch, capsys):
    monkeypatch.setattr(selfcheck, "run_checks", lambda _: [])
    for fails, said in ((True, "RuntimeError: CUPTI"), (False, "launches")):

        def counted(_, fails=fails):
            if fails:
                raise RuntimeError("CUPTI\nis missing")
            return {"launches": 7}

        monkeypatch.setattr(selfcheck, "kernels", counted)
        assert entry_point(["doctor", "--device", "cuda"]) == 0
        assert said in capsys.readouterr().out
