"""Predictions of several molecules in one call are those of each alone, and cost what a few do."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from pyscf import gto

from deeph_zero.jobs.predict import _PredictJob
from deeph_zero.jobs.workers import Together, outcomes
from deeph_zero.method import Method
from deeph_zero.model import Model
from deeph_zero.molecule import Molecule
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.prepared.molecule import basis_layout
from deeph_zero.settings.config import PredictConfig, RuntimeConfig

from .pretended import device_used

pytestmark = pytest.mark.gpu
MATRICES = ("fock", "dm", "base", "fock_rebuilt", "mo_energy")


def hydrogen_fluoride(k, charge=0):
    coords = np.array([[0.0, 0.0, 0.0], [0.2, 0.1 * k, 1.7 + 0.03 * k]])
    return Molecule(numbers=np.array([9, 1]), coords=coords, charge=charge, spin=charge)


def hydrogen(k):
    coords = np.array([[0, 0, 0], [0.2, 0.01 * k, 1.4 + 0.02 * k]])
    return Molecule(numbers=np.array([1, 1]), coords=coords)


def model(device, inputs="physics", interaction="so2", dtype=torch.float32, **method):
    mol = gto.M(atom="F 0 0 0; H 0 0 1", basis="sto-3g", verbose=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        layout, how = basis_layout([mol]), {"inputs": inputs, "interaction": interaction}
        network = FockNetwork(default_spec(layout, "tiny", **how))
        for name, value in network.named_parameters():
            if "_out." in name:
                torch.nn.init.normal_(value, std=0.02)
    found = Method(**{"basis": "sto-3g", "grid_level": 0} | method)
    return Model(network.eval().to(device, dtype), found, device=device)


def assert_same(found, wanted):
    for name in MATRICES:
        one, other = getattr(found, name), getattr(wanted, name)
        if other is None:
            assert one is None
        else:
            assert one.device.type == "cpu"
            torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    assert found.fock_builds == wanted.fock_builds
    np.testing.assert_allclose(found.dipole, wanted.dipole, atol=1e-5)
    if wanted.energy is not None:
        assert found.energy == pytest.approx(wanted.energy, abs=1e-8)
        assert found.n_electrons == pytest.approx(wanted.n_electrons, abs=1e-6)
        got, want = found.certificate, wanted.certificate
        estimates = [one.energy_error_estimate for one in (got, want)]
        assert estimates[0] == pytest.approx(estimates[1], rel=1e-4)
        assert (got.coupled, got.degenerate) == (want.coupled, want.degenerate)
        for name in ("homo_estimate", "lumo_estimate", "gap_estimate", "dipole_change"):
            of_each = [np.array(getattr(one, name), dtype=float) for one in (got, want)]
            np.testing.assert_allclose(*of_each, atol=1e-5)  # None is NaN on both sides


@pytest.mark.parametrize(
    ("inputs", "settings", "method"),
    [
        ("physics", {"coupled": False}, {}),
        ("physics", {"refine": 1e-5}, {}),
        ("geometry", {"certificate": False}, {}),
        ("geometry", {}, {}),
        ("physics", {"refine": 1e-5, "compare_start": True}, {"grid_level": 2}),
        ("physics", {}, {"xc": "hf"}),
    ],
)
def test_several_are_what_each_is_alone(inputs, settings, method):
    # a random network's energy is not stationary: it shows how a processor rounds stacks in float32
    method = method | {"dtype": torch.float64}
    molecules = [hydrogen(0), hydrogen_fluoride(0), hydrogen_fluoride(1, charge=1)]
    with device_used():
        found = model("cuda", inputs, **method).predict_all(molecules, **settings)
    alone = model("cpu", inputs, **method)
    for molecule, one in zip(molecules, found, strict=True):
        wanted = alone.predict(molecule, **settings)
        assert_same(one, wanted)
        if "refine" in settings:
            assert one.refined.energy == pytest.approx(wanted.refined.energy, abs=1e-8)
            for name in ("standard_start", "standard_iterations", "instability"):
                assert getattr(one, name) == getattr(wanted, name)


@pytest.mark.counts
@pytest.mark.parametrize(
    ("settings", "level", "most"),
    [
        ({"coupled": False}, 0, 1.2),
        ({}, 1, 1.2),
        ({"certificate": False, "refine": 1e-4}, 2, 1.2),
    ],
    ids=["cheap", "coupled", "refined on two grids"],
)
def test_several_cost_little_more_than_one(seen, settings, level, most):
    if seen is None:
        pytest.skip("a real device does not count")
    of, spent = model("cuda", grid_level=level), {}
    for n in (1, 6):
        seen.reset()
        of.predict_all([hydrogen(k) for k in range(n)], **settings)
        spent[n] = seen.launches, seen.report()
    # what is left for each: orthogonal orbitals and the numbering of pairs, 13 launches
    assert spent[6][0] <= most * spent[1][0], spent[6][1]


def test_the_command_predicts_several_at_once_and_the_faulty_one_alone():
    bad = dataclasses.replace(hydrogen(2), numbers=np.array([1, 6]))
    tasks = list(enumerate([hydrogen(0), hydrogen_fluoride(0), hydrogen(1)]))
    runtime = RuntimeConfig(device="cuda", threads=1)
    config = PredictConfig(runtime=runtime, coupled=False)
    job = _PredictJob("", config, Path("p.h5"), numbered=True, model=model("cuda"))
    compute = job.start(1)
    assert isinstance(compute, Together)
    assert compute.at_once > 3
    for task, one in zip(tasks, compute.several(tasks, [str] * 3, [None] * 3), strict=True):
        alone = compute(*task, str)
        assert (one.index, one.digest) == (alone.index, alone.digest)
        assert one.fock_builds == alone.fock_builds
        for name in ("fock", "density"):
            np.testing.assert_allclose(one.arrays[name], alone.arrays[name], atol=1e-5)
    failed = [one.error for one in outcomes(job, iter([(0, bad), *tasks]), workers=1, threads=1)]
    assert "expected elements the model was trained on" in failed[0]["error"]
    assert failed[1:] == [None, None, None]
