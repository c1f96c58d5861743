"""Crystals of hydrogen molecules without symmetry, on a coarse mesh."""

import numpy as np
import torch

from deeph_zero.integrals.periodic.cell import build_cell
from deeph_zero.method import CrystalMethod, Method
from deeph_zero.molecule import Molecule
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.prepared.crystal import crystal_layout, prepare_structure

LATTICE = np.array([[4.0, 0, 0], [0, 5.2, 0], [0, 0.1, 5.5]])
CUTOFF = 7.0


def crystal(k=0, **changed):
    coords = np.array([[0.1, 0, 0.2], [1.2 + 0.03 * k, 0.7, 0.9 - 0.02 * k]])
    given = {"lattice": LATTICE, "pbc": (True, True, True), "file": "c.xyz", "frame": k}
    return Molecule(**{"numbers": np.array([1, 1]), "coords": coords} | given | changed)


def method(kmesh=(1, 1, 1), **changed):
    own = CrystalMethod(pseudo="gth-lda", kmesh=kmesh, ke_cutoff=15.0)
    return Method(xc="lda,vwn", basis="gth-szv", crystal=own, **changed)


def layout():
    return crystal_layout(build_cell(crystal(), method()))


def ready(k=0, kmesh=(1, 1, 1)):
    return prepare_structure(
        crystal(k), method(kmesh), layout(), cutoff=CUTOFF, dtype=torch.float64
    )


def network(seed=0, **settings):
    """An untrained one, float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        spec = default_spec(layout(), "tiny", cutoff=CUTOFF, balanced=False, **settings)
        return FockNetwork(spec).double()
