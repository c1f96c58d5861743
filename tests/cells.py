"""Small crystals without symmetry, and densities that belong to no Fock matrix."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor

if TYPE_CHECKING:
    from pyscf.pbc import gto

ANGSTROM = {
    "diamond": ([[0, 1.78, 1.78], [1.78, 0, 1.78], [1.78, 1.78, 0]], "C 0 0.05 0; C .9 .85 .93"),
    "labels": (
        [[0, 1.78, 1.78], [1.78, 0, 1.78], [1.78, 1.78, 0]],
        "C1 0 .05 0; C2 .9 .85 .93; GHOST-H 1.78 1.7 1.78",
    ),
    "lih": ([[0, 2.04, 2.04], [2.04, 0, 2.04], [2.04, 2.04, 0]], "Li 0 0 .1; H 2.0 2.1 2.0"),
    "slab": ([[2.5, 0, 0], [-1.25, 2.17, 0], [0, 0, 7]], "B 0 1.4 .1; N 1.3 .7 0"),
    "aluminium": ([[0, 2.03, 2.03], [2.03, 0, 2.0], [2.03, 2.03, 0]], "Al .1 .2 .3"),
    "chain": ([[3.6, 0, 0], [0, 4.2, 0], [0, 0.1, 4]], "H 0 0 0.1; H 1.9 .1 0"),
    "helium": ([[2.6, 0, 0], [0, 2.8, 0], [0.3, 0, 3]], "He .1 .2 .3"),
}
"""Lattice vectors and atoms; none of them has an element of symmetry."""


@pytest.fixture(scope="session")
def crystal() -> "Callable[..., gto.Cell]":
    """Builds one of the crystals with a coarse mesh."""

    from pyscf.pbc import gto  # half a second that most tests do without

    def build(name: str, **settings: object) -> gto.Cell:
        lattice, atoms = ANGSTROM[name]
        cell = gto.Cell()
        cell.a, cell.atom, cell.unit, cell.verbose = lattice, atoms, "A", 0
        cell.basis, cell.pseudo, cell.ke_cutoff, cell.precision = "gth-szv", "gth-pbe", 20, 1e-5
        if name == "helium":
            cell.basis, cell.pseudo = {"He": [[0, [2.0, 1.0]], [0, [0.6, 1.0]]]}, None
        for key, value in settings.items():
            setattr(cell, key, value)
        return cell.build()

    return build


def _density(cell: "gto.Cell", kpts: np.ndarray, *, nspin: int, seed: int = 0) -> Tensor:
    """Idempotent at no k, alike at k and -k, of the right size: [nspin, nk, nao, nao]."""
    rng = np.random.default_rng(seed)
    n = cell.nao
    even, odd = rng.normal(size=(2, nspin, n, n))
    ovlp = np.asarray(cell.pbc_intor("int1e_ovlp", kpts=kpts))
    fractions = cell.get_scaled_kpts(kpts).sum(-1)
    occupied = np.linspace(2.0, 0.0, n) * cell.nelectron / n / nspin
    out = np.empty((nspin, len(kpts), n, n), dtype=complex)
    for s in range(nspin):
        for k, x in enumerate(fractions):
            h = even[s] + even[s].T + 1j * np.sin(2 * np.pi * x) * (odd[s] - odd[s].T)
            root = np.linalg.inv(np.linalg.cholesky(ovlp[k])).conj().T
            _, u = np.linalg.eigh(root.conj().T @ h @ root)
            c = root @ u
            out[s, k] = (c * occupied * (1 + 0.2 * s)) @ c.conj().T
    return torch.from_numpy(out)


@pytest.fixture(scope="session")
def density() -> Callable[..., Tensor]:
    """Makes density matrices of a cell at k-points (Cartesian)."""
    return _density
