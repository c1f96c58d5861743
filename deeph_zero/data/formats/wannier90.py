"""Wannier90's ``seedname_hr.dat``: H(R) in Löwdin's orthonormal functions, eV; written only.

H(k) and S(k) are set up on a mesh of k-points, orthogonalised there, S^(-1/2) H S^(-1/2), and
summed back to cells, by Fourier transforms both ways, one plane of the mesh after another: only
H(R) is held for all cells. The tails of S^(-1/2) reach further than H does, so the mesh grows until
the levels between its points are right; the first line of the file says how well. Cells whose
elements are all negligible are left out.

References:
    Wannier90's user guide, seedname_hr.dat; P.-O. Löwdin, J. Chem. Phys. 18, 365 (1950).
"""

import cmath
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.data.formats.conventions import CONVENTIONS
from deeph_zero.data.formats.protocol import Matrices, Record, required_overlap
from deeph_zero.data.formats.spins import to_spinor
from deeph_zero.errors import InputError

_RIGHT = 1e-6
"""Largest error of a level between the mesh points, hartree."""
_DEPENDENT = 1e-7
"""Smallest eigenvalue of S(k) that can be orthogonalised."""
_NEGLIGIBLE = 1e-10
"""eV; cells without a larger element are left out."""
_WIDEST = 3
"""Largest width of the mesh against that of H."""
_ELEMENTS = 1_000_000
"""Matrix elements that are orthogonalised at once, those of all k-points together."""
_PROBES = torch.tensor(
    [[0.137, -0.291, 0.413], [-0.371, 0.229, 0.083], [0.481, 0.017, -0.193]], dtype=torch.float64
)
"""k-points at which the levels are compared."""
_EV = 1.0 / CONVENTIONS["wannier90"].energy


class HRSink:
    """Writes one file."""

    def __init__(self, path: Path) -> None:
        """Nothing is written yet.

        Args:
            path: The file.
        """
        self._path = path

    def close(self) -> None:
        """Nothing is left to do."""

    def write(self, record: Record) -> None:
        """Write H(R); with spin all functions of spin up come first, then those of spin down."""
        fock, overlap = _one_matrix(record.matrices)
        cells, matrices, error = _orthonormal(fock, overlap)
        order = _spins_apart(record.matrices)
        spin = "first half spin up" if record.matrices.sizes != fock.sizes else "no spin"
        with self._path.open("w", encoding="ascii") as file:
            file.write(
                f" written by deeph-zero: Loewdin functions, {spin}, levels within "
                f"{error * _EV:.1e} eV\n"
            )
            n = matrices.shape[-1]
            file.write(f"{n:12d}\n{len(cells):12d}\n")
            for start in range(0, len(cells), 15):
                file.write("    1" * min(15, len(cells) - start) + "\n")
            places = [f"{i + 1:5d}{j + 1:5d}" for j in range(n) for i in range(n)]
            for (a, b, c), k in sorted(cells.items()):
                matrix = (matrices[k] * _EV).numpy()[order[:, None], order]
                head, elements = f"{a:5d}{b:5d}{c:5d}", matrix.T.ravel().tolist()
                file.writelines(
                    f"{head}{place}{x.real:20.12f}{x.imag:20.12f}\n"
                    for place, x in zip(places, elements, strict=True)
                )


def _one_matrix(matrices: Matrices) -> tuple[BlockMatrix, BlockMatrix]:
    """H and S with both spins in one matrix, where there are two."""
    overlap = required_overlap(matrices)
    if not (matrices.spin_polarised or matrices.spinor):
        return matrices.fock, overlap
    return to_spinor(matrices.fock, matrices.sizes), to_spinor(overlap, matrices.sizes)


def _orthonormal(
    fock: BlockMatrix, overlap: BlockMatrix
) -> tuple[dict[tuple[int, ...], int], torch.Tensor, float]:
    """Places of cells in H(R) [ncell, n, n] of orthonormal functions; error of levels between."""
    both = torch.cat([fock.cells, overlap.cells])
    reach = [int(r) for r in both.abs().max(0).values]
    wanted = _levels(fock, overlap, _PROBES)
    kept, matrices, error = {}, torch.zeros(0), math.inf
    width = 0
    while error > _RIGHT and width < _WIDEST:
        width += 1
        del matrices
        counts = [2 * width * r + 1 for r in reach]
        axis = counts.index(max(counts))
        matrices = _summed_back(fock, overlap, counts, axis)
        cells = _cells(counts, axis)
        kept = _that_matter(cells, matrices)
        found = _at_probes(cells, matrices, sorted(kept.values()))
        error = float((torch.linalg.eigvalsh(found) - wanted).abs().max())
    return kept, matrices, error


def _summed_back(
    fock: BlockMatrix, overlap: BlockMatrix, counts: list[int], axis: int
) -> torch.Tensor:
    """Σ_k exp(-ik·R) S^(-1/2) H S^(-1/2) / N over the mesh: [ncell, n, n], as :func:`_cells`.

    Planes of the mesh are added along ``axis``; of real H and S those of k and -k are conjugate.
    """
    planes, rest = counts[axis], [c for k, c in enumerate(counts) if k != axis]
    n, real = fock.nao, not (fock.values.is_complex() or overlap.values.is_complex())
    dtype = torch.float64 if real else torch.complex128
    total = torch.zeros(planes, *rest, n, n, dtype=dtype)
    for k in range(planes // 2 + 1 if real else planes):
        plane = _plane(fock, counts, axis, k)
        for h, s in _pieces(plane, _plane(overlap, counts, axis, k)):
            root = _inverse_root(s)
            h.copy_(root @ h @ root)
        plane = torch.fft.fftn(plane.view(*rest, n, n), dim=(0, 1), norm="forward")
        weight = (2 if real and k else 1) / planes
        for r in range(planes):
            phase = weight * cmath.exp(-2j * cmath.pi * k * r / planes)
            if real:
                total[r].add_(plane.real, alpha=phase.real).sub_(plane.imag, alpha=phase.imag)
            else:
                total[r].add_(plane, alpha=phase)
    return total.view(-1, n, n)


def _plane(matrix: BlockMatrix, counts: list[int], axis: int, k: int) -> torch.Tensor:
    """Bloch sums at the k-points whose component along ``axis`` is k / counts: [nk, n, n]."""
    n, pattern = matrix.nao, matrix.pattern
    first, second = (c for c in range(3) if c != axis)
    rest = counts[first], counts[second]
    cells = matrix.cells % torch.tensor(counts)
    places = (cells[:, first] * rest[1] + cells[:, second])[pattern.block_of] * n * n
    phases = torch.exp(2j * torch.pi * k / counts[axis] * cells[:, axis].double())
    dense = torch.zeros(math.prod(rest) * n * n, dtype=torch.complex128)
    dense.index_add_(0, places + pattern.dense_places, matrix.values * phases[pattern.block_of])
    dense = torch.fft.ifftn(dense.view(*rest, n, n), dim=(0, 1), norm="forward")
    return dense.view(-1, n, n)


def _pieces(h: torch.Tensor, s: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    step = max(1, _ELEMENTS // h.shape[-1] ** 2)
    return zip(h.split(step), s.split(step), strict=True)


def _cells(counts: list[int], axis: int) -> torch.Tensor:
    """Cells in the order of an array that repeats after ``counts`` of them, ``axis`` first."""
    order = [axis, *(k for k in range(3) if k != axis)]
    steps = [torch.arange(counts[k]) for k in order]
    signed = [step - len(step) * (step > len(step) // 2) for step in steps]
    return torch.cartesian_prod(*signed)[:, [order.index(k) for k in range(3)]]


def _that_matter(cells: torch.Tensor, matrices: torch.Tensor) -> dict[tuple[int, ...], int]:
    """Places of the cells with more than negligible elements; R and -R stay together."""
    large = [bool((one.abs() * _EV > _NEGLIGIBLE).any()) for one in matrices]
    where = {tuple(cell): k for k, cell in enumerate(cells.tolist())}
    return {
        cell: k
        for cell, k in where.items()
        if large[k] or large[where[-cell[0], -cell[1], -cell[2]]] or not any(cell)
    }


def _at_probes(cells: torch.Tensor, matrices: torch.Tensor, kept: list[int]) -> torch.Tensor:
    """Σ_R exp(ik·R) H(R) of the cells that are written, [nk, n, n]."""
    found = torch.zeros(len(_PROBES), *matrices.shape[1:], dtype=torch.complex128)
    phases = torch.exp(2j * torch.pi * (_PROBES @ cells.double().mT))
    for k in kept:
        found += phases[:, k, None, None] * matrices[k]
    return found


def _inverse_root(overlap: torch.Tensor) -> torch.Tensor:
    values, vectors = torch.linalg.eigh(overlap)
    if float(values.min()) < _DEPENDENT:
        raise InputError(
            f"expected linearly independent functions, got an eigenvalue of the overlap of "
            f"{float(values.min()):.1e}; orthonormal functions need a smaller basis"
        )
    return (vectors * values.rsqrt()[..., None, :]) @ vectors.mH


def _levels(fock: BlockMatrix, overlap: BlockMatrix, kpts: torch.Tensor) -> torch.Tensor:
    roots = _inverse_root(overlap.at_k(kpts))
    return torch.linalg.eigvalsh(roots @ fock.at_k(kpts).to(roots) @ roots)


def _spins_apart(matrices: Matrices) -> np.ndarray:
    """Places of all functions of spin up, then of spin down; as they are without spin."""
    nao = sum(matrices.sizes)
    if not (matrices.spin_polarised or matrices.spinor):
        return np.arange(nao)
    starts = np.cumsum([0, *(2 * n for n in matrices.sizes)])[:-1]
    up = [start + k for start, n in zip(starts, matrices.sizes, strict=True) for k in range(n)]
    down = [
        start + n + k for start, n in zip(starts, matrices.sizes, strict=True) for k in range(n)
    ]
    return np.array(up + down)
