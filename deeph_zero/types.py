"""Array types, the axis names used in every signature, and how records of arrays print.

Axis names: ``nao`` atomic orbitals, ``nmo`` molecular orbitals (< nao where linear dependence was
removed), ``naux`` auxiliary functions, ``nao_pair`` = nao(nao+1)/2 packed pairs (lower triangle,
row by row, as ``numpy.tril_indices``), ``ngrids`` quadrature points, ``natm`` atoms, ``nvar``
density variables (1 LDA, 4 GGA, 5 meta-GGA), ``*spin`` absent (closed shell) or one leading axis
of length 2 (alpha, beta), as users have it; ``nspin`` always there, 1 or 2, as ``ks/`` has it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from jaxtyping import Float, Inexact, Int
from torch import Tensor

AOMatrix: TypeAlias = Float[Tensor, "*spin nao nao"]
"""Density (``dm``), Fock, overlap, ...: nao x nao, optionally with the spin axis in front."""

MoleculeMatrix: TypeAlias = Float[Tensor, "... _ _"]
"""A matrix of one of several unlike molecules: sizes and spins differ within one call."""

if TYPE_CHECKING:
    GivenMatrix: TypeAlias = Tensor
    GivenMatrices: TypeAlias = Sequence[Tensor]
else:
    # whatever came: looked at by deeph_zero.ks.given, whose words are better than a type checker's
    GivenMatrix: TypeAlias = Any
    GivenMatrices: TypeAlias = Any

PackedFit: TypeAlias = Float[Tensor, "naux nao_pair"]
"""Fitted three-centre tensor B, packed lower triangle: (mn|ls) ~ sum_L B[L,mn] B[L,ls], Eh^1/2."""

Features: TypeAlias = Float[Tensor, "nspin nvar ngrids"]
"""Density variables on the grid: rho; d rho/dx, dy, dz; tau = 1/2 sum |grad psi|^2 (a.u.)."""

GridScalar: TypeAlias = Float[Tensor, " ngrids"]
Orbitals: TypeAlias = Float[Tensor, "*spin nao nmo"]
OrbitalEnergies: TypeAlias = Float[Tensor, "*spin nmo"]
Scalar: TypeAlias = Float[Tensor, ""]
Coordinates: TypeAlias = Float[Tensor, "natm 3"]
Numbers: TypeAlias = Int[Tensor, " natm"]

SpinMatrix: TypeAlias = Float[Tensor, "*nmol nspin nao nao"]
"""Matrices that always have a spin axis, of length 1 for a closed shell: the shape inside ``ks/``.
``*nmol`` absent, or one axis of molecules padded to one size."""

TermMatrix: TypeAlias = Inexact[Tensor, "*axes nao nao"]
"""What sums over terms take: :data:`SpinMatrix`, or a crystal's [nspin, nk, nao, nao]."""

SpinOrbitals: TypeAlias = Float[Tensor, "nspin nao nmo"]
SpinEnergies: TypeAlias = Float[Tensor, "nspin nmo"]

PerMolecule: TypeAlias = Float[Tensor, "*nmol"]
"""A number of one molecule, or of each molecule of a padded stack."""


class Brief:
    """A record that prints on a line or two: arrays by their shapes, other records by their names.

    A dataclass of it is made with ``repr=False``, and with ``eq=False``: two records are equal
    where they are one, as objects of PySCF are; arrays are compared one by one.
    """

    def __repr__(self) -> str:
        """Name of the class and what it holds; what is None or empty is left out."""
        shown = []
        for field in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, field.name)
            empty = value is None or (isinstance(value, tuple | list | dict) and not value)
            if field.repr and not empty:
                shown.append(f"{field.name}={_brief(value)}")
        return f"{type(self).__name__}({', '.join(shown)})"


_PLAIN = (str, int, float, complex, type(None))
"""What prints as it is."""
_SHORT = 200
"""Letters of a value that is shown as it is."""


def _brief(value: Any) -> str:
    """A value in a few letters."""
    if isinstance(value, _PLAIN):
        return repr(value)
    shape = getattr(value, "shape", None)
    if shape is not None:
        return str([*shape]) if shape else repr(value.item())
    if isinstance(value, Mapping):
        return f"{{{', '.join(map(str, value))}}}"
    if isinstance(value, tuple | list) and not all(isinstance(one, _PLAIN) for one in value):
        return f"[{len(value)}]"
    # a record or a function may hold arrays
    text = "" if dataclasses.is_dataclass(value) or callable(value) else repr(value)
    return text if 0 < len(text) <= _SHORT and " at 0x" not in text else type(value).__name__
