"""Superposition of atomic densities, rescaled to the right number of electrons."""

import logging
import warnings

import numpy as np
import scipy.linalg
from pyscf import gto
from pyscf.scf import hf

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.integrals.minao import minao_density
from deeph_zero.integrals.one_electron import as_tensor
from deeph_zero.types import AOMatrix

_log = logging.getLogger("deeph_zero")

_RECIPES = (("minao", minao_density), ("atom", hf.init_guess_by_atom))

_NAMED = {"atom": hf.init_guess_by_atom, "huckel": hf.init_guess_by_huckel}

SYMMETRY_BREAKING = 0.25
"""Relative change of AO amplitudes between alpha and beta."""


def atomic_density(mol: gto.Mole) -> tuple[np.ndarray, str]:
    """Total density matrix of superposed spherical atoms and the name of the recipe.

    PySCF's ``init_guess_by_minao``: occupations of the free atoms in the ANO basis (or, with an
    ECP, in the valence part of the basis), projected on this basis. Where that fails (very heavy
    elements, unusual ECP basis sets): ``init_guess_by_atom`` (spherically averaged atomic
    Hartree-Fock), and last the core Hamiltonian's orbitals.

    Args:
        mol: Built molecule.

    Returns:
        Density matrix [nao, nao], not rescaled; "minao", "atom" or "hcore".
    """
    for name, recipe in _RECIPES:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the atom guess calls a deprecated PySCF function
                dm = np.asarray(recipe(mol))
        except (
            AssertionError,
            KeyError,
            ValueError,
            IndexError,
            RuntimeError,
            NotImplementedError,
            np.linalg.LinAlgError,
        ) as error:
            _log.debug("initial guess %s is not available: %r", name, error)
            continue
        if np.isfinite(dm).all():
            return (dm + dm.T) / 2, name
    return _core_density(mol), "hcore"


def named_density(mol: gto.Mole, recipe: str) -> tuple[np.ndarray, str]:
    """Total density matrix of one recipe, not rescaled, and the recipe used.

    Args:
        mol: Built molecule.
        recipe: "minao" (:func:`atomic_density`, which falls back where it fails), "atom"
            (spherically averaged atomic Hartree-Fock), "huckel" (Hückel orbitals of these atoms)
            or "core" (orbitals of the core Hamiltonian).

    Returns:
        Density matrix [nao, nao] and the name.

    Raises:
        InputError: If the name is unknown.
        ComputationError: If PySCF has no such guess for this molecule.
    """
    if recipe == "minao":
        return atomic_density(mol)
    if recipe == "core":
        return _core_density(mol), recipe
    if recipe not in _NAMED:
        known = ", ".join(["minao", *_NAMED, "core"])
        raise InputError(f"init guess expected one of {known}, got {recipe!r}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the atom guess calls a deprecated PySCF function
            dm = np.asarray(_NAMED[recipe](mol))
    except (ArithmeticError, LookupError, RuntimeError, ValueError, np.linalg.LinAlgError) as error:
        raise ComputationError(
            f"PySCF has no starting density {recipe!r} for this molecule ({error}); use minao"
        ) from error
    return (dm + dm.T) / 2, recipe


def density_guess(
    mol: gto.Mole,
    *,
    unrestricted: bool = False,
    break_symmetry: bool = False,
    recipe: str = "minao",
) -> AOMatrix:
    """Starting density P0 with exactly the right number of electrons.

    Args:
        mol: Built molecule.
        unrestricted: Alpha and beta, each the same superposition scaled to its own count.
        break_symmetry: With ``unrestricted``: alpha and beta get opposite amplitude changes, +
            and - on the two ends of the molecule and irregular from orbital to orbital, which
            breaks spin and spatial symmetry so that an SCF can find broken-symmetry solutions.
            The same molecule always gets the same changes.
        recipe: See :func:`named_density`.

    Returns:
        [nao, nao] with tr(P0 S) = N, or [2, nao, nao] with tr(P0_s S) = n_s; float64, CPU.
    """
    ovlp = hf.get_ovlp(mol)
    dm, name = named_density(mol, recipe)
    _log.debug("starting density: %s", name)
    if not unrestricted:
        return as_tensor(_rescale(dm, ovlp, mol.nelectron, mol))
    up = down = dm / 2
    if break_symmetry:
        change = _amplitude_change(mol)
        up = up * np.outer(1 + change, 1 + change)
        down = down * np.outer(1 - change, 1 - change)
    n_alpha, n_beta = mol.nelec
    pair = [_rescale(up, ovlp, n_alpha, mol), _rescale(down, ovlp, n_beta, mol)]
    return as_tensor(np.array(pair))


def _rescale(dm: np.ndarray, ovlp: np.ndarray, nelec: int, mol: gto.Mole) -> np.ndarray:
    trace = float(np.einsum("ij,ji->", dm, ovlp))
    if nelec == 0:
        return np.zeros_like(dm)
    if trace < 1e-6:  # an atomic superposition without electrons, e.g. around ghosts only
        dm = _core_density(mol)
        trace = float(np.einsum("ij,ji->", dm, ovlp))
    return dm * (nelec / trace)


def _core_density(mol: gto.Mole) -> np.ndarray:
    """Closed-shell-like density of the core Hamiltonian's lowest orbitals, any electron count."""
    ovlp = hf.get_ovlp(mol)
    orthogonal = hf.canonical_orthogonalization(ovlp)
    _, rotation = scipy.linalg.eigh(orthogonal.T @ hf.get_hcore(mol) @ orthogonal)
    orbitals = orthogonal @ rotation
    occupied = np.clip(mol.nelectron - 2.0 * np.arange(orbitals.shape[1]), 0, 2)
    return (orbitals * occupied) @ orbitals.T


def _amplitude_change(mol: gto.Mole) -> np.ndarray:
    """Relative change per AO, [nao]: the sign follows the molecule's long axis."""
    coords = mol.atom_coords() - mol.atom_coords().mean(axis=0)
    _, _, axes = np.linalg.svd(coords, full_matrices=False)
    along = coords @ axes[0]
    side = np.where(np.abs(along) > 1e-6, np.sign(along), 0.0)
    irregular = np.random.default_rng(0).uniform(-1, 1, int(mol.nao_nr()))
    atom_of_ao = np.concatenate(
        [np.full(stop - start, i) for i, (_, _, start, stop) in enumerate(mol.aoslice_by_atom())]
    ).astype(int)
    return SYMMETRY_BREAKING * (0.7 * side[atom_of_ao] + 0.3 * irregular)
