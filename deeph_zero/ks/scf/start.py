"""Densities an SCF starts from, and the density of a Fock matrix without a gradient."""

from deeph_zero.errors import InputError
from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.types import AOMatrix


def filled_density(
    layer: KohnShamLayer, fock: AOMatrix, degeneracy_tol: float
) -> tuple[AOMatrix, float]:
    """Density matrix of a Fock matrix and T S (Eh) of its occupations, without autograd.

    Args:
        layer: The molecule.
        fock: Fock matrix, Eh.
        degeneracy_tol: Frontier levels closer than this are filled evenly.

    Returns:
        P and T S.
    """
    orbitals = layer.orbitals(fock, degeneracy_tol)
    dm = (orbitals.mo_coeff * orbitals.mo_occ.unsqueeze(-2)) @ orbitals.mo_coeff.mT
    return dm, orbitals.entropy_energy


def starting_density(layer: KohnShamLayer, init_guess: str) -> AOMatrix:
    """Density matrix to start from.

    Args:
        layer: The molecule.
        init_guess: "minao" or "core".

    Returns:
        [nao, nao] or [2, nao, nao].

    Raises:
        InputError: If the name is unknown.
    """
    if init_guess == "minao":
        return layer.data.dm_guess
    if init_guess != "core":
        raise InputError(
            f"expected init_guess 'minao' or 'core', got {init_guess!r}; give others as dm0"
        )
    hcore = layer.data.hcore
    return filled_density(layer, hcore.expand(2, -1, -1) if layer.unrestricted else hcore, 0.0)[0]
