"""A Fock-like matrix without any electron: nuclei screened by the electrons of free atoms."""

import functools

import numpy as np
from jaxtyping import Float
from pyscf import df, gto, lib
from pyscf.scf import hf
from torch import Tensor

from deeph_zero.errors import InputError, argument
from deeph_zero.integrals.basis_sets import shells_of
from deeph_zero.integrals.one_electron import as_tensor

_TABLE = "sapgraspsmall"
"""PySCF's table of atomic potentials, 3 (hydrogen) or more s functions per element."""


def screened_core(mol: gto.Mole, hcore: Tensor | None = None) -> Float[Tensor, "nao nao"]:
    """T + V (+ ECP) plus the superposed potentials of the electrons of neutral free atoms.

    The electrons of atom A act as Σ_k c_k erf(√α_k r) / r with Σ_k c_k = Z_A, fitted once per
    element to a relativistic exchange-only local potential. It is a fixed one-electron operator:
    no density, no quadrature grid, and exact under rotation. Its matrix elements are three-centre
    integrals with one s function per atom. Beyond a few bohr an atom's potential vanishes, so the
    matrix of a pair depends on its surroundings only. Where a core potential replaces electrons,
    their charge is taken off the most compact functions.

    References:
        Lehtola, J. Chem. Theory Comput. 15, 1593 (2019), doi:10.1021/acs.jctc.8b01089, eq. 5;
        Lehtola, Visscher, Engel, J. Chem. Phys. 152, 144105 (2020), doi:10.1063/5.0004046.

    Args:
        mol: Built molecule.
        hcore: T + V (+ ECP) where it exists already, Eh.

    Returns:
        The matrix in PySCF's AO order, Eh, float64 on the CPU.

    Raises:
        InputError: If an element has no tabulated potential.
    """
    matrix = as_tensor(hf.get_hcore(mol)) if hcore is None else hcore.cpu()
    screens = [
        gto.fakemol_for_cgtf_charge(mol.atom_coord(k)[None], *functions)
        for k, functions in screening_functions(mol).items()
    ]
    if screens:
        everything = functools.reduce(gto.conc_mol, screens)
        potential = df.incore.aux_e2(mol, everything, intor="int3c2e", aosym="s2ij").sum(-1)
        matrix = matrix + as_tensor(lib.unpack_tril(potential))
    return matrix


def screening_functions(mol: gto.Mole) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Exponents (1/bohr²) and electrons of the screening of every atom with a nucleus.

    Args:
        mol: Built molecule.

    Returns:
        By atom; a ghost atom has functions but no electrons.

    Raises:
        InputError: If an element has no tabulated potential.
    """
    return {
        k: _functions(mol.atom_pure_symbol(k), int(mol.atom_nelec_core(k)))
        for k in range(mol.natm)
        if mol.atom_charge(k) > 0
    }


@functools.cache
def _functions(symbol: str, n_core: int) -> tuple[np.ndarray, np.ndarray]:
    """Exponents (1/bohr²) and positive electron numbers of one element's screening."""
    try:
        table = np.array((shells_of(_TABLE, symbol) or [])[0][1:], dtype=np.float64)
    except IndexError as error:
        raise InputError(
            f"expected elements with a tabulated atomic potential, got {symbol}; "
            f"use {argument('inputs', 'physics')}"
        ) from error
    order = np.argsort(-table[:, 0])
    exponents, electrons = table[order, 0], -table[order, 1]
    # what is left when the first n_core electrons, counted from the most compact, are gone
    outside = np.clip(np.cumsum(electrons) - n_core, 0.0, None)
    return exponents, np.diff(outside, prepend=0.0) if n_core else electrons
