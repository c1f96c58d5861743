"""What an SCF is asked for and gives: derived numbers, and defaults that are PySCF's."""

import dataclasses

import pytest
import torch
from pyscf import scf

from deeph_zero.ks.scf.result import SCFResult, SCFSettings

ZERO = torch.zeros(1, 2, 2, dtype=torch.float64)
NUMBERS = {
    "energy": -1.5, "converged": True, "iterations": 4, "fock_builds": 5, "gradient_norm": 1e-6,
    "degenerate": False, "fock": ZERO, "dm": ZERO, "mo_energy": ZERO[:, 0], "mo_coeff": ZERO,
    "mo_occ": ZERO[:, 0],
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "wanted"),
    [({}, 1e-9**0.5), ({"conv_tol": 1e-8}, 1e-4), ({"conv_tol_grad": 3e-6}, 3e-6),
     ({"conv_tol": 1e-4, "conv_tol_grad": 0.0}, 0.0)],
    ids=str,
)  # fmt: skip
def test_the_gradient_asked_for(given, wanted):
    assert SCFSettings(**given).gradient_tolerance == pytest.approx(wanted, rel=1e-12)


def test_names_and_defaults_are_pyscfs():
    settings = SCFSettings()
    for name in ("conv_tol", "conv_tol_grad", "diis_space", "diis_start_cycle", "init_guess"):
        own = name.removesuffix("_cycle")
        assert getattr(settings, own) == getattr(scf.hf.SCF, name)
    assert settings.damp == scf.hf.SCF.damp == 0
    assert (settings.level_shift, settings.degeneracy_tol) == (0.0, 0.0)


def test_the_free_energy_is_what_smearing_minimises():
    plain = SCFResult(**NUMBERS)
    assert plain.free_energy == plain.energy == -1.5
    assert dataclasses.replace(plain, entropy_energy=0.25).free_energy == -1.75


def test_results_and_settings_do_not_change():
    for one, name in ((SCFSettings(), "conv_tol"), (SCFResult(**NUMBERS), "energy")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(one, name, 1.0)
