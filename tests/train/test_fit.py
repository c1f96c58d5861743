"""What `fit` promises when nothing goes wrong, and with geometries and gradients that do."""

import csv
import dataclasses
import json
import math

import h5py
import numpy as np
import pytest
import torch
from pyscf import dft, gto

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host.reporting import SilentReporter
from deeph_zero.model import load
from deeph_zero.molecule import Molecule
from deeph_zero.settings.config import FitConfig
from deeph_zero.testing import Listener
from deeph_zero.train import prepare
from deeph_zero.train.fit import run_fit
from deeph_zero.train.sampling import displaced
from deeph_zero.units import BOHR_IN_ANGSTROM

TINY = {"basis": "sto-3g", "grid_level": 0}
SUMMARY_KEYS = {
    "version", "format_version", "command", "xc", "basis", "auxbasis", "grid_level", "density_fit",
    "charge", "spin", "seed", "threads", "device", "n_structures", "converged", "stopped_by",
    "wall_time_s", "fock_builds", "coarse_builds", "structures",
}  # fmt: skip
EXTRA_KEYS = {
    "failed", "loss", "skipped_steps", "limits", "calibrated", "not_calibrated", "against_base",
}  # fmt: skip
ENTRY_KEYS = {
    "file", "frame", "charge", "spin", "energy", "energy_error_estimate", "energy_estimate",
    "orbital_gradient_rms", "residual_mae", "homo", "lumo", "gap", "dipole", "n_electrons",
    "converged",
    "mulliken_charges", "lowdin_charges", "residual_blocks",
}  # fmt: skip
DATASETS = {
    "numbers", "positions", "overlap", "fock", "fock_rebuilt", "density", "mo_energy", "mo_occ",
    "mulliken_charges", "lowdin_charges", "bond_orders",
}  # fmt: skip


def water(shift=0.0, frame=0):
    coords = np.array([[0, 0, 0.2], [0, 1.43 + shift, 1.1], [0.1, -1.4, 1.15]])
    return Molecule(numbers=np.array([8, 1, 1]), coords=coords, file="w.xyz", frame=frame)


def hydroxyl():
    """Along z: the grid is as symmetric as the molecule."""
    coords = np.array([[0, 0, 0], [0, 0, 1.84]])
    return Molecule(numbers=np.array([8, 1]), coords=coords, spin=1, file="oh.xyz")


def settings(method=None, **values):
    runtime = {"device": "cpu", "threads": 1} | values.pop("runtime", {})
    return FitConfig.parse(values | {"method": TINY | (method or {}), "runtime": runtime})


@pytest.fixture
def fit(tmp_path):
    """Fit in this process, where shapes are checked as it runs."""

    def run(molecules, *, out="run", failed=(), reporter=None, method=None, **values):
        folder = tmp_path / out
        folder.mkdir(exist_ok=True)
        result = run_fit(
            settings(method, **values),
            molecules,
            list(failed),
            folder,
            resume=False,
            reporter=reporter or SilentReporter(),
            command="deeph-zero fit w.xyz",
        )
        assert json.loads((folder / "summary.json").read_text()) == json.loads(json.dumps(result))
        return result

    return run


def pyscf_energy(molecule, method, *, unrestricted=False, dm0=None):
    method = TINY | method
    atoms = list(zip(molecule.numbers.tolist(), molecule.coords.tolist(), strict=True))
    mol = gto.M(
        atom=atoms, unit="bohr", basis=method["basis"], charge=molecule.charge,
        spin=molecule.spin, verbose=0,
    )  # fmt: skip
    kind = dft.UKS if unrestricted or molecule.spin else dft.RKS
    mf = kind(mol, xc=method.get("xc", "pbe")).density_fit()
    mf.grids.level = method["grid_level"]
    mf.conv_tol = 1e-10
    mf.kernel(dm0=None if dm0 is None else dm0(mol))
    assert mf.converged
    return mf.e_tot


def upright():
    """Unequal bonds in the yz plane, a mirror of the grid too.

    A network of elements and positions is as symmetric as the molecule; in any other plane the
    coarse grid's F is not, by 1e-5 Eh.
    """
    coords = np.array([[0, 0, 0.2], [0, 1.43, 1.1], [0, -1.4, 1.15]])
    return Molecule(numbers=np.array([8, 1, 1]), coords=coords, file="w.xyz")


@pytest.mark.parametrize("molecule", [upright(), hydroxyl()], ids=["closed", "open"])
def test_geometry_inputs_solve_a_molecule_too(fit, molecule, tmp_path):
    """A degenerate radical is filled evenly: only the closed shell has PySCF's energy."""
    summary = fit([molecule], model={"inputs": "geometry"})
    (entry,) = summary["structures"]
    assert summary["converged"] is True
    assert entry["orbital_gradient_rms"] < 1e-5
    if molecule.spin == 0:
        assert entry["energy"] == pytest.approx(pyscf_energy(molecule, {}), abs=1e-6)
    model = load(tmp_path / "run")
    assert model.network.spec.inputs == "geometry"
    result = model.predict(molecule, certificate=False)
    assert result.fock_builds == 0
    with h5py.File(tmp_path / "run" / "predictions.h5") as file:
        # float32 network: sums of other orders
        np.testing.assert_allclose(result.fock, file["0000/fock"], rtol=0, atol=1e-5)


def test_symmetry_cannot_break_with_geometry_inputs():
    with pytest.raises(InputError, match="expected --inputs physics"):
        settings(method={"break_symmetry": True}, model={"inputs": "geometry"})


def metrics(run):
    with (run / "metrics.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize(
    ("molecule", "method"),
    [
        (water(), {}),
        (water(), {"basis": "def2-svp"}),
        (water(), {"xc": "pbe0"}),
        (water(), {"unrestricted": True}),
        (dataclasses.replace(water(), charge=1, spin=1), {}),
    ],
    ids=["rks", "def2-svp", "hybrid", "unrestricted", "cation"],
)
@pytest.mark.slow
def test_one_frame_ends_at_pyscfs_energy(fit, molecule, method):
    result = fit([molecule], method=method)
    entry = result["structures"][0]
    plain = {k: v for k, v in method.items() if k != "unrestricted"}
    expected = pyscf_energy(molecule, plain, unrestricted="unrestricted" in method)
    assert result["converged"]
    assert result["stopped_by"] == "converged"
    assert entry["energy"] == pytest.approx(expected, abs=1e-6)
    assert entry["energy_error_estimate"] >= 0
    assert entry["energy_estimate"] == entry["energy"] - entry["energy_error_estimate"]
    spin = molecule.spin != 0 or "unrestricted" in method
    assert ("spin_square" in entry) is spin
    assert isinstance(entry["homo"], list) is spin


def test_the_run_folder_holds_what_is_promised(fit, tmp_path):
    bad = {"file": "w.xyz", "frame": 7, "error": "expected elements, got Xx"}
    method = {"charge": 0}
    result = fit(
        [water(), water(0.1, 1)], method=method, failed=[bad], steps=3, conv_tol_grad=1e-12
    )
    run = tmp_path / "run"
    assert set(result) == SUMMARY_KEYS | EXTRA_KEYS
    assert all(set(entry) == ENTRY_KEYS for entry in result["structures"])
    assert [entry["frame"] for entry in result["structures"]] == [0, 1]
    assert result["failed"] == [bad]
    assert (result["stopped_by"], result["converged"]) == ("steps", False)
    assert result["auxbasis"] not in (None, "")
    assert result["skipped_steps"] == 0
    # curves for TensorBoard only where it is installed, see test_curves.py
    names = {p.name for p in run.iterdir()} - {"tensorboard"}
    assert names == {
        "model.safetensors", "model.json", "summary.json", "metrics.csv", "predictions.h5",
        "checkpoints", "config.json", "config.toml",
    }  # fmt: skip
    rows = metrics(run)
    assert int(rows[-1]["step"]) == 3
    assert all(math.isfinite(float(row["loss"])) for row in rows)
    assert load(run).elements == (1, 8)
    with h5py.File(run / "predictions.h5") as file:
        assert list(file) == ["0000", "0001"]
        group, entry = file["0001"], result["structures"][1]
        assert set(group) == DATASETS
        assert {k: group.attrs[k] for k in ("charge", "spin", "xc", "basis", "ao_order")} == {
            "charge": 0, "spin": 0, "xc": "pbe", "basis": "sto-3g", "ao_order": "pyscf",
        }  # fmt: skip
        assert group.attrs["energy"] == entry["energy"]
        np.testing.assert_allclose(group["positions"][:], water(0.1).coords)
        assert {group[name].shape for name in ("fock", "density", "overlap")} == {(7, 7)}
        occ, energy = group["mo_occ"][:], group["mo_energy"][:]
        assert energy[occ > 1].max() == entry["homo"]
        electrons = np.einsum("ij,ji->", group["density"][:], group["overlap"][:])
        assert electrons == pytest.approx(10, abs=1e-9)


@pytest.mark.parametrize(
    "loss",
    [
        "energy",
        "self-consistency",
        "commutator",
        "fixed-point",
        "fixed-point@0-0.5,energy:0.1,self-consistency@0.5",
    ],
)
def test_every_loss_trains_with_finite_numbers(fit, tmp_path, loss):
    start = fit([water()], loss=loss, steps=1, out="short")["structures"][0]
    result = fit([water()], loss=loss, steps=40, conv_tol_grad=1e-12)
    entry = result["structures"][0]
    assert result["loss"] == loss
    assert result["skipped_steps"] == 0
    rows = metrics(tmp_path / "run")
    assert all(math.isfinite(float(v)) for row in rows for k, v in row.items() if v)
    assert entry["orbital_gradient_rms"] < start["orbital_gradient_rms"]


def test_the_same_seed_gives_the_same_weights_and_another_one_does_not(fit, tmp_path):
    weights = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        fit([water(), water(0.1, 1)], steps=5, runtime={"seed": seed}, out=name)
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_samples_are_trained_on_and_not_reported(fit):
    config = {"steps": 4, "samples": 3, "displace": 0.02}
    plain = fit([water()], steps=4, out="plain")
    result = fit([water()], **config)
    assert result["n_structures"] == 1
    assert result["fock_builds"] > 2 * plain["fock_builds"]
    copies = displaced([water(), water(0.1, 1)], settings(**config), (0,))
    assert len(copies) == 6
    shifts = np.array([m.coords for m in copies[:3]]) - water().coords
    assert np.abs(shifts).min() > 0
    assert shifts.std() * BOHR_IN_ANGSTROM == pytest.approx(0.02, rel=0.5)
    again = displaced([water(), water(0.1, 1)], settings(**config), (0,))
    assert all((a.coords == b.coords).all() for a, b in zip(copies, again, strict=True))


def test_init_starts_from_a_model(fit, tmp_path):
    fit([water()], out="first", conv_tol_grad=1e-4)
    # another functional, no time to learn: what is known of PBE shows
    method, steps = {"xc": "lda,vwn"}, 1
    warm = fit([water()], init=str(tmp_path / "first"), steps=steps, method=method, out="warm")
    assert warm["structures"][0]["energy"] is not None
    weights = [load(tmp_path / name).network.state_dict() for name in ("first", "warm")]
    scales = [k for k, v in weights[0].items() if torch.equal(v, weights[1][k])]
    assert scales, "the scales of the first model are kept"
    with pytest.raises(InputError, match="for basis 'def2-svp'"):
        fit([water()], init=str(tmp_path / "first"), method={"basis": "def2-svp"}, out="other")
    assert list((tmp_path / "other").iterdir()) == []


def test_init_takes_a_new_element(fit, tmp_path):
    fit([water()], out="first", conv_tol_grad=1e-4)
    coords = np.array([[0, 0, 0], [0, 0.1, 2.3], [1.7, 0, -1.1], [-1.7, 0.2, -1.0]])
    formaldehyde = Molecule(numbers=np.array([6, 8, 1, 1]), coords=coords, file="h2co.xyz")
    summary = fit([formaldehyde], init=str(tmp_path / "first"), out="more")
    assert summary["converged"] is True
    (entry,) = summary["structures"]
    assert entry["energy"] == pytest.approx(pyscf_energy(formaldehyde, {}), abs=1e-6)
    assert load(tmp_path / "more").network.spec.elements == (1, 6, 8)


def test_room_for_a_larger_element_can_be_kept(fit, tmp_path):
    hydrogen_sulfide = Molecule(
        numbers=np.array([16, 1, 1]), coords=water().coords * 1.4, file="h2s.xyz"
    )
    for name, elements in (("narrow", []), ("wide", ["S"])):
        fit([water()], out=name, steps=1, model={"elements": elements})
    with pytest.raises(InputError, match=r"cannot take new elements: .*\[model\] elements"):
        fit([hydrogen_sulfide], init=str(tmp_path / "narrow"), out="refused")
    summary = fit([hydrogen_sulfide], init=str(tmp_path / "wide"), out="more")
    (entry,) = summary["structures"]
    assert entry["energy"] == pytest.approx(pyscf_energy(hydrogen_sulfide, {}), abs=1e-6)
    with pytest.raises(InputError, match=r"\[model\] elements: expected element symbols, got 'Su'"):
        fit([water()], out="typo", model={"elements": ["Su"]})


def test_a_frame_that_fails_in_preparation_stops_or_is_left_out(fit, tmp_path, monkeypatch):
    def fails_once(molecule, *args, **kwargs):
        if molecule.frame == 1:
            raise ComputationError("the integrals do not fit")
        return original(molecule, *args, **kwargs)

    original = prepare.make_problem
    monkeypatch.setattr(prepare, "make_problem", fails_once)
    frames = [water(0.1 * k, k) for k in range(3)]
    with pytest.raises(ComputationError, match="do not fit"):
        fit(frames, steps=2, out="strict")
    assert list((tmp_path / "strict").iterdir()) == []
    listener = Listener()
    result = fit(frames, steps=2, skip_bad=True, reporter=listener)
    assert [e["frame"] for e in result["structures"]] == [0, 2]
    assert [(f["frame"], f["error"]) for f in result["failed"]] == [(1, "the integrals do not fit")]
    assert any("left out" in text for text in listener.warnings)


@pytest.mark.slow
def test_a_degenerate_ground_state_is_said_and_symmetry_can_break(fit):
    listener = Listener()
    method = {"basis": "def2-svp", "grid_level": 1}
    even = fit([hydroxyl()], method=method, epochs=4, reporter=listener, out="even")
    assert even["structures"][0]["degenerate"] is True
    assert len([t for t in listener.warnings if "degenerate" in t and "break_symmetry" in t]) == 1
    broken_listener = Listener()
    broken = fit([hydroxyl()], method=method | {"break_symmetry": True}, reporter=broken_listener)
    assert broken_listener.warnings == []
    assert "degenerate" not in broken["structures"][0]
    expected = pyscf_energy(hydroxyl(), method, dm0=one_lobe)
    assert broken["structures"][0]["energy"] == pytest.approx(expected, abs=1e-6)
    # the evenly filled level lies 1.3 mEh above
    assert even["structures"][0]["energy"] > expected + 1e-3


def one_lobe(mol):
    """PySCF's guess with the beta hole in one p orbital, so that its SCF breaks the symmetry."""
    dm = np.array(dft.UKS(mol).get_init_guess())
    index = mol.search_ao_label("O 2px")
    dm[1][np.ix_(index, index)] *= 0.1
    return dm


def test_frames_that_all_fail_in_the_certificates_are_an_error(fit, monkeypatch):
    from deeph_zero.train import finish

    def broken(*_):
        raise ComputationError("expected a finite density")

    monkeypatch.setattr(finish, "_certify", broken)
    with pytest.raises(ComputationError, match="every structure failed"):
        fit([water()], steps=1)


def test_supervised_without_labels_is_refused_at_once(fit, tmp_path):
    with pytest.raises(InputError, match="expected a label"):
        fit([water()], loss="supervised")
    assert list((tmp_path / "run").iterdir()) == []
