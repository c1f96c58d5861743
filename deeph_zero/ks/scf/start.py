"""Densities an SCF starts from, and the density of a Fock matrix without a gradient."""

from deeph_zero.errors import InputError
from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.types import SpinMatrix


def filled_density(
    layer: KohnShamLayer, fock: SpinMatrix, degeneracy_tol: float
) -> tuple[SpinMatrix, float]:
    """Density matrix of a Fock matrix and T S (Eh) of its occupations, without autograd.

    Args:
        layer: The molecule.
        fock: Fock matrix, Eh.
        degeneracy_tol: Frontier levels closer than this are filled evenly.

    Returns:
        P and T S.
    """
    orbitals = layer.orbitals(fock, degeneracy_tol)
    dm = (orbitals.mo_coeff * orbitals.mo_occ.unsqueeze(-2)) @ orbitals.mo_coeff.mH
    return dm, orbitals.entropy_energy


def starting_density(layer: KohnShamLayer, init_guess: str) -> SpinMatrix:
    """Density matrix to start from.

    Args:
        layer: The molecule.
        init_guess: "minao" or "core".

    Returns:
        [nspin, nao, nao].

    Raises:
        InputError: If the name is unknown.
    """
    if init_guess == "minao":
        return layer.dm_guess
    if init_guess != "core":
        raise InputError(
            f"expected init_guess 'minao' or 'core', got {init_guess!r}; give others as dm0"
        )
    return filled_density(layer, layer.data.hcore.expand(layer.nspin, -1, -1), 0.0)[0]
