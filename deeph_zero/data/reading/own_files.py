"""Structures of our own HDF5 files, group by group, nothing but what lies in the file itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase
import h5py
import numpy as np

from deeph_zero.data.reading.cells import crystal_cell
from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.data.reading.state import whole_number
from deeph_zero.data.reading.words import MAX_ATOMS
from deeph_zero.data.stored_values import Group
from deeph_zero.errors import InputError
from deeph_zero.host.hdf5 import DATASETS, group_names, open_hdf5
from deeph_zero.molecule import Molecule
from deeph_zero.units import BOHR_IN_ANGSTROM

_CURE = "leave the group out or make the file again with `deeph-zero label`"


def hdf5_frames(path: Path) -> Iterator[Molecule | InputError]:
    """Structures of a file of ``deeph-zero label`` or ``predict``; bohr, as they were computed.

    Args:
        path: The file.

    Yields:
        The molecules, or an error in the place of a group that holds none.

    Raises:
        WholeFileError: If it is no such file.
    """
    try:
        with open_hdf5(path) as handle:
            frame = 0
            for name in group_names(handle):
                found = _frame(path, handle, name, frame)
                if found is not None:
                    frame += 1
                    yield found
            if not frame:
                raise WholeFileError(
                    "expected a group per structure, got none; make the file with "
                    "`deeph-zero label` or `deeph-zero predict`"
                )
    except OSError as error:
        lines = str(error).splitlines() or [""]
        raise WholeFileError(
            f"expected structures in HDF5, cannot read it ({lines[0][:80]}); make the file with "
            "`deeph-zero label`"
        ) from None


def _frame(path: Path, handle: Any, name: str, frame: int) -> Molecule | InputError | None:
    """The structure of a group, None where there is something else under the name."""
    try:
        group = handle[name]
        if not isinstance(group, h5py.Group):
            return None
        for part in DATASETS:  # a structure beside data from outside the file is not trusted
            group.get(part)
        molecule = Molecule(
            numbers=_numbers(group),
            coords=_coords(group),
            charge=_attribute(group, "charge"),
            spin=_attribute(group, "spin"),
            file=str(path),
            frame=frame,
            **_lattice(group),
        )
        Group(group, f"{path} frame {frame}").check_facts()
    except InputError as error:
        text = str(error).removeprefix(f"{path} frame {frame}: ")
        return InputError(text.removeprefix(f"{path}: "))
    except Exception as error:  # HDF5 raises whatever a damaged group gives
        reason = (str(error).splitlines() or [type(error).__name__])[0][:80]
        return InputError(f"expected numbers and positions, cannot read them ({reason}); {_CURE}")
    return molecule


def _numbers(group: Any) -> np.ndarray:
    values = _array(group, "numbers")
    if values.ndim != 1 or values.dtype.kind not in "iu" or not len(values):
        raise InputError(
            f"expected whole atomic numbers [natm], got {values.dtype} of shape "
            f"{values.shape}; {_CURE}"
        )
    if ((values < 1) | (values > 118)).any():
        raise InputError(f"expected atomic numbers from 1 to 118, got others; {_CURE}")
    return values.astype(np.int64)


def _coords(group: Any) -> np.ndarray:
    values = _array(group, "positions")
    natm = group["numbers"].shape[0]
    if values.shape != (natm, 3) or values.dtype.kind not in "iuf":
        raise InputError(
            f"expected positions (bohr) of shape ({natm}, 3), got {values.dtype} of shape "
            f"{values.shape}; {_CURE}"
        )
    return values.astype(np.float64)


def _lattice(group: Any) -> dict[str, Any]:
    """Lattice vectors (bohr), periodic directions and moments, where it is a crystal."""
    if "lattice" not in group:
        return {}
    cell, pbc = _array(group, "lattice"), np.ones(3, dtype=bool)
    if cell.shape != (3, 3) or cell.dtype.kind not in "iuf":
        raise InputError(f"expected lattice (bohr) of shape (3, 3), got {cell.shape}; {_CURE}")
    if "pbc" in group:
        pbc = _array(group, "pbc").astype(bool)
        if pbc.shape != (3,):
            raise InputError(f"expected pbc of shape (3,), got {pbc.shape}; {_CURE}")
    atoms = ase.Atoms(cell=cell * BOHR_IN_ANGSTROM, pbc=pbc)
    found = crystal_cell(atoms, lambda _: None)
    if found is None:
        return {}
    values: dict[str, Any] = {"lattice": found[0] / BOHR_IN_ANGSTROM, "pbc": found[1]}
    if "moments" in group:
        moments = _array(group, "moments")
        if moments.shape != group["numbers"].shape or not np.isfinite(moments).all():
            raise InputError(f"expected moments of each atom, got {moments.shape}; {_CURE}")
        values["moments"] = tuple(float(m) for m in moments)
    return values


def _array(group: Any, name: str) -> np.ndarray:
    """A data set no larger than a molecule's."""
    data: Any = group.get(name)
    if not isinstance(data, h5py.Dataset):
        raise InputError(f"expected a data set {name!r}, got none; {_CURE}")
    if data.size is None or data.size > 3 * MAX_ATOMS:
        raise InputError(f"expected {name!r} of one molecule, got shape {data.shape}; {_CURE}")
    return np.asarray(data[()])


def _attribute(group: Any, name: str) -> int:
    if name not in group.attrs:
        raise InputError(f"expected the attribute {name!r}, got none; {_CURE}")
    return whole_number(name, group.attrs[name])
