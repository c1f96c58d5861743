"""Lattices of structures: which frames are crystals, and cells that cannot be."""

from typing import Any

import ase
import numpy as np
from jaxtyping import Float

from deeph_zero.data.reading.state import Say
from deeph_zero.errors import InputError

Directions = tuple[bool, bool, bool]

_SHORTEST = 0.4
"""Ångström; no crystal repeats within less."""
_LONGEST = 1e4
"""Ångström; nobody has the memory for such a cell."""
_FLAT = 1e-3
"""Volume of a cell against that of a box with the same edges, at least."""
_TILTED = 1e-3
"""Sine of the angle by which the box of a layer may lean."""
_MOMENTS = ("initial_magmoms", "magmoms", "magmom", "magnetic_moments")
"""Names of arrays of moments, those that are meant as initial ones first."""
_SAME = 1e-6


def crystal_cell(
    atoms: ase.Atoms, say: Say, dimension: int | None = None
) -> tuple[Float[np.ndarray, "3 3"], Directions] | None:
    """Lattice vectors and periodic directions of a frame, checked.

    Args:
        atoms: The frame.
        say: Takes a warning about a cell or a ``pbc`` that is not used.
        dimension: Periodic directions, 2 or 3, whatever the frame says; None: as it says.

    Returns:
        Vectors in rows, ångström, the third zero where a layer has none; None for a molecule.

    Raises:
        InputError: If the frame is periodic, and no crystal that can be computed.
    """
    pbc = np.asarray(atoms.pbc, dtype=bool)
    cell = np.array(atoms.cell, dtype=np.float64)
    if not pbc.any():
        if cell.any():
            say("the cell is not used: pbc says that this is a molecule")
        return None
    if not cell.any():
        say("pbc is not used: without a cell this is a molecule")
        return None
    if not np.isfinite(cell).all():
        raise InputError(
            f"expected finite lattice vectors, got {_row(cell[~np.isfinite(cell).all(1)][0])}; "
            "correct the cell"
        )
    _check_directions(pbc)
    if dimension not in (None, int(pbc.sum())):
        say(f"dimension {dimension} is used, not pbc {_flags(pbc)}")
        pbc = np.arange(3) < dimension
    _refuse_partial_occupation(atoms)
    if pbc.all():
        _check_vectors(cell)
        return cell, (True, True, True)
    return _layer(cell, say), (True, True, False)


def _flags(pbc: np.ndarray) -> str:
    return " ".join("FT"[int(p)] for p in pbc)


def _check_directions(pbc: np.ndarray) -> None:
    flags = _flags(pbc)
    if pbc.sum() == 1:
        raise InputError(
            f"expected a crystal periodic in two or three directions, got pbc {flags}; wires are "
            "not supported, write it with pbc T T T and enough vacuum, or as a molecule"
        )
    if pbc.sum() == 2 and pbc[2]:
        raise InputError(
            f"expected a layer with the vacuum along the third vector (pbc T T F), got {flags}; "
            "write the vectors in another order"
        )


def _check_vectors(cell: np.ndarray, count: int = 3) -> None:
    """Vectors that span a cell, in a right-handed order, of lengths that crystals have."""
    lengths = np.linalg.norm(cell, axis=1)
    for k in range(count):
        if not _SHORTEST <= lengths[k] <= _LONGEST:
            raise InputError(
                f"expected lattice vectors of {_SHORTEST:g} to {_LONGEST:g} angstrom, got "
                f"{_row(cell[k])} (number {k + 1}); correct the cell"
            )
    volume = float(np.linalg.det(cell))
    if abs(volume) < _FLAT * float(np.prod(lengths)):
        raise InputError(
            f"expected lattice vectors that span a volume, got {abs(volume):.2g} angstrom^3 of "
            f"{'; '.join(_row(v) for v in cell)}; correct the cell"
        )
    if volume < 0:
        raise InputError(
            f"expected right-handed lattice vectors, got a volume of {volume:.4g} angstrom^3; "
            "exchange two of them"
        )


def _layer(cell: np.ndarray, say: Say) -> np.ndarray:
    """The lattice of a layer: two vectors in the xy plane and a box along z, zero if not given."""
    first, second, box = cell
    normal = np.cross(first, second)
    area = float(np.linalg.norm(normal))
    height = 0.0 if area == 0 else float(box @ normal) / area
    upright = np.array([first, second, normal / area if area else box])
    _check_vectors(upright, 2)
    if max(abs(first[2]), abs(second[2])) > _SAME or normal[2] < 0:
        raise InputError(
            f"expected the two vectors of a layer in the xy plane, the second to the left of the "
            f"first, got {_row(first)} and {_row(second)}; turn the structure"
        )
    if not box.any():
        return np.array([first, second, np.zeros(3)])
    if height <= 0:
        raise InputError(
            f"expected right-handed lattice vectors, got {_row(box)} as the third of a layer; "
            "write it along +z"
        )
    if height < np.linalg.norm(box) * np.sqrt(1 - _TILTED**2):
        say(f"the box of the layer leans: only its height of {height:.3f} angstrom counts")
    return np.array([first, second, [0.0, 0.0, height]])


def _row(vector: np.ndarray) -> str:
    return " ".join(f"{x:g}" for x in vector)


def _refuse_partial_occupation(atoms: ase.Atoms) -> None:
    """A cif of a mixture has sites that hold an atom now and then."""
    sites = atoms.info.get("occupancy")
    if not isinstance(sites, dict):
        return
    for site in sites.values():
        if not isinstance(site, dict):
            continue
        for symbol, part in site.items():
            if isinstance(part, int | float) and abs(part - 1) > 1e-3:
                raise InputError(
                    f"expected whole atoms, got a site with {part:g} {symbol}; write an ordered "
                    "cell"
                )


def initial_moments(atoms: ase.Atoms, say: Say) -> tuple[float, ...] | None:
    """Initial magnetic moments of a crystal's atoms, and take them off the object.

    Args:
        atoms: The frame; its arrays of moments are removed.
        say: Takes a warning.

    Returns:
        One number for each atom (electrons), or None where none is set.

    Raises:
        InputError: If they are vectors or not finite.
    """
    given: dict[str, Any] = {}
    results = getattr(atoms.calc, "results", None) or {}
    for name in _MOMENTS:
        found = next((key for key in atoms.arrays if key.lower() == name), None)
        values = None if found is None else atoms.arrays.pop(found)
        if values is None and name in results and np.ndim(results[name]) == 1:
            values = results[name]
        if values is not None and (np.any(values) or not np.size(values)):
            given[name] = np.asarray(values, dtype=np.float64)
    if not given:
        return None
    name, values = next(iter(given.items()))
    if values.ndim != 1 or len(values) != len(atoms):
        count = values.shape[-1]
        kind = " (non-collinear)" if values.ndim > 1 and count else ""
        raise InputError(
            f"expected one number of {name} for each atom, got {count}{kind}; write one"
        )
    if not np.isfinite(values).all():
        raise InputError(f"expected finite numbers of {name}, got {_row(values)}; correct them")
    if name != _MOMENTS[0]:
        say(f"{name} are taken as the initial moments")
    return tuple(float(m) for m in values)


def unpaired_electrons(
    moments: tuple[float, ...], stated: int | None, say: Say
) -> tuple[tuple[float, ...], int]:
    """Moments with most electrons spin up, and the unpaired electrons of a cell they mean.

    Args:
        moments: Moment of every atom.
        stated: What the frame says itself.
        say: Takes a warning.

    Returns:
        The moments, turned around where their sum is negative, and 2S.
    """
    total = sum(moments)
    if total < 0:
        moments, total = tuple(-m for m in moments), -total
    nearest = round(total)
    if stated is None:
        if abs(total - nearest) > 0.02:
            say(
                f"the initial moments add up to {total:g}: without smearing the cell has "
                f"{nearest} unpaired electrons; write spin= for another number"
            )
        return moments, nearest
    return moments, stated
