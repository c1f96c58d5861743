"""Geometries in the output of quantum-chemistry programs, with the charge and multiplicity."""

import bisect
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import ase
import numpy as np

from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.data.reading.state import Say
from deeph_zero.data.reading.words import molecule
from deeph_zero.errors import InputError, argument

_SAME = 2e-5
"""Distances (ångström) that differ by less belong to one geometry, printed or turned again."""


class _Layout(NamedTuple):
    """How a program prints geometries."""

    head: re.Pattern[str]
    """Title of a table of atoms."""
    row: re.Pattern[str]
    """One atom: element or atomic number, x, y, z."""
    skipped: int
    """Lines between the title and the first atom."""
    charge: re.Pattern[str]
    multiplicity: re.Pattern[str]
    done: re.Pattern[str] | None
    """Printed once per geometry; tables before it that no such line follows are the same one."""
    state_behind: bool = False
    """Whether charge and multiplicity are printed behind the geometry instead of before."""


_R = r"(-?\d+\.\d+(?:[EeDd][+-]?\d+)?)"
_WHOLE = r"(?:\s+in supermolecule)?\s*$"
_GAUSSIAN = _Layout(
    head=re.compile(r"^\s*(?:Input|Standard|Z-Matrix) orientation:"),
    row=re.compile(rf"^\s*\d+\s+(-?\d+)\s+-?\d+\s+{_R}\s*{_R}\s*{_R}\s*$"),
    skipped=4,
    # fragments of a supermolecule have lines of their own
    charge=re.compile(rf"^\s*Charge =\s*(-?\d+) Multiplicity =\s*\d+{_WHOLE}"),
    multiplicity=re.compile(rf"^\s*Charge =\s*-?\d+ Multiplicity =\s*(\d+){_WHOLE}"),
    done=re.compile(r"^\s*SCF Done:"),
)
_ORCA = _Layout(
    head=re.compile(r"^CARTESIAN COORDINATES \(ANGSTROEM\)"),
    row=re.compile(rf"^\s*([A-Za-z]{{1,2}})\s+{_R}\s+{_R}\s+{_R}\s*$"),
    skipped=1,
    charge=re.compile(r"^\s*Total Charge\s+Charge\s*\.*\s*(-?\d+)"),
    multiplicity=re.compile(r"^\s*Multiplicity\s+Mult\s*\.*\s*(\d+)"),
    done=None,
    state_behind=True,
)
_QCHEM = _Layout(
    head=re.compile(r"^\s*Standard Nuclear Orientation \(Angstroms\)"),
    row=re.compile(rf"^\s*\d+\s+([A-Za-z]{{1,2}})\s+{_R}\s+{_R}\s+{_R}\s*$"),
    skipped=2,
    charge=re.compile(r"^\s*(?:\$molecule\s+)?(-?\d+)\s+\d+\s*$"),
    multiplicity=re.compile(r"^\s*(?:\$molecule\s+)?-?\d+\s+(\d+)\s*$"),
    done=None,
)
_LAYOUTS = {"gaussian-out": _GAUSSIAN, "orca-out": _ORCA, "qchem-out": _QCHEM}


def output_geometries(name: str) -> Callable[[str, Say], Iterator[ase.Atoms | InputError]]:
    """The reader of a program's output.

    Args:
        name: ``gaussian-out``, ``orca-out`` or ``qchem-out``.

    Returns:
        A function of the text and of what takes warnings; it yields every geometry in ångström
        with ``charge`` and ``multiplicity`` in ``info``, one that is printed again left out.
    """
    layout = _LAYOUTS[name]

    def frames(text: str, say: Say) -> Iterator[ase.Atoms | InputError]:
        if name == "qchem-out":  # the state stands in the input, which is printed again
            text = re.sub(r"(\$molecule)[ \t]*\n\s*(?=-?\d+\s+\d+\s*\n)", r"\1 ", text)
        found = False
        for frame in _frames(layout, text.split("\n"), say):
            found = True
            yield frame
        if not found:
            raise WholeFileError("expected a table of coordinates, got none; check the file")

    return frames


def _frames(layout: _Layout, lines: list[str], say: Say) -> Iterator[ase.Atoms | InputError]:
    states = _states(layout, lines)
    last: ase.Atoms | None = None
    tables = list(_tables(layout, lines))
    for k, (place, start, is_new) in enumerate(tables):
        try:
            atoms = _table(layout, lines, start, say)
        except InputError as error:
            yield error
            continue
        if last is not None and (_equal(last, atoms) or (not is_new and _turned(last, atoms))):
            continue
        last = atoms
        until = tables[k + 1][0] if layout.state_behind and k + 1 < len(tables) else place
        charge, multiplicity = (_nearest(found, place, until) for found in states)
        if charge is None or multiplicity is None:
            given = f"{argument('charge')}, {argument('spin')}"
            say(f"no charge and multiplicity found in the output; write them as {given}")
        else:
            atoms.info.update(charge=charge, multiplicity=multiplicity)
        yield atoms


def _tables(layout: _Layout, lines: list[str]) -> Iterator[tuple[int, int, bool]]:
    """Lines of the title and of the first atom, and whether something was computed there.

    Where there are several tables before the end of one SCF, the last counts.
    """
    heads = [k for k, line in enumerate(lines) if layout.head.match(line)]
    ends = [k for k, line in enumerate(lines) if layout.done and layout.done.match(line)]
    for k, head in enumerate(heads):
        following = heads[k + 1] if k + 1 < len(heads) else None
        # Gaussian prints one geometry in two orientations
        behind = bisect.bisect(ends, head)
        ended = behind < len(ends) and ends[behind] < (following or len(lines))
        computed = layout.done is None or ended
        if computed or following is None:
            yield head, head + 1 + layout.skipped, computed


def _table(layout: _Layout, lines: list[str], start: int, say: Say) -> ase.Atoms:
    rows = []
    for line in lines[start:]:
        found = layout.row.match(line)
        if found is None:
            break
        if found[1] == "-2":
            raise InputError("periodic systems are not supported; write it without cell")
        symbol = "X" if found[1] in ("0", "-1") else found[1]
        rows.append(" ".join([symbol, *found.groups()[1:]]))
    return molecule(rows, say)


def _states(
    layout: _Layout, lines: list[str]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Every charge and every multiplicity with its line."""
    charges, multiplicities = [], []
    needle = "$molecule" if layout is _QCHEM else ""
    for k, line in enumerate(lines):
        if needle and needle not in line:
            continue
        if (found := layout.charge.match(line)) is not None:
            charges.append((k, int(found[1])))
        if (found := layout.multiplicity.match(line)) is not None:
            multiplicities.append((k, int(found[1])))
    return charges, multiplicities


def _nearest(found: list[tuple[int, int]], place: int, until: int) -> int | None:
    """The value stated between two lines, else the last before, else the first behind."""
    between = [value for line, value in found if place < line < until]
    before = [value for line, value in found if line < place]
    return between[0] if between else before[-1] if before else (found[0][1] if found else None)


def _equal(one: ase.Atoms, other: ase.Atoms) -> bool:
    """Whether two tables print the same numbers."""
    return np.array_equal(one.numbers, other.numbers) and bool(
        np.abs(one.positions - other.positions).max() <= _SAME
    )


def _turned(one: ase.Atoms, other: ase.Atoms) -> bool:
    """Whether two geometries have the same atoms and distances."""
    if not np.array_equal(one.numbers, other.numbers):
        return False
    first, second = (
        np.linalg.norm(a.positions[:, None] - a.positions[None], axis=2) for a in (one, other)
    )
    return bool(np.abs(first - second).max() <= _SAME)
