"""Labels of a batch of molecules are PySCF's converged results."""

import json

import h5py
import numpy as np
import pytest

from deeph_zero.errors import ComputationError
from deeph_zero.jobs import unconverged
from deeph_zero.jobs.label import run_label
from deeph_zero.molecule import Molecule
from deeph_zero.settings.config import LabelConfig
from deeph_zero.testing import Listener

from .small import CONFIG, RUNTIME, SUMMARY_KEYS, hydroxyl, scf, water


def _label(molecules, out, failed=(), reporter=None, **settings):
    config = LabelConfig.parse({"runtime": RUNTIME, "method": CONFIG.model_dump()} | settings)
    return run_label(
        config, molecules, list(failed), out, reporter=reporter or Listener(), command="l x"
    )


def test_labels_are_pyscfs_converged_results(tmp_path):
    molecules = [water(0), hydroxyl(1)]
    result = _label(molecules, tmp_path / "labels.h5", conv_tol=1e-11)
    assert list(result) == SUMMARY_KEYS
    assert result == json.loads((tmp_path / "labels.json").read_text())
    assert result["converged"] is True
    with h5py.File(tmp_path / "labels.h5") as file:
        groups = list(file.values())
        for molecule, entry, group in zip(molecules, result["structures"], groups, strict=True):
            mf = scf(molecule)
            assert entry["converged"] is True
            assert group.attrs["converged"]
            assert abs(entry["energy"] - mf.e_tot) < 1e-9
            assert abs(group.attrs["energy"] - mf.e_tot) < 1e-9
            assert 0 <= entry["energy_error_estimate"] < 1e-9
            assert entry["orbital_gradient_rms"] < 1e-5
            assert entry["residual_mae"] is None
            np.testing.assert_allclose(group["fock"][:], mf.get_fock(), atol=1e-5)
            np.testing.assert_allclose(
                group["fock"][:], mf.get_fock(dm=group["density"][:]), atol=1e-9
            )
            np.testing.assert_allclose(group["mo_energy"][:], mf.mo_energy, atol=1e-5)
            homo = [
                e[n - 1] for e, n in zip(np.atleast_2d(mf.mo_energy), mf.mol.nelec, strict=False)
            ]
            np.testing.assert_allclose(np.atleast_1d(entry["homo"]), homo, atol=1e-5)
    assert 0.75 <= result["structures"][1]["spin_square"] < 0.76
    assert "spin_square" not in result["structures"][0]


def test_an_scf_that_does_not_converge_is_a_result_marked_as_such(tmp_path):
    reporter = Listener()
    result = _label([water()], tmp_path / "labels.h5", reporter=reporter, max_cycle=1)
    entry = result["structures"][0]
    assert result["converged"] is False
    assert entry["converged"] is False
    assert result["failed"] == []
    assert entry["energy"] > scf(water()).e_tot + 1e-7
    assert entry["energy_error_estimate"] > 0
    assert reporter.warnings[0].startswith(
        "w.xyz frame 0: SCF not converged after 1 cycles: orbital gradient "
    )
    assert reporter.warnings[0].endswith(" Eh; use a larger max_cycle")
    with h5py.File(tmp_path / "labels.h5") as file:
        assert not file["0000"].attrs["converged"]


def test_a_small_gap_is_no_matter_of_cycles(tmp_path, monkeypatch):
    """Advice by how the SCF ended, in words of its settings."""
    monkeypatch.setattr(unconverged, "FEW", 1)
    monkeypatch.setattr(unconverged, "SMALL_GAP", 10.0)
    reporter = Listener()
    _label([water()], tmp_path / "a.h5", reporter=reporter, max_cycle=1)
    assert reporter.warnings[0].endswith("; use smearing=0.01 or level_shift=0.3")
    _label([water()], tmp_path / "b.h5", reporter=reporter, max_cycle=1, level_shift=0.1)
    assert reporter.warnings[1].endswith("; use smearing=0.01")
    _label([water()], tmp_path / "c.h5", reporter=reporter, max_cycle=1, smearing=0.01)
    assert reporter.warnings[2].endswith("; use level_shift=0.3 or a wider smearing")


def test_labels_go_past_a_bad_structure(tmp_path):
    odd = Molecule(numbers=np.array([8, 1]), coords=hydroxyl().coords, file="odd.xyz")
    result = _label([odd, water(1)], tmp_path / "labels.h5")
    assert [entry["file"] for entry in result["failed"]] == ["odd.xyz"]
    assert result["n_structures"] == 1


def test_a_disk_that_refuses_ends_the_batch_with_one_line(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(h5py.Group, "create_dataset", full)
    with pytest.raises(ComputationError, match="No space left on device"):
        _label([water()], tmp_path / "labels.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["labels.h5.part"]  # to go on with


def test_fractions_that_were_asked_for_are_not_warned_of(tmp_path):
    told, coords = Listener(), np.array([[0, 0, 0], [0.3, 0.4, 2.2]])
    oxygen = Molecule(numbers=np.array([8, 8]), coords=coords, file="o2.xyz")
    result = _label([oxygen], tmp_path / "smeared.h5", reporter=told, smearing=0.02)
    assert result["structures"][0]["degenerate"] is True
    assert not [line for line in told.warnings if "is degenerate" in line]
