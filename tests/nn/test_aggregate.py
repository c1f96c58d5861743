"""Sums over the pairs of an atom, by either engine."""

import importlib.util
import itertools
import sys
import types

import numpy as np
import pytest
import torch

from deeph_zero.integrals.mole import build_mole
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.nn.aggregate import sum_to_atoms
from deeph_zero.nn.inputs import collate
from deeph_zero.nn.reading import Reading
from deeph_zero.prepared.molecule import basis_layout, prepare

HAS_SCATTER = importlib.util.find_spec("torch_scatter") is not None


def segment_csr(src, indptr, reduce):
    """What torch-scatter's function of this name does."""
    assert reduce == "sum"
    bounds = indptr.tolist()
    return torch.stack([src[a:b].sum(0) for a, b in itertools.pairwise(bounds)])


@pytest.fixture(params=["torch", "stand-in", "torch_scatter"])
def engine(request, monkeypatch):
    if request.param == "stand-in":
        module = types.ModuleType("torch_scatter")
        module.segment_csr = segment_csr
        monkeypatch.setitem(sys.modules, "torch_scatter", module)
        return "torch_scatter"
    if request.param == "torch_scatter" and not HAS_SCATTER:
        pytest.skip("torch-scatter is not installed")
    return request.param


def test_sums_and_gradients(engine):
    receiver = torch.tensor([0, 0, 1, 3, 3, 3])  # atom 2 and the last one have no pair
    values = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    found = sum_to_atoms(values, receiver, 5, engine)
    wanted = torch.zeros(5, 4, dtype=torch.float64)
    for row, k in zip(values.detach(), receiver.tolist(), strict=True):
        wanted[k] += row
    torch.testing.assert_close(found, wanted)
    weights = torch.randn(5, 4, dtype=torch.float64)
    (found * weights).sum().backward()
    assert torch.equal(values.grad, weights[receiver])


def test_a_processor_keeps_to_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_scatter", None)
    values = torch.ones(2, 3)
    assert torch.equal(sum_to_atoms(values, torch.tensor([0, 1]), 2), values)
    with pytest.raises(ImportError):
        sum_to_atoms(values, torch.tensor([0, 1]), 2, "torch_scatter")


def test_pairs_come_in_the_order_of_their_receivers():
    rng = np.random.default_rng(0)
    method = Method(basis="sto-3g", grid_level=0)
    found = []
    for numbers, spin in (([8, 1, 1], 0), ([6, 1, 1, 1], 1)):
        coords = 2.0 * rng.standard_normal((len(numbers), 3))
        molecule = Molecule(numbers=np.array(numbers), coords=coords, spin=spin, file="x.xyz")
        layout = basis_layout([build_mole(molecule, basis="sto-3g")])
        found.append(prepare(molecule, method, Reading(layout, cutoff=3.0)).inputs)
    for inputs in (*found, collate([found[1], found[1]])):
        assert bool((inputs.edge_index[0].diff() >= 0).all())
