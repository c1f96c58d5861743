"""Forces and stress of a converged crystal, by PySCF's own derivatives."""

import warnings
from typing import Any

import numpy as np
from jaxtyping import Float
from pyscf.pbc import dft
from pyscf.pbc.grad import krks_stress, kuks_stress

from deeph_zero.errors import InputError
from deeph_zero.integrals.periodic.calculation import CrystalCalculation
from deeph_zero.integrals.periodic.exchange import has_exchange, whole_mesh
from deeph_zero.ks.periodic.result import CrystalSCFResult


def crystal_forces(
    settings: CrystalCalculation, result: CrystalSCFResult
) -> Float[np.ndarray, "natm 3"]:
    """-dE/dR, of the free energy with smearing.

    Args:
        settings: What was computed.
        result: Its SCF.

    Returns:
        Eh/bohr.

    Raises:
        InputError: If PySCF has no such derivatives.
    """
    _refuse(settings, "forces")
    mf = _mean_field(settings, result)
    gradient = mf.nuc_grad_method()
    gradient.verbose = 0
    return -np.asarray(gradient.kernel())


def crystal_stress(
    settings: CrystalCalculation, result: CrystalSCFResult
) -> Float[np.ndarray, "3 3"]:
    """dE/dε per volume, of the free energy with smearing.

    Args:
        settings: What was computed.
        result: Its SCF.

    Returns:
        Eh/bohr³, symmetric.

    Raises:
        InputError: If PySCF has no such derivatives.
    """
    _refuse(settings, "stress")
    if has_exchange(settings.spec):
        raise _unsupported("stress", "exact exchange", "use a semilocal functional")
    mf = _mean_field(settings, result)
    module = kuks_stress if settings.unrestricted else krks_stress
    gradient = mf.nuc_grad_method()
    gradient.verbose = 0
    found = np.asarray(module.kernel(gradient))
    return 0.5 * (found + found.T)


def _refuse(settings: CrystalCalculation, what: str) -> None:
    """What PySCF's derivatives do not cover."""
    cell = settings.cell
    if settings.fitting is not None:
        raise _unsupported(what, "density fitting", "use FFTDF with pseudopotentials")
    if settings.spec.kind == "MGGA":
        raise _unsupported(what, "meta-GGA functionals", "use LDA, GGA or a hybrid of them")
    if cell.dimension != 3:
        raise _unsupported(what, f"dimension {cell.dimension}", "use 3 with enough vacuum")
    if len(cell._ecpbas):  # noqa: SLF001
        raise _unsupported(what, "effective core potentials", "use GTH pseudopotentials")
    if not cell.pseudo:
        raise InputError(f"{what} of crystals without pseudopotentials are not supported; use GTH")
    if settings.spec.omega and has_exchange(settings.spec):
        raise _unsupported(what, "range separation", "use pbe0, or a semilocal functional")


def _unsupported(what: str, thing: str, cure: str) -> InputError:
    return InputError(f"{what} of crystals with {thing} are not supported; {cure}")


def _mean_field(settings: CrystalCalculation, result: CrystalSCFResult) -> Any:
    """PySCF's object on the whole mesh of k-points, with the orbitals found."""
    cell = settings.cell
    origins, scaled = whole_mesh(settings.kpoints)
    kind = dft.KUKS if settings.unrestricted else dft.KRKS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on the spin of the cell, which is not used
        mf = kind(cell, cell.get_abs_kpts(scaled), xc=settings.spec.name)
    mf.exxdiv, mf.verbose = settings.exxdiv, 0
    mf.with_df.mesh = mf.grids.mesh = np.array(settings.mesh)
    orbitals = result.mo_coeff.cpu().numpy().astype(complex)
    levels = np.nan_to_num(result.mo_energy.cpu().numpy(), posinf=0.0)
    filling = result.mo_occ.cpu().numpy()
    whole = [
        (
            [orbitals[s, i].conj() if conjugate else orbitals[s, i] for i, conjugate in origins],
            [levels[s, i] for i, _ in origins],
            [filling[s, i] for i, _ in origins],
        )
        for s in range(len(orbitals))
    ]
    parts = [[spin[n] for spin in whole] for n in range(3)]
    mf.mo_coeff, mf.mo_energy, mf.mo_occ = parts if settings.unrestricted else [p[0] for p in parts]
    mf.converged, mf.e_tot = result.converged, result.energy
    return mf
