"""MDL mol and SD files (V2000 and V3000), record by record, and Tripos mol2.

References:
    BIOVIA, CTfile Formats (2020): counts line, atom block, properties ``M  CHG`` and ``M  RAD``,
    extended (V3000) connection table.
"""

import re
from collections.abc import Iterator, Sequence

import ase

from deeph_zero.data.reading.state import Say
from deeph_zero.data.reading.words import ISOTOPES, atom_line, element, integer, number, quote
from deeph_zero.errors import InputError

_OLD_CHARGES = {1: 3, 2: 2, 3: 1, 5: -1, 6: -2, 7: -3}
"""Codes of the atom block; 4 is a doublet radical."""
_UNPAIRED = {0: 0, 1: 0, 2: 1, 3: 2}
"""2S of the codes none, singlet, doublet, triplet."""
_CUT = "the record is cut off, write it again"
_ORDERS = {"1": 1.0, "2": 2.0, "3": 3.0, "4": 1.5, "ar": 1.5, "am": 1.0, "du": 1.0}
"""Bond codes of both formats that count towards a valence; others say nothing of it."""
_FIELD = re.compile(r">.*<([^<>]+)>")


def mol_records(text: str, say: Say) -> Iterator[ase.Atoms | InputError]:
    """Every record of a mol or SD file, in ångström.

    Args:
        text: The content, lines ended by line feeds.
        say: Takes a warning about the record that comes next.

    Yields:
        The atoms, ``info`` with charge and spin where the record states them and its data fields,
        or what is wrong with the record.
    """
    for lines in _records(text.split("\n")):
        try:
            yield _record(lines, say)
        except InputError as error:
            yield error


def _records(lines: list[str]) -> Iterator[list[str]]:
    """Lines between the separators; only the last record may be blank."""
    record: list[str] = []
    for line in lines:
        if line.startswith("$$$$"):
            yield record
            record = []
        else:
            record.append(line)
    if any(line.strip() for line in record):
        yield record


def _record(lines: list[str], say: Say) -> ase.Atoms:
    if len(lines) < 4:
        raise InputError(f"expected three lines of title and a counts line, got less; {_CUT}")
    if "V3000" in lines[3]:
        numbers, positions, charges, unpaired, end = _v3000(lines[4:], say)
    else:
        numbers, positions, charges, unpaired, end = _v2000(lines, say)
    atoms = ase.Atoms(numbers, positions)
    if charges:
        atoms.info["charge"] = sum(charges)
    if unpaired:
        atoms.info["spin"] = sum(unpaired)
    atoms.info.update(_fields(lines[end:], atoms.info))
    if lines[1][20:22].upper() == "2D" and len(atoms) > 3 and not atoms.positions[:, 2].any():
        say("the record is marked 2D: it may be a drawing and no geometry in angstrom")
    return atoms


def _fields(lines: list[str], stated: dict[str, object]) -> dict[str, str]:
    """Data fields of one line, by name; numbers of charge among them may state the molecule's."""
    found = {}
    for k, line in enumerate(lines[:-1]):
        name = _FIELD.match(line)
        if name and (k + 2 >= len(lines) or not lines[k + 2].strip()):
            key = name[1] if name[1] not in stated else f"{name[1]} "  # keep both, to compare
            found[key] = lines[k + 1].strip()
    return found


_Block = tuple[list[int], list[list[float]], list[int], list[int], int]
"""Atomic numbers, positions, charges and unpaired electrons if stated, and the line behind."""


def _v2000(lines: list[str], say: Say) -> _Block:
    counts = lines[3]
    natm, n_bonds = integer(counts[:3], 999), integer(counts[3:6] or "0", 999)
    if natm is None or n_bonds is None or natm < 0 or n_bonds < 0:
        raise InputError(
            f"line 4: expected the numbers of atoms and bonds, got {quote(counts)}; correct it"
        )
    atom_lines, bonds = lines[4 : 4 + natm], lines[4 + natm : 4 + natm + n_bonds]
    there = next(
        (
            k
            for k, line in enumerate(atom_lines)
            if len(line.split()) < 4 or not re.search(r"[A-Za-z*]", line[:48])
        ),
        len(atom_lines),
    )
    if there < natm:
        raise InputError(f"expected {natm} atoms as line 4 announces, got {there}; {_CUT}")
    for line in bonds:
        if not re.match(r"[ \d]{2}\d[ \d]{2}\d[ \d]{2}\d", line):
            raise InputError(f"expected {n_bonds} bonds, got {quote(line)} in their place; {_CUT}")
    if len(bonds) < n_bonds:
        raise InputError(f"expected {n_bonds} bonds as line 4 announces, got {len(bonds)}; {_CUT}")
    numbers, positions, old = [], [], []
    for line in atom_lines:
        z, xyz, code = _v2000_atom(line, say)
        numbers.append(z)
        positions.append(xyz)
        old.append(code)
    charges, unpaired, end = _properties(lines, 4 + natm + n_bonds, natm, say)
    stated = any(c for c in old) or charges is not None or unpaired is not None
    if not stated:
        _say_missing_hydrogens(numbers, [(b[:3], b[3:6], b[6:9]) for b in bonds], say)
    if charges is None and unpaired is None:  # older codes count only without newer ones
        charges = [_OLD_CHARGES.get(code, 0) for code in old] if any(old) else None
        unpaired = [1 for code in old if code == 4] or None
    return numbers, positions, charges or [], unpaired or [], end


def _v2000_atom(line: str, say: Say) -> tuple[int, list[float], int]:
    """Atomic number, position and the old charge code, by columns or by words."""
    xyz = [number(line[k : k + 10].strip()) for k in (0, 10, 20)]
    symbol, rest = line[31:34].strip(), line[34:]
    if None in xyz or not symbol.isalpha():
        words = line.split()
        xyz, symbol = [number(word) for word in words[:3]], words[3]
        code = integer(words[5], 9) if len(words) > 5 else 0
    else:
        code = integer(rest[2:5], 9) or 0
    if None in xyz:
        raise InputError(f"expected 'x y z symbol', got {quote(line)}; correct the line")
    return element(symbol, say), [float(x) for x in xyz if x is not None], code or 0


def _say_missing_hydrogens(
    numbers: list[int], bonds: Sequence[tuple[str, str, str]], say: Say
) -> None:
    """Say so where no carbon has a hydrogen and one has valences left: formats allow that."""
    valence = dict.fromkeys((k for k, z in enumerate(numbers) if z == _CARBON), 0.0)
    for first, second, code in bonds:
        ends = [(integer(word) or 0) - 1 for word in (first, second)]
        order = _ORDERS.get(code.strip().lower())
        if order is None or not all(0 <= k < len(numbers) for k in ends):
            return
        for one, other in (ends, ends[::-1]):
            if one in valence and numbers[other] == 1:
                return
            if one in valence:
                valence[one] += order
    free = next((k for k, sum_ in valence.items() if bonds and sum_ < _VALENCE), None)
    if free is not None:
        say(
            f"atom {free + 1} (C) has free valences and no carbon a hydrogen: none are added, "
            "write them into the file if they are meant"
        )


_CARBON, _VALENCE = 6, 3.9


def _properties(
    lines: list[str], start: int, natm: int, say: Say
) -> tuple[list[int] | None, list[int] | None, int]:
    """Charges and unpaired electrons of ``M  CHG`` and ``M  RAD``, and the line behind the end."""
    charges: list[int] | None = None
    unpaired: list[int] | None = None
    for k in range(start, len(lines)):
        line = lines[k]
        if line.startswith("M  END"):
            return charges, unpaired, k + 1
        if line.startswith("M  CHG"):
            charges = (charges or []) + [v for _, v in _pairs(line, natm)]
        elif line.startswith("M  RAD"):
            unpaired = (unpaired or []) + [_radical(v) for _, v in _pairs(line, natm)]
        elif line.startswith("M  ISO"):
            say(ISOTOPES)
    return charges, unpaired, len(lines)  # the end is left out by some programs


def _radical(code: int) -> int:
    if code not in _UNPAIRED:
        raise InputError(f"expected a radical of 0 to 3, got {code}; correct the record")
    return _UNPAIRED[code]


def _pairs(line: str, natm: int) -> list[tuple[int, int]]:
    """Atom and value of a property line, as many as it announces."""
    values = [integer(word, 999) for word in line[6:].split()]
    pairs = list(zip(values[1::2], values[2::2], strict=False))
    count = values[0] if values else None
    found = [(a, v) for a, v in pairs if a is not None and v is not None and 1 <= a <= natm]
    if count is None or len(found) != count or len(values) != 1 + 2 * count:
        raise InputError(
            f"expected a count and that many pairs of atom and value, got {quote(line)}; correct it"
        )
    return found


def _v3000(lines: list[str], say: Say) -> _Block:
    """The extended connection table."""
    rows, end = _v30_rows(lines)
    counts = next((row for row in rows if row[:1] == ["COUNTS"]), [])
    natm = integer(counts[1]) if len(counts) > 2 else None
    if natm is None:
        raise InputError(f"expected 'M  V30 COUNTS atoms bonds', got none; {_CUT}")
    begin = next((k for k, row in enumerate(rows) if row[:2] == ["BEGIN", "ATOM"]), len(rows))
    stop = next((k for k, row in enumerate(rows) if row[:2] == ["END", "ATOM"]), begin)
    block = rows[begin + 1 : stop]
    if len(block) != natm:
        raise InputError(
            f"expected {natm} atoms as COUNTS announces, got {max(len(block), 0)}; {_CUT}"
        )
    numbers, positions, charges, unpaired = [], [], [], []
    for row in block:
        z, xyz = atom_line(" ".join(row[1:5]), say)
        numbers.append(z)
        positions.append(xyz)
        for word in row[5:]:
            key, _, value = word.partition("=")
            if key == "MASS":
                say(ISOTOPES)
            if key in ("CHG", "RAD"):
                whole = integer(value, 15)
                if whole is None:
                    raise InputError(f"expected {key}= of -15 to 15, got {quote(word)}; correct it")
                (charges if key == "CHG" else unpaired).append(
                    whole if key == "CHG" else _radical(whole)
                )
    return numbers, positions, charges, unpaired, 4 + end


def _v30_rows(lines: list[str]) -> tuple[list[list[str]], int]:
    """Words of each ``M  V30`` line, continued lines joined, and the line behind the end."""
    rows: list[list[str]] = []
    open_line = ""
    for k, line in enumerate(lines):
        if line.startswith("M  END"):
            return rows, k + 1
        if not line.startswith("M  V30"):
            continue
        open_line += line[6:].rstrip()
        if open_line.endswith("-"):
            open_line = open_line[:-1]
            continue
        rows.append(open_line.split())
        open_line = ""
    return rows, len(lines)


def mol2_records(text: str, say: Say) -> Iterator[ase.Atoms | InputError]:
    """Every molecule of a Tripos mol2 file, in ångström.

    Args:
        text: The content, lines ended by line feeds.
        say: Takes a warning about the molecule that comes next.

    Yields:
        The atoms, with their charges as ``initial_charges`` where there are any, or an error.
    """
    records = re.split(r"^@<TRIPOS>MOLECULE.*\n", text, flags=re.MULTILINE)
    for record in records[1:] or [text]:
        try:
            yield _mol2(record.split("\n"), say)
        except InputError as error:
            yield error


def _mol2(lines: list[str], say: Say) -> ase.Atoms:
    begin = next((k for k, line in enumerate(lines) if line.startswith("@<TRIPOS>ATOM")), None)
    counts = lines[1].split() if len(lines) > 1 else []
    natm = integer(counts[0]) if counts else None
    if begin is None or natm is None:
        raise InputError(f"expected a count and @<TRIPOS>ATOM, got none; {_CUT}")
    body = []
    for line in lines[begin + 1 :]:
        if line.startswith("@"):
            break
        if line.strip():
            body.append(line)
    if len(body) != natm:
        raise InputError(f"expected {natm} atoms as announced, got {len(body)}; {_CUT}")
    numbers, positions, charges = [], [], []
    for line in body:
        words = line.split()
        if len(words) < 6:
            raise InputError(f"expected 'id name x y z type', got {quote(line)}; correct the line")
        z, xyz = atom_line(" ".join([words[5].partition(".")[0], *words[2:5]]), say)
        numbers.append(z)
        positions.append(xyz)
        charges.append(number(words[8]) if len(words) > 8 else None)
    atoms = ase.Atoms(numbers, positions)
    _say_missing_hydrogens(numbers, _mol2_bonds(lines), say)
    _set_mol2_charges(atoms, lines, charges)
    if any(line.startswith("@<TRIPOS>CRYSIN") for line in lines):
        say("the cell (CRYSIN) is not used: the record is read as a molecule")
    return atoms


def _set_mol2_charges(atoms: ase.Atoms, lines: list[str], charges: list[float | None]) -> None:
    """Formal charges where there are any, which are whole, else those of the atoms."""
    formal = _mol2_formal_charges(lines)
    if formal:
        atoms.info["charge"] = sum(formal)
    elif None not in charges:
        atoms.set_initial_charges([float(c) for c in charges if c is not None])


def _mol2_section(lines: list[str], name: str) -> list[list[str]]:
    """Words of each line of a section."""
    begin = next((k for k, line in enumerate(lines) if line.strip() == f"@<TRIPOS>{name}"), None)
    rows: list[list[str]] = []
    for line in [] if begin is None else lines[begin + 1 :]:
        if line.startswith("@"):
            break
        if line.strip():
            rows.append(line.split())
    return rows


def _mol2_bonds(lines: list[str]) -> list[tuple[str, str, str]]:
    rows = _mol2_section(lines, "BOND")
    return [(row[1], row[2], row[3]) for row in rows if len(row) > 3]


def _mol2_formal_charges(lines: list[str]) -> list[int]:
    """Charges among the attributes of the atoms."""
    rows = _mol2_section(lines, "UNITY_ATOM_ATTR")
    found = [integer(row[1]) for row in rows if len(row) == 2 and row[0].lower() == "charge"]
    if None in found:
        raise InputError("expected whole charges in UNITY_ATOM_ATTR, got others; correct them")
    return [value for value in found if value is not None]
