"""Properties of a density matrix: dipole moment, ⟨S²⟩, electron count."""

import torch
from torch import Tensor

from deeph_zero.ks.grid.maps import density_features, restrict
from deeph_zero.ks.protocol import MoleculeData
from deeph_zero.types import SpinMatrix
from deeph_zero.units import DEBYE_PER_AU


def dipole(data: MoleculeData, dm: SpinMatrix) -> Tensor:
    """Dipole moment about the nuclear-charge centre, debye, [3].

    mu = Σ_A Z_A (R_A - centre) - tr(P (r - centre)).
    """
    electronic = torch.einsum("xmn,mn->x", data.dipole, dm.sum(0))
    return (data.nuclear_dipole - electronic) * DEBYE_PER_AU


def spin_square(data: MoleculeData, dm: SpinMatrix) -> float:
    """⟨S²⟩ = ((n_a - n_b)/2)² + (n_a + n_b)/2 - tr(P_a S P_b S); zero for a closed shell.

    References:
        A. Szabo and N. S. Ostlund, Modern Quantum Chemistry (1989), eq. 2.271.
    """
    if len(dm) == 1:
        return 0.0
    n_a, n_b = data.nelec
    ps = dm @ data.ovlp
    mixed = float((ps[0] * ps[1].mT).sum())
    return 0.25 * (n_a - n_b) ** 2 + 0.5 * (n_a + n_b) - mixed


def n_electrons(data: MoleculeData, dm: SpinMatrix) -> float:
    """Density integrated on the grid; tr(PS) where there is no grid."""
    total = dm.sum(0)
    if data.grid is None:
        return float((total * data.ovlp).sum())
    count = 0.0
    for k in range(data.grid.n_blocks):
        block = data.grid.block(k)
        rho = density_features(block, restrict(total, block), "LDA")[0]
        count += float(rho @ block.weights)
    return count
