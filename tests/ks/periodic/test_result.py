"""What a crystal's SCF is asked for: tolerances, and numbers that follow from others."""

import dataclasses

import pytest

from deeph_zero.ks.periodic.result import CrystalSCFSettings
from deeph_zero.ks.scf.result import SCFSettings


@pytest.mark.parametrize(
    ("given", "wanted"),
    [({}, 1e-9**0.5), ({"conv_tol": 1e-8}, 1e-4), ({"conv_tol_grad": 0.0}, 0.0)],
    ids=str,
)
def test_the_gradient_asked_for(given, wanted):
    assert CrystalSCFSettings(**given).gradient_tolerance == pytest.approx(wanted, rel=1e-12)


def test_settings_have_the_names_and_defaults_of_molecules():
    """Users may hand the same ones to either."""
    molecules = {f.name: f.default for f in dataclasses.fields(SCFSettings)}
    for field in dataclasses.fields(CrystalSCFSettings):
        assert molecules[field.name] == field.default


def test_energies_of_a_result(beside):
    _, done, *_ = beside
    assert done.free_energy == done.energy - done.entropy_energy
    assert sum(done.parts.values()) == pytest.approx(done.energy, abs=1e-10)
    assert done.fock_builds + done.coarse_builds >= done.iterations > 0
    assert done.n_electrons == pytest.approx(2, abs=0.05)
    assert done.build.fock is done.fock
