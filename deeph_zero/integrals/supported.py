"""Which PySCF mean-field objects this package computes as PySCF does."""

from typing import Any

from pyscf import df, dft, scf
from pyscf.df.df_jk import _DFHF
from pyscf.dft.numint import NumInt

from deeph_zero.errors import InputError

# ruff: noqa: SLF001  PySCF keeps _numint private

_SUPPORTED = (dft.rks.RKS, dft.uks.UKS, scf.hf.RHF, scf.rhf.RHF, scf.uhf.UHF)

_HINTS = {
    "_Solvation": "solvent models are not supported",
    "_X2C_SCF": "relativistic Hamiltonians are not supported",
    "ROHF": "restricted open shells are not supported, use UKS",
    "GHF": "generalised spin is not supported, use UKS",
    "_SymAdaptedHF": "build the molecule with symmetry=False",
    "SymAdaptedRHF": "build the molecule with symmetry=False",
    "SymAdaptedUHF": "build the molecule with symmetry=False",
    "QMMM": "external charges are not supported",
}


def check_supported(mf: Any) -> None:
    """Refuse objects whose energy would differ from the one this package computes.

    Args:
        mf: Any object; a supported one is RKS, UKS, RHF or UHF, with or without ``density_fit``.

    Raises:
        InputError: If it is anything else or carries a setting that is not reproduced.
    """
    plain = mf.undo_df() if isinstance(mf, _DFHF) else mf
    if type(plain) not in _SUPPORTED:
        bases = {c.__name__ for c in type(plain).__mro__}
        hint = next((h for name, h in _HINTS.items() if name in bases), "use a plain RKS or UKS")
        msg = (
            f"expected a gto.Mole or a PySCF RKS, UKS, RHF or UHF object, got "
            f"{type(mf).__name__}; {hint}"
        )
        raise InputError(msg)
    if type(getattr(mf, "with_df", None)) not in (type(None), df.DF):
        kind = type(mf.with_df).__name__
        raise InputError(f"expected density fitting by pyscf.df.DF, got {kind}; use density_fit()")
    if not isinstance(mf, dft.rks.KohnShamDFT):
        return
    extra = None
    if type(mf._numint) is not NumInt or "eval_xc" in vars(mf._numint):
        extra = "a custom functional (define_xc_); use a libxc name"
    elif mf._numint.omega is not None:
        extra = f"its own omega {mf._numint.omega:g}; name the functional with that omega in xc"
    elif mf.small_rho_cutoff > 1e-20 and mf.grids.coords is None:
        extra = f"small_rho_cutoff {mf.small_rho_cutoff:g}; set it to 0"
    if extra:
        raise InputError(f"expected a plain Kohn-Sham object, got one with {extra}")
