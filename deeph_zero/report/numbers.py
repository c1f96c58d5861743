"""Numbers of a summary as text: nothing in a file is trusted to be there or to be a number."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deeph_zero.molecule import SMILES_PREFIX
from deeph_zero.units import HARTREE_IN_EV

MISSING = "–"
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
SUPERSCRIPTS = str.maketrans("0123456789+-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻")
SMALL = 1e-10
"""Energies below this (Eh) are rounding, and are said to be smaller than it."""
IN_INTERVALS = {
    "energy": ("energy", "Eh", 6),
    "free_energy": ("free energy", "Eh", 6),
    "homo": ("HOMO", "Eh", 4),
    "lumo": ("LUMO", "Eh", 4),
    "gap": ("gap", "Eh", 4),
    "fermi": ("Fermi level", "Eh", 4),
    "levels": ("levels minus the predicted ones", "Eh", 4),
    "bands": ("levels minus those of the network's H, up to a constant", "Eh", 4),
    "dipole": ("dipole", "debye", 3),
}
"""Converged quantities that have intervals: name, unit, and decimals at least."""
FAINT = 1e-3
"""Infrared lines below this (km/mol) are forbidden by symmetry, what is left of them is noise."""

_MOST_DECIMALS = 12


def number(value: Any) -> float | None:
    """A finite float, or None for anything else (null, text, NaN, a truth value)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # JSON has whole numbers of any length
        return None


def numbers(value: Any) -> list[float | None]:
    """One entry per spin (or component) of a number or a list of numbers."""
    if isinstance(value, list | tuple):
        return [number(v) for v in value]
    return [number(value)]


def length(value: Any) -> float | None:
    """Euclidean length of a list of numbers; None where one is missing."""
    parts = numbers(value) if isinstance(value, list | tuple) else []
    known = [p for p in parts if p is not None]
    return math.hypot(*known) if known and len(known) == len(parts) else None


def show(value: Any, form: str) -> str:
    """A number in a format, "alpha / beta" for two, a dash where there is none."""
    parts = [MISSING if v is None else format(v, form) for v in numbers(value)]
    return " / ".join(parts) or MISSING


def sort_key(value: Any) -> float | None:
    """The number a table sorts by: the first one that is known."""
    return next((v for v in numbers(value) if v is not None), None)


def small_energy(value: float | None) -> str:
    """An energy difference in words.

    Args:
        value: Eh.

    Returns:
        In mEh, µEh or nEh with two digits; a dash for None.
    """
    if value is None:
        return MISSING
    if abs(value) < SMALL:
        return "less than 0.1 nEh"
    units = ((1e-3, 1e3, "mEh"), (1e-7, 1e6, "µEh"), (0.0, 1e9, "nEh"))
    scale, unit = next((s, u) for least, s, u in units if abs(value) >= least)
    return f"{significant(value * scale, 2)} {unit}"


def millivolt(value: float) -> str:
    """An energy in Eh as meV, two digits."""
    milli = value * 1e3 * HARTREE_IN_EV
    return "below 0.001 meV" if abs(milli) < 1e-3 else f"{significant(milli, 2)} meV"


def significant(value: float, digits: int) -> str:
    """A number with some significant digits and no exponent."""
    if value == 0.0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def interval(low: float, high: float, least: int) -> str:
    """An interval with so many decimals that its width has two digits.

    Args:
        low: Its lower end.
        high: Its upper end.
        least: Decimals at least.

    Returns:
        For example "-0.1931305 to -0.1931284".
    """
    width = abs(high - low)
    needed = 1 - math.floor(math.log10(width)) if width > 0 else 0
    decimals = min(max(least, needed), _MOST_DECIMALS)
    return f"{low:.{decimals}f} to {high:.{decimals}f}"


def duration(seconds: float | None) -> str:
    """A time in words.

    Args:
        seconds: How long.

    Returns:
        "12.3 s", "4 min 5 s", "2 h 3 min"; a dash for None.
    """
    if seconds is None or seconds < 0:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def plural(count: int, noun: str) -> str:
    """A count and its noun: "1 structure", "2 structures"."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def formula(symbols: Sequence[str], charge: int = 0) -> str:
    """Hill formula with subscripts and charge: carbon, hydrogen, then by name.

    Args:
        symbols: Chemical symbols.
        charge: Total charge.

    Returns:
        For example "CH₃" or "NH₄⁺".
    """
    counts = {s: list(symbols).count(s) for s in sorted(set(symbols))}
    first = [s for s in ("C", "H") if s in counts and "C" in counts]
    order = [*first, *(s for s in counts if s not in first)]
    text = "".join(s + (str(counts[s]) if counts[s] > 1 else "") for s in order)
    sign = "" if charge == 0 else "+" if charge > 0 else "-"
    size = str(abs(charge)) if abs(charge) > 1 else ""
    return text.translate(_SUBSCRIPTS) + (size + sign).translate(SUPERSCRIPTS)


def structure_name(entry: Any) -> str:
    """File name and frame of a structure, as the tables of the command line name it."""
    file, frame = str(entry.get("file") or MISSING), entry.get("frame")
    # a SMILES has slashes of its own
    name = file if file.startswith(SMILES_PREFIX) else Path(file).name
    return name if frame is None else f"{name}:{frame}"


def says_something(key: str, entries: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a quantity is worth a place: charge and spin where not 0, A where it is not E."""
    if key in ("charge", "spin"):
        return any(entry.get(key) for entry in entries)
    if key == "free_energy":
        return any(entry.get(key) not in (None, entry.get("energy")) for entry in entries)
    return any(entry.get(key) is not None for entry in entries)
