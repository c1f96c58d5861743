"""The integrals of a uniform electric field."""

from typing import Any

import numpy as np
import torch
from pyscf import gto

from deeph_zero.errors import InputError
from deeph_zero.integrals.one_electron import as_tensor
from deeph_zero.ks.terms.field import ElectricField


def electric_field(mol: gto.Mole, field: Any, device: torch.device | str = "cpu") -> ElectricField:
    """The energy term of a field, about the coordinates' origin as PySCF's ``int1e_r``.

    Args:
        mol: Built molecule; nuclei count with the charges of PySCF's Hamiltonian (reduced by
            effective core potentials, zero for ghost atoms).
        field: ε_x, ε_y, ε_z, atomic units (1 is 51.42 V/Å).
        device: Where the matrix goes.

    Returns:
        The term.

    Raises:
        InputError: If ``field`` is not three finite numbers.
    """
    strength = _strength(field)
    with mol.with_common_orig((0.0, 0.0, 0.0)):
        position = np.tensordot(strength, mol.intor_symmetric("int1e_r", comp=3), axes=1)
    nuclei = -float(mol.atom_charges() @ mol.atom_coords() @ strength)
    return ElectricField(as_tensor(position, device), nuclei)


def _strength(field: Any) -> np.ndarray:
    try:
        found = np.array(field, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.array(np.nan)
    if found.shape != (3,) or not np.isfinite(found).all():
        raise InputError(
            f"field expected three finite numbers (x, y, z in atomic units), got {field!r}"
        )
    return found
