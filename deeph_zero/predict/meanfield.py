"""A prediction as a PySCF mean-field object: forces, checkpoint, Molden and cube files from it."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from pyscf import dft, scf
from pyscf.tools import cubegen, molden
from torch import Tensor

from deeph_zero.errors import ComputationError, InputError, argument
from deeph_zero.host.files import atomic_path
from deeph_zero.host.hdf5 import hdf5_written_to
from deeph_zero.integrals.grids import with_elements
from deeph_zero.integrals.mole import build_mole, fitting_functions
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.given import by_spin
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.predict.single import Prediction, canonical_orbitals


def mean_field(molecule: Molecule, method: Method, *, unrestricted: bool) -> Any:
    """PySCF's object for the same discretised problem, not run.

    Args:
        molecule: The structure.
        method: Basis, functional, fitting and grid.
        unrestricted: UKS or RKS (UHF or RHF without a functional).

    Returns:
        The object, with density fitting and grid level set.

    Raises:
        InputError: If the molecule is impossible in this basis.
    """
    mol = build_mole(molecule, basis=method.basis)
    if method.xc.strip().lower() == "hf":
        mf: Any = scf.UHF(mol) if unrestricted else scf.RHF(mol)
    else:
        mf = dft.UKS(mol, xc=method.xc) if unrestricted else dft.RKS(mol, xc=method.xc)
        mf.grids.level = method.grid_level
    if not method.density_fit:
        return mf
    return mf.density_fit(auxbasis=fitting_functions(mol, method.auxbasis))


def refined_mean_field(prediction: Prediction, method: Method) -> Any:
    """The mean-field object of a refined prediction, with its converged orbitals.

    Args:
        prediction: With ``refined``.
        method: What the model was trained on.

    Returns:
        The object: ``mo_coeff``, ``mo_energy``, ``mo_occ``, ``e_tot`` and ``converged`` are set.

    Raises:
        InputError: If the prediction was not refined.
    """
    done = prediction.refined
    if done is None:
        raise InputError("expected a refined prediction, got the network's own; give refine=1e-6")
    mf = mean_field(prediction.molecule, method, unrestricted=len(by_spin(done.dm, 2)) == 2)
    return fill(mf, (done.mo_coeff, done.mo_energy, done.mo_occ), done.energy, done.converged)


def orbitals_of(
    result: Prediction, ks: KohnSham
) -> tuple[tuple[Tensor, Tensor, Tensor], float, bool]:
    """What :func:`fill` takes, of a prediction.

    Args:
        result: With its energy.
        ks: The layer it was made with.

    Returns:
        The refined orbitals, else those of P̂; their energy, and whether it is converged.

    Raises:
        InputError: If the prediction was made without a build.
    """
    done = result.refined
    if done is not None:
        return (done.mo_coeff, done.mo_energy, done.mo_occ), done.energy, done.converged
    if result.energy is None:
        raise InputError("certificate=False: orbitals need a Fock build; leave it out")
    return canonical_orbitals(ks, result), result.energy, False


def fill(mf: Any, orbitals: tuple[Tensor, Tensor, Tensor], energy: float, converged: bool) -> Any:
    """Put orbitals into a mean-field object of the same problem.

    Args:
        mf: PySCF's object.
        orbitals: Coefficients, energies and occupations.
        energy: Energy of their density, Eh.
        converged: Whether it is self-consistent.

    Returns:
        ``mf`` itself with ``mo_coeff``, ``mo_energy``, ``mo_occ``, ``e_tot`` and ``converged``.
    """
    mf.mo_coeff, mf.mo_energy, mf.mo_occ = (
        np.ascontiguousarray(part.cpu().numpy()) for part in orbitals
    )
    mf.e_tot, mf.converged = energy, converged
    return mf


def forces(prediction: Prediction, method: Method) -> np.ndarray:
    """-dE/dR of the refined energy: PySCF's analytic gradient, grid and fitting responses included.

    Only the gradient of a converged energy is the derivative of that energy, hence the refinement.

    Args:
        prediction: Refined, to :data:`deeph_zero.settings.config.FORCE_TOL` or better.
        method: What the model was trained on.

    Returns:
        Forces, Eh/bohr, [natm, 3].

    Raises:
        ComputationError: If the refinement did not converge, or PySCF has no gradient for it.
    """
    mf = refined_mean_field(prediction, method)
    where = prediction.molecule.where
    if not mf.converged:
        raise ComputationError(
            f"{where}expected a converged energy to differentiate, the refinement did not get "
            f"there; loosen {argument('refine')} or leave {argument('forces')} out"
        )
    try:
        return forces_of(mf)
    except NotImplementedError as error:
        raise ComputationError(
            f"{where}expected a functional with analytic gradients, PySCF has none for "
            f"{method.xc!r} here ({str(error) or 'not implemented'}); "
            f"leave {argument('forces')} out"
        ) from error


def forces_of(mf: Any) -> np.ndarray:
    """-dE/dR of a filled mean-field object, Eh/bohr, [natm, 3].

    Args:
        mf: With converged orbitals.

    Returns:
        Grid and fitting responses included.

    Raises:
        NotImplementedError: If PySCF has none.
    """
    gradient = mf.nuc_grad_method()
    if hasattr(gradient, "grid_response"):
        gradient.grid_response = True
    if hasattr(mf, "grids"):
        gradient.grids = with_elements(mf.grids)
        gradient.nlcgrids = with_elements(mf.nlcgrids)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PySCF's own deprecations are not the user's
        return -np.asarray(gradient.kernel())


def write_chkfile(mf: Any, path: Path) -> None:
    """Write the file PySCF's ``init_guess='chkfile'`` and ``lib.chkfile`` read.

    Args:
        mf: Mean-field object with orbitals.
        path: Where; appears as a whole.

    Raises:
        ComputationError: If writing fails.
    """
    with atomic_path(path) as temporary, hdf5_written_to(temporary) as file:
        file["mol"] = mf.mol.dumps()
        for name in ("e_tot", "mo_energy", "mo_occ", "mo_coeff"):
            file[f"scf/{name}"] = getattr(mf, name)


def write_molden(mf: Any, path: Path) -> None:
    """Write orbitals, energies and occupations in Molden format, for viewers.

    Args:
        mf: Mean-field object with orbitals.
        path: Where; appears as a whole.

    Raises:
        ComputationError: If writing fails.
    """
    with atomic_path(path) as temporary:
        molden.from_scf(mf, str(temporary))


def write_cube(mf: Any, what: str, path: Path, *, spacing: float = 0.2) -> None:
    """Write a density or an orbital on a box of points, Gaussian's cube format.

    Args:
        mf: Mean-field object with orbitals.
        what: "density", "spin-density", "homo" or "lumo"; of UKS, "homo" and "lumo" are alpha's.
        path: Where; appears as a whole.
        spacing: Distance of the points, bohr.

    Raises:
        InputError: If there is no such quantity.
        ComputationError: If writing fails.
    """
    with atomic_path(path) as temporary:
        if what in ("density", "spin-density"):
            cubegen.density(mf.mol, str(temporary), _cube_density(mf, what), resolution=spacing)
        else:
            coeff = _cube_orbital(mf, what)
            cubegen.orbital(mf.mol, str(temporary), coeff, resolution=spacing)


def _cube_density(mf: Any, what: str) -> np.ndarray:
    dm = by_spin(np.asarray(mf.make_rdm1()), 2)
    if what == "density":
        return dm.sum(0)
    if len(dm) == 1:
        raise InputError(
            f"{argument('cube', what)}: expected an open shell, got a closed one; "
            "there is no such cube"
        )
    return dm[0] - dm[1]


def _cube_orbital(mf: Any, what: str) -> np.ndarray:
    coeff, occ = by_spin(np.asarray(mf.mo_coeff), 2)[0], by_spin(np.asarray(mf.mo_occ), 1)[0]
    n_occupied = int((occ > 0).sum())
    index = n_occupied - 1 if what == "homo" else n_occupied
    if not 0 <= index < coeff.shape[1]:
        filled = "none" if what == "homo" else "all"
        raise InputError(
            f"{argument('cube', what)}: {filled} of the {coeff.shape[1]} orbitals of the basis are "
            "occupied; there is no such cube"
        )
    return coeff[:, index]
