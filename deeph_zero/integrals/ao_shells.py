"""Shells of a PySCF molecule as the plain description that ``ao/values.py`` evaluates."""

from pyscf import gto

from deeph_zero.ao.values import AOBasis, Shell
from deeph_zero.errors import InputError

# ruff: noqa: SLF001  PySCF keeps the normalised coefficients behind _libcint_ctr_coeff


def ao_basis(mol: gto.Mole) -> AOBasis:
    """The shells of :func:`ao_shells` as a basis, float64 on the CPU."""
    return AOBasis.from_shells(ao_shells(mol), cart=bool(mol.cart))


def ao_shells(mol: gto.Mole) -> list[Shell]:
    """Exponents, contraction coefficients (normalised as PySCF does) and centres of all shells.

    Ghost atoms have shells like any other centre; an ECP has none.

    Args:
        mol: Built molecule, spherical or Cartesian.

    Returns:
        Shells in PySCF's AO order.

    Raises:
        InputError: A shell with a spinor kappa, which has no real AOs.
    """
    shells = []
    for k in range(mol.nbas):
        if mol.bas_kappa(k):
            msg = f"expected shells without kappa, got {mol.bas_kappa(k)} in shell {k}"
            raise InputError(f"{msg}; use a non-relativistic basis")
        shells.append(
            Shell(
                atom=int(mol.bas_atom(k)),
                l=int(mol.bas_angular(k)),
                exponents=mol.bas_exp(k).tolist(),
                coefficients=mol._libcint_ctr_coeff(k).T.tolist(),
            )
        )
    return shells
