"""Electron-phonon matrix elements of graphene by differences of supercells.

Between the two π levels at K, for the phonons at q = Γ and q = K that they couple to. One atom of a
supercell is moved; dH/dR holds the motion of its orbitals, too. The matrix of the perturbation,

    <i|dV/dR|j> = dH_ij/dR - <∂i|H|j> - <i|H|∂j>,

takes a difference more: of one build of the density at rest in a basis that has the atom's orbitals
at two further places (ghost atoms). Where orbitals are as good as H|n> = e|n>, its elements between
levels of one energy are those of dH/dR - e dS/dR, which are how the levels of this basis move; in
gth-szv, which serves speed, they are not. Checked: with the two atoms of a primitive cell moved
against each other its levels at K split as the second ones say.

Literature (LDA and GGA, plane waves): Σ|D|²/4 of some 45 (eV/Å)² at Γ and 90 at K (M. Lazzeri et
al., Phys. Rev. B 78, 081406 (2008), table I). Less than a minute of one core.
"""

from collections.abc import Sequence

import numpy as np
import torch
from pyscf.data import nist
from pyscf.pbc import gto

import deeph_zero as dz
from deeph_zero.kohnsham.crystal import CrystalKohnSham
from deeph_zero.kohnsham.crystal_result import CrystalResult

N = 3  # the smallest supercell whose Γ point holds K
STEP = 0.03  # of atoms, bohr
APART = 0.06  # of orbitals beside an atom's own, bohr
BOND = 2.69
LATTICE = np.array([[3**0.5 * BOND, 0, 0], [-(0.75**0.5) * BOND, 1.5 * BOND, 0], [0, 0, 14]])
PLACES = np.array([[0, 0, 0], [0, BOND, 0]])
CELLS = np.array([[i, j, 0] for i in range(N) for j in range(N)])
K = np.array([1 / 3, 1 / 3, 0])
OWN, NAO = 4, 8  # orbitals of an atom and of a primitive cell
TO_EV = nist.HARTREE2EV / nist.BOHR  # Eh/bohr in eV/Å


def cell_of(n: int, moved: np.ndarray | None = None, ghosts: Sequence[np.ndarray] = ()) -> gto.Cell:
    """n x n cells; the first two atoms moved, and orbitals without an atom, bohr."""
    atoms = np.concatenate([PLACES + shift @ LATTICE for shift in CELLS[CELLS.max(1) < n]])
    atoms[:2] += 0 if moved is None else moved
    cell = gto.Cell()
    cell.atom = [["C", r] for r in atoms] + [["ghost-C", r] for r in ghosts]
    cell.a, cell.unit = LATTICE * np.array([[n], [n], [1]]), "B"
    cell.basis, cell.pseudo, cell.verbose = "gth-szv", "gth-pade", 0
    cell.mesh = [15 * n, 15 * n, 35]  # a multiple of three keeps the symmetry
    return cell.build()


def layer(cell: gto.Cell, mesh: int = 1) -> CrystalKohnSham:
    """The Kohn-Sham layer."""
    made = dz.KohnSham.from_pyscf(cell, kmesh=(mesh, mesh, 1), xc="lda,vwn", smearing=0.01)
    assert isinstance(made, CrystalKohnSham)
    return made


def solved(ks: CrystalKohnSham, start: CrystalResult | None = None) -> CrystalResult:
    """Its converged state."""
    result = ks.scf(None if start is None else start.dm, conv_tol=1e-10, conv_tol_grad=1e-6)
    assert result.converged
    return result


def basis_motion(rest: CrystalResult, atom: int, axis: int) -> np.ndarray:
    """<∂i|H|j> + <i|H|∂j> of one atom's orbitals, H the operator at rest."""
    beside = APART * np.eye(3)[axis]
    ks = layer(cell_of(N, ghosts=[PLACES[atom] + beside, PLACES[atom] - beside]))
    nao = rest.dm.shape[-1]
    dm = rest.dm.new_zeros(1, 1, nao + 2 * OWN, nao + 2 * OWN)
    dm[..., :nao, :nao] = rest.dm
    plus, minus = ks.build(dm).fock[0, 0, nao:, :nao].split(OWN)
    found = torch.zeros(nao, nao, dtype=torch.float64)
    found[OWN * atom : OWN * (atom + 1)] = (plus - minus) / (2 * APART)
    return (found + found.mT).numpy()


def changes(rest: CrystalResult, atom: int, axis: int, level: float) -> list[np.ndarray]:
    """<i|dV/dR|j> of an atom of the first cell, and dH/dR - e dS/dR; screened, [nao, nao]."""
    ends = []
    for sign in (1, -1):
        moved = np.zeros((2, 3))
        moved[atom, axis] = sign * STEP
        ks = layer(cell_of(N, moved))
        ends.append((solved(ks, rest).fock[0, 0], ks.data.ovlp[0]))
    fock, ovlp = ((a - b).numpy() / (2 * STEP) for a, b in zip(*ends, strict=True))
    return [fock - basis_motion(rest, atom, axis), fock - level * ovlp]


def dirac_levels(fock: np.ndarray, ovlp: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Bloch coefficients of the two levels at the Fermi energy, from a supercell's matrices."""
    phases = np.exp(2j * np.pi * CELLS @ k)
    blocks = (m.reshape(len(CELLS), NAO, len(CELLS), NAO)[0] for m in (fock, ovlp))
    h, s = (np.einsum("r,irj->ij", phases, block) for block in blocks)
    root = np.linalg.inv(np.linalg.cholesky(s)).conj().T
    return (root @ np.linalg.eigh(root.conj().T @ h @ root)[1])[:, 3:5]


def elements(change: np.ndarray, levels: list[np.ndarray], q: np.ndarray) -> np.ndarray:
    """Between levels at K and K + q, of atoms that all move with the phases of q."""
    left = np.exp(-2j * np.pi * CELLS @ (K + q))
    right = np.exp(2j * np.pi * CELLS @ K)
    blocks = change.reshape(len(CELLS), NAO, len(CELLS), NAO)
    at_k = np.einsum("r,risj,s->ij", left, blocks, right)
    return levels[1].conj().T @ at_k @ levels[0]


def split(axis: int) -> float:
    """Half the splitting at K per displacement of a primitive cell's atoms against each other."""
    ks = layer(cell_of(1, STEP * np.array([1, -1])[:, None] * np.eye(3)[axis]), mesh=N)
    solved(ks)
    below, above = ks.bands_at([K.tolist()]).reshape(-1)[3:5].tolist()
    return (above - below) / (2 * STEP)


def main() -> None:
    """Compute, print, check against the splitting of levels."""
    ks = layer(cell_of(N))
    rest = solved(ks)
    fock, ovlp = rest.fock[0, 0].numpy(), ks.data.ovlp[0].numpy()
    level = float(rest.mo_energy[0, 0, ks.cell.nelectron // 2 - 1])
    found = [changes(rest, atom, axis, level) for atom in (0, 1) for axis in (0, 1)]
    against = np.zeros((2, 2), dtype=complex)
    print("Σ|D|²/4, (eV/Å)²   of dV/dR   of levels")
    for name, q in {"E2g at Γ": 0 * K, "A1' at K": K}.items():
        levels = [dirac_levels(fock, ovlp, k) for k in (K, K + q)]
        squares = []
        for kind in (0, 1):
            by_motion = np.array([elements(change[kind], levels, q) for change in found])
            # the polarisation that couples most is the mode's
            flat = by_motion.reshape(len(found), -1) * TO_EV
            squares.append(np.linalg.eigvalsh(flat @ flat.conj().T)[-1] / 4)
            if not q.any():
                against = by_motion[0] - by_motion[2]
        print(f"{name}            {squares[0]:10.1f} {squares[1]:10.1f}")
    by_elements = np.ptp(np.linalg.eigvalsh(against)) / 2
    by_levels = split(axis=0)
    print(f"levels at K split by {by_elements:.5f} Eh/bohr, in a primitive cell by {by_levels:.5f}")
    # the grid, which moving atoms see, and the width leave 0.3 %
    assert abs(by_elements - by_levels) < 0.01 * by_levels


if __name__ == "__main__":
    main()
