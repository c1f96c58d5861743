"""A potential from a file of any known format: what it holds decides which."""

import dataclasses
from pathlib import Path

import numpy as np

from deeph_zero.data.formats.conventions import ENERGIES
from deeph_zero.data.potentials.cube import read_cube
from deeph_zero.data.potentials.grid import GridPotential
from deeph_zero.data.potentials.vsc import is_bgw, read_vsc
from deeph_zero.data.reading.content import head_of, naming
from deeph_zero.errors import InputError, argument

_NPY = b"\x93NUMPY"
_CURE = "give a Gaussian cube, BerkeleyGW's VSC, or a .npy of [n1, n2, n3]"


def read_potential(
    path: Path, *, down: Path | None = None, unit: str | None = None
) -> GridPotential:
    """Read a Kohn-Sham potential, and a second file for spin down where there is one.

    Args:
        path: A Gaussian cube, BerkeleyGW's VSC, or a .npy of [n1, n2, n3] or [2, n1, n2, n3].
        down: The potential of spin down; ``path`` is spin up then.
        unit: "hartree", "eV" or "rydberg"; None: what is usual in the format (rydberg in a VSC).

    Returns:
        The potential, Eh.

    Raises:
        InputError: If a file cannot be read as one; the line begins with its name.
    """
    first = _read(path, unit)
    if down is None:
        return first
    second = _read(down, unit)
    for file, found in ((path, first), (down, second)):
        if len(found.values) > 1:
            raise InputError(
                f"{file}: expected the potential of one spin beside {argument('down')}, got that "
                f"of two; leave {argument('down')} out"
            )
    if first.shape != second.shape:
        raise InputError(
            f"{down}: expected the grid of {path}, {first.shape}, got {second.shape}; write both "
            "spins on one grid"
        )
    if (first.lattice is None) != (second.lattice is None) or (
        first.lattice is not None
        and second.lattice is not None
        and np.abs(first.lattice - second.lattice).max() > 1e-4
    ):
        raise InputError(f"{down}: expected the cell of {path}, got another one; check the files")
    return dataclasses.replace(first, values=np.concatenate([first.values, second.values]))


def _read(path: Path, unit: str | None) -> GridPotential:
    factor = None if unit is None else ENERGIES[unit]
    with naming(path):
        try:
            head = head_of(path)
        except IsADirectoryError:
            raise InputError(f"expected a potential's file, this is a folder; {_CURE}") from None
        if is_bgw(head):
            return read_vsc(path, factor)
        if head.startswith(_NPY):
            return _read_npy(path, factor)
        return read_cube(path, factor)


def _read_npy(path: Path, unit: float | None) -> GridPotential:
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise  # the caller names the file
    except Exception as error:  # NumPy raises whatever a damaged header gives, TokenError too
        line = (str(error).splitlines() or ["damaged"])[0][:80]
        raise InputError(
            f"expected an array of numbers, cannot read it ({line}); {_CURE}"
        ) from None
    shape = stored.shape
    right = len(shape) == 3 or (len(shape) == 4 and shape[0] in (1, 2))
    if stored.dtype.kind not in "fiu" or not right or 0 in shape:
        raise InputError(
            f"expected real numbers of shape [n1, n2, n3] or [2, n1, n2, n3], got {stored.dtype} "
            f"of shape {list(shape)}; write np.save(..., values.reshape(mesh))"
        )
    values = np.array(stored, dtype=float).reshape(-1, *shape[-3:])
    if not np.isfinite(values).all():
        raise InputError("expected finite values, got NaN or infinity; write the potential again")
    return GridPotential(values=values * (ENERGIES["hartree"] if unit is None else unit))
