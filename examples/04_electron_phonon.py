"""Electron-phonon matrix elements of water's frontier orbitals, along its vibrations.

g_ij = Σ_A (2 ω M_A)^(-1/2) e_A · <i| dH/dR_A |j>: the total derivative of the converged Fock matrix
with the motion of the basis taken off, in normal coordinates. How a level follows an atom,
de_i/dR = <i| dF/dR - e_i dS/dR |i>, is checked by the difference of two SCFs.
"""

from pathlib import Path

import numpy as np
import torch
from pyscf import dft, gto
from pyscf.data import nist
from pyscf.hessian import thermo

import deeph_zero as dz

WATER = str(Path(__file__).parent / "water.xyz")
STEP = 2e-3


def level(mol: gto.Mole, xc: str, k: int) -> float:
    """Energy of a converged orbital, Eh."""
    result = dz.KohnSham.from_pyscf(mol, xc=xc).scf(conv_tol=1e-11, conv_tol_grad=1e-7)
    return float(result.mo_energy[k])


def main() -> None:
    """Compute, print in meV, check one level against differences."""
    mol = gto.M(atom=WATER, basis="6-31g", verbose=0)
    mf = dft.RKS(mol, xc="pbe").density_fit()
    ks = dz.KohnSham.from_pyscf(mf)
    result = ks.scf(conv_tol=1e-11, conv_tol_grad=1e-7)
    found = result.fock_gradient()
    homo = mol.nelectron // 2 - 1
    frontier = result.mo_coeff[:, homo : homo + 2]

    # PySCF's vibrations of the same state
    mf.mo_coeff, mf.mo_energy, mf.mo_occ = (
        part.numpy() for part in (result.mo_coeff, result.mo_energy, result.mo_occ)
    )
    mf.e_tot, mf.converged = result.energy, True
    modes = thermo.harmonic_analysis(mol, mf.Hessian().kernel(), imaginary_freq=False)
    # zero-point length of a mode, bohr √u: √(1 / 2ω) with ω = freq_au / √(u / mₑ)
    length = (2 * modes["freq_au"]) ** -0.5 * (nist.ATOMIC_MASS / nist.E_MASS) ** -0.25
    elements = torch.einsum("pi,axpq,qj->axij", frontier, found.perturbation, frontier).numpy()

    print("mode      HOMO-HOMO  HOMO-LUMO  LUMO-LUMO / meV")
    for frequency, mode, size in zip(
        modes["freq_wavenumber"], modes["norm_mode"], length, strict=True
    ):
        g = 1e3 * nist.HARTREE2EV * size * np.einsum("ax,axij->ij", mode, elements)
        print(f"{frequency:7.1f}  {g[0, 0]:10.2f} {abs(g[0, 1]):10.2f} {g[1, 1]:10.2f}")

    # de/dR of the HOMO = <i| dF/dR - e dS/dR |i>
    i, energy = frontier[:, 0], result.mo_energy[homo]
    slope = float(i @ (found.fock[1, 2] - energy * found.overlap[1, 2]) @ i)
    ends = []
    for sign in (1, -1):
        coords = mol.atom_coords()
        coords[1, 2] += sign * STEP
        ends.append(level(mol.set_geom_(coords, unit="bohr", inplace=False), "pbe", homo))
    difference = (ends[0] - ends[1]) / (2 * STEP)
    print(f"de_HOMO/dR  {slope:.6f} Eh/bohr, by differences {difference:.6f}")
    assert abs(slope - difference) < 1e-5


if __name__ == "__main__":
    main()
