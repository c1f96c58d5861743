"""Size of a matrix by orbital block: occupied and virtual parts mean different things."""

from torch import Tensor

from deeph_zero.types import AOMatrix

BLOCKS = ("occ-occ", "occ-virt", "virt-virt")


def orbital_blocks(delta: AOMatrix, mo_coeff: Tensor, mo_occ: Tensor) -> dict[str, float | None]:
    """Mean absolute elements of Cᵀ ΔH C by block, C the reference orbitals.

    Args:
        delta: Difference of two Fock matrices, Eh.
        mo_coeff: Reference orbitals, [*spin, nao, nmo].
        mo_occ: Their occupations; an orbital with any occupation counts as occupied.

    Returns:
        Value per block, Eh; None for a block without elements. Spins are pooled.
    """
    return {
        name: None if block is None else float(block.abs().mean())
        for name, block in _elements(delta, mo_coeff, mo_occ).items()
    }


def orbital_block_rms(delta: AOMatrix, mo_coeff: Tensor, mo_occ: Tensor) -> dict[str, float | None]:
    """Root mean square of each block; it is invariant under rotations of degenerate orbitals."""
    return {
        name: None if block is None else float(block.square().mean().sqrt())
        for name, block in _elements(delta, mo_coeff, mo_occ).items()
    }


def _elements(delta: AOMatrix, mo_coeff: Tensor, mo_occ: Tensor) -> dict[str, Tensor | None]:
    mixed = (mo_coeff.mT @ delta @ mo_coeff).reshape(-1, *mo_coeff.shape[-1:] * 2)
    occupied = (mo_occ > 0).reshape(mixed.shape[0], -1)
    rows, columns = occupied.unsqueeze(-1), occupied.unsqueeze(-2)
    masks = (rows & columns, rows & ~columns, ~rows & ~columns)
    return {
        name: mixed[mask] if bool(mask.any()) else None
        for name, mask in zip(BLOCKS, masks, strict=True)
    }
