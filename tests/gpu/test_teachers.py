"""Teachers of several geometries learn from one build on a device as each would alone."""

import numpy as np
import pytest
import torch

from deeph_zero.integrals.mole import build_mole
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.nn.reading import Reading
from deeph_zero.prepared.molecule import Means, basis_layout
from deeph_zero.train.budget import Budget, Lessons
from deeph_zero.train.taught import make_problem

pytestmark = [pytest.mark.gpu, pytest.mark.counts]
METHOD = Method(basis="sto-3g", grid_level=1)


def taught(device, n):
    """Geometries whose teachers have spent one build together."""
    problems = []
    for k in range(n):
        coords = np.array([[0, 0, 0], [0.2, 0.1, 1.7 + 0.05 * k]])
        molecule = Molecule(numbers=np.array([9, 1]), coords=coords)
        layout = basis_layout([build_mole(molecule, basis=METHOD.basis)])
        reading = Reading(layout, cutoff=8.0)
        problems.append(make_problem(molecule, METHOD, reading, Means(device)))
    lessons = Lessons(problems, Budget())
    lessons.together = True
    return problems, lessons


def test_a_build_of_several_teachers(seen):
    spent = {}
    for n in (1, 3):
        problems, lessons = taught("cuda", n)
        if seen is not None:
            seen.reset()
        lessons.advance(range(n))
        spent[n] = 0 if seen is None else seen.launches
    wanted, alone = taught("cpu", 3)
    alone.advance(range(3))
    for one, other in zip(problems, wanted, strict=True):
        target = one.teacher.target.cpu()
        torch.testing.assert_close(target, other.teacher.target, atol=1e-6, rtol=0)
        assert one.teacher.residual == pytest.approx(other.teacher.residual, rel=1e-6)
        assert one.ks.builds == other.ks.builds
    assert spent[3] <= 1.2 * spent[1]
