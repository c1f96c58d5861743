"""PySCF's minao guess with the free atoms kept: it reads the ANO basis file for every molecule."""

import functools

import numpy as np
from jaxtyping import Float
from pyscf import gto
from pyscf.scf import addons, atom_hf, hf

from deeph_zero.integrals.basis_sets import shells_of

_LARGEST_L = 3
_HEAVIEST = 96
"""Beyond it PySCF's own guess takes another way."""

Shell = list[int | list[float]]
"""A contracted shell in PySCF's form: l, then exponent and coefficients of each primitive."""


@functools.lru_cache(maxsize=128)
def free_atom(symbol: str) -> tuple[tuple[float, ...], tuple[Shell, ...]]:
    """Occupations and occupied ANOs of a spherical atom.

    Each l has its doubly occupied shells and one more with what is left, spread evenly over m, as
    in PySCF's ``init_guess_by_minao``.

    Args:
        symbol: Element.

    Returns:
        Occupation of every function, and the shells (which nobody may change).
    """
    functions = {shell[0]: shell[1:] for shell in shells_of("ano", symbol) or []}
    occupations: list[float] = []
    shells: list[Shell] = []
    for l in range(_LARGEST_L + 1):
        doubly, left = atom_hf.frac_occ(symbol, l)
        for occupation in (*[2.0] * doubly, float(left)):
            occupations.extend([occupation] * (2 * l + 1))
        shells.append([l, *(list(row[: doubly + 2]) for row in functions[l])])
    return tuple(occupations), tuple(shells)


def minao_density(mol: gto.Mole) -> Float[np.ndarray, "nao nao"]:
    """Superposed atomic densities in the ANO basis, projected on the molecule's basis.

    Args:
        mol: Built molecule.

    Returns:
        What PySCF's ``init_guess_by_minao`` gives, which is called for atoms with effective core
        potentials, ghosts and elements it treats apart.
    """
    symbols = [mol.atom_symbol(k) for k in range(mol.natm)]
    plain = all(
        mol.atom_nelec_core(k) == 0 and symbol.isalpha() and 0 < gto.charge(symbol) <= _HEAVIEST
        for k, symbol in enumerate(symbols)
    )
    if not plain:
        return np.asarray(hf.init_guess_by_minao(mol))
    atoms = gto.Mole()
    basis = {symbol: list(free_atom(symbol)[1]) for symbol in dict.fromkeys(symbols)}
    atoms._atm, atoms._bas, atoms._env = atoms.make_env(mol._atom, basis, [])  # noqa: SLF001
    atoms._built = True  # noqa: SLF001
    occupations = np.array([f for symbol in symbols for f in free_atom(symbol)[0]])
    orbitals = addons.project_mo_nr2nr(atoms, np.eye(atoms.nao), mol)
    return (orbitals * occupations) @ orbitals.T
