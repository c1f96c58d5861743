"""What prediction and training begin with: H₀, the network's inputs, what its output stands for."""

import dataclasses

import numpy as np
import pytest
import torch

from deeph_zero.errors import ComputationError
from deeph_zero.integrals.mole import build_mole
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.nn.packed_inputs import PackedInputs
from deeph_zero.nn.reading import Reading
from deeph_zero.nn.spectral_bound import LEAST
from deeph_zero.prepared.molecule import basis_layout, check_start, kohn_sham, prepare, same_data

METHOD = Method(xc="pbe", basis="sto-3g", grid_level=0)
CASES = {
    "physics": {"inputs": "physics"},
    "physics, balanced": {"inputs": "physics", "balanced": True},
    "geometry": {"inputs": "geometry", "balanced": True},
    "geometry of 0.1": {"inputs": "geometry", "base": "fock"},
}


def molecule(spin=0):
    coords = np.array([[0.1, 0, 0.2], [0.3, 1.6, 1.1]])
    return Molecule(
        numbers=np.array([8, 1]), coords=coords, charge=spin - 1, spin=spin, file="a.xyz"
    )


@pytest.fixture(scope="module")
def layout():
    return basis_layout([build_mole(molecule(), basis="sto-3g")])


@pytest.mark.parametrize("spin", [0, 1])
@pytest.mark.parametrize("case", CASES)
def test_outputs_stand_for_matrices(case, spin, layout):
    reads = CASES[case]
    reading = Reading(layout, cutoff=9.0, dtype=torch.float64, **reads)
    ready = prepare(molecule(spin), METHOD, reading, builds=reads["inputs"] == "physics")
    physics = case.startswith("physics")
    assert ready.ks.fock_builds == (1 if physics else 0)
    assert (ready.start is not None) == physics
    assert (ready.balance is not None) == ("balanced" in reads)
    assert ready.fock0.shape == ((2,) if spin else ()) + (6, 6)
    generator = torch.Generator().manual_seed(spin)
    noise = 0.01 * torch.randn(ready.fock0.shape, generator=generator, dtype=torch.float64)
    correction = noise + noise.mT
    output = ready.in_blocks(correction)
    found = ready.hamiltonian(output)
    torch.testing.assert_close(found, ready.fock0 + correction, rtol=0, atol=1e-12)
    wild = ready.predicted(ready.in_blocks(20 * correction), (-1e-3, 1e-3)) - ready.fock0
    size = torch.linalg.eigvalsh(ready.ks.x.mT @ wild @ ready.ks.x).abs().max()
    assert float(size) == pytest.approx(1e-3 + LEAST)  # no larger than in training, and a margin
    packed = dataclasses.replace(ready, stored=PackedInputs(ready.inputs))
    torch.testing.assert_close(packed.in_blocks(correction).values, output.values)
    assert torch.equal(packed.inputs.node_inputs, ready.inputs.node_inputs)


def test_physics_starts_from_a_build_and_a_step(layout):
    ready = prepare(molecule(), METHOD, Reading(layout, cutoff=9.0))
    plain = prepare(molecule(), METHOD, Reading(layout, cutoff=9.0, base="fock"))
    ks = ready.ks
    torch.testing.assert_close(plain.fock0, ready.start.fock)
    step = ks.dielectric_step(plain.fock0, ks.data.dm_guess)
    torch.testing.assert_close(ready.fock0, plain.fock0 + step)
    converged = ks.scf().fock
    near, far = (float((one.fock0 - converged).norm()) for one in (ready, plain))
    assert near < 0.5 * far


def test_the_same_data_once_more(layout):
    ready = prepare(molecule(), METHOD, Reading(layout, cutoff=9.0))
    again = same_data(molecule(), METHOD, ready.ks.data.dm_guess)
    layer = kohn_sham(molecule(), METHOD)
    for data in (again, layer.data):
        assert torch.equal(data.hcore, ready.ks.data.hcore)
        assert torch.equal(data.dm_guess, ready.ks.data.dm_guess)
        assert data.e_nuc == ready.ks.data.e_nuc


def test_a_start_that_is_not_finite_names_its_file():
    fock = torch.full((2, 2), float("nan"), dtype=torch.float64)
    with pytest.raises(ComputationError, match=r"a\.xyz.*not finite"):
        check_start(molecule(), fock)
