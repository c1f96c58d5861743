"""Certificates at the end of a training are made together on a device, as each would be alone."""

import numpy as np
import pytest
import torch

from deeph_zero.errors import ComputationError
from deeph_zero.train import certified
from deeph_zero.train.finish import certify_all
from deeph_zero.train.module import FitModule
from deeph_zero.train.plan import make_plan
from deeph_zero.train.prepare import prepare

from ..train import hydrogen as h  # noqa: TID252  (tests are no package)
from .pretended import device_used

pytestmark = pytest.mark.gpu


def molecules():
    """Closed and open shells, a stretched one with a lower open shell, and a cation."""
    stretched = {"coords": np.array([[0, 0, 0], [0.1, 0, 4.9]])}
    ion = {"charge": 1, "spin": 1}
    return [h.hydrogen(2, **stretched), h.hydrogen(1), h.hydrogen(3, **ion)]


def trained(device, out, some, **values):
    out.mkdir()
    given = {"runtime": {"device": device}, "method": {"grid_level": 1}} | values
    run = h.run(out, some, **given)
    network = prepare(run, trained=False)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        for name, weight in network.named_parameters():
            if "_out." in name:
                weight.copy_(0.02 * torch.randn(weight.shape, dtype=weight.dtype))
    plan = make_plan(run.config, len(run.geometries.problems))
    run.module = FitModule(network, run.geometries.problems, plan, run.geometries.stream)
    run.module.lessons.together = True
    return run, run.module


def certificates(device, out, some, **values):
    run, module = trained(device, out, some, **values)
    return certify_all(run, module, "epochs")["structures"], run


def assert_near(found, wanted, path=()):
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for name in wanted:
            assert_near(found[name], wanted[name], (*path, name))
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), path
        for k, pair in enumerate(zip(found, wanted, strict=True)):
            assert_near(*pair, (*path, k))
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, abs=1e-6, rel=1e-4), path
    else:
        assert found == wanted, path


@pytest.mark.parametrize(("jk_dtype", "n", "level"), [("float64", 3, 1), ("float32", 2, 0)])
def test_they_are_what_each_is_alone(tmp_path, jk_dtype, n, level):
    more = {"jk_dtype": jk_dtype, "method": {"grid_level": level}}
    with device_used():
        found, run = certificates("cuda", tmp_path / "cuda", molecules()[:n], **more)
    wanted, alone = certificates("cpu", tmp_path / "cpu", molecules()[:n], **more)
    assert_near(found, wanted)
    builds = [[p.ks.builds for p in one.geometries.problems] for one in (run, alone)]
    assert builds[0] == builds[1]


def test_one_that_fails_leaves_the_others(tmp_path, monkeypatch):
    real = certified.check_predicted

    def check(molecule, fock):
        if molecule.charge:
            raise ComputationError("expected a finite matrix")
        real(molecule, fock)

    monkeypatch.setattr(certified, "check_predicted", check)
    cheap = {"method": {"grid_level": 0}}
    found, run = certificates("cuda", tmp_path / "cuda", molecules()[1:], **cheap)
    assert [one["frame"] for one in found] == [1, 3]
    assert not run.results.failed


@pytest.mark.counts
def test_several_cost_little_more_than_one(seen, tmp_path):
    if seen is None:
        pytest.skip("a real device does not count")
    spent = {}
    for n in (2, 5):
        run, module = trained("cuda", tmp_path / str(n), [h.hydrogen(k) for k in range(n)])
        seen.reset()
        certify_all(run, module, "epochs")
        spent[n] = seen.launches, seen.n_syncs, seen.report()
    assert spent[5][0] <= 1.2 * spent[2][0], spent[5][2]
    assert spent[2][0] <= 1600, spent[2][2]
    assert spent[5][1] <= 45, spent[5][2]
