"""Two spins in one matrix: blocks [[uu, ud], [du, dd]] and a leading axis of two spins."""

from collections.abc import Sequence

import numpy as np
import torch

from deeph_zero.ao.block_matrix import BlockMatrix

_WHOLE = 1e-9
"""Occupations this near to 0 and 1 are those."""


def unmixed(
    fock: BlockMatrix, density: BlockMatrix | None
) -> tuple[BlockMatrix, BlockMatrix | None]:
    """Matrices of spin up and down where the spins of H do not mix, else the matrices as they are.

    Args:
        fock: H in blocks [[uu, ud], [du, dd]] of twice as many functions.
        density: P, or none.

    Returns:
        Both [2, ...] and real where H has no ud, du and imaginary part; both complex otherwise.
    """
    parts = [_quarters(b) for b in fock.blocks()]
    mixed = any(bool(ud.any()) or bool(du.any()) for _, ud, du, _ in parts)
    if mixed or (fock.values.is_complex() and bool(fock.values.imag.any())):
        found = [
            m if m is None else m.with_values(m.values.to(torch.complex128))
            for m in (fock, density)
        ]
        assert found[0] is not None
        return found[0], found[1]
    return _two_spins(fock), None if density is None else _two_spins(density)


def _two_spins(matrix: BlockMatrix) -> BlockMatrix:
    half = tuple(n // 2 for n in matrix.sizes)
    parts = [_quarters(b) for b in matrix.blocks()]
    blocks = [torch.stack([uu, dd]).real.double() for uu, _, _, dd in parts]
    return BlockMatrix.from_blocks(matrix.pairs, matrix.cells, blocks, half)


def to_spinor(matrix: BlockMatrix, sizes: Sequence[int]) -> BlockMatrix:
    """Inverse of :func:`unmixed`; a matrix without spin stands for both.

    Args:
        matrix: Any of the three kinds.
        sizes: Functions of each atom without spin.

    Returns:
        Blocks [[uu, ud], [du, dd]].
    """
    if matrix.sizes != tuple(sizes):
        return matrix
    pairs = [b if b.ndim == 3 else torch.stack([b, b]) for b in matrix.blocks()]
    blocks = []
    for up, down in pairs:
        zero = torch.zeros_like(up)
        rows = [torch.cat([up, zero], 1), torch.cat([zero, down], 1)]
        blocks.append(torch.cat(rows, 0))
    return BlockMatrix.from_blocks(
        matrix.pairs, matrix.cells, blocks, [2 * n for n in matrix.sizes]
    )


def _quarters(block: torch.Tensor) -> tuple[torch.Tensor, ...]:
    n, m = block.shape[-2] // 2, block.shape[-1] // 2
    return block[:n, :m], block[:n, m:], block[n:, :m], block[n:, m:]


def filled_to(fermi: np.ndarray, mo_occ: np.ndarray) -> np.ndarray:
    """The level up to which each spin of a fixed moment is filled.

    Args:
        fermi: Fermi level of each spin, Eh, [2].
        mo_occ: Occupations, [2, nk, nmo].

    Returns:
        [2], Eh; infinite where all levels of a spin are filled, minus infinity where none is: the
        levels between its k-points may go further than those at them.
    """
    full, empty = (mo_occ > 1 - _WHOLE).all((1, 2)), (mo_occ < _WHOLE).all((1, 2))
    return np.where(full, np.inf, np.where(empty, -np.inf, fermi))
