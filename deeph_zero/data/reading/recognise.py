"""Which format a text is in: content decides, the ending of the name where that is silent."""

import re

from deeph_zero.data.reading.foreign import refuse_foreign
from deeph_zero.data.reading.words import integer, number

GENERIC = {"", ".out", ".log", ".txt", ".dat", ".inp", ".in", ".com", ".output", ".gz", ".xyz"}
"""Endings that promise no format of ASE's."""

NAMES = (
    "xyz, mol, sdf, mol2, pdb, input or output of Gaussian, ORCA, Q-Chem, NWChem, Turbomole coord"
)
"""Text formats that are known by their content, for messages."""

_HEAD = 65536
"""Characters within which a format shows itself."""

_COUNT = re.compile(r"\s*\d+\s*")
_OUTPUTS = {
    "gaussian-out": r"Entering Gaussian System|Gaussian\(R\)|Gaussian, Inc\.|Input orientation:",
    "orca-out": r"\* O   R   C   A \*|CARTESIAN COORDINATES \(ANGSTROEM\)",
    "qchem-out": r"Welcome to Q-Chem|Q-Chem, Inc\.|Standard Nuclear Orientation",
    "nwchem-out": r"Northwest Computational Chemistry Package",
    "gamess-us-out": r"GAMESS VERSION",
    "espresso-xml": r"<qes:espresso\b",
}
_INPUTS = {
    "mol2": r"^@<TRIPOS>(MOLECULE|ATOM)",
    "qchem-in": r"^[ \t]*\$molecule\b",
    "turbomole-gradient": r"^[ \t]*\$grad\b",
    "turbomole": r"^[ \t]*\$coord\b",
    "aims": r"^[ \t]*atom(_frac)?[ \t]+[-+.\d]+[ \t]+[-+.\d]+[ \t]+[-+.\d]",
    "orca-in": r"^[ \t]*(\*\s*(xyz|int|internal|gzmt|xyzfile|gzmtfile|pdbfile)\b|%coords\b)",
}
_CIF = (r"^data_\S*[ \t]*$", r"^[ \t]*_(?:cell_length_a|atom_site_\w+)\b")
_PDB = re.compile(r"^(ATOM  |HETATM).{24}[ \d.-]{24}", re.MULTILINE)
_MOL = re.compile(r"V[23]000\s*$")
_MOL_COUNTS = re.compile(r"[ \d]{2}\d[ \d]{2}\d([ \d]{3}){0,9}\s*")

_BY_SUFFIX = {
    ".xyz": "xyz",
    ".extxyz": "xyz",
    ".sdf": "mol",
    ".sd": "mol",
    ".mol": "mol",
    ".mdl": "mol",
    ".mol2": "mol2",
    ".pdb": "pdb",
    ".ent": "pdb",
    ".com": "gaussian-in",
    ".gjf": "gaussian-in",
    ".gjc": "gaussian-in",
}


_MANY = {".xyz", ".extxyz", ".sdf", ".sd", ".pdb", ".ent", ".mol2"}
"""Endings of files of many frames: a broken first one, or a word in a title, costs only itself."""

TEXT_SUFFIXES = {*_BY_SUFFIX, ".smi", ".smiles", ".txt", ".coord"}
"""Endings of formats that are text."""


def format_of(text: str, suffix: str) -> str | None:
    """Name of the reader for a text.

    Args:
        text: The content.
        suffix: Ending of the file's name, lower case with the dot.

    Returns:
        ``xyz``, ``mol``, ``pdb``, ``gaussian-in``, ``orca-out``, ...; None if nothing tells.

    Raises:
        WholeFileError: If it is another program's file that is not read.
    """
    if suffix in (".smi", ".smiles"):
        return "smiles"
    lines = text[:_HEAD].split("\n")
    counted = suffix in (".xyz", ".extxyz") and _first(lines, _COUNT)
    if counted or _is_mol(lines) or _is_xyz(lines):
        return "mol" if _is_mol(lines) else "xyz"
    if suffix in (".cif", ".mcif") or (suffix in GENERIC and _is_cif(text[:_HEAD])):
        return "cif"
    if suffix in (".json", ".traj"):  # may quote anything
        return None
    name = _by_mark(text[:_HEAD])
    if name is None and suffix not in _MANY:
        refuse_foreign(text[:_HEAD])
    return name or _BY_SUFFIX.get(suffix)


def _by_mark(head: str) -> str | None:
    """By what a program or a format is sure to write."""
    for name, pattern in _OUTPUTS.items():
        if re.search(pattern, head):
            return name
    if _PDB.search(head):
        return "pdb"
    for name, pattern in _INPUTS.items():
        if re.search(pattern, head, re.MULTILINE | re.IGNORECASE):
            return name
    lines = [line.strip().lower() for line in head.split("\n")]
    if _is_gaussian(lines):
        return "gaussian-in"
    is_nwchem = any(re.match(r"geometry(\s|$)", line) for line in lines) and "end" in lines
    return "nwchem-in" if is_nwchem else None


def _is_gaussian(lines: list[str]) -> bool:
    """A route, a title, and a section that begins with two whole numbers."""
    start = next((k for k, line in enumerate(lines) if line.startswith("#")), len(lines))
    section, previous = 0, ""
    for line in lines[start : start + 200]:
        if not previous and line:
            section += 1
            if section == 3:
                words = line.replace(",", " ").split()
                return len(words) >= 2 and None not in map(integer, words)
        previous = line
    return False


def _is_cif(head: str) -> bool:
    """A data block with a cell or sites."""
    return all(re.search(word, head, re.MULTILINE | re.IGNORECASE) for word in _CIF)


def _first(lines: list[str], pattern: re.Pattern[str]) -> bool:
    line = next((line for line in lines if line.strip()), "")
    return pattern.fullmatch(line) is not None


def _is_mol(lines: list[str]) -> bool:
    """A counts line in the fourth line, or an older one with atoms behind it."""
    if len(lines) < 4:
        return False
    if _MOL.search(lines[3]):
        return True
    body = lines[4].split() if len(lines) > 4 else []
    return (
        _MOL_COUNTS.fullmatch(lines[3]) is not None
        and len(body) >= 4
        and body[3][:1].isalpha()
        and all(number(word) is not None for word in body[:3])
    )


def _is_xyz(lines: list[str]) -> bool:
    """A count, any line, and a line that begins like an atom."""
    start = next((i for i, line in enumerate(lines) if line.strip()), len(lines))
    if start + 2 >= len(lines) or not _COUNT.fullmatch(lines[start]):
        return False
    words = lines[start + 2].split()
    return (
        len(words) >= 4
        and words[0].isalnum()
        and all(number(word) is not None for word in words[1:4])
    )
