"""Structures of our own HDF5 files, group by group, nothing but what lies in the file itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from deeph_zero.errors import InputError
from deeph_zero.hdf5 import group_names
from deeph_zero.molecule import Molecule
from deeph_zero.reading.content import WholeFileError
from deeph_zero.reading.state import whole_number
from deeph_zero.reading.words import MAX_ATOMS

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
        with h5py.File(path, "r") as handle:
            names = group_names(
                name for name in handle if _is_inside(handle, name) and _is_group(handle[name])
            )
            if not names:
                raise WholeFileError(
                    "expected a group per structure, got none; make the file with "
                    "`deeph-zero label` or `deeph-zero predict`"
                )
            for frame, name in enumerate(names):
                yield _frame(path, handle[name], frame)
    except OSError as error:
        lines = str(error).splitlines() or [""]
        raise WholeFileError(
            f"expected structures in HDF5, cannot read it ({lines[0][:80]}); make the file with "
            "`deeph-zero label`"
        ) from None


def _frame(path: Path, group: Any, frame: int) -> Molecule | InputError:
    try:
        return Molecule(
            numbers=_numbers(group),
            coords=_coords(group),
            charge=_attribute(group, "charge"),
            spin=_attribute(group, "spin"),
            file=str(path),
            frame=frame,
        )
    except InputError as error:
        return error
    except Exception as error:  # HDF5 raises whatever a damaged group gives
        reason = (str(error).splitlines() or [type(error).__name__])[0][:80]
        return InputError(f"expected numbers and positions, cannot read them ({reason}); {_CURE}")


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


def _array(group: Any, name: str) -> np.ndarray:
    """A data set that lies in the file itself and is no larger than a molecule's."""
    data: Any = group[name] if name in group and _is_inside(group, name) else None
    if not isinstance(data, h5py.Dataset):
        raise InputError(f"expected a data set {name!r}, got none in the file itself; {_CURE}")
    if data.is_virtual or data.external:
        raise InputError(f"expected {name!r} in the file itself, it lies in another one; {_CURE}")
    if data.size is None or data.size > 3 * MAX_ATOMS:
        raise InputError(f"expected {name!r} of one molecule, got shape {data.shape}; {_CURE}")
    return np.asarray(data[()])


def _attribute(group: Any, name: str) -> int:
    if name not in group.attrs:
        raise InputError(f"expected the attribute {name!r}, got none; {_CURE}")
    return whole_number(name, group.attrs[name])


def _is_inside(group: Any, name: str) -> bool:
    return isinstance(group.get(name, getlink=True), h5py.HardLink)


def _is_group(item: Any) -> bool:
    return isinstance(item, h5py.Group)
