"""xyz and extended xyz, frame by frame, QM9's own layout included."""

import functools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import ase
import numpy as np
from ase.io.extxyz import key_val_str_to_dict

from deeph_zero.data.reading.length_units import is_bohr, is_unit_key, stated_in_bohr
from deeph_zero.data.reading.state import TITLE, Say, is_result, names_state
from deeph_zero.data.reading.words import atom_line, element, integer, number, quote
from deeph_zero.errors import InputError
from deeph_zero.units import BOHR_IN_ANGSTROM

_COUNT = re.compile(r"\s*\d+\s*", re.ASCII)
_QM9_TITLE = re.compile(r"\s*gdb[\s_]*\d+\b", re.IGNORECASE)
_KEYS = re.compile(r"([\w-]+)\s*=")
_COLON = re.compile(r"""["']?([A-Za-z][\w-]*)["']?[ \t]*:[ \t]*["']?([+-]?\d+)["']?(?![\w.])""")
_CELL_KEY = re.compile(r"cell|lattice|^box")
_CELL_WORDS = re.compile(
    r"(?i)(?<![A-Za-z])(unit[ _-]?cell|cell|lattice|box|cryst1)(?![A-Za-z])[^\d=]{0,40}?"
    r"([-+]?\d[\w.+-]*[\s,;]+){2}[-+]?\d"
)
"""A cell in words of a title: a name of it, and three numbers or more."""
_IPI = re.compile(r"\b(?!cell\b)([a-z_]+)\{([a-z_]+)\}")
"""Titles of i-PI: what the columns are, and their unit."""
_ONCE = ("lattice", "pbc", "properties")
_BOHR = re.compile(r"\b(bohrs?|a\.u\.)(?!\w)", re.IGNORECASE)


class _Frame(NamedTuple):
    """Lines of one complete frame."""

    title: str
    body: list[str]


def xyz_frames(text: str, say: Say) -> Iterator[ase.Atoms | InputError]:
    """Every frame of an xyz file, in ångström unless it says ``units=bohr``.

    Args:
        text: The content, lines ended by line feeds.
        say: Takes a warning about the frame that comes next.

    Yields:
        The atoms, ``info`` and arrays as the title states them, or what is wrong with the frame.
    """
    for frame in _split(text.split("\n")):
        if isinstance(frame, InputError):
            yield frame
            continue
        try:
            yield _atoms(frame, say)
        except InputError as error:
            yield error


def _split(lines: list[str]) -> Iterator[_Frame | InputError]:
    """Frame by frame: the lines of a complete frame, or what is wrong with the place."""
    i = 0
    while True:
        while i < len(lines) and not lines[i].strip():
            i += 1
        if i >= len(lines):
            return
        natm = integer(lines[i]) if _COUNT.fullmatch(lines[i]) else None
        if natm is None:
            yield InputError(
                f"line {i + 1}: expected the number of atoms, got {quote(lines[i])}; "
                "an xyz frame is a count, a comment line, and one line per atom"
            )
            i = _next_count(lines, i + 1)
            continue
        start, end = i + 2, _body_end(lines, i + 2, natm)
        if end - start < natm:
            yield InputError(
                f"expected {natm} atom lines, got {max(end - start, 0)}; the frame is cut off, "
                "complete it or correct the count"
            )
            i = _resume(lines, i, end)
            continue
        behind = _behind(lines, i, end)
        follows = next((k for k in range(behind, len(lines)) if lines[k].strip()), len(lines))
        if follows < len(lines) and not _COUNT.fullmatch(lines[follows]):
            yield InputError(
                f"expected {natm} atom lines and then a new frame, got "
                f"{quote(lines[follows])} in line {follows + 1}; correct the atom count"
            )
            i = _resume(lines, i, _next_count(lines, follows))
            continue
        yield _Frame("".join(lines[i + 1 : start]), lines[start:end])
        i = behind


def _behind(lines: list[str], start: int, end: int) -> int:
    """Where the next frame may begin: QM9's files have frequencies, SMILES and InChI behind."""
    if end < len(lines) and _QM9_TITLE.match(lines[start + 1]):
        for k in range(end, min(end + 3, len(lines))):
            if lines[k].startswith("InChI="):
                return k + 1
    return end


def _resume(lines: list[str], start: int, end: int) -> int:
    """Where to go on after a broken frame: a number for a comment may be the next frame's count."""
    comment = start + 1
    return comment if comment < len(lines) and _COUNT.fullmatch(lines[comment]) else end


def _body_end(lines: list[str], start: int, natm: int) -> int:
    """End of at most ``natm`` lines that can be atoms (no blank line, no new atom count)."""
    end = start
    while end < len(lines) and end - start < natm:
        if not lines[end].strip() or _COUNT.fullmatch(lines[end]):
            break
        end += 1
    return min(end, max(len(lines), start))


def _next_count(lines: list[str], start: int) -> int:
    """First line from ``start`` on that can begin a frame."""
    return next((k for k in range(start, len(lines)) if _COUNT.fullmatch(lines[k])), len(lines))


def _atoms(frame: _Frame, say: Say) -> ase.Atoms:
    if not frame.body:
        raise InputError("expected a molecule, got no atoms; leave the frame out")
    info = _info(frame.title)
    _check_title(frame, info, say)
    columns = info.pop("Properties", None)
    if columns is None:
        numbers, positions = _plain(frame.body, say)
        arrays = {}
        _warn_of_fifth_column(frame, say)
    else:
        numbers, positions, arrays = _columns(frame.body, str(columns), say)
    lattice = info.pop("Lattice", None)
    pbc = _periodic(info.pop("pbc", lattice is not None))
    cell = np.zeros((3, 3)) if lattice is None else _lattice(lattice)
    _say_other_cells(frame.title, info, lattice is not None, say)
    info[TITLE] = frame.title
    if _is_bohr(frame.title, info, say):
        positions *= BOHR_IN_ANGSTROM
        cell *= BOHR_IN_ANGSTROM
    atoms = ase.Atoms(numbers, positions, info=info, cell=cell, pbc=pbc)
    for name, values in arrays.items():
        atoms.set_array(name, values)
    return atoms


def _check_title(frame: _Frame, info: dict[str, Any], say: Say) -> None:
    """Say which keys brackets or quotes hide, and refuse the types of LAMMPS for elements."""
    for key in _KEYS.findall(frame.title):
        if names_state(key) and key not in info:
            say(
                f"{key}= inside quotes or brackets of the title is not used; write it outside of "
                "them if it is meant"
            )
    if frame.title.startswith("Atoms. Timestep") and frame.body[0].split()[0].isdigit():
        raise InputError(
            f"expected element symbols, got {quote(frame.body[0])} in a file of LAMMPS, whose "
            "numbers are types; write symbols (dump_modify element)"
        )


def _info(title: str) -> dict[str, Any]:
    """Keys of a title, and bare words where they name a state."""
    title, colons = _COLON.subn(_with_equals, title.replace("\u2212", "-"))
    if colons:  # braces of JSON would hide what they hold
        title = title.replace("{", " ").replace("}", " ")
    if "=" not in title:
        return {word: True for word in title.split() if names_state(word)}
    keys = _KEYS.findall(title)
    if len(keys) != len(set(keys)):
        for twice in (key for key in keys if keys.count(key) > 1):
            if names_state(twice) or twice.lower() in _ONCE or is_unit_key(twice):
                raise InputError(f"expected one {twice}= in the title, got several; leave one")
    try:
        return key_val_str_to_dict(title)
    except Exception as error:  # ASE raises whatever its parser meets
        raise InputError(
            f"expected a title of key=value, ASE cannot read {quote(title)} "
            f"({_reason(error)}); correct it"
        ) from None


def _with_equals(found: re.Match[str]) -> str:
    """``charge: 1`` as ``charge=1``; anything else that has a colon stays."""
    return f" {found[1]}={found[2]} " if names_state(found[1]) else found[0]


def _periodic(pbc: Any) -> Any:
    values = np.atleast_1d(np.asarray(False if pbc is None else pbc))
    if values.dtype.kind not in "bi" or values.size not in (1, 3):
        raise InputError(
            f"expected pbc= of three T or F, got {quote(str(pbc))}; a molecule needs none"
        )
    return values.astype(bool) if values.size == 3 else bool(values.ravel()[0])


def _lattice(vectors: Any) -> np.ndarray:
    """Rows of the cell; the title has them one behind the other."""
    found = np.asarray(vectors)
    if found.shape != (3, 3) or found.dtype.kind not in "iuf":
        raise InputError(
            f"expected Lattice= of nine numbers, three for each vector, got {quote(str(vectors))}; "
            "correct it"
        )
    return found.astype(np.float64).T


def _say_other_cells(title: str, info: dict[str, Any], has_lattice: bool, say: Say) -> None:
    """A cell under a name that is not extended xyz's would make a molecule of a crystal."""
    for key in info:
        if key.lower() == "pbc":
            say(f"{key}= is not used; write pbc= if it is the periodic directions")
    if has_lattice:
        return
    cells = [key for key, value in info.items() if _is_cell(key.lower(), value)]
    lengths = [key for key in info if key.lower() in ("a", "b", "c")]
    for key in cells or ([" ".join(lengths)] if len(lengths) == 3 else []):
        say(f"{key}= is not used; write Lattice= if it is the cell of a crystal")
    if not cells and (found := _CELL_WORDS.search(title)) is not None:
        say(f"the title's {quote(found[0])} is not used; write Lattice= if it is a crystal's cell")


def _is_cell(key: str, value: Any) -> bool:
    known = ("lattice", "cell", "unit_cell", "celldm")
    return key in known or (_CELL_KEY.search(key) is not None and np.size(value) in (3, 6, 9))


def _plain(body: list[str], say: Say) -> tuple[list[int], np.ndarray]:
    """Atomic numbers and positions of lines that begin with ``symbol x y z``."""
    numbers: list[int] = []
    positions = np.empty((len(body), 3))
    for k, line in enumerate(body):
        z, xyz = atom_line(line, say)
        numbers.append(z)
        positions[k] = xyz
    return numbers, positions


def _warn_of_fifth_column(frame: _Frame, say: Say) -> None:
    """A fifth number is a charge as a rule, and states one where they add up to a whole number."""
    if _QM9_TITLE.match(frame.title):
        return
    rows = [line.split() for line in frame.body]
    if {len(row) for row in rows} != {5}:
        return
    values = [number(row[4]) for row in rows]
    total = float(sum(v for v in values if v is not None)) if None not in values else 0.0
    if np.isfinite(total) and round(total) and abs(total - round(total)) < 1e-3:
        say(
            f"a fifth column adds up to {round(total)} and is not used; write charge= if it "
            "holds charges"
        )


class _Column(NamedTuple):
    """A named group of columns."""

    name: str
    kind: str
    start: int
    count: int


@functools.lru_cache(maxsize=64)
def _layout(columns: str) -> tuple[list[_Column], int]:
    """The columns of ``Properties=``, and how many words a line has."""
    fields = columns.split(":")
    layout, start = [], 0
    for name, kind, words in zip(fields[::3], fields[1::3], fields[2::3], strict=False):
        count = integer(words, 1000) or 0
        layout.append(_Column(name, kind, start, count))
        start += count
    names = [column.name.lower() for column in layout]
    wrong = len(fields) % 3 or any(c.count < 1 or c.kind not in "RISL" for c in layout)
    if wrong or len(names) != len(set(names)):
        raise InputError(
            f"expected Properties=name:type:columns:..., got {quote(columns)}; correct it"
        )
    counts = {column.name.lower(): column.count for column in layout}
    if counts.get("pos") != 3 or not {"species", "z"} & set(names):
        raise InputError(
            f"expected species and pos in Properties=, got {quote(columns)}; add the columns"
        )
    return layout, start


def _columns(
    body: list[str], columns: str, say: Say
) -> tuple[list[int], np.ndarray, dict[str, np.ndarray]]:
    """Atomic numbers, positions, and the columns that speak of charges or moments."""
    layout, width = _layout(columns)
    rows = [line.split() for line in body]
    for row, line in zip(rows, body, strict=True):
        if len(row) != width:
            raise InputError(
                f"expected {width} columns as Properties= says, got {quote(line)}; correct the "
                "line or Properties="
            )
    numbers: list[int] = []
    positions = np.empty((len(body), 3))
    arrays: dict[str, np.ndarray] = {}
    for column in layout:
        name = column.name.lower()
        if name == "species" or (name == "z" and not numbers):
            numbers = [element(row[column.start], say) for row in rows]
        elif name == "pos" and column.count == 3:
            positions = _numbers(rows, column)
        elif is_result(name) and column.kind in "RI":
            arrays[column.name] = _numbers(rows, column).squeeze(
                axis=1 if column.count == 1 else ()
            )
    return numbers, positions, arrays


def _numbers(rows: list[list[str]], column: _Column) -> np.ndarray:
    values = np.empty((len(rows), column.count))
    for k, row in enumerate(rows):
        for c in range(column.count):
            value = number(row[column.start + c])
            if value is None:
                raise InputError(
                    f"expected a number for {column.name}, got {quote(row[column.start + c])} in "
                    f"{quote(' '.join(row))}; correct the line"
                )
            values[k, c] = value
    return values


def _is_bohr(title: str, info: dict[str, Any], say: Say) -> bool:
    """Whether the title says so by ``units=bohr``; any other word of bohr is not enough."""
    stated = {key: str(value) for key, value in info.items() if is_unit_key(key)}
    bohr = stated_in_bohr(stated, say)
    for what, unit in _IPI.findall(title):
        if what in ("forces", "velocities", "momenta"):
            raise InputError(f"expected positions, got {what} of i-PI; give the file of positions")
        if what in ("positions", "x_centroid"):
            return _is_atomic_unit(what, unit, bohr)
    if bohr is None and _BOHR.search(title):
        say("the title speaks of bohr, the coordinates are read in angstrom; write units=bohr")
    return bool(bohr)


def _is_atomic_unit(what: str, unit: str, stated: bool | None) -> bool:
    """Whether i-PI's name of a unit of length is bohr, and not ångström."""
    bohr = unit == "automatic" or is_bohr(unit)
    if bohr is None:
        raise InputError(
            f"expected positions in angstrom or atomic_unit, got {quote(unit)}; convert them"
        )
    if stated not in (None, bohr):
        raise InputError(
            f"expected one unit of length, got {what}{{{unit}}} and a key of another; leave one"
        )
    return bohr


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:120] if lines else type(error).__name__
