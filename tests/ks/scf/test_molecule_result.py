"""A result that can be differentiated: by its layer, by one made again, or not at all."""

import copy
import gc
import pickle
import weakref

import pytest
import torch

from deeph_zero.errors import InputError
from deeph_zero.ks.scf.molecule_result import Differentiates, MoleculeResult
from deeph_zero.ks.scf.result import SCFResult

ZERO = torch.zeros(2, 2, dtype=torch.float64)


class Layer:
    """Says what it was asked."""

    def __init__(self):
        self.asked = []

    def polarizability(self, result):
        self.asked.append(("polarizability", result))
        return torch.eye(3)

    def dipole_derivatives(self, result):
        self.asked.append(("dipole_derivatives", result))
        return torch.zeros(1, 3, 3)

    def fock_gradient(self, result, *, atoms):
        self.asked.append(("fock_gradient", result, atoms))
        raise NotImplementedError


def result(layer, again=None):
    return MoleculeResult(
        energy=-1.0, fock=ZERO, dm=ZERO, mo_energy=ZERO[0], mo_coeff=ZERO, mo_occ=ZERO[0],
        converged=True, iterations=3, fock_builds=4, gradient_norm=1e-7, degenerate=False,
        made_by=weakref.ref(layer), again=again,
    )  # fmt: skip


def test_derivatives_are_asked_of_the_layer():
    layer = Layer()
    assert isinstance(layer, Differentiates)
    one = result(layer)
    assert torch.equal(one.polarizability(), torch.eye(3))
    one.dipole_derivatives()
    with pytest.raises(NotImplementedError):
        one.fock_gradient(atoms=[1, 2])
    assert [name for name, *_ in layer.asked] == [
        "polarizability", "dipole_derivatives", "fock_gradient"
    ]  # fmt: skip
    assert all(asked[1] is one for asked in layer.asked)
    assert layer.asked[-1][2] == [1, 2]


def test_a_result_does_not_keep_its_layer():
    layer = Layer()
    one, gone = result(layer), weakref.ref(layer)
    del layer
    gc.collect()
    assert gone() is None
    with pytest.raises(InputError, match="let go; keep it as long as its results are used"):
        one.polarizability()


def test_a_layer_let_go_is_made_again():
    made = []

    def again():
        made.append(Layer())
        return made[-1]

    one = result(Layer(), again)
    gc.collect()
    one.polarizability()
    assert len(made) == 1
    assert made[0].asked[0][1] is one


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy])
def test_a_copy_asks_the_same_layer(way):
    layer = Layer()
    one = result(layer, again := Layer)
    other = way(one)
    assert torch.equal(other.dm, one.dm)
    assert (other.dm is one.dm) is (way is copy.copy)
    other.polarizability()
    assert layer.asked[0][1] is other
    assert other.again is again


def test_elsewhere_it_says_what_to_do():
    layer = Layer()
    one = result(layer, Layer)
    there = pickle.loads(pickle.dumps(one))
    assert isinstance(there, SCFResult)
    assert (there.energy, there.iterations, there.free_energy) == (-1.0, 3, -1.0)
    assert torch.equal(there.dm, one.dm)
    for same in (there, copy.deepcopy(there), pickle.loads(pickle.dumps(there))):
        with pytest.raises(InputError, match=r"pickled; make one .* ks\.polarizability\(result\)"):
            same.fock_gradient(atoms=[0])
