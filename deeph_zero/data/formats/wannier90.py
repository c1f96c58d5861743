"""Wannier90's ``seedname_hr.dat``: H(R) in Löwdin's orthonormal functions, eV; written only.

H(k) and S(k) are set up on a mesh of k-points, orthogonalised there, S^(-1/2) H S^(-1/2), and
summed back to cells, by Fourier transforms both ways. The tails of S^(-1/2) reach further than H
does, so the mesh grows until the levels between its points are right; the first line of the file
says how well.

References:
    Wannier90's user guide, seedname_hr.dat; P.-O. Löwdin, J. Chem. Phys. 18, 365 (1950).
"""

import math
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
        matrices = matrices[:, order[:, None], order]
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
            for (a, b, c), matrix in zip(cells, matrices * _EV, strict=True):
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
) -> tuple[list[tuple[int, ...]], np.ndarray, float]:
    """Cells, H(R) [ncell, n, n] in orthonormal functions, and the error of levels between."""
    both = torch.cat([fock.cells, overlap.cells])
    reach = [int(r) for r in both.abs().max(0).values]
    wanted = _levels(fock, overlap, _PROBES)
    found: tuple[list[tuple[int, ...]], np.ndarray, float] = ([], np.zeros(0), math.inf)
    width = 0
    while found[2] > _RIGHT and width < _WIDEST:
        width += 1
        cells = torch.cartesian_prod(*(torch.arange(-width * r, width * r + 1) for r in reach))
        counts = tuple(2 * width * r + 1 for r in reach)
        matrices = _summed_back(fock, overlap, cells, counts)
        phases = torch.exp(2j * torch.pi * (_PROBES @ cells.double().mT))
        between = torch.einsum("kr,rij->kij", phases, matrices)
        error = float((torch.linalg.eigvalsh(between) - wanted).abs().max())
        found = [tuple(cell) for cell in cells.tolist()], matrices.numpy(), error
    return found


def _summed_back(
    fock: BlockMatrix, overlap: BlockMatrix, cells: torch.Tensor, counts: tuple[int, ...]
) -> torch.Tensor:
    """Σ_k exp(-ik·R) S^(-1/2) H S^(-1/2) / N over the mesh: [ncell, n, n]."""
    n = fock.nao
    fock_k, overlap_k = _on_mesh(fock, counts), _on_mesh(overlap, counts)
    step = max(1, _ELEMENTS // n**2)
    for h, s in zip(fock_k.split(step), overlap_k.split(step), strict=True):
        root = _inverse_root(s)
        h.copy_(root @ h @ root)
    del overlap_k
    found = torch.fft.fftn(fock_k.view(*counts, n, n), dim=(0, 1, 2), norm="forward")
    return found.view(-1, n, n)[_places(cells, counts)]


def _on_mesh(matrix: BlockMatrix, counts: tuple[int, ...]) -> torch.Tensor:
    """Bloch sums at every k-point i / counts, [nk, n, n], by a Fourier transform over the cells."""
    n, total = matrix.nao, math.prod(counts)
    pattern = matrix.pattern
    cells = _places(matrix.cells, counts)[pattern.block_of]
    values = matrix.values.to(torch.complex128)
    dense = torch.zeros(total * n * n, dtype=values.dtype)
    dense.index_add_(0, cells * n * n + pattern.dense_places, values)
    dense = dense.view(*counts, n, n)
    return torch.fft.ifftn(dense, dim=(0, 1, 2), norm="forward").view(total, n, n)


def _places(cells: torch.Tensor, counts: tuple[int, ...]) -> torch.Tensor:
    """Where the cells lie in an array that repeats after ``counts`` of them."""
    a, b, c = (cells % torch.tensor(counts)).unbind(1)
    return (a * counts[1] + b) * counts[2] + c


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
