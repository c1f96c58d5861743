"""The options of ``label`` that steer the SCF: start, smearing, level shift, stability."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from pyscf import dft, gto

from deeph_zero.cli.main import entry_point
from deeph_zero.errors import InputError
from deeph_zero.integrals.guess import density_guess

WATER = "3\n\nO 0 0 0.1\nH 0 0.76 0.58\nH 0.05 -0.74 0.61\n"
TINY = ("--basis", "sto-3g", "--grid-level", "0", "--threads", "1", "--device", "cpu")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    (tmp_path / "water.xyz").write_text(WATER)
    (tmp_path / "oh.xyz").write_text("2\nspin=1\nO 0 0 0\nH 0.1 0 0.97\n")
    (tmp_path / "o2.xyz").write_text("2\n\nO 0 0 0\nO 0.1 0 1.3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def label(name, *options):
    assert entry_point(["label", f"{name}.xyz", *TINY, *options, "-o", "x.h5", "--overwrite"]) == 0
    summary = json.loads(Path("x.json").read_text())
    return summary["structures"][0] | {"builds": summary["fock_builds"]}


def test_every_guess_ends_at_the_same_energy_after_another_number_of_builds():
    found = {guess: label("water", "--init-guess", guess) for guess in GUESSES}
    energies = [one["energy"] for one in found.values()]
    assert np.ptp(energies) < 1e-8
    assert len({one["builds"] for one in found.values()}) > 1


GUESSES = ("minao", "atom", "huckel", "core")


@pytest.mark.parametrize("recipe", GUESSES)
@pytest.mark.parametrize("spin", [0, 1])
def test_a_guess_has_the_right_electrons(recipe, spin):
    atom = WATER.split("\n\n")[1].replace("\n", ";") if spin == 0 else "O 0 0 0; H .1 0 .97"
    mol = gto.M(atom=atom, basis="6-31g", spin=spin, verbose=0)
    dm = density_guess(mol, unrestricted=spin > 0, recipe=recipe).numpy()
    electrons = np.einsum("...mn,nm->...", dm, mol.intor("int1e_ovlp"))
    np.testing.assert_allclose(electrons, mol.nelec if spin else mol.nelectron, atol=1e-10)


def test_an_unknown_guess_is_refused(capfd):
    mol = gto.M(atom="He", basis="sto-3g", verbose=0)
    with pytest.raises(InputError, match="one of minao, atom, huckel, core"):
        density_guess(mol, recipe="minoa")
    assert entry_point(["label", "water.xyz", "--init-guess", "minoa"]) == 2
    assert "did you mean minao?" in capfd.readouterr().err


@pytest.mark.reference
def test_smearing_gives_pyscfs_free_energy():
    record = label("oh", "--smearing", "0.02", "--conv-tol", "1e-11")
    mol = gto.M(atom="O 0 0 0; H .1 0 .97", basis="sto-3g", spin=1, verbose=0)
    mf = dft.UKS(mol, xc="pbe").density_fit()
    mf.grids.level = 0
    mf = mf.smearing(sigma=0.02, method="fermi", fix_spin=True)
    mf.conv_tol = 1e-11
    mf.kernel()
    assert mf.converged
    assert record["free_energy"] == pytest.approx(mf.e_free, abs=1e-7)
    assert record["energy"] == pytest.approx(mf.e_tot, abs=1e-6)
    assert record["converged"]
    with h5py.File("x.h5") as file:
        group = file["0000"]
        assert group.attrs["free_energy"] == record["free_energy"]
        assert group.attrs["smearing"] == 0.02
        occ = group["mo_occ"][()]
    assert ((occ > 1e-3) & (occ < 0.999)).any()


def test_level_shift_changes_the_way_and_not_the_end():
    plain = label("water")
    shifted = label("water", "--level-shift", "0.5", "--max-cycle", "200")
    assert shifted["energy"] == pytest.approx(plain["energy"], abs=1e-8)
    assert shifted["builds"] > plain["builds"]


def test_stability_goes_down_from_a_saddle_point():
    """Singlet O2 with equal spins is a saddle of UKS; the way down needs the check."""
    options = ("--unrestricted",)
    saddle = label("o2", *options)
    lower = label("o2", *options, "--stability")
    assert lower["builds"] > saddle["builds"]
    assert lower["energy"] < saddle["energy"] - 1e-4
    assert lower["converged"]


def test_smearing_and_stability_exclude_each_other(capfd):
    assert entry_point(["label", "water.xyz", "--smearing", "0.01", "--stability"]) == 2
    assert "exclude each other" in capfd.readouterr().err


def test_labels_start_at_a_models_density_and_say_which_models_can(capfd):
    assert entry_point(["fit", "water.xyz", *TINY, "-o", "m"]) == 0
    plain = label("water")
    warm = label("water", "--model", "m", "--conv-tol-grad", "1e-6")
    assert warm["energy"] == pytest.approx(plain["energy"], abs=1e-9)
    assert warm["builds"] <= 3 < plain["builds"], (
        "F0 for the network, and one or two at its density"
    )
    capfd.readouterr()
    assert entry_point(["label", "water.xyz", "--model", "m", "-o", "y.h5"]) == 2
    assert "expected a model of --basis def2-svp, got one of sto-3g" in capfd.readouterr().err
    assert entry_point(["label", "oh.xyz", *TINY, "--model", "m", "-o", "z.h5"]) == 0


def test_summaries_count_builds_on_both_grids():
    options = ("--basis", "6-31g", "--grid-level", "3")
    for extra, coarse in (((), True), (("--one-grid",), False)):
        argv = ["label", "water.xyz", *options, *extra, "--threads", "1", "-o", "x.h5"]
        assert entry_point([*argv, "--overwrite"]) == 0
        summary = json.loads(Path("x.json").read_text())
        assert bool(summary["coarse_builds"]) == coarse
        assert (summary["fock_builds"] <= 3) == coarse
