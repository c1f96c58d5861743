"""What one call of ``fit`` carries around."""

from types import SimpleNamespace

import numpy as np

from deeph_zero.molecule import Molecule
from deeph_zero.train.run import Geometries
from deeph_zero.train.taught import Absent

H = Molecule(numbers=np.array([1]), coords=np.zeros((1, 3)), spin=1)


class Ahead:
    limit = 2

    def __init__(self):
        self.wanted = None

    def plan(self, orders):
        self.wanted = orders


def test_geometries_of_other_processes_are_not_present():
    found = Geometries(problems=[Absent(H), Absent(H)])
    assert (found.present, found.builds) == ([], [])


def test_workers_are_told_what_comes_next():
    ahead = Ahead()
    found = Geometries()
    found.look_ahead([0, 1], 0)  # without a store there is nobody to tell
    found.store = SimpleNamespace(ahead=ahead, missing=lambda keys: [("again", k) for k in keys])
    found.look_ahead([3, None, 4, 5], 1)
    assert ahead.wanted == [("again", 4)]
