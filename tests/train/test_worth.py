"""A network beside its base: right second-order energies, and one line where it is worse."""

import dataclasses

import pytest
import torch
from pyscf import gto

from deeph_zero.host.reporting import SilentReporter
from deeph_zero.model import Model
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.reading import Reading
from deeph_zero.nn.spec import default_spec
from deeph_zero.prepared.molecule import basis_layout, build_mole
from deeph_zero.settings.config import MethodConfig
from deeph_zero.testing import distorted_waters
from deeph_zero.train.taught import make_problem
from deeph_zero.train.validation import converge
from deeph_zero.train.worth import Worth, compare, second_order, worth

METHOD = MethodConfig(basis="sto-3g", grid_level=0).as_method()
FRAMES = distorted_waters(2)
HYDROXYL = gto.M(atom="O 0 0 0; H 0.1 0.2 0.94", basis="sto-3g", spin=1, verbose=0)


class _Lines(SilentReporter):
    def __init__(self):
        super().__init__()
        self.lines = []

    def warning(self, text):
        self.lines.append(text)


@pytest.fixture
def network():
    layout = basis_layout([build_mole(m, basis=METHOD.basis) for m in FRAMES])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return FockNetwork(default_spec(layout, "tiny")).eval()


@pytest.fixture(scope="module")
def problems():
    layout = basis_layout([build_mole(m, basis=METHOD.basis) for m in FRAMES])
    found = [make_problem(m, METHOD, Reading(layout, cutoff=14.0, balanced=True)) for m in FRAMES]
    for problem in found:
        converge(problem)
    return found


def true_error(problem):
    """E[P(H₀)] above the converged energy, by two builds."""
    ks = problem.ks
    at = [ks.density(fock) for fock in (problem.fock0, problem.teacher.target)]
    return float(ks.build(at[0]).energy) - float(ks.build(at[1]).energy)


def test_errors_of_the_base_are_those_of_its_densities(network, problems):
    found = worth(network, [], problems, [])
    assert found is not None
    assert found.structures == "validation"
    assert found.own == pytest.approx(found.base, rel=1e-9), "untrained: H = H0"
    assert not found.worse
    for problem, error in zip(problems, found.base, strict=True):
        wanted = true_error(problem)
        assert wanted > 1e-6
        assert wanted / 2 < error < 2 * wanted, "second order, no response"


@pytest.mark.parametrize("mol", [build_mole(FRAMES[0], basis=METHOD.basis), HYDROXYL])
def test_refined_predictions_say_the_same(mol):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = FockNetwork(default_spec(basis_layout([mol]), "tiny")).eval()
    found = Model(network, METHOD).predict(mol, refine=1e-7)
    assert found.base is not None
    assert found.energy is not None
    assert found.refined is not None
    wanted = found.energy - found.refined.energy  # H = H0: the base's own density
    assert wanted / 2 < second_order(found, found.base) < 2 * wanted


def test_a_network_that_learnt_nothing_is_one_line(network, problems):
    for values in network.node_out.parameters():
        torch.nn.init.normal_(values, std=0.5)
    reporter = _Lines()
    told = compare(network, problems, [], {}, reporter)
    assert told is not None
    assert told["structures"] == "training"
    assert told["n_structures"] == told["worse_for"] == 2
    assert told["worse"]
    assert told["energy_error"] > told["base_energy_error"] > 0
    (line,) = reporter.lines
    assert line.startswith("the model is worse than its base alone on 2 of its training structures")


def test_kept_out_structures_are_asked_first_and_rounding_is_no_error(network):
    assert worth(network, [], [], []) is None
    found = Worth(structures="calibration", own=(1e-11, 3e-3), base=(0.0, 1e-3))
    assert found.worse
    assert found.to_dict()["worse_for"] == 2
    assert not dataclasses.replace(found, own=(1e-11, 1e-12), base=(0.0, 0.0)).worse
    assert dataclasses.replace(found, own=(float("nan"), 0.0)).worse
    reporter = _Lines()
    found.tell(reporter)
    assert reporter.lines[0].startswith(
        "the model is worse than its base alone on 2 structures it was not trained on: energies of "
        "densities 1.5 mEh too high, without the network 0.5; "
    )
