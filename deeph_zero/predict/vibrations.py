"""Vibrations of a converged molecule: second derivatives of the energy, frequencies, intensities.

Second derivatives are PySCF's where it has them, else differences of analytic forces of converged
densities at displaced geometries.
"""

import math
import warnings
from typing import Any

import numpy as np
from jaxtyping import Float
from pyscf import gto
from pyscf.data import nist

from deeph_zero.errors import ComputationError, argument
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.scf.result import SCFResult
from deeph_zero.predict import meanfield
from deeph_zero.predict.derivatives import Vibrations

STEP = 5e-3
"""Displacement of differences of forces, bohr."""

_VACUUM = 1e7 / (4 * math.pi * nist.LIGHT_SPEED_SI**2)
KM_PER_MOL = (
    nist.AVOGADRO * nist.E_CHARGE**2 / (12 * _VACUUM * nist.LIGHT_SPEED_SI**2) / nist.ATOMIC_MASS
) * 1e-3
"""Intensity (km/mol) of a mode whose dipole derivative is one elementary charge per root of an
atomic mass unit: N_A / (12 ε₀ c²) (dμ/dQ)², 974.88."""


def vibrations(
    mf: Any, ks: KohnSham, state: SCFResult, dipole_derivatives: np.ndarray
) -> Vibrations:
    """Normal modes of a converged molecule, wherever its atoms are.

    Args:
        mf: PySCF's object of the same problem, not run.
        ks: The layer.
        state: Its converged state.
        dipole_derivatives: dμ/dR, [natm, 3, 3], elementary charges.

    Returns:
        Frequencies and intensities; translations and rotations are left out.

    Raises:
        ComputationError: If neither second nor first derivatives are there.
    """
    if mf.mol.natm < 2:
        empty = np.zeros(0)
        return Vibrations(frequencies=empty, intensities=empty, modes=np.zeros((0, 1, 3)))
    second = hessian(mf, ks, state)
    from pyscf.hessian import thermo  # with every correlation method's gradients: 50 ms

    found = thermo.harmonic_analysis(mf.mol, second, imaginary_freq=False)
    modes = np.asarray(found["norm_mode"])
    slopes = np.einsum("kax,axy->ky", modes, dipole_derivatives)
    return Vibrations(
        frequencies=np.asarray(found["freq_wavenumber"]),
        intensities=KM_PER_MOL * np.square(slopes).sum(1),
        modes=modes,
    )


def hessian(mf: Any, ks: KohnSham, state: SCFResult) -> Float[np.ndarray, "natm natm 3 3"]:
    """Second derivatives of the energy, Eh/bohr²: analytic, or by differences of forces.

    Args:
        mf: PySCF's object of the same problem; filled with the state.
        ks: The layer.
        state: Its converged state.

    Returns:
        Symmetric; the last two axes are directions.

    Raises:
        ComputationError: If PySCF has no gradients either.
    """
    orbitals = state.mo_coeff, state.mo_energy, state.mo_occ
    meanfield.fill(mf, orbitals, state.energy, True)
    if min(mf.mol.nelec) == 0 and ks.unrestricted:  # PySCF's code wants electrons of both spins
        return _by_differences(mf, ks, state)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PySCF's own deprecations are not the user's
            found = np.asarray(mf.Hessian().kernel())
    except NotImplementedError:
        return _by_differences(mf, ks, state)
    # what moves with the grid is left out there; that nothing changes where all atoms move is not
    atoms = np.arange(len(found))
    found[atoms, atoms] -= found.sum(1)
    return 0.5 * (found + found.transpose(1, 0, 3, 2))


def _by_differences(mf: Any, ks: KohnSham, state: SCFResult) -> Float[np.ndarray, "natm natm 3 3"]:
    natm = mf.mol.natm
    out = np.zeros((natm, natm, 3, 3))
    for atom in range(natm):
        for x in range(3):
            slopes = [_gradient(mf, ks, state, _moved(mf.mol, atom, x, s)) for s in (STEP, -STEP)]
            out[atom, :, x] = (slopes[0] - slopes[1]) / (2 * STEP)
    return 0.5 * (out + out.transpose(1, 0, 3, 2))


def _moved(mol: gto.Mole, atom: int, x: int, by: float) -> gto.Mole:
    coords = mol.atom_coords()
    coords[atom, x] += by
    return mol.set_geom_(coords, unit="bohr", inplace=False)


def _gradient(mf: Any, ks: KohnSham, state: SCFResult, mol: gto.Mole) -> np.ndarray:
    there = mf.copy().reset(mol)
    layer = KohnSham.from_pyscf(there, device=str(ks.x.device))
    found = layer.scf(state.dm, conv_tol=1e-11, conv_tol_grad=1e-8, hint=False)
    ks.fock_builds += layer.fock_builds
    ks.coarse_builds += layer.coarse_builds
    if not found.converged:
        raise ComputationError(
            "expected the SCF to converge at displaced geometries, it did not; leave "
            f"{argument('response', True)} out"
        )
    orbitals = found.mo_coeff, found.mo_energy, found.mo_occ
    return -meanfield.forces_of(meanfield.fill(there, orbitals, found.energy, True))
