"""Potentials of the nuclei or of GTH pseudopotentials, with FFTDF's arithmetic."""

import dataclasses

import numpy as np
from pyscf import gto
from pyscf.pbc import tools
from pyscf.pbc.df import ft_ao
from pyscf.pbc.gto import Cell, ecp, pseudo
from pyscf.pbc.gto.pseudo import pp

from deeph_zero.integrals.periodic.kpoints import KPoints
from deeph_zero.integrals.periodic.separable import separable_matrix


def local_potential(cell: Cell, mesh: tuple[int, int, int]) -> np.ndarray:
    """Local part on the uniform grid, G = 0 dropped as PySCF drops it.

    Args:
        cell: The crystal, with or without pseudopotentials.
        mesh: Points of the grid.

    Returns:
        [ngrids], Eh.
    """
    vectors = cell.get_Gv(mesh)
    phases = cell.get_SI(mesh=mesh)
    if cell.pseudo:
        spectrum = -np.einsum("ij,ij->j", phases, pseudo.get_vlocG(cell, vectors))
    else:
        kernel = tools.get_coulG(cell, mesh=mesh, Gv=vectors)
        spectrum = -(cell.atom_charges() @ phases) * kernel
    return tools.ifft(spectrum, mesh).real * (len(vectors) / cell.vol)


def nonlocal_potential(cell: Cell, mesh: tuple[int, int, int], kpoints: KPoints) -> np.ndarray:
    """Separable part of the GTH pseudopotentials, and effective core potentials where there are.

    The sum over reciprocal vectors ends where the mesh does, as in FFTDF: the analytic sum differs
    by what the mesh misses. It ends unevenly about some k, so that V(-k) is V(k)* up to what is
    missed; where a point stands for -k too, it gets the mean of both.

    Args:
        cell: The crystal.
        mesh: Points of the grid.
        kpoints: Where.

    Returns:
        [nk, nao, nao], complex, Eh.

    References:
        S. Goedecker, M. Teter, J. Hutter, Phys. Rev. B 54, 1703 (1996), eqs. 2-4;
        C. Hartwigsen, S. Goedecker, J. Hutter, Phys. Rev. B 58, 3641 (1998), eqs. 2-8.
    """
    kpts = kpoints.absolute(cell)
    out = np.zeros((len(kpts), cell.nao, cell.nao), dtype=complex)
    if cell.pseudo:
        vectors = cell.get_Gv(mesh)
        for k, kpt in enumerate(kpts):
            out[k] = _at_k(cell, vectors, kpt)
            if kpoints.partners is not None:
                out[k] = 0.5 * (out[k] + _mirrored(cell, mesh, kpoints, k, out[k]))
    if len(cell._ecpbas):  # noqa: SLF001
        out += np.asarray(ecp.ecp_int(cell, kpts))
    return out


def _mirrored(
    cell: Cell, mesh: tuple[int, int, int], kpoints: KPoints, k: int, own: np.ndarray
) -> np.ndarray:
    """V(-k)* of the point that is -k in the whole mesh, given V(k)."""
    assert kpoints.partners is not None
    scaled, partner = kpoints.scaled[k], kpoints.partners[k]
    if np.abs(scaled - partner).max() < 1e-9:
        return own.conj()
    if np.abs(scaled + partner).max() < 1e-9 and all(n % 2 for n in mesh):
        return own
    return _at_k(cell, cell.get_Gv(mesh), cell.get_abs_kpts(partner)).conj()


def _at_k(cell: Cell, vectors: np.ndarray, kpt: np.ndarray) -> np.ndarray:
    symbols = np.array([cell.atom_symbol(a) for a in range(cell.natm)])
    atoms = [
        (gth_projectors(pseudo), cell.atom_coords()[symbols == symbol])
        for symbol, pseudo in cell._pseudo.items()  # noqa: SLF001
    ]

    def transforms(some: np.ndarray, k: np.ndarray) -> np.ndarray:
        return ft_ao.ft_ao(cell, some, kpt=k)

    total = separable_matrix(transforms, vectors, kpt, cell.vol, atoms)
    return np.real(total).astype(complex) if np.abs(kpt).max() < 1e-9 else total


@dataclasses.dataclass(frozen=True)
class GTHProjectors:
    """Separable projectors of one kind of atom, of the family of Goedecker, Teter and Hutter.

    Attributes:
        channels: (angular momentum, radius in bohr, number of projectors) each.
        strengths: h_ij of all of them, block by block, Eh.
    """

    channels: tuple[tuple[int, float, int], ...]
    strengths: np.ndarray

    @property
    def count(self) -> int:
        """How many, all orientations counted."""
        return len(self.strengths)

    def at(self, vectors: np.ndarray) -> np.ndarray:
        """Transforms of the projectors at reciprocal vectors [n, 3], without the atom's phase."""
        length = np.linalg.norm(vectors, axis=1)
        rows = []
        for l, radius, n in self.channels:
            angular = _gaussian_harmonics(l, radius, vectors)
            rows.extend(angular * pp._qli(length * radius, l, i) for i in range(n))  # noqa: SLF001
        return np.concatenate(rows) if rows else np.zeros((0, len(vectors)))


def gth_projectors(parameters: list) -> GTHProjectors:
    """Projectors of a pseudopotential.

    Args:
        parameters: As PySCF keeps them in ``cell._pseudo``.

    Returns:
        The projectors.
    """
    channels, blocks = [], []
    for l, (radius, n, strengths) in enumerate(parameters[5:]):
        if n:
            channels.append((l, float(radius), int(n)))
            blocks.append(np.kron(np.asarray(strengths), np.eye(2 * l + 1)))
    size = sum(len(b) for b in blocks)
    total = np.zeros((size, size))
    at = 0
    for block in blocks:
        total[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    return GTHProjectors(tuple(channels), total)


def _gaussian_harmonics(l: int, radius: float, vectors: np.ndarray) -> np.ndarray:
    """Solid harmonics times exp(-G² r²/2), as a Gaussian shell at the origin: [2l + 1, n]."""
    at = gto.PTR_ENV_START
    shell = gto.Mole()
    shell._atm = np.zeros((1, gto.ATM_SLOTS), dtype=np.int32)  # noqa: SLF001
    shell._bas = np.zeros((1, gto.BAS_SLOTS), dtype=np.int32)  # noqa: SLF001
    shell._env = np.zeros(at + 5)  # noqa: SLF001
    shell._bas[0, [gto.ANG_OF, gto.NPRIM_OF, gto.NCTR_OF]] = l, 1, 1  # noqa: SLF001
    shell._bas[0, [gto.PTR_EXP, gto.PTR_COEFF]] = at + 3, at + 4  # noqa: SLF001
    shell._env[at + 3] = 0.5 * radius**2  # noqa: SLF001
    shell._env[at + 4] = radius ** (l + 1.5) * np.pi**1.25  # noqa: SLF001
    return shell.eval_gto("GTOval", vectors).T
