"""Values of one structure's HDF5 group: of the right kind, shape and size, or one line says why."""

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from deeph_zero.ao.basis_text import is_text, looks_like_path, parse_basis
from deeph_zero.errors import InputError
from deeph_zero.host.one_line import quoted

HEAVIEST = 118
"""Atomic number of the last element."""
_ASYMMETRY = 1e-6
"""Largest |A - A^T| of a matrix that counts as symmetric, relative to its largest element."""
_COUNTED = 1e-3
"""Electrons by which a sum of occupations may be off."""
_FINEST_GRID = 9
_LONGEST_NAME = 4096
"""Characters of a functional or a basis set's name; the library is slow at longer ones."""
_KINDS = {
    "f": "real numbers",
    "c": "complex numbers",
    "i": "whole numbers",
    "u": "whole numbers",
    "b": "true and false",
}


class Group:
    """Reads datasets and attributes of a group; everything else is damage."""

    def __init__(self, group: Any, place: str, cure: str = "") -> None:
        """Nothing is read yet.

        Args:
            group: A group of an open file.
            place: File and frame, for messages.
            cure: What to do about damage.
        """
        self._group = group
        self._place = place
        self._cure = cure or "make the file again, with `deeph-zero label`"

    def __contains__(self, name: str) -> bool:
        """Whether there is such a dataset."""
        return name in self._group

    def __iter__(self) -> Iterator[str]:
        """Names of the members."""
        return iter(self._group)

    @property
    def attributes(self) -> Any:
        """The group's attributes."""
        return self._group.attrs

    @property
    def fock_name(self) -> str:
        """Where F[dm] stands: a refined prediction keeps the network's matrix as "fock"."""
        return "fock_rebuilt" if "fock_rebuilt" in self else "fock"

    def wrong(self, wanted: str, got: str, cure: str | None = None) -> InputError:
        """The error of this group.

        Args:
            wanted: What was expected.
            got: What came.
            cure: What to do about it, where it is no damage.

        Returns:
            To be raised.
        """
        return InputError(f"{self._place}: expected {wanted}, got {got}; {cure or self._cure}")

    def array(self, name: str, kinds: str) -> np.ndarray:
        """A dataset of finite numbers.

        Args:
            name: Its name.
            kinds: Accepted kinds of NumPy: "iu" for whole numbers, "fiu" for real ones.

        Returns:
            Its values.

        Raises:
            InputError: If it is missing, no dataset, of another kind, or not finite.
        """
        wanted = f"{name} of {_KINDS[kinds[0]]}"
        found: Any = self._group.get(name) if name in self._group else None
        if not isinstance(found, h5py.Dataset):
            raise self.wrong(wanted, "none" if found is None else "a group of this name")
        if found.dtype.kind not in kinds or found.dtype.names:
            raise self.wrong(wanted, f"values of type {found.dtype}")
        if found.shape is None or found.size > 2**31:
            raise self.wrong(wanted, f"a dataset of shape {found.shape}")
        values = np.asarray(found[()])
        if not np.isfinite(values).all():
            raise self.wrong(f"finite {name}", f"NaN or infinity in {name}")
        return values

    def _attribute(self, name: str, wanted: str) -> Any:
        if name not in self._group.attrs:
            raise self.wrong(wanted, "none")
        value = self._group.attrs[name]
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.reshape(-1)[0]
        return value.item() if isinstance(value, np.generic) else value

    def whole(self, name: str) -> int:
        """An attribute that is a whole number.

        Args:
            name: Its name.

        Returns:
            The number.

        Raises:
            InputError: If it is none.
        """
        value = self._attribute(name, f"{name}, a whole number")
        if isinstance(value, float) and value.is_integer() and abs(value) < 1e9:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 10**9:
            raise self.wrong(f"{name}, a whole number", quoted(value))
        return value

    def number(self, name: str) -> float:
        """An attribute that is a finite number.

        Args:
            name: Its name.

        Returns:
            The number.

        Raises:
            InputError: If it is none.
        """
        value = self._attribute(name, f"{name}, a number")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(f"{name}, a number", quoted(value))
        if not np.isfinite(value):
            raise self.wrong(f"finite {name}", f"NaN or infinity in {name}")
        return float(value)

    def text(self, name: str) -> str:
        """An attribute that is a name.

        Args:
            name: Its name.

        Returns:
            The text.

        Raises:
            InputError: If it is none.
        """
        value = self._attribute(name, f"{name}, a name")
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(f"{name}, a name", quoted(value))
        return value

    def switch(self, name: str) -> bool:
        """An attribute that is true or false.

        Args:
            name: Its name.

        Returns:
            The value.

        Raises:
            InputError: If it is neither.
        """
        value = self._attribute(name, f"{name}, true or false")
        if value not in (0, 1) or isinstance(value, float):
            raise self.wrong(f"{name}, true or false", quoted(value))
        return bool(value)

    def mark(self, name: str, meaning: str) -> None:
        """Refuse an attribute that says that the numbers mean something else.

        Args:
            name: Its name; it may be missing.
            meaning: The only value that is understood.

        Raises:
            InputError: If it is there and says something else.
        """
        if name in self._group.attrs and self.text(name) != meaning:
            raise self.wrong(f"{name} {meaning!r}", quoted(self.text(name)))

    def check_facts(self) -> None:
        """See whether what is said about the calculation can be meant, as far as it is said.

        Raises:
            InputError: If an attribute is of another kind, or names code, a path or a text that is
                no basis set.
        """
        there = self._group.attrs
        for name in ("charge", "spin"):
            if name in there:
                self.whole(name)
        if "grid_level" in there and not 0 <= self.whole("grid_level") <= _FINEST_GRID:
            level = self.whole("grid_level")
            raise self.wrong(f"a grid_level from 0 to {_FINEST_GRID}", str(level))
        for name in ("energy", "smearing"):
            if name in there:
                self.number(name)
        for name in ("density_fit", "converged"):
            if name in there:
                self.switch(name)
        self.mark("ao_order", "pyscf")
        self.mark("units", "hartree atomic units")
        for name in ("xc", "basis", "auxbasis"):
            if name in there:
                self._check_name(name, self.text(name), basis=name != "xc")

    def _check_name(self, name: str, value: str, *, basis: bool) -> None:
        if basis and is_text(value):
            try:
                parse_basis(value)
            except InputError as error:
                raise self.wrong(f"{name} in NWChem's format", f"another text: {error}") from None
        elif basis and looks_like_path(value):
            raise self.wrong(f"{name}, a name", f"a path: {quoted(value)}")
        elif not value.isprintable() or len(value) > _LONGEST_NAME:
            raise self.wrong(f"{name}, a name", quoted(value))


def check_electrons(
    group: Group,
    nuclear_charge: int,
    charge: int,
    spin: int,
    mo_occ: np.ndarray,
) -> None:
    """See whether the occupied orbitals hold the electrons of the molecule.

    Args:
        group: Where they come from, for messages.
        nuclear_charge: Charge of all nuclei, less the electrons that pseudopotentials replace.
        charge: Charge of the molecule.
        spin: 2S.
        mo_occ: Occupations, [nmo] or [2, nmo].

    Raises:
        InputError: If their number differs, or that of either spin.
    """
    wanted = nuclear_charge - charge
    counts = [float(np.sum(part)) for part in np.atleast_2d(mo_occ)]
    if abs(sum(counts) - wanted) > _COUNTED:
        raise group.wrong(f"occupations of {wanted} electrons", f"{sum(counts):g}")
    if mo_occ.ndim == 1 and spin:
        raise group.wrong(f"occupations of two spins (2S = {spin})", "those of a closed shell")
    if mo_occ.ndim == 2 and abs(counts[0] - counts[1] - spin) > _COUNTED:
        raise group.wrong(f"occupations with 2S = {spin}", f"{counts[0] - counts[1]:g}")


def check_matrices(
    group: Group,
    fock: np.ndarray,
    dm: np.ndarray,
    mo_energy: np.ndarray,
    mo_occ: np.ndarray,
) -> None:
    """See whether the matrices and orbitals of one structure belong together.

    Args:
        group: Where they come from, for messages.
        fock: Fock matrix, [nao, nao] or [2, nao, nao].
        dm: Density matrix.
        mo_energy: Orbital energies, [nmo] or [2, nmo]; nmo is below nao where functions are
            linearly dependent.
        mo_occ: Occupations.

    Raises:
        InputError: If a shape differs, a matrix is not symmetric, or an occupation impossible.
    """
    if fock.ndim not in (2, 3) or fock.shape[-1] != fock.shape[-2] or dm.shape != fock.shape:
        raise group.wrong("Fock and density matrices of one shape", f"{fock.shape} and {dm.shape}")
    if fock.ndim == 3 and len(fock) != 2:
        raise group.wrong("matrices of two spins", f"{len(fock)}")
    for name, matrix in (("fock", fock), ("density", dm)):
        size = max(1.0, float(np.abs(matrix).max(initial=0.0)))
        if float(np.abs(matrix - matrix.swapaxes(-1, -2)).max(initial=0.0)) > _ASYMMETRY * size:
            raise group.wrong(f"a symmetric {name}", "one that is not")
    spins, nao = fock.shape[:-2], fock.shape[-1]
    fits = mo_energy.shape[:-1] == spins and 0 < mo_energy.shape[-1] <= nao if mo_energy.ndim else 0
    if not fits or mo_occ.shape != mo_energy.shape:
        raise group.wrong(
            f"mo_energy and mo_occ of shape {(*spins, nao)}",
            f"{mo_energy.shape} and {mo_occ.shape}",
        )
    full = 2.0 if fock.ndim == 2 else 1.0
    if float(mo_occ.min()) < -_ASYMMETRY or float(mo_occ.max()) > full + _ASYMMETRY:
        raise group.wrong(
            f"occupations from 0 to {full:g}", f"{float(mo_occ.min()):g} to {float(mo_occ.max()):g}"
        )
