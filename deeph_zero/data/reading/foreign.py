"""Refuses by name what other programs write and no reader here takes, before it is misread."""

import re

from deeph_zero.data.reading.content import WholeFileError

_METHODS = r"(?:PM3|PM6|PM7|AM1|RM1|MNDO|MNDOD|PM6-\S+|PM7-TS)"
_MOPAC = (
    # keywords with a method in one of the first lines, an atom after at most four more
    rf"\A(?:[^\n]*\n){{0,4}}?[ \t]*(?:[^\n]*[ \t])?{_METHODS}(?:[ \t][^\n]*)?\n"
    r"(?:[^\n]*\n){0,4}?[ \t]*[A-Z][a-z]?(?:\([^\n)]*\))?[ \t]+[+-]?\d"
)
_MOLPRO = (
    r"^[ \t]*\*\*\*[ \t]*,|^[ \t]*geomtyp[ \t]*=|^[ \t]*\{?wf[ \t]*,"
    # DFTB+ begins like it
    r"|^[ \t]*geom(?:etry)?[ \t]*=(?!\s*\{?\s*(?:\w+Format|TypeNames|Periodic)\b)"
)
_PROGRAMS = (
    ("an input of Psi4", r"^[ \t]*molecule\b[ \t]*\w*[ \t]*\{|\bpsi4\.geometry\("),
    ("an output of Psi4", r"Psi4: An Open-Source Ab Initio"),
    ("an input of Molpro", _MOLPRO),
    ("an output of Molpro", r"PROGRAM SYSTEM MOLPRO"),
    ("an input of GAMESS", r"^[ \t]*\$(?:contrl|data)\b"),
    ("an input of MOPAC", _MOPAC),
    (
        "an output of MOPAC",
        r"\*\*[ \t]+MOPAC\b|\bMOPAC[ \t]?20\d\d\b|SUMMARY OF +\S+ +CALCULATION",
    ),
    ("an input of CP2K", r"^[ \t]*&(?:FORCE_EVAL|GLOBAL|COORD)\b"),
    ("an input of CFOUR", r"^[ \t]*\*(?:CFOUR|ACES2|CRAPS)[ \t]*\("),
    ("an input of OpenMolcas", r"^[ \t]*&(?:GATEWAY|SEWARD)\b"),
    ("an input of Jaguar", r"^[ \t]*&(?:zmat|gen)\b"),
    ("an input of DALTON", r"^[ \t]*atomtypes[ \t]*=|\A(?:BASIS|ATOMBASIS|INTGRL)[ \t]*\n"),
    ("an input of AMS", r"^[ \t]*Engine[ \t]+(?:ADF|DFTB|BAND)\b"),
    ("an input of TeraChem", r"^[ \t]*coordinates[ \t]+\S+\.(?:xyz|pdb|inpcrd)\b"),
    ("a Python script", r"^[ \t]*(?:from[ \t]+\w[\w.]*[ \t]+import|import[ \t]+\w[\w.]*)\b"),
)
"""Most certain first. Case does not count."""


def refuse_foreign(head: str) -> None:
    """Say whose file it is.

    Args:
        head: Beginning of the text.

    Raises:
        WholeFileError: If it is an input or output that is not read: its geometry may be in
            internal coordinates or in another file, its charge and spin anywhere.
    """
    for what, pattern in _PROGRAMS:
        if re.search(pattern, head, re.MULTILINE | re.IGNORECASE):
            raise WholeFileError(
                f"expected a structure file, got {what}, which is not read; write its geometry as "
                ".xyz, with charge= and multiplicity= in the title"
            )
