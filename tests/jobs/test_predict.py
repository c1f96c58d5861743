"""A batch of predictions: every key, the files, what is bad or stopped on the way."""

import json
import os
import signal

import h5py
import numpy as np
import pytest
import torch

from deeph_zero import __version__
from deeph_zero.errors import InputError
from deeph_zero.jobs.predict import run_predict
from deeph_zero.kohnsham import KohnSham
from deeph_zero.model import Model
from deeph_zero.model_files.folder import save_model
from deeph_zero.model_files.meta import model_meta
from deeph_zero.molecule import Molecule
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.prepared.molecule import basis_layout
from deeph_zero.settings.config import PredictConfig
from deeph_zero.testing import Listener

from .small import CONFIG, RUNTIME, SUMMARY_KEYS, hydroxyl, mole, scf, water

ENTRY_KEYS = [
    "file", "frame", "charge", "spin", "energy", "energy_error_estimate", "energy_estimate",
    "orbital_gradient_rms", "residual_mae", "homo", "lumo", "gap", "dipole", "n_electrons",
    "converged",
    "mulliken_charges", "lowdin_charges", "residual_blocks",
]  # fmt: skip


def _fluoride(frame=0):
    coords = np.array([[0, 0, 0], [0.2, 0.4, 1.77]])
    return Molecule(numbers=np.array([9, 1]), coords=coords, file="hf.xyz", frame=frame)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    mol = mole(water())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = FockNetwork(default_spec(basis_layout([mol]), "tiny"))
        for name, value in network.named_parameters():
            if "_out." in name:
                torch.nn.init.normal_(value, std=1e-3)
    info = KohnSham.from_pyscf(mol, auxbasis="weigend", grid_level=0).info
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, network, model_meta(CONFIG, info, network.spec))
    return folder


def _predict(run, molecules, out, failed=(), reporter=None, **settings):
    config = PredictConfig.parse({"runtime": RUNTIME} | settings)
    return run_predict(
        run, molecules, list(failed), out, config, reporter=reporter or Listener(), command="p x"
    )


def test_a_batch_has_every_key_and_agrees_with_the_model(run, tmp_path):
    molecules = [water(0), hydroxyl(1), water(2, 0.1)]
    result = _predict(run, iter(molecules), tmp_path / "out.h5")
    assert list(result) == SUMMARY_KEYS
    assert result == json.loads((tmp_path / "out.json").read_text())
    expected = {
        "version": __version__, "format_version": 1, "command": "p x", "xc": "pbe",
        "basis": "sto-3g", "grid_level": 0, "density_fit": True, "charge": 0, "spin": 0,
        "auxbasis": "weigend", "seed": 5, "threads": 1, "device": "cpu", "n_structures": 3,
        "converged": True, "stopped_by": None, "fock_builds": 9, "failed": [],
    }  # fmt: skip
    assert {key: result[key] for key in expected} == expected
    assert 0 < result["wall_time_s"] < float("inf")
    closed, open_, third = result["structures"]
    assert list(closed) == ENTRY_KEYS
    assert sorted(open_) == sorted([*ENTRY_KEYS, "spin_square", "spin_populations"])
    assert [len(open_[key]) for key in ("homo", "lumo", "gap")] == [2, 2, 2]
    assert 0.75 <= open_["spin_square"] < 0.8
    assert closed["energy"] != third["energy"]
    assert [entry["frame"] for entry in result["structures"]] == [0, 1, 2]
    assert closed["file"] == "w.xyz"
    assert closed["converged"] is None
    assert closed["energy_estimate"] == closed["energy"] - closed["energy_error_estimate"]
    assert abs(closed["gap"] - (closed["lumo"] - closed["homo"])) < 1e-15
    assert closed["energy"] > scf(molecules[0]).e_tot
    assert len(closed["dipole"]) == 3
    assert closed["energy_error_estimate"] > 0
    assert abs(closed["n_electrons"] - 10) < 0.05


def test_the_hdf5_file_holds_consistent_matrices(run, tmp_path):
    molecules = [water(), hydroxyl()]
    result = _predict(run, molecules, tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert list(file) == ["0000", "0001"]
        for molecule, group, entry in zip(
            molecules, file.values(), result["structures"], strict=True
        ):
            mf = scf(molecule)
            dm, rebuilt = group["density"][:], group["fock_rebuilt"][:]
            np.testing.assert_array_equal(group["numbers"][:], molecule.numbers)
            np.testing.assert_array_equal(group["positions"][:], molecule.coords)
            np.testing.assert_allclose(group["overlap"][:], mf.get_ovlp(), atol=1e-12)
            np.testing.assert_allclose(rebuilt, mf.get_fock(dm=dm), atol=1e-9)
            assert abs(group.attrs["energy"] - mf.energy_tot(dm)) < 1e-9
            assert group.attrs["energy"] == entry["energy"]
            energies, _ = mf.eig(group["fock"][:], mf.get_ovlp())
            assert np.abs(energies - group["mo_energy"][:]).max() > 1e-4  # those of H̃, not of H
            energies, _ = mf.eig(rebuilt, mf.get_ovlp())
            np.testing.assert_allclose(energies, group["mo_energy"][:], atol=1e-9)
            assert group["mo_occ"][:].sum() == molecule.numbers.sum()
            expected = {
                "ao_order": "pyscf", "xc": "pbe", "basis": "sto-3g", "auxbasis": "weigend",
                "charge": 0, "spin": molecule.spin, "file": molecule.file, "refined": False,
            }  # fmt: skip
            assert {key: group.attrs[key] for key in expected} == expected


def test_refining_adds_the_converged_answer(run, tmp_path):
    result = _predict(run, [water()], tmp_path / "out.h5", refine=1e-6)
    entry = result["structures"][0]
    mf = scf(water())
    assert entry["converged"] is True
    assert abs(entry["refined_energy"] - mf.e_tot) < 1e-8
    assert entry["energy"] > entry["refined_energy"] + 1e-6
    assert result["fock_builds"] == 3 + entry["refine_fock_builds"]
    with h5py.File(tmp_path / "out.h5") as file:
        group = file["0000"]
        assert group.attrs["energy"] == entry["refined_energy"]
        assert group.attrs["refined"]
        assert group.attrs["converged"]
        np.testing.assert_allclose(group["density"][:], mf.make_rdm1(), atol=1e-5)
        np.testing.assert_allclose(
            group["fock_rebuilt"][:], mf.get_fock(dm=group["density"][:]), atol=1e-9
        )
        assert np.abs(group["fock"][:] - group["fock_rebuilt"][:]).max() > 1e-4


def test_network_speed_leaves_null_what_was_not_computed(run, tmp_path):
    result = _predict(run, [hydroxyl()], tmp_path / "out.h5", certificate=False)
    entry = result["structures"][0]
    assert result["fock_builds"] == 1
    null = [key for key, value in entry.items() if value is None]
    there = ("file", "frame", "charge", "spin", "dipole", "mulliken_charges", "lowdin_charges")
    assert null == [k for k in ENTRY_KEYS if k not in there]
    with h5py.File(tmp_path / "out.h5") as file:
        assert "fock_rebuilt" not in file["0000"]
        assert "energy" not in file["0000"].attrs


def test_one_bad_structure_does_not_end_the_batch(run, tmp_path):
    reporter = Listener()
    unread = {"file": "bad.xyz", "frame": 3, "error": "expected 3 atoms, got 2"}
    odd = Molecule(numbers=np.array([8, 1]), coords=hydroxyl().coords, file="odd.xyz", frame=1)
    molecules = [_fluoride(0), odd, water(2)]
    result = _predict(run, molecules, tmp_path / "out.h5", [unread], reporter)
    assert result["n_structures"] == 1
    assert result["converged"] is False
    assert result["structures"][0]["frame"] == 2
    assert result["failed"][0] == unread
    first, second = result["failed"][1:]
    assert (first["file"], first["frame"]) == ("hf.xyz", 0)
    assert first["error"].startswith("expected elements the model was trained on (H, O), got F")
    assert (second["file"], second["frame"]) == ("odd.xyz", 1)
    assert "spin" in second["error"]
    assert not second["error"].startswith("odd.xyz")
    assert [w.split(":")[0] for w in reporter.warnings] == ["hf.xyz frame 0", "odd.xyz frame 1"]
    with h5py.File(tmp_path / "out.h5") as file:
        assert list(file) == ["0000"]


def test_an_unexpected_error_is_listed_with_its_first_line(run, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("CUDA out of memory\nlong story")

    monkeypatch.setattr(Model, "predict", broken)
    result = _predict(run, [water()], tmp_path / "out.h5")
    assert result["failed"] == [{"file": "w.xyz", "frame": 0, "error": "CUDA out of memory"}]


def test_a_model_that_cannot_be_read_leaves_nothing_behind(tmp_path):
    with pytest.raises(InputError, match="expected a model"):
        _predict(tmp_path / "none", [water()], tmp_path / "out.h5")
    assert list(tmp_path.iterdir()) == []


def test_the_same_seed_and_threads_give_the_same_file(run, tmp_path):
    results = [_predict(run, [water()], tmp_path / f"{k}.h5") for k in range(2)]
    assert results[0]["structures"] == results[1]["structures"]


def test_the_deadline_ends_between_structures_with_complete_files(run, tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("deeph_zero.host.runtime.now", lambda: clock[0])

    def molecules():
        yield water(0)
        while True:  # endless without a deadline
            clock[0] += 0.6
            yield water(1)

    result = _predict(run, molecules(), tmp_path / "out.h5", runtime=RUNTIME | {"max_time": 1.0})
    assert result["stopped_by"] == "max_time"
    assert result["converged"] is False
    with h5py.File(tmp_path / "out.h5") as file:
        assert len(file) == result["n_structures"] >= 1


def test_ctrl_c_finishes_the_structure_and_keeps_both_files(run, tmp_path):
    def molecules():
        yield water(0)
        os.kill(os.getpid(), signal.SIGINT)
        yield water(1)
        yield water(2)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        _predict(run, molecules(), tmp_path / "out.h5")
    assert signal.getsignal(signal.SIGINT) == before
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["stopped_by"] == "interrupt"
    assert result["n_structures"] == 1
    with h5py.File(tmp_path / "out.h5") as file:
        assert list(file) == ["0000"]


def test_a_second_ctrl_c_gives_up_the_structure_but_not_those_before(run, tmp_path, monkeypatch):
    predict = Model.predict

    def pressed_twice(self, molecule, **settings):
        if molecule.frame == 1:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return predict(self, molecule, **settings)

    monkeypatch.setattr(Model, "predict", pressed_twice)
    with pytest.raises(KeyboardInterrupt):
        _predict(run, [water(0), water(1), water(2)], tmp_path / "out.h5")
    result = json.loads((tmp_path / "out.json").read_text())
    assert (result["stopped_by"], result["n_structures"]) == ("interrupt", 1)
    assert result["failed"] == []
    with h5py.File(tmp_path / "out.h5") as file:
        assert list(file) == ["0000"]
