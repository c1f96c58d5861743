"""Molecules with PySCF integrals and random density-like matrices; small networks."""

import dataclasses

import numpy as np
import pytest
import torch
from pyscf import gto

from deeph_zero.ao.shells import BasisLayout
from deeph_zero.molecule import Molecule
from deeph_zero.nn.inputs import PhysicsMatrices, prepare_inputs
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.testing import random_matrices

SHELLS = {1: (0, 0, 1), 6: (0, 0, 0, 1, 1, 2), 7: (0, 0, 0, 1, 1, 2), 8: (0, 0, 0, 1, 1, 2)}
TZVP = {1: (0, 0, 0, 1), 8: (0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3)}


@dataclasses.dataclass(frozen=True)
class Case:
    """One molecule and its input matrices, so that a test can transform both alike."""

    layout: BasisLayout
    numbers: list[int]
    coords: torch.Tensor
    matrices: PhysicsMatrices
    charge: int = 0
    spin: int = 0

    def inputs(self, cutoff=14.0, dtype=torch.float64):
        return prepare_inputs(
            self.layout,
            self.numbers,
            self.coords,
            self.charge,
            self.spin,
            self.matrices,
            cutoff=cutoff,
            dtype=dtype,
        )

    def molecule(self):
        return Molecule(
            numbers=np.array(self.numbers),
            coords=self.coords.numpy(),
            charge=self.charge,
            spin=self.spin,
        )

    def bare(self, n_spin=1):
        """What `geometry` inputs hold."""
        m = self.matrices
        return dataclasses.replace(
            self, matrices=PhysicsMatrices(ovlp=m.ovlp, hcore=m.hcore, n_spin=n_spin)
        )


@pytest.fixture(scope="session")
def make_case():
    def build(atom, *, basis="def2-svp", channels=1, charge=0, spin=0, seed=0):
        shells = TZVP if basis == "def2-tzvp" else SHELLS
        layout = BasisLayout.from_shells(shells)
        mol = gto.M(atom=atom, basis=basis, charge=charge, spin=spin, verbose=0)
        return Case(
            layout,
            [int(z) for z in mol.atom_charges()],
            torch.tensor(np.array(mol.atom_coords())),
            random_matrices(mol, n_spin=channels, seed=seed),
            charge,
            spin,
        )

    return build


@pytest.fixture(scope="session")
def make_network():
    """A tiny float64 network whose readout is not zero."""

    def build(layout, *, size="tiny", cutoff=14.0, seed=1, base=None, **options):
        spec = default_spec(layout, size, cutoff=cutoff, **options)
        spec = spec if base is None else dataclasses.replace(spec, base=base)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            net = FockNetwork(spec).double()
            for readout in (net.node_out, net.pair_out):
                for p in readout.parameters():
                    torch.nn.init.normal_(p, std=0.1)
        return net

    return build
