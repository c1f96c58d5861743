"""Protein Data Bank files, model by model, elements and charges by the columns of the format.

References:
    wwPDB, Protein Data Bank Contents Guide, version 3.30: ATOM, HETATM, MODEL, CRYST1.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import ase
import numpy as np
from ase.geometry import cellpar_to_cell

from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.data.reading.state import Say
from deeph_zero.data.reading.words import element, is_ambiguous, number, quote, two_meanings
from deeph_zero.errors import InputError

_RESIDUES = {
    "ALA", "ARG", "ASN", "ASP", "CYS", "GLN", "GLU", "GLY", "HIS", "ILE", "LEU", "LYS", "MET",
    "PHE", "PRO", "SER", "THR", "TRP", "TYR", "VAL", "ASX", "GLX", "SEC", "PYL", "HID", "HIE",
    "HIP", "CYX", "ACE", "NME", "NH2", "A", "C", "G", "U", "I", "DA", "DC", "DG", "DT", "DU",
    "DI", "HOH", "WAT", "TIP", "TP3", "H2O",
}  # fmt: skip
"""Whose atoms are of H, C, N, O, P and S, named by their first letter (selenium apart)."""
_CHARGE = re.compile(r"(\d)([+-])|([+-])(\d)")


class _Atom(NamedTuple):
    z: int
    position: list[float]
    charge: int | None
    site: tuple[str, str]
    """Name, residue and chain without, then the label of the alternative location."""


def pdb_models(text: str, say: Say) -> Iterator[ase.Atoms | InputError]:
    """Every model of a PDB file, in ångström.

    Args:
        text: The content, lines ended by line feeds.
        say: Takes a warning about the model that comes next.

    Yields:
        The atoms, ``info`` with the charge where columns 79-80 state one, or an error.

    Raises:
        WholeFileError: If there is no atom at all.
    """
    cell: list[float] | None = None
    models = 0
    for lines, is_last in _models(text.split("\n")):
        cryst = next((line for line in lines if line.startswith("CRYST1")), None)
        atoms = [line for line in lines if line.startswith(("ATOM", "HETATM"))]
        models += bool(atoms)
        try:
            cell = cell if cryst is None else _cell(cryst)
            if atoms:
                yield _model(atoms, cell, say)
            elif not is_last and any(line.startswith("MODEL") for line in lines):
                models += 1
                yield InputError("expected a molecule, got a model without atoms; leave it out")
        except InputError as error:
            yield error
    if not models:
        raise WholeFileError("expected ATOM or HETATM records, got none; check the file")


def _models(lines: list[str]) -> Iterator[tuple[list[str], bool]]:
    """Lines of each model, and whether it is the last."""
    models: list[list[str]] = [[]]
    for line in lines:
        models[-1].append(line)
        if line.startswith("END"):
            models.append([])
    filled = [m for m in models if any(ln.strip() and not ln.startswith("END") for ln in m)]
    for k, model in enumerate(filled):
        yield model, k + 1 == len(filled)


def _cell(line: str) -> list[float] | None:
    """Lengths and angles of the cell; one of 1 or 0 ångström is none by convention."""
    lengths = [number(line[k : k + 9].strip()) for k in (6, 15, 24)]
    found = [length for length in lengths if length is not None]
    if len(found) < 3:
        raise InputError(f"expected three lengths in CRYST1, got {quote(line)}; correct the line")
    if max(found) <= 1.0:
        return None
    angles = [number(line[k : k + 7].strip()) for k in (33, 40, 47)]
    if any(angle is None or not 0 < angle < 180 for angle in angles):
        raise InputError(f"expected three angles in CRYST1, got {quote(line)}; correct the line")
    group = "".join(line[55:66].split()).upper()
    if group not in ("", "1", "P1"):
        raise InputError(
            f"expected the whole cell (space group P 1), got {quote(line[55:66].strip())} in "
            "CRYST1, of whose copies the file has one; write all atoms, or leave out CRYST1 if "
            "this is a molecule by itself"
        )
    return [*found, *(angle for angle in angles if angle is not None)]


def _model(lines: list[str], cell: list[float] | None, say: Say) -> ase.Atoms:
    atoms: list[_Atom] = []
    chosen: dict[str, str] = {}
    for line in lines:
        atom = _atom(line, say)
        place, label = atom.site
        if label and chosen.setdefault(place, label) != label:
            say(f"alternative location {label} is left out; delete the other one to use it")
            continue
        atoms.append(atom)
    _say_missing_hydrogens(lines, atoms, say)
    found = ase.Atoms(
        [atom.z for atom in atoms],
        np.array([atom.position for atom in atoms]),
    )
    if cell is not None:
        found.set_cell(cellpar_to_cell(cell))
        found.pbc = True
    charges = [atom.charge for atom in atoms if atom.charge is not None]
    if charges:
        found.info["charge"] = sum(charges)
    return found


def _say_missing_hydrogens(lines: list[str], atoms: list[_Atom], say: Say) -> None:
    """Say so where residues come without any hydrogen, as crystallographers leave them."""
    residues = {line[17:21].strip().upper() for line in lines} & _RESIDUES
    if residues and all(atom.z != 1 for atom in atoms):
        say(
            f"residue {min(residues)} without hydrogens: none are added, write them into the "
            "file if they are meant"
        )


def _atom(line: str, say: Say) -> _Atom:
    xyz = [number(line[k : k + 8].strip()) for k in (30, 38, 46)]
    if None in xyz:
        raise InputError(
            f"expected coordinates in columns 31-54, got {quote(line)}; correct the line"
        )
    symbol = line[76:78].strip()
    # lines of before 1996 have a name and a count in columns 73-80
    charge_words = "" if re.search(r"\d", symbol) else line[78:80].strip()
    charge: int | None = None
    if charge_words and charge_words != "0":
        found = _CHARGE.fullmatch(charge_words)
        if found is None:
            raise InputError(
                f"expected a charge such as 1+ in columns 79-80, got {quote(charge_words)}; "
                "correct the line"
            )
        charge = int(f"{found[2] or found[3]}{found[1] or found[4]}")
    z = element(symbol if symbol.isalpha() else _from_name(line), say)
    place = line[12:16] + line[17:27]
    return _Atom(z, [float(x) for x in xyz if x is not None], charge, (place, line[16:17].strip()))


def _from_name(line: str) -> str:
    """Element of an atom without an element column, from its name in columns 13-16.

    The element stands right-justified in columns 13-14; names that leave two possibilities are
    refused outside residues whose elements are known.
    """
    name, residue = line[12:16], line[17:21].strip().upper()
    letters = re.sub(r"[^A-Za-z]", "", name).upper()
    if not letters:
        raise InputError(
            f"expected an element in columns 77-78 or an atom name, got {quote(line)}; write one"
        )
    if residue in _RESIDUES and not letters.startswith("SE"):
        return letters[0]
    two = letters[:2]
    if residue == letters == two:  # an ion is its own residue
        return two
    if name[0] == " " or name[0].isdigit():
        return letters[0]
    if is_ambiguous(two):
        raise InputError(two_meanings(name.strip()) + " in columns 77-78")
    try:
        element(two, lambda _: None)
    except InputError:
        return letters[0]
    return two
