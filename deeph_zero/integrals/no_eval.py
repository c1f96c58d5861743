"""PySCF's ``eval`` of texts, switched off in every process that computes integrals."""

import importlib
import os

_READERS = (
    "pyscf.gto.mole",
    "pyscf.gto.basis.parse_nwchem",
    "pyscf.gto.basis.parse_nwchem_ecp",
    "pyscf.gto.basis.parse_molpro",
    "pyscf.gto.basis.parse_cp2k",
)
"""Modules with a switch of their own, read when they are imported."""


def switch_off() -> None:
    """Make PySCF's readers of basis sets and geometries refuse what is no number."""
    for name in _READERS:
        vars(importlib.import_module(name))["DISABLE_EVAL"] = True


def left_on() -> list[str]:
    """Modules of PySCF that would still evaluate text; empty if all is well."""
    return [n for n in _READERS if not getattr(importlib.import_module(n), "DISABLE_EVAL", True)]


def configuration_file() -> str:
    """The file of settings that PySCF ran when it was imported."""
    return os.environ.get("PYSCF_CONFIG_FILE", "none")
