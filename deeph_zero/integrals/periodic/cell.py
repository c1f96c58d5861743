"""From our structure to a PySCF cell: basis set, pseudopotentials, grid, checks of the input."""

import contextlib
import io
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from pyscf.data import elements
from pyscf.pbc import gto
from pyscf.pbc.gto import pseudo as pseudopotentials
from pyscf.pbc.gto.cell import estimate_ke_cutoff

from deeph_zero.ao.basis_text import is_text, label_of
from deeph_zero.errors import InputError, argument
from deeph_zero.integrals.basis_sets import shells_of
from deeph_zero.integrals.periodic.checks import check_cell, check_family
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule

ESTIMATED_PART = 0.25
"""Part of PySCF's estimate of the cutoff that is used. The estimate is for products of the steepest
functions; energies of diamond, Si and Al are converged to a microhartree at a quarter of it."""

LEAST_CUTOFF = 40.0
"""Eh."""

MOST_GRID_POINTS = 8_000_000
"""Largest uniform grid of a layer, which keeps AO values and density variables on all of it."""

MANY_GRID_POINTS = 250_000
"""Points from which on a grid that nobody asked for is said: an SCF on it takes minutes."""

HIGH_CUTOFF = 100.0
"""Eh; below it a grid is large because the cell is."""

MOST_POINTS_IN_BOXES = 1_000_000_000
"""Largest one that is gone through box by box and never kept."""

VACUUM = 24.0
"""Bohr on top of twice the height of a layer: the Coulomb potential of a layer is cut off at half
the box, and densities end within six bohr of the nuclei."""

_NO_FILE = " " * 5000
"""PySCF opens a file of the name of a pseudopotential where there is one; no file has this one."""


def build_cell(
    molecule: Molecule,
    method: Method,
    say: Callable[[str], None] | None = None,
    *,
    most_points: int = MOST_GRID_POINTS,
) -> gto.Cell:
    """PySCF's cell for a crystal.

    Args:
        molecule: The structure, with a lattice.
        method: Basis, and of ``crystal`` pseudopotentials and cutoff.
        say: Takes a warning of one line.
        most_points: Limit of the points of the uniform grid.

    Returns:
        Built, quiet, coordinates as they are; ``spin`` is that of one cell.

    Raises:
        InputError: Unknown basis or pseudopotential, one without an element or for another
            number of electrons, an impossible number of electrons, or a grid without end.
    """
    assert molecule.lattice is not None
    assert method.crystal is not None
    symbols = [elements.ELEMENTS[int(z)] for z in molecule.numbers]
    name = method.crystal.pseudo
    cell = gto.Cell()
    cell.a, cell.unit, cell.verbose = _lattice(molecule, say), "B", 0
    cell.atom = list(zip(symbols, np.asarray(molecule.coords).tolist(), strict=True))
    cell.basis = {symbol: _functions(method.basis, symbol) for symbol in set(symbols)}
    cell.pseudo = None if name is None else {s: _potential(name, s) for s in set(symbols)}
    for symbol, parameters in (cell.pseudo or {}).items():
        if not is_text(method.basis):
            check_family(method.basis, symbol, int(sum(parameters[0])))
    cell.charge, cell.spin = int(molecule.charge), int(molecule.spin)
    cell.dimension = 3 if molecule.pbc[2] else 2
    cell.ke_cutoff = method.crystal.ke_cutoff or LEAST_CUTOFF
    build_silently(cell)
    if method.crystal.ke_cutoff is None:
        cell.ke_cutoff = max(LEAST_CUTOFF, ESTIMATED_PART * float(estimate_ke_cutoff(cell)))
        build_silently(cell)
    _check_grid(cell, most_points)
    _check_electrons(cell, method)
    if method.crystal.ke_cutoff is None and say is not None:
        _say_slow(cell, say)
    if not is_text(method.basis):
        cell.basis = method.basis
    if name is not None:
        cell.pseudo = name
    check_cell(cell)
    return cell


def build_silently(cell: gto.Cell) -> None:
    """Build a cell, without what PySCF prints: it is said here in one line, or not at all.

    Args:
        cell: Built in place.
    """
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cell.build(dump_input=False, parse_arg=False)


def _functions(basis: str, symbol: str) -> Any:
    """The numbers of a basis set."""
    found = shells_of(basis, symbol)
    if not found:
        raise InputError(
            f"expected a basis set of PySCF with {symbol}, got {argument('basis', label_of(basis))}"
            "; use for example gth-dzvp-molopt-sr, which has most elements"
        )
    return found


def _potential(name: str, symbol: str) -> Any:
    """The numbers of a pseudopotential from PySCF's library."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pseudopotentials.load(name + _NO_FILE, symbol)
    except Exception:  # PySCF raises whatever its look-up meets
        raise InputError(
            f"expected a GTH pseudopotential of PySCF with {symbol}, got "
            f"{argument('pseudo', name)}; use for example gth-pbe, or none for all electrons"
        ) from None


def _lattice(molecule: Molecule, say: Callable[[str], None] | None) -> np.ndarray:
    """Vectors in rows; of a layer the third is as long as its potential needs where none is."""
    assert molecule.lattice is not None
    vectors = np.array(molecule.lattice, dtype=float)
    if molecule.pbc[2]:
        return vectors
    needed = 2 * float(np.ptp(molecule.coords[:, 2])) + VACUUM
    if not vectors[2].any():
        vectors[2, 2] = math.ceil(needed)
    elif vectors[2, 2] < needed and say is not None:
        say(
            f"the box of the layer is {vectors[2, 2]:.1f} bohr high, which cuts its potential; "
            f"write a third vector of {needed:.0f} bohr or more, or leave it out"
        )
    return vectors


def _check_grid(cell: gto.Cell, most: int) -> None:
    points = math.prod(int(n) for n in cell.mesh)
    if points > most:
        shape = " x ".join(str(int(n)) for n in cell.mesh)
        raise InputError(
            f"expected a grid of at most {most / 1e6:g} million points, got {shape} "
            f"for a cutoff of {cell.ke_cutoff:.0f} Eh; give a smaller {argument('ke_cutoff')}, a "
            "basis for pseudopotentials, or a smaller cell"
        )


def _say_slow(cell: gto.Cell, say: Callable[[str], None]) -> None:
    """One line where the steepest functions make the grid large, as those of semicore electrons."""
    points = math.prod(int(n) for n in cell.mesh)
    if points < MANY_GRID_POINTS or cell.ke_cutoff < HIGH_CUTOFF:
        return
    estimates = []
    for atom in range(cell.natm):
        alone = cell.copy()
        alone._bas = cell._bas[list(cell.atom_shell_ids(atom))]  # noqa: SLF001
        estimates.append(float(estimate_ke_cutoff(alone)))
    symbol = cell.atom_symbol(int(np.argmax(estimates)))
    say(
        f"the functions of {symbol} want a cutoff of {cell.ke_cutoff:.0f} Eh, a grid of "
        f"{' x '.join(str(int(n)) for n in cell.mesh)} points, which takes minutes; a smaller "
        f"{argument('ke_cutoff')} is faster, and less exact"
    )


def _check_electrons(cell: gto.Cell, method: Method) -> None:
    electrons, spin = int(cell.tot_electrons()), int(cell.spin)
    assert method.crystal is not None
    if electrons < 1 or spin > electrons:
        raise InputError(
            f"expected electrons for charge {cell.charge} and spin {spin}, got {electrons} per "
            "cell; correct charge or spin"
        )
    free = method.smearing > 0 and not method.crystal.fix_spin
    if (electrons - spin) % 2 and not free:
        raise InputError(
            f"expected an {'odd' if spin % 2 else 'even'} number of electrons per cell for spin "
            f"{spin}, got {electrons}; give {argument('spin', electrons % 2)} or "
            f"{argument('smearing', 0.005)}"
        )
    if cell.charge and cell.dimension == 2:
        raise InputError(
            f"expected a neutral layer, got charge {cell.charge}: the energy of a charged one has "
            "no meaning here; give a neutral one"
        )
