"""Whether a closed shell hides a lower open one, at a price that ordinary molecules do not notice.

A closed shell is unstable towards a UKS solution where the lowest eigenvalue of the RKS -> UKS
Hessian (:mod:`.stability`) is negative. Its block of the frontier orbitals is estimated first: the
exact-exchange part as it is, (ii|aa) + (ia|ia), the rest by the kernel of local exchange,
(2/3)(6/π)^(1/3) ∫ ρ_σ^(-2/3) φ_i φ_a φ_j φ_b, that of -(3/4)(6/π)^(1/3) Σ_σ ρ_σ^(4/3). Products
with the Hessian, a response build each, are made only where this estimate is far below the gap.
"""

import logging
import math

import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.errors import InputError
from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.ks.linalg.davidson import lowest_eigenpair
from deeph_zero.ks.protocol import MoleculeData, SingleGrid
from deeph_zero.ks.response.orbital_rotation import Rotations
from deeph_zero.ks.response.stability import SpinRotations
from deeph_zero.types import SpinMatrix

GAP = 0.25
GAP_EXCHANGE = 0.7
"""Above a gap (Eh) of the first plus the second times the part of exact exchange nothing is
estimated: molecules tried were unstable up to 0.15 (PBE), 0.22 (B3LYP) and 0.76 (Hartree-Fock)."""

SUSPICIOUS = 0.25
"""Part of the gap below which the estimate calls for products: of the unstable molecules tried the
highest was at 0.15. Of 80 closed shells of G2 (STO-3G) 3 are below it with PBE, 9 with B3LYP and 42
with Hartree-Fock; 1, 4 and 24 of them are unstable indeed."""

LOWER = -5e-3
LOWER_EXCHANGE = -0.025
"""An eigenvalue (Eh) below the first plus the second times the part of exact exchange is worth a
line. Hartree-Fock has small ones for most π bonds (ethene -0.008, benzene -0.027)."""

_NUMBER = 3
_NEAR = 0.02
"""Levels so near (Eh) to the frontier, at most so many, take part: degenerate ones act together."""

_PRODUCTS = 12
_DENSITY_FLOOR = 1e-10


_log = logging.getLogger("deeph_zero")


def say_instability(value: float | None) -> None:
    """A line in the log where there is an instability.

    Args:
        value: What :func:`spin_instability` found.
    """
    if value is not None:
        _log.warning(
            "an unrestricted solution lies below this closed shell (stability eigenvalue %.3f Eh, "
            "see ks.stability): set break_symmetry=True, or the molecule's spin",
            value,
        )


def spin_instability(layer: KohnShamLayer, dm: SpinMatrix, fock: SpinMatrix) -> float | None:
    """How far a closed shell is from the minimum of unrestricted Kohn-Sham theory.

    Args:
        layer: The molecule.
        dm: Converged density matrix.
        fock: F[dm], Eh.

    Returns:
        The lowest eigenvalue of the RKS -> UKS Hessian, Eh, an upper bound, where it is below
        a threshold; None where it is not, or was not looked at: open shells, fractional
        occupations, functionals without a polarised response.
    """
    if layer.unrestricted or layer.smearing > 0:
        return None
    try:
        with torch.no_grad():
            rotations = Rotations(layer, dm, fock)
            exact = exact_part(layer.data)
            coarse = layer.coarse  # as good for an estimate, in a sixth of the time
            data = layer.data if coarse is None else coarse.data
            if not _is_suspicious(data, rotations, layer.nelec[0], exact):
                return None
            low = LOWER + LOWER_EXCHANGE * exact
            spin = SpinRotations(layer, dm, rotations)
            diagonal = rotations.diagonal / (2 * rotations.electrons)
            found = lowest_eigenpair(
                spin.hessian, diagonal, tol=1e-2, max_products=_PRODUCTS, enough=low
            )
            layer.fock_builds += spin.polarised.fock_builds
    except (InputError, RuntimeError):  # a hint must not cost a result
        return None
    return found.value if found.value < low else None


def is_clear(layer: KohnShamLayer, dm: SpinMatrix, fock: SpinMatrix, exact: float) -> bool:
    """Whether :func:`spin_instability` finds nothing without any integral: by the gap alone.

    Args:
        layer: The molecule; needs no integrals for builds.
        dm: Converged density matrix.
        fock: F[dm], Eh.
        exact: :func:`exact_part` of the energy.

    Returns:
        False where it has to be looked at.
    """
    if layer.unrestricted or layer.smearing > 0:
        return True
    try:
        with torch.no_grad():
            rotations = Rotations(layer, dm, fock)
    except InputError:  # fractional occupations
        return True
    if rotations.size == 0:
        return True
    nocc = layer.nelec[0]
    energy, _ = _levels(rotations, nocc)
    return _is_wide(float(energy[nocc] - energy[nocc - 1]), exact)


def _is_wide(gap: float, exact: float) -> bool:
    return gap > GAP + GAP_EXCHANGE * exact


def _levels(rotations: Rotations, nocc: int) -> tuple[Tensor, Tensor]:
    """Levels and orbitals of a closed shell, occupied ones first, each ascending."""
    energy, coeff = (one[0] for one in rotations.orbitals()[:2])
    order = torch.cat([energy[:nocc].argsort(), nocc + energy[nocc:].argsort()])
    return energy[order], coeff[:, order]


def exact_part(data: MoleculeData) -> float:
    """How much of the exchange is exact, at its largest over all distances.

    Args:
        data: The molecule's.

    Returns:
        1 for Hartree-Fock.
    """
    return 1.0 if data.functional is None else max((c for c, _ in data.exchange), default=0.0)


def _is_suspicious(data: MoleculeData, rotations: Rotations, nocc: int, exact: float) -> bool:
    if rotations.size == 0:
        return False
    energy, coeff = _levels(rotations, nocc)
    gap = float(energy[nocc] - energy[nocc - 1])
    if _is_wide(gap, exact):
        return False
    filled = [
        k for k in range(max(0, nocc - _NUMBER), nocc) if energy[nocc - 1] - energy[k] < _NEAR
    ]
    empty = [
        k for k in range(nocc, min(nocc + _NUMBER, len(energy))) if energy[k] - energy[nocc] < _NEAR
    ]
    pairs = [(i, a) for i in filled for a in empty]
    block = torch.diag(torch.stack([energy[a] - energy[i] for i, a in pairs]))
    block = block - _exact(data, coeff, pairs)
    if exact < 1:
        block = block - (1 - exact) * _local(data, coeff, nocc, pairs)
    return float(torch.linalg.eigvalsh(block)[0]) < SUSPICIOUS * gap


def _exact(
    data: MoleculeData, coeff: Float[Tensor, "nao nmo"], pairs: list[tuple[int, int]]
) -> Float[Tensor, "n n"]:
    """c_x [(ij|ab) + (ib|ja)], Eh."""
    products = torch.stack([torch.outer(coeff[:, i], coeff[:, a]) for i, a in pairs])
    out = coeff.new_zeros(len(pairs), len(pairs))
    for part, operator in data.exchange:
        exchange = operator.exchange(products + products.mT)
        out += part * torch.einsum("pmn,qmn->pq", products, exchange)
    return 0.5 * (out + out.mT)


def _local(
    data: MoleculeData, coeff: Float[Tensor, "nao nmo"], nocc: int, pairs: list[tuple[int, int]]
) -> Float[Tensor, "n n"]:
    """Local exchange's part, Eh."""
    out = coeff.new_zeros(len(pairs), len(pairs))
    if data.grid is None:
        return out
    used = sorted({k for pair in pairs for k in pair})
    left, right = ([used.index(pair[k]) for pair in pairs] for k in (0, 1))
    grid = data.grid
    for k in range(grid.n_blocks):
        # an estimate: single precision does, and is what an SCF on two grids left
        block = grid.single(k) if isinstance(grid, SingleGrid) else grid.block(k)
        rows = coeff if block.index is None else coeff[block.index]
        values = block.rows[0].to(rows)
        density = (rows[:, :nocc].mT @ values).square().sum(dim=0).clamp_min(_DENSITY_FLOOR)
        frontier = rows[:, used].mT @ values
        products = frontier[left] * frontier[right]
        out += (products * (block.weights * density.pow(-2 / 3))) @ products.mT
    return (2 / 3) * (6 / math.pi) ** (1 / 3) * out
