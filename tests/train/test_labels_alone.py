"""Geometries that a label alone teaches: nothing but overlap, base and label is made of them."""

import json

import numpy as np
import pytest
import torch

from deeph_zero.host.reporting import SilentReporter
from deeph_zero.host.runtime import setup
from deeph_zero.integrals import system
from deeph_zero.jobs.label import run_label
from deeph_zero.model import load
from deeph_zero.molecule import Molecule
from deeph_zero.settings.config import FitConfig, LabelConfig
from deeph_zero.settings.loss_terms import parse_loss
from deeph_zero.train import prepare
from deeph_zero.train.fit import run_fit
from deeph_zero.train.losses import LossMix
from deeph_zero.train.run import Run

METHOD = {"basis": "sto-3g", "grid_level": 0}
RUNTIME = {"device": "cpu", "threads": 1}
N = 9


def hydrogen(k):
    coords = np.array([[0, 0, 0.1], [0.02 * k, 0.1, 1.4 + 0.03 * k]])
    return Molecule(numbers=np.array([1, 1]), coords=coords, file="h.xyz", frame=k)


MOLECULES = [hydrogen(k) for k in range(N)]


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "labels.h5"
    config = LabelConfig.parse({"method": METHOD, "runtime": RUNTIME, "conv_tol_grad": 1e-7})
    run_label(config, MOLECULES, [], path, reporter=SilentReporter(), command="deeph-zero label")
    return path


def settings(labels, **values):
    model = {"inputs": "geometry", "size": "tiny"}
    return FitConfig.parse(
        {"method": METHOD, "runtime": RUNTIME, "model": model, "loss": "supervised", "epochs": 2}
        | {"data": {"labels": [str(labels)]}}
        | values
    )


@pytest.fixture
def made(monkeypatch):
    """Names of what Fock builds need and was made."""
    found = []

    def counted(name, function):
        def make(*args, **keywords):
            found.append(name)
            return function(*args, **keywords)

        return make

    for name in ("two_electron_operators", "_grid", "_coarse", "density_guess"):
        monkeypatch.setattr(system, name, counted(name, getattr(system, name)))
    return found


def prepared(labels, folder, molecules=MOLECULES, **values):
    config = settings(labels, **values)
    run = Run(
        config=config, runtime=setup(config.runtime), reporter=SilentReporter(), out=folder,
        molecules=list(molecules),
    )  # fmt: skip
    network = prepare.prepare(run, trained=False)
    return run, network


def test_nothing_for_builds_is_made(labels, tmp_path, made):
    run, _ = prepared(labels, tmp_path)
    assert made == []
    assert [p.builds for p in run.geometries.problems] == [False] * N
    assert [(p.ks.fock_builds, p.ks.coarse_builds) for p in run.geometries.problems] == [(0, 0)] * N
    assert all(p.teacher.finished and p.teacher.state() == {} for p in run.geometries.problems)
    for problem in run.geometries.problems:
        assert problem.label is not None
        assert torch.equal(problem.teacher.target, problem.label.fock)


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ({"loss": "supervised:2,fixed-point"}, N),
        ({"model": {"inputs": "physics", "size": "tiny"}}, N),
        ({}, 8),
    ],
    ids=["another loss", "inputs of a build", "a few that are trained until a build confirms"],
)
def test_where_builds_are_needed_they_can_be_made(labels, tmp_path, made, values, count):
    run, _ = prepared(labels, tmp_path, MOLECULES[:count], **values)
    assert made.count("two_electron_operators") == count
    assert all(p.builds and p.label is not None for p in run.geometries.problems)


def test_losses_are_those_with_integrals(labels, tmp_path, monkeypatch):
    bare, network = prepared(labels, tmp_path / "a")
    monkeypatch.setattr(prepare, "_labels_alone", lambda *given: [None] * len(given[-1]))
    whole, _ = prepared(labels, tmp_path / "b")
    mix = LossMix(parse_loss("supervised"))
    for one, other in zip(bare.geometries.problems, whole.geometries.problems, strict=True):
        assert (one.builds, other.builds) == (False, True)
        (output,) = network(one.inputs)
        values = [mix(p, p.hamiltonian(output)) for p in (one, other)]
        assert float(values[0].loss.detach()) == float(values[1].loss.detach())
        assert values[0].energy_error == values[1].energy_error > 0


def test_a_run_ends_with_certificates_and_goes_on(labels, tmp_path, made):
    def fit(epochs, *, resume=False):
        return run_fit(
            settings(labels, epochs=epochs), list(MOLECULES), [], tmp_path,
            resume=resume, reporter=SilentReporter(), command="deeph-zero train a.toml",
        )  # fmt: skip

    summary = fit(2)
    # the certificates alone: a build at the density, one for the coupled estimate
    assert made.count("two_electron_operators") == N
    assert summary["fock_builds"] == 2 * N
    assert all(e["energy"] < -1 for e in summary["structures"])
    again = fit(4, resume=True)
    assert again["fock_builds"] == 4 * N
    assert again["stopped_by"] == "epochs"
    found = load(tmp_path).predict(MOLECULES[0], certificate=True)
    assert found.certificate is not None
    energies = [
        e["energy"] for e in json.loads((tmp_path / "summary.json").read_text())["structures"]
    ]
    assert found.certificate.energy == pytest.approx(energies[0], abs=1e-8)
