"""Input files of quantum-chemistry programs, with the charge and multiplicity they state."""

import io
import re
import warnings
from collections.abc import Callable, Iterator

import ase
from ase.io.gaussian import read_gaussian_in

from deeph_zero.data.reading.state import Say
from deeph_zero.data.reading.words import integer, molecule, number, quote
from deeph_zero.errors import InputError
from deeph_zero.units import BOHR_IN_ANGSTROM

_INTERNAL = "internal coordinates are not supported; write Cartesian ones"
_ELSEWHERE = "the coordinates stand in another file; give that file"
_CHECKPOINT = re.compile(r"\bgeom\s*=?\s*\(?[^)\s]*\b(all)?che?c?k", re.IGNORECASE)
_SURROUNDINGS = {
    "point charges": r"^\s*#.*\scharge(\s|=|$)|^\s*%\s*pointcharges|^\s*\$(external|point)_charges"
    r"|^[ \t]*bq\b(?![ \t]+[-\d.]+[ \t]+[-\d.]+)",
    "electric field": r"^\s*#.*\sfield=|^\s*%?\s*efield\b|^\s*\$electrostatic field",
    "solvent": r"^\s*#.*\b(scrf|pcm|smd)\b|^\s*!.*\b(cpcm|smd|cosmo|alpb)\b|^\s*%\s*cpcm"
    r"|^\s*\$(cosmo|solvent|smx|pcm)\b|^\s*(solvent_method|cosmo)\b",
}
"""What input files put around a molecule."""


def _say_surroundings(text: str, say: Say) -> None:
    """Say so where a file states more than a molecule in vacuum."""
    for what, pattern in _SURROUNDINGS.items():
        if re.search(pattern, text, re.MULTILINE | re.IGNORECASE):
            say(f"{what} in the file: not used, the molecule is computed by itself")


def gaussian_jobs(text: str, say: Say) -> Iterator[ase.Atoms | InputError]:
    """Every job of a Gaussian input file.

    Args:
        text: The content, lines ended by line feeds.
        say: Takes a warning about the job that comes next.

    Yields:
        The atoms in ångström, ``info`` with charge and multiplicity, or an error.
    """
    jobs = re.split(r"^[ \t]*--link1--.*\n", text, flags=re.MULTILINE | re.IGNORECASE)
    jobs = [job for job in jobs if job.strip()]
    for k, job in enumerate(jobs):
        if k and _CHECKPOINT.search(job):
            say("a job that takes its geometry from the one before (geom=check) is left out")
            continue
        try:
            _say_surroundings(job, say)
            yield _gaussian(job, say)
        except InputError as error:
            yield error


def _gaussian(job: str, say: Say) -> ase.Atoms:
    # "!" begins a comment
    lines = [line.partition("!")[0].rstrip() for line in job.split("\n")]
    start = next((k for k, line in enumerate(lines) if line.lstrip().startswith("#")), None)
    if start is None:
        raise InputError("expected a route line beginning with '#', got none; write one")
    if _CHECKPOINT.search("\n".join(lines)):
        raise InputError(
            "expected atoms, got a route that takes them from a checkpoint; write them"
        )
    sections = [
        s.split("\n") for s in re.split(r"\n(?:[ \t]*\n)+", "\n".join(lines[start:]).strip())
    ]
    if len(sections) < 3:
        raise InputError(
            "expected route, title, and charge with atoms, blank lines between them, got "
            f"{len(sections)} of them; complete the file"
        )
    route, specification = " ".join(sections[0]).lower(), sections[2]
    state = _state(specification[0], "Gaussian's 'charge multiplicity'")
    bohr = _has_unit(route, "au|bohr")
    if _is_z_matrix(specification[1:]):
        if _has_unit(route, "rad"):
            raise InputError("expected angles in degrees, got units=rad; convert them")
        atoms = _z_matrix(specification, sections[3:])
        atoms.positions *= BOHR_IN_ANGSTROM if bohr else 1.0
        return _with_state(atoms, state)
    _say_parameters(specification[1:], say)
    body = [_gaussian_atom(line) for line in specification[1:]]
    return _with_state(molecule(body, say, bohr=bohr), state)


def _has_unit(route: str, names: str) -> bool:
    return re.search(rf"\bunits?\s*=?\s*\(?[^)\s]*\b({names})\b", route) is not None


def _say_parameters(lines: list[str], say: Say) -> None:
    """Say or refuse what stands in parentheses behind an atom."""
    for line in lines:
        for inside in re.findall(r"\(([^)]*)\)", line):
            if re.search(r"\bznuc\s*=", inside, re.IGNORECASE):
                raise InputError(f"expected a nucleus as it is, got {quote(line)}; leave out ZNuc")
            if re.search(r"\biso\s*=", inside, re.IGNORECASE):
                say("isotopes (Iso=) have the same electrons, their mass is not used")


def _gaussian_atom(line: str) -> str:
    """``symbol x y z`` of an atom line: commas, atom types and freeze codes taken off."""
    words = re.sub(r"[,\t]", " ", re.sub(r"\([^)]*\)", "", line)).split()
    if not words:
        raise InputError("expected an atom, got a blank line; correct the file")
    if words[0].startswith("@"):
        raise InputError(f"expected an atom, got {quote(line)}; {_ELSEWHERE}")
    if words[0].upper() == "TV":
        raise InputError("periodic systems are not supported; write it without Tv")
    if len(words) == 5 and words[1] in ("0", "-1", "1") and number(words[4]) is not None:
        del words[1]  # whether the atom is frozen
    symbol, _, kind = words[0].partition("-")
    if kind.lower().startswith("bq"):
        symbol = "Bq"
    return " ".join([symbol, *words[1:]])


def _is_z_matrix(lines: list[str]) -> bool:
    """One word in the first line, a bond in the second: no line of Cartesian ones is so short."""
    counts = [len(re.sub(r"[,\t]", " ", line).split()) for line in lines[:2]]
    return counts in ([1], [1, 3]) and not lines[0].lstrip().startswith("@")  # a file's name


def _z_matrix(specification: list[str], behind: list[list[str]]) -> ase.Atoms:
    """Positions of a Z-matrix; its variables stand below it, or behind a blank line."""
    lines = specification[1:]
    end = next((k for k, line in enumerate(lines) if _VARIABLE.fullmatch(line)), len(lines))
    end = next((k for k, line in enumerate(lines) if ":" in line), end)
    rows = [line for section in [lines[end:], *behind] for line in section]
    values = {}
    for row in rows:
        found = _VARIABLE.fullmatch(row)
        if found is not None:
            values[found[1].lower()] = found[2]
    body = [_valued(line, values) for line in lines[:end]]
    job = "\n".join(["# hf", "", "z-matrix", "", specification[0], *body, "", ""])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read_gaussian_in(io.StringIO(job))
    except Exception as error:  # ASE raises whatever its parsers meet
        reason = str(error.args[-1] if error.args else type(error).__name__).split("\n", 1)[0]
        raise InputError(
            f"expected a Z-matrix of numbers, ASE cannot read it ({quote(reason)}); write "
            "Cartesian coordinates"
        ) from None


_VARIABLE = re.compile(r"\s*([A-Za-z]\w*)\s*[=\s,]\s*([-+]?(?:\d+\.?\d*|\.\d+))\s*")


def _valued(line: str, values: dict[str, str]) -> str:
    """A row of a Z-matrix with the values of its variables, which may have a sign before them."""
    words = re.sub(r"[,\t]", " ", line).split()
    for k in range(2, len(words), 2):
        name = words[k].lstrip("+-").lower()
        if name in values:
            value = values[name]
            words[k] = value if words[k][0] != "-" else str(-float(value))
    return " ".join(words)


def orca_jobs(text: str, say: Say) -> Iterator[ase.Atoms | InputError]:
    """Every geometry of an ORCA input file.

    Args:
        text: The content, lines ended by line feeds.
        say: Takes a warning about the geometry that comes next.

    Yields:
        The atoms in ångström, ``info`` with charge and multiplicity, or an error.
    """
    _say_surroundings(text, say)
    lines = [re.sub(r"#.*", "", line).strip() for line in text.split("\n")]
    bohr = any(line.startswith("!") and "bohrs" in line.lower() for line in lines)
    k = 0
    while k < len(lines):
        head = re.match(r"\*\s*(\w+)\s*(.*)", lines[k])
        is_coords = lines[k].lower().startswith("%coords")
        k += 1
        if head is None and not is_coords:
            continue
        try:
            if head is not None:
                is_elsewhere = "file" in head[1].lower()  # one line, without an end
                end = k - 1 if is_elsewhere else _end(lines, k, lambda line: line.startswith("*"))
                kind = head[1].lower()
                body = lines[k:end]
                k = end + 1
                yield _orca_block(kind, head[2], body, bohr, say)
            else:
                end = _end(lines, k, lambda line: line.lower() == "end", nested="coords")
                body = lines[k:end]
                k = end + 1
                yield _orca_coords(body, bohr, say)
        except InputError as error:
            yield error


def _end(lines: list[str], start: int, is_end: Callable[[str], bool], nested: str = "") -> int:
    """Line that ends a block; one of another block inside does not count."""
    depth = 1
    for k in range(start, len(lines)):
        if nested and lines[k].lower().startswith(nested):
            depth += 1
        if is_end(lines[k]):
            depth -= 1
            if not depth:
                return k
    raise InputError("expected the end of the coordinates, got the end of the file; complete it")


def _orca_block(kind: str, state: str, body: list[str], bohr: bool, say: Say) -> ase.Atoms:
    if "file" in kind:
        raise InputError(f"expected '* xyz', got '* {kind}'; {_ELSEWHERE}")
    if kind != "xyz":
        raise InputError(f"expected '* xyz', got '* {kind}'; {_INTERNAL}")
    found = _state(state, "'* xyz charge multiplicity'")
    if any(re.match(r"Q\s", line, re.IGNORECASE) for line in body):
        raise InputError("expected atoms, got point charges (Q), not supported; leave them out")
    return _with_state(molecule([line for line in body if line], say, bohr=bohr), found)


def _orca_coords(body: list[str], bohr: bool, say: Say) -> ase.Atoms:
    facts: dict[str, str] = {}
    atoms: list[str] | None = None
    for line in body:
        words = line.replace("=", " ").split()
        if not words or words[0].lower() == "end":
            continue
        if words[0].lower() == "coords":
            atoms = []
        elif atoms is not None:
            atoms.append(line)
        elif len(words) > 1:
            facts[words[0].lower()] = words[1]
    if facts.get("ctyp", "xyz").lower() not in ("xyz", "cartesian"):
        raise InputError(f"expected CTyp xyz, got {quote(facts['ctyp'])}; {_INTERNAL}")
    bohr = bohr or facts.get("units", "angs").lower().startswith("bohr")
    state = _state(f"{facts.get('charge', '?')} {facts.get('mult', '?')}", "Charge and Mult")
    return _with_state(molecule(atoms or [], say, bohr=bohr), state)


def qchem_jobs(text: str, say: Say) -> Iterator[ase.Atoms | InputError]:
    """Every ``$molecule`` of a Q-Chem input file; ``read`` repeats the last one and is left out.

    Args:
        text: The content, lines ended by line feeds.
        say: Takes a warning about the molecule that comes next.

    Yields:
        The atoms in ångström, ``info`` with charge and multiplicity, or an error.
    """
    for job in re.split(r"^[ \t]*@@@.*$", text, flags=re.MULTILINE):
        block = _section(job, "molecule")
        if block is None or (block and block[0].lower() == "read"):
            continue
        bohr = re.search(r"^[ \t]*input_bohr\s*=?\s*(true|1)\b", job, re.MULTILINE | re.IGNORECASE)
        try:
            state = _state(block[0] if block else "", "'charge multiplicity' in $molecule")
            # each fragment begins with "--" and its own charge and multiplicity
            rows = enumerate(block[1:])
            lines = [row for k, row in rows if row != "--" and (not k or block[k] != "--")]
            _refuse_internal(lines)
            _say_surroundings(job, say)
            yield _with_state(molecule(lines, say, bohr=bohr is not None), state)
        except InputError as error:
            yield error


def _refuse_internal(lines: list[str]) -> None:
    """Refuse a Z-matrix, whose first atom has no place."""
    if lines and len(lines[0].split()) == 1:
        raise InputError(f"expected 'symbol x y z', got {quote(lines[0])}; {_INTERNAL}")


def nwchem_geometry(text: str, say: Say) -> Iterator[ase.Atoms | InputError]:
    """Every ``geometry`` of an NWChem input file.

    Args:
        text: The content, lines ended by line feeds.
        say: Takes a warning about the geometry that comes next.

    Yields:
        The atoms in ångström, ``info`` with what is stated of charge, mult and nopen, or an error.
    """
    _say_surroundings(text, say)
    lines = [re.sub(r"#.*", "", line).strip() for line in text.replace(";", "\n").split("\n")]
    stated: dict[str, int] = {}
    for line in lines:
        words = line.lower().split()
        value = integer(words[1], 1000) if len(words) == 2 else None
        if value is not None and words[0] in ("charge", "mult", "nopen"):
            if stated.setdefault(words[0], value) != value:
                say(f"several values of {words[0]}, the last is used; write a file for each")
            stated[words[0]] = value
    starts = [k for k, line in enumerate(lines) if line.lower().startswith("geometry")]
    for start in starts:
        try:
            end = _end(lines, start + 1, lambda line: line.lower() == "end")
            atoms = _nwchem(lines[start].lower(), lines[start + 1 : end], say)
            atoms.info.update(stated)
            yield atoms
        except InputError as error:
            yield error


def _nwchem(head: str, body: list[str], say: Say) -> ase.Atoms:
    unit = re.search(r"\bunits\s+(\S+)", head)
    if unit and unit[1] not in ("angstroms", "angstrom", "an", "au", "bohr", "atomic"):
        raise InputError(f"expected units angstroms or bohr, got {quote(unit[1])}; write one")
    for line in body:
        word, *rest = line.lower().split() or [""]
        group = [name for name in rest if name != "group"][:1]
        if word == "symmetry" and group not in ([], ["c1"], ["1"]):
            say(f"{quote(line)} makes no copies of atoms; write all of them if some are left out")
        if word == "zmatrix":
            raise InputError(f"expected atoms, got zmatrix; {_INTERNAL}")
        if word in ("system", "lattice_vectors"):
            raise InputError(f"periodic systems are not supported; write it without {word}")
    lines = [line for line in body if line and not line.lower().startswith("symmetry")]
    return molecule(lines, say, bohr=bool(unit) and unit[1] in ("au", "bohr", "atomic"))


def turbomole_coord(text: str, say: Say) -> Iterator[ase.Atoms | InputError]:
    """A Turbomole (or xtb) ``coord`` file, with ``$eht``, ``$chrg`` and ``$spin`` where there are.

    Args:
        text: The content, lines ended by line feeds.
        say: Takes a warning.

    Yields:
        The atoms in ångström, or an error.
    """
    try:
        yield _turbomole(text, say)
    except InputError as error:
        yield error


def _turbomole(text: str, say: Say) -> ase.Atoms:
    _say_surroundings(text, say)
    unit = _coord_unit(text)
    body = []
    for line in _section(text, "coord") or []:
        words = line.split()
        if len(words) == 5 and words[4].lower() == "f":
            del words[4]  # the atom is frozen
        body.append(" ".join([*words[3:4], *words[:3], *words[4:]]))
    atoms = molecule(body, say, bohr=unit in ("", "bohr"))
    for line in re.findall(r"^[ \t]*\$eht\b(.*)$", text, re.MULTILINE | re.IGNORECASE):
        for key, value in re.findall(r"(charge|unpaired)\s*=?\s*(\S+)", line, re.IGNORECASE):
            atoms.info[f"$eht {key.lower()}"] = value
    for name in ("chrg", "charge", "spin", "uhf"):
        section = re.search(rf"^[ \t]*\${name}\b[ =]*(\S*)\s*\n?(.*)$", text, re.MULTILINE | re.I)
        if section:
            words = (section[1] or section[2]).split()  # $charge has a threshold behind it
            atoms.info[f"${name}"] = words[0] if words else ""
    return atoms


def _coord_unit(text: str) -> str:
    """What stands behind ``$coord``."""
    units = re.findall(r"^[ \t]*\$coord\b(.*)$", text, re.MULTILINE | re.IGNORECASE)
    unit = re.sub(r"natoms\s*=\s*\d+", "", units[0].lower()).strip() if units else ""
    if len(units) > 1:
        raise InputError("expected one $coord, got several; write a file for each")
    if "file" in unit:
        raise InputError(f"expected coordinates behind $coord, got {quote(unit)}; {_ELSEWHERE}")
    if unit not in ("", "bohr", "angs", "angstrom", "ang"):
        raise InputError(f"expected $coord, bohr or angs, got {quote(unit)}; write one of them")
    cell = re.search(
        r"^[ \t]*\$(periodic\s+[1-3]|lattice|cell)\b", text, re.MULTILINE | re.IGNORECASE
    )
    if cell:
        raise InputError(f"periodic systems are not supported; write it without ${cell[1]}")
    return unit


def _section(text: str, name: str) -> list[str] | None:
    """Lines of a ``$name`` section that are not blank, None if there is none."""
    found = re.search(
        rf"^[ \t]*\${name}\b.*\n((?:(?![ \t]*\$).*\n?)*)", text, re.MULTILINE | re.IGNORECASE
    )
    if found is None:
        return None
    lines = [re.sub(r"[#!].*", "", line).strip() for line in found[1].split("\n")]
    return [line for line in lines if line]


def _state(line: str, what: str) -> tuple[int, int]:
    """Charge and multiplicity, of the whole where those of fragments follow."""
    words = line.replace(",", " ").split()
    found = [integer(word, 1000) for word in words]
    if len(found) < 2 or len(found) % 2 or None in found:
        raise InputError(f"expected {what}, got {quote(line)}; write two whole numbers")
    charge, multiplicity = found[:2]
    assert charge is not None
    assert multiplicity is not None
    return charge, multiplicity


def _with_state(atoms: ase.Atoms, state: tuple[int, int]) -> ase.Atoms:
    atoms.info.update(charge=state[0], multiplicity=state[1])
    return atoms
