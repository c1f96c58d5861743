"""SIESTA's ``.DM`` beside an HSX file: the density matrix in the same numerical orbitals.

Fortran records: sizes, columns of each row, then the rows of every spin component; its own sparsity
and, in SIESTA 4.1 and later, its own supercell. Whether it belongs to the HSX file is seen from its
electrons: tr(P S) has to be their number. One and two spins are read; where spins mix, files left
open how their components are meant, and P is left out.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.data.formats.fortran import FortranRecords
from deeph_zero.errors import InputError

_ELECTRONS = 1e-3
"""Electrons that tr(P S) may be off by, for each atom; a density mixed in is that good."""


def density_beside(
    path: Path,
    isc: np.ndarray,
    sizes: Sequence[int],
    nspin: int,
) -> BlockMatrix | None:
    """The density matrix of ``NAME.DM`` beside ``NAME.HSX``.

    Args:
        path: The HSX file.
        isc: Cells of its supercell, [ncell, 3].
        sizes: Orbitals of each atom.
        nspin: Spin components of H.

    Returns:
        P, functions in SIESTA's order; None where there is no such file, or spins mix.

    Raises:
        InputError: If the file is damaged, or is of other orbitals or spins.
    """
    beside = path.with_suffix(".DM")
    if nspin > 2 or not beside.is_file():
        return None
    try:
        return _read(beside, isc, sizes, nspin)
    except InputError as error:
        raise InputError(f"{beside.name}: {error}, or put it elsewhere") from None


def check_electrons(path: Path, density: BlockMatrix, overlap: BlockMatrix, wanted: float) -> None:
    """See whether a density has the electrons of its file.

    Args:
        path: The HSX file.
        density: P.
        overlap: S.
        wanted: Electrons in a cell.

    Raises:
        InputError: If it has others.
    """
    places = {
        (i, j, *cell): k
        for k, ((i, j), cell) in enumerate(
            zip(overlap.pairs.tolist(), overlap.cells.tolist(), strict=True)
        )
    }
    found = 0.0
    for k, ((i, j), cell) in enumerate(
        zip(density.pairs.tolist(), density.cells.tolist(), strict=True)
    ):
        at = places.get((i, j, *cell))
        if at is not None:
            found += float((density.block(k) * overlap.block(at)).sum())
    if abs(found - wanted) > _ELECTRONS * len(overlap.sizes):
        name = path.with_suffix(".DM").name
        raise InputError(
            f"{name}: expected a density of {wanted:g} electrons, got {found:.4f}; it is of "
            "another calculation: put it elsewhere"
        )


def _read(path: Path, isc: np.ndarray, sizes: Sequence[int], nspin: int) -> BlockMatrix:
    records = FortranRecords(path, "a density matrix of SIESTA")
    head = records.next("the sizes")
    if len(head) not in (8, 20):
        raise InputError(f"expected two or five sizes, got a record of {len(head)} bytes; check it")
    nao, spins, *nsc = (int(n) for n in np.frombuffer(head, "<i4"))
    if (nao, spins) != (sum(sizes), nspin):
        raise InputError(
            f"expected {sum(sizes)} orbitals and {nspin} spin components as in the HSX file, got "
            f"{nao} and {spins}; give files of one calculation"
        )
    cells = _cells(nsc) if nsc else isc
    counts = records.numbers("the columns of each row", "<i4", nao).astype(np.int64)
    if counts.min() < 0:
        raise InputError("expected numbers of columns, got negative ones; check the file")
    columns = np.concatenate(
        [records.numbers("columns", "<i4", n).astype(np.int64) for n in counts.tolist()]
    )
    if len(columns) and not (columns.min() >= 1 and columns.max() <= nao * len(cells)):
        raise InputError(
            f"expected columns from 1 to {nao * len(cells)}, got {columns.min()} to "
            f"{columns.max()}; check the file"
        )
    parts = [
        np.concatenate([records.numbers("P", "<f8", n) for n in counts.tolist()])
        for _ in range(spins)
    ]
    rows = torch.from_numpy(np.repeat(np.arange(nao), counts))
    where = torch.from_numpy(cells[(columns - 1) // nao])
    functions = torch.from_numpy((columns - 1) % nao)

    values = torch.from_numpy(parts[0] if spins == 1 else np.stack(parts))
    return BlockMatrix.from_entries(rows, functions, where, values, sizes)


def _cells(nsc: Sequence[int]) -> np.ndarray:
    """SIESTA's order of a supercell's cells: the first axis runs fastest, 0, 1, .., -1."""
    if min(nsc) < 1 or np.prod([float(n) for n in nsc]) > 1e6:
        raise InputError(f"expected a supercell, got {nsc}; check the file")
    axes = [np.fft.fftfreq(n, 1 / n).round().astype(np.int64) for n in nsc]
    c, b, a = np.meshgrid(*axes[::-1], indexing="ij")
    return np.stack([a.ravel(), b.ravel(), c.ravel()], 1)
