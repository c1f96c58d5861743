"""Labels of several molecules on a device: SCFs run in step, each says what it would alone."""

import numpy as np
import pytest

from deeph_zero.jobs.label import _LabelJob
from deeph_zero.jobs.workers import Together, outcomes
from deeph_zero.molecule import Molecule
from deeph_zero.settings.config import LabelConfig, MethodConfig, RuntimeConfig

pytestmark = [pytest.mark.gpu, pytest.mark.counts]


def hydrogens(n):
    return [
        Molecule(
            numbers=np.array([1, 1]),
            coords=np.array([[0, 0, 0], [0.2, 0.01 * k, 1.4 + 0.02 * k]]),
            file="h.xyz",
            frame=k,
        )
        for k in range(n)
    ]


def job(**settings):
    method = MethodConfig(basis="sto-3g", grid_level=0)
    runtime = RuntimeConfig(device="cuda", threads=1)
    return _LabelJob(LabelConfig(method=method, runtime=runtime, **settings))


def test_several_cost_little_more_than_one(seen):
    if seen is None:
        pytest.skip("a real device does not count")
    compute, spent = job().start(1), {}
    assert isinstance(compute, Together)
    for n in (1, 4):
        seen.reset()
        compute.several(list(enumerate(hydrogens(n))), [str] * n, [None] * n)
        spent[n] = seen.launches, seen.report()
    assert spent[4][0] <= 1.1 * spent[1][0], spent[4][1]


def test_each_that_does_not_converge_is_named():
    tasks = iter(enumerate(hydrogens(2)))
    found = list(outcomes(job(max_cycle=1), tasks, workers=1, threads=1))
    for k, one in enumerate(found):
        (text,) = one.warnings
        assert text.startswith(f"h.xyz frame {k}: SCF not converged after 1 cycles")
