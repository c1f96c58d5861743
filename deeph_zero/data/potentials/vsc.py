"""BerkeleyGW's ``VSC``: a self-consistent potential by its Fourier series, rydberg and bohr.

Quantum ESPRESSO's pw2bgw.x writes it (``vscg_flag``). Fortran records: title, sizes, grid, cell,
reciprocal cell, symmetries, atoms; then Miller indices and V(G) in pieces.

References:
    J. Deslippe et al., Comput. Phys. Commun. 183, 1269 (2012), and the wavefunction format's page
    in BerkeleyGW's manual.
"""

from pathlib import Path

import numpy as np

from deeph_zero.data.formats.conventions import ENERGIES
from deeph_zero.data.formats.fortran import FortranRecords
from deeph_zero.data.potentials.grid import GridPotential
from deeph_zero.data.stored_values import HEAVIEST
from deeph_zero.errors import InputError

_MOST = 10**8
"""Points, plane waves or atoms that no file of this kind has."""
_REAL = 1e-8
"""Largest imaginary part of V(r), Eh."""


def is_bgw(head: bytes) -> bool:
    """Whether a file begins like BerkeleyGW's: a record of 96 letters, the kind and its flavour.

    Args:
        head: Its first bytes, 36 at least.

    Returns:
        True if so.
    """
    return head[:4] == b"\x60\0\0\0" and head[7:12] in (b"-Comp", b"-Real")


def read_vsc(path: Path, unit: float | None) -> GridPotential:
    """Read a file.

    Args:
        path: An ordinary file.
        unit: Its unit in hartree; None: rydberg.

    Returns:
        The potential with cell and atoms.

    Raises:
        InputError: If it is damaged, or holds something else.
    """
    records = FortranRecords(path, "BerkeleyGW's VSC")
    title = records.next("the title")[:32].decode("latin-1").strip()
    kind, _, flavour = title.partition("-")
    if kind != "VSC":
        raise InputError(
            f"expected BerkeleyGW's VSC, got {title[:20]!r}; write it by pw2bgw.x with vscg_flag"
        )
    sizes = records.numbers("the sizes", "<i4", 7)
    nspin, nwaves, nsym, natm = (int(sizes[k]) for k in (0, 1, 2, 4))
    shape = tuple(int(n) for n in records.numbers("the grid", "<i4", 3))
    points = int(np.prod([float(max(n, 0)) for n in shape]))
    if nspin not in (1, 2) or not all(0 < n < _MOST for n in (nwaves, points, natm, nsym)):
        raise InputError(
            f"expected sizes of spins (1 or 2), waves, symmetries, atoms and grid, got {nspin}, "
            f"{nwaves}, {nsym}, {natm} and {shape}; copy the file again"
        )
    cell = records.numbers("the cell", "<f8", 20)
    for what in ("the reciprocal cell", "the rotations", "the translations"):
        records.next(what)
    atoms = records.next("the atoms")
    numbers, coords = _atoms(atoms, natm)
    scale = float(cell[1])
    lattice = scale * cell[2:11].reshape(3, 3)
    if not (np.isfinite(cell).all() and abs(np.linalg.det(lattice)) > 1e-3):
        raise InputError(f"expected a cell, got {cell[2:11].tolist()}; copy the file again")
    waves = _pieces(records, "Miller indices", "<i4", nwaves, 3)
    number = "<c16" if flavour.startswith("Comp") else "<f8"
    spectrum = _pieces(records, "V(G)", number, nwaves, nspin, by_column=True)
    values = _on_grid(waves, spectrum, shape)
    return GridPotential(
        values=values * (ENERGIES["rydberg"] if unit is None else unit),
        lattice=lattice,
        numbers=numbers,
        coords=coords * scale,
        kind="vsc",
    )


def _atoms(record: bytes, natm: int) -> tuple[np.ndarray, np.ndarray]:
    row = np.dtype([("place", "<f8", 3), ("number", "<i4")])
    if len(record) != natm * row.itemsize:
        raise InputError(
            f"expected {natm} atoms, got a record of {len(record)} bytes; copy the file again"
        )
    found = np.frombuffer(record, row)
    numbers = found["number"].astype(np.int64)
    if numbers.min() < 1 or numbers.max() > HEAVIEST or not np.isfinite(found["place"]).all():
        raise InputError(
            f"expected atomic numbers from 1 to {HEAVIEST}, got {numbers.tolist()[:8]}; copy the "
            "file again"
        )
    return numbers, found["place"].astype(float)


def _pieces(
    records: FortranRecords,
    what: str,
    kind: str,
    count: int,
    width: int,
    *,
    by_column: bool = False,
) -> np.ndarray:
    """[count, width] out of records that share the rows; each may be stored column by column."""
    (pieces,) = records.numbers(f"the number of pieces of {what}", "<i4", 1)
    parts, have = [], 0
    for _ in range(int(pieces)):
        (own,) = (int(n) for n in records.numbers(f"the size of a piece of {what}", "<i4", 1))
        if not 0 <= own <= count - have:
            raise InputError(
                f"expected {count} rows of {what}, got {have + own}; copy the file again"
            )
        flat = records.numbers(what, kind, own * width)
        parts.append(flat.reshape(width, own).T if by_column else flat.reshape(own, width))
        have += own
    if have != count:
        raise InputError(f"expected {count} rows of {what}, got {have}; copy the file again")
    return np.concatenate(parts)


def _on_grid(waves: np.ndarray, spectrum: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if (2 * np.abs(waves.astype(np.int64)) > np.array(shape)).any():
        raise InputError(
            f"expected Miller indices within the grid {shape}, got up to "
            f"{np.abs(waves).max(0).tolist()}; copy the file again"
        )
    if not np.isfinite(spectrum).all():
        raise InputError("expected finite V(G), got NaN or infinity; write the file again")
    box = np.zeros((spectrum.shape[1], *shape), dtype=complex)
    places = tuple((waves % np.array(shape)).T)
    for s in range(len(box)):
        box[s][places] = spectrum[:, s]
    values = np.fft.ifftn(box, axes=(1, 2, 3), norm="forward")
    if np.abs(values.imag).max() > _REAL * max(1.0, float(np.abs(values.real).max())):
        raise InputError(
            "expected a real potential, V(-G) is not the conjugate of V(G); write the file again"
        )
    return np.ascontiguousarray(values.real)
