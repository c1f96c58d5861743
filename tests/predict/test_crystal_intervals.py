"""Intervals of a crystal: what lies in them, how they grow, and what they promise nothing for."""

import dataclasses

import numpy as np
import pytest
import torch

from deeph_zero.errors import InputError
from deeph_zero.integrals.periodic.cell import build_cell
from deeph_zero.method import CrystalMethod, Method
from deeph_zero.molecule import Molecule
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.predict.crystal import predict_crystal
from deeph_zero.predict.crystal_intervals import (
    MANY,
    STATED,
    crystal_intervals,
    crystal_outside,
    crystal_sample,
    with_crystal_intervals,
)
from deeph_zero.predict.crystal_record import CrystalState, crystal_prediction_entry
from deeph_zero.predict.intervals import Calibration, calibrated
from deeph_zero.prepared.crystal import crystal_layout, prepare_structure

MOLECULE = Molecule(
    numbers=np.array([1, 1]),
    coords=np.array([[0.1, 0, 0.2], [1.2, 0.7, 0.9]]),
    lattice=np.array([[4.0, 0, 0], [0, 5.2, 0], [0, 0.1, 5.5]]),
    pbc=(True, True, True),
)
METHOD = Method(
    xc="lda,vwn",
    basis="gth-szv",
    crystal=CrystalMethod(pseudo="gth-lda", kmesh=(2, 1, 1), ke_cutoff=15.0),
)


@pytest.fixture(scope="module")
def found():
    """A refined prediction of a network that is some mEh off."""
    layout = crystal_layout(build_cell(MOLECULE, METHOD))
    ready = prepare_structure(MOLECULE, METHOD, layout, cutoff=7.0, dtype=torch.float64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        spec = default_spec(layout, "tiny", cutoff=7.0, balanced=False)
        network = FockNetwork(spec).double().eval()
        for weights in network.node_out.weights:
            torch.nn.init.normal_(weights, std=0.02)
    return predict_crystal(network, ready, MOLECULE, METHOD, refine=1e-7)


@pytest.fixture(scope="module")
def calibration(found):
    return calibrated([crystal_sample(found)] * 19, unlike=False)


def test_errors_are_those_of_the_statements(found):
    sample, end = crystal_sample(found), found.refined
    assert (sample.atoms, sample.state) == (2, (0, 0))
    assert sample.energy_error == found.certificate.energy_error_estimate / 2
    entry = crystal_prediction_entry(found)
    left = entry["energy_estimate"] - end.free_energy
    assert sample.errors["energy"] == pytest.approx(-left / 2, rel=1e-9)
    assert abs(left) < 0.3 * (entry["energy"] - end.energy)
    exact = CrystalState.of_result(end)
    assert sample.errors["homo"] == pytest.approx(abs(entry["homo"] - exact.frontier[0]))
    assert sample.errors["fermi"] == pytest.approx(abs(entry["fermi"] - exact.fermi_level))
    assert 0 < max(sample.errors[name] for name in ("homo", "lumo")) <= sample.errors["levels"]
    # the network's own bands are further off than those of F[P(H)]
    exact_bands = end.mo_energy
    change = found.ks.bands(found.fock).mo_energy - exact_bands
    middle = (change * found.ks.data.weights[:, None]).sum(1).mean()
    assert sample.errors["bands"] == pytest.approx(float((change - middle).abs().max()))
    assert sample.errors["bands"] > 3 * sample.errors["levels"]


def test_a_crystal_of_the_calibration_lies_on_the_edge_of_its_intervals(found, calibration):
    made = crystal_intervals(found, calibration)
    assert list(made) == ["energy", *STATED, *MANY]
    end = CrystalState.of_result(found.refined)
    values = dict(zip(STATED, (*end.frontier, end.gap, end.fermi_level), strict=True))
    for name, value in ({"energy": found.refined.energy} | values).items():
        low, high = made[name]
        assert low - 1e-10 <= value <= high + 1e-10, name
        assert min(value - low, high - value) < 2e-7 + 1e-3 * (high - low), name
    assert made["energy"][1] <= found.energy
    assert made["bands"][1] == pytest.approx(crystal_sample(found).errors["bands"], abs=1e-6)
    assert made["bands"][0] == -made["bands"][1]


def test_energies_grow_with_the_cell_and_levels_do_not(found, calibration):
    """Twice the atoms and twice the error are the same crystal."""
    twice = dataclasses.replace(
        MOLECULE, numbers=np.ones(4, dtype=int), coords=np.tile(MOLECULE.coords, (2, 1))
    )
    c = found.certificate
    double = dataclasses.replace(c, energy_error_estimate=2 * c.energy_error_estimate)
    larger = dataclasses.replace(found, molecule=twice, certificate=double)
    one, two = (crystal_intervals(f, calibration) for f in (found, larger))
    assert two["levels"] == pytest.approx(one["levels"], rel=1e-12)
    below = [
        crystal_prediction_entry(f)["energy_estimate"] - made["energy"][0]
        for f, made in ((found, one), (larger, two))
    ]
    assert below[1] == pytest.approx(2 * below[0], rel=1e-6)
    assert crystal_outside(larger, calibration, 0.0) == [
        "4 atoms in the cell, 2 in the calibration"
    ]


def test_smeared_crystals_have_an_interval_of_the_free_energy(found, calibration):
    smeared = dataclasses.replace(found, method=dataclasses.replace(METHOD, smearing=0.01))
    made = crystal_intervals(smeared, calibration)
    assert "energy" not in made
    assert made["free_energy"] == crystal_intervals(found, calibration)["energy"]
    (reason,) = crystal_outside(smeared, calibration, 0.0)
    assert reason == "smeared by 0.01 Eh, 0 in the calibration"
    assert crystal_outside(smeared, calibration, 0.01) == []


def test_what_is_outside_the_calibration_says_so(found, calibration):
    assert crystal_outside(found, calibration, 0.0) == []
    c = found.certificate
    wrong = dataclasses.replace(c, orbital_gradient_rms=5 * c.orbital_gradient_rms, doubts=("d",))
    far, doubt = crystal_outside(dataclasses.replace(found, certificate=wrong), calibration, 0.0)
    assert "5 times the largest of the calibration" in far
    assert doubt == "its error estimate is in doubt"
    # a charge per atom that was calibrated is one of every number of cells
    charged = dataclasses.replace(calibration, states=((1, 1),), atoms=8)
    ion = dataclasses.replace(MOLECULE, charge=2, spin=2)
    assert crystal_outside(dataclasses.replace(found, molecule=ion), charged, 0.0) == []
    (reason,) = crystal_outside(found, charged, 0.0)
    assert reason == "charge 0 and spin 0 of 2 atoms were not calibrated"


def test_without_a_coupled_certificate_there_are_none(found, calibration):
    cheap = dataclasses.replace(found.certificate, coupled=False)
    for certificate in (None, cheap):
        bare = dataclasses.replace(found, certificate=certificate)
        assert with_crystal_intervals(bare, calibration, 0.0).intervals is None
        with pytest.raises(InputError, match="a coupled certificate to calibrate with"):
            crystal_sample(bare)
    with pytest.raises(InputError, match="a converged refinement"):
        crystal_sample(dataclasses.replace(found, refined=None))
    assert with_crystal_intervals(found, None, 0.0) is found


def test_a_calibration_survives_json_and_reaches_the_record(found, calibration):
    stored = calibration.to_dict()
    assert stored["atoms"] == 2
    assert Calibration.from_dict(stored) == calibration
    doubtful = dataclasses.replace(calibration, states=((1, 1),))
    entry = crystal_prediction_entry(with_crystal_intervals(found, doubtful, 0.0))
    assert entry["intervals"] == crystal_intervals(found, calibration)
    assert len(entry["out_of_distribution"]) == 1
