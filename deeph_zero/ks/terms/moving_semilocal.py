"""What the semilocal Fock matrix does when atoms, their orbitals and their grid points move.

At fixed density matrix P, v_mn = Σ_g w_g Σ_k v_k(ρ_g) ∂ρ_k/∂P_mn changes with an atom A in three
ways: its orbitals move against the points, its own points move against all orbitals, and all
weights change. A block of points belongs to one atom. For the other atoms the points stand still;
the atom itself has minus the sum of the others, since nothing changes where all move together.
"""

import dataclasses
from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deeph_zero.ks.grid.maps import potential_matrix
from deeph_zero.ks.protocol import AOBlock, Functional
from deeph_zero.ks.terms.semilocal import kernel
from deeph_zero.types import SpinMatrix

_SECOND = ((0, 1, 2), (1, 3, 4), (2, 4, 5))
"""Where ∂_x∂_y stands among xx, xy, xz, yy, yz, zz."""


@dataclasses.dataclass(frozen=True)
class MovingBlock:
    """Points of one atom's part of a grid.

    Attributes:
        rows: AO values, their gradients and (but for an LDA) second derivatives in the order xx,
            xy, xz, yy, yz, zz.
        weights: Quadrature weights.
        weight_gradient: Their derivatives as atoms move; the parent takes its points along.
        parent: The atom that the points belong to.
    """

    rows: Float[Tensor, "ncomp nao npoints"]
    weights: Float[Tensor, " npoints"]
    weight_gradient: Float[Tensor, "natm 3 npoints"]
    parent: int


@dataclasses.dataclass(frozen=True)
class MovingPart:
    """Derivatives of a part of the Fock matrix at fixed density matrix.

    Attributes:
        fock: By atom and direction, Eh/bohr.
        inner: <∂m|v|n> with ∂m the orbital's derivative as its own atom moves, Eh/bohr.
    """

    fock: Float[Tensor, "natm 3 nspin nao nao"]
    inner: Float[Tensor, "3 nspin nao nao"]


def moving_semilocal(
    functional: Functional,
    blocks: Iterable[MovingBlock],
    dm: SpinMatrix,
    ao_atoms: Int[Tensor, " nao"],
    natm: int,
) -> MovingPart:
    """Derivatives of the semilocal Fock matrix with respect to the atoms at fixed density matrix.

    Args:
        functional: Pointwise.
        blocks: The whole grid.
        dm: Density matrix with its spin axis, of length 1 for a closed shell.
        ao_atoms: Atom of each orbital.
        natm: How many atoms there are.

    Returns:
        The exact derivatives of the matrix that the quadrature gives.
    """
    nao = dm.shape[-1]
    fock = dm.new_zeros(natm, 3, *dm.shape)
    inner = dm.new_zeros(3, *dm.shape)
    belongs = torch.zeros(natm, nao, dtype=dm.dtype, device=dm.device)
    belongs[ao_atoms, torch.arange(nao, device=dm.device)] = 1.0
    for block in blocks:
        part, along = _block(functional, block, dm, belongs)
        part[block.parent] -= part.sum(0)
        fock += part
        inner += along
    return MovingPart(fock, inner)


def _block(
    functional: Functional, block: MovingBlock, dm: SpinMatrix, belongs: Float[Tensor, "natm nao"]
) -> tuple[Tensor, Tensor]:
    """One block's part for all atoms but the parent, whose part is zero, and the inner one."""
    kind, natm = functional.kind, len(belongs)
    columns = 1 if kind == "LDA" else 4
    half = torch.stack([dm @ block.rows[k] for k in range(columns)], dim=1)  # [spin, k, nao, p]
    rho = _features(block, half, kind)
    potential = functional.gradient(rho)[1]
    second = kernel(functional, rho)
    points = AOBlock(ao=block.rows[:columns].mT, index=None, weights=block.weights)
    weighted = potential * block.weights
    along = -torch.stack([_inner(block, one, kind) for one in weighted], dim=1)
    part = dm.new_zeros(natm, 3, *dm.shape)
    for x in range(3):
        moved = _feature_changes(block, half, belongs, x, kind)  # [natm, spin, nvar, p]
        flat = moved.reshape(natm, -1, moved.shape[-1])
        change = torch.einsum("ijp,ajp->aip", second, flat).reshape(moved.shape)
        change = change * block.weights + potential * block.weight_gradient[:, x, None, None]
        for atom in range(natm):
            if atom == block.parent:
                continue
            basis = along[x] * belongs[atom].unsqueeze(1)
            part[atom, x] = basis + basis.mT + potential_matrix(points, change[atom], kind)
    return part, along


def _features(block: MovingBlock, half: Tensor, kind: str) -> Float[Tensor, "nspin nvar npoints"]:
    rows = [(half[:, 0] * block.rows[0]).sum(-2)]
    if kind != "LDA":
        rows += [2.0 * (half[:, 0] * block.rows[k]).sum(-2) for k in range(1, 4)]
    if kind == "MGGA":
        rows.append(0.5 * (half[:, 1:4] * block.rows[1:4]).sum((1, -2)))
    return torch.stack(rows, dim=1)


def _feature_changes(
    block: MovingBlock, half: Tensor, belongs: Tensor, x: int, kind: str
) -> Float[Tensor, "natm nspin nvar npoints"]:
    """Density variables as one atom's orbitals move along x, points and matrix standing still."""

    def by_atom(product: Tensor) -> Tensor:
        return torch.einsum("am,smp->asp", belongs, product)

    first = block.rows[1 + x]
    rows = [-2.0 * by_atom(first * half[:, 0])]
    if kind != "LDA":
        twice = [block.rows[4 + k] for k in _SECOND[x]]
        rows += [-2.0 * by_atom(first * half[:, k + 1] + twice[k] * half[:, 0]) for k in range(3)]
        if kind == "MGGA":
            rows.append(-by_atom((torch.stack(twice) * half[:, 1:4]).sum(1)))
    return torch.stack(rows, dim=2)


def _inner(
    block: MovingBlock, weighted: Float[Tensor, "nvar npoints"], kind: str
) -> Float[Tensor, "3 nao nao"]:
    """Σ_g ∂_x φ_m v φ_n with a weighted potential; the derivative acts on the first orbital."""
    value, gradient = block.rows[0], block.rows[1:4]
    right = weighted[0] * value
    if kind != "LDA":
        right = right + (weighted[1:4].unsqueeze(1) * gradient).sum(0)
    out = gradient @ right.mT
    if kind == "LDA":
        return out
    for x in range(3):
        twice = [block.rows[4 + k] for k in _SECOND[x]]
        left = (weighted[1:4].unsqueeze(1) * torch.stack(twice)).sum(0)
        out[x] += left @ value.mT
        if kind == "MGGA":
            for k in range(3):
                out[x] += (0.5 * weighted[4] * twice[k]) @ gradient[k].mT
    return out
