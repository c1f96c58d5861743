"""Non-local parts of norm-conserving pseudopotentials in UPF version 2, rydberg and bohr.

XML without a document type: nothing in the file can name another file or grow when it is read.
Remarks (``PP_INFO``), which are often no XML, are not read.

References:
    P. Giannozzi, UPF specification (Quantum ESPRESSO); L. Kleinman, D. M. Bylander, Phys. Rev.
    Lett. 48, 1425 (1982).
"""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from ase.data import atomic_numbers
from jaxtyping import Float

from deeph_zero.data.formats.conventions import ENERGIES
from deeph_zero.data.reading.content import content_of, naming, text_of
from deeph_zero.data.reading.xml_text import plain_xml
from deeph_zero.errors import InputError
from deeph_zero.integrals.periodic.radial import RadialFunction, simpson

_REMARKS = re.compile(r"<PP_INFO\b.*?</PP_INFO\s*>", re.DOTALL)
_MOST_PROJECTORS = 64
_HIGHEST = 6
_ASYMMETRY = 1e-6
_CURE = "take a norm-conserving pseudopotential of UPF version 2, such as ONCVPSP writes"


@dataclasses.dataclass(frozen=True, eq=False)
class Pseudopotential:
    """What projects on an atom: V = Σ_ij |β_i⟩ D_ij ⟨β_j| for every m.

    Attributes:
        number: Atomic number.
        valence: Electrons beside the core.
        projectors: β_i.
        strengths: D_ij, Eh; zero between different l.
        spin_orbit: Made for spin-orbit coupling; averaged over j here.
    """

    number: int
    valence: int
    projectors: tuple[RadialFunction, ...]
    strengths: Float[np.ndarray, "n n"]
    spin_orbit: bool


def read_upf(path: Path) -> Pseudopotential:
    """Read a file.

    Args:
        path: An ordinary file, packed or not.

    Returns:
        The pseudopotential. With spin-orbit coupling V_l is [(l + 1) V_{l+1/2} + l V_{l-1/2}] /
        (2l + 1).

    Raises:
        InputError: If it is no norm-conserving pseudopotential of UPF 2; the line begins with the
            file.
    """
    with naming(path):
        return _parse(text_of(content_of(path)))


def _parse(text: str) -> Pseudopotential:
    root = _tree(text)
    header = _child(root, "PP_HEADER")
    _check_kind(header)
    element = header.get("element", "").strip().capitalize()
    if element not in atomic_numbers or element == "X":
        raise InputError(f"PP_HEADER: expected an element, got {element[:20]!r}; correct it")
    valence = _number(header, "z_valence")
    if not (0 < valence <= 118 and abs(valence - round(valence)) < 1e-6):
        raise InputError(f"PP_HEADER: expected a whole z_valence, got {valence:g}; {_CURE}")
    r = _numbers(_child(root, "PP_MESH/PP_R"), None)
    spacing = _numbers(_child(root, "PP_MESH/PP_RAB"), len(r))
    if len(r) < 8 or (np.diff(r) <= 0).any() or r[0] < 0:
        raise InputError("PP_R: expected growing distances, got others; copy the file again")
    spin_orbit = _switch(header, "has_so")
    projectors, spins = _projectors(root, header, r, spacing, spin_orbit=spin_orbit)
    strengths = _strengths(root, projectors, spins)
    return Pseudopotential(
        number=atomic_numbers[element],
        valence=round(valence),
        projectors=tuple(projectors),
        strengths=strengths,
        spin_orbit=spin_orbit,
    )


def _tree(text: str) -> ET.Element:
    body = _REMARKS.sub("", text)
    if "<UPF" not in body[:2000]:
        what = "version 1" if "<PP_HEADER" in body else "another kind of file"
        cure = "convert it with upfconv.x -u of Quantum ESPRESSO" if "1" in what else _CURE
        raise InputError(f"expected a pseudopotential in UPF version 2, got {what}; {cure}")
    root = plain_xml(body)
    if root.tag != "UPF" or not root.get("version", "").strip().startswith("2."):
        version = root.get("version", "none")[:20]
        raise InputError(f"expected UPF version 2, got {root.tag[:20]} version {version}; {_CURE}")
    return root


def _check_kind(header: ET.Element) -> None:
    kind = header.get("pseudo_type", "").strip().upper()
    for name, what in (("is_ultrasoft", "ultrasoft"), ("is_paw", "PAW"), ("is_coulomb", "1/r")):
        if _switch(header, name) or (kind in ("US", "PAW") and name == "is_ultrasoft"):
            label = "PAW" if kind == "PAW" else what
            raise InputError(
                f"expected a norm-conserving pseudopotential, got {label}, whose non-local part "
                f"changes with the density; {_CURE}"
            )
    if kind not in ("NC", "SL", ""):
        raise InputError(f"expected pseudo_type NC, got {kind[:20]!r}; {_CURE}")


def _projectors(
    root: ET.Element, header: ET.Element, r: np.ndarray, spacing: np.ndarray, *, spin_orbit: bool
) -> tuple[list[RadialFunction], list[float]]:
    """β_i and the j of each (0 without spin-orbit coupling)."""
    count = _whole(header, "number_of_proj")
    if not 0 <= count <= _MOST_PROJECTORS:
        raise InputError(f"PP_HEADER: expected number_of_proj, got {count}; correct it")
    if not count and root.find("PP_SEMILOCAL") is not None:
        raise InputError(
            "expected projectors, got a semilocal pseudopotential; make its Kleinman-Bylander "
            "form first, as ONCVPSP and the tools of Quantum ESPRESSO do"
        )
    projectors = []
    for i in range(1, count + 1):
        element = _child(root, f"PP_NONLOCAL/PP_BETA.{i}")
        l = _number(element, "angular_momentum")
        if l != int(l) or not 0 <= l <= _HIGHEST:
            raise InputError(
                f"PP_BETA.{i}: expected an angular momentum up to {_HIGHEST}, got {l:g}; {_CURE}"
            )
        values = _numbers(element, len(r))
        last = _whole(element, "cutoff_radius_index", len(r)) or len(r)
        # programs integrate up to an odd point at the end of β
        last = min(max(last + (last + 1) % 2, 3), len(r))
        projectors.append(RadialFunction(int(l), r[:last], values[:last], simpson(spacing[:last])))
    spins = list(_spins(root, projectors)) if spin_orbit else [0.0] * count
    return projectors, spins


def _spins(root: ET.Element, projectors: list[RadialFunction]) -> Iterator[float]:
    for i, beta in enumerate(projectors, 1):
        j = _number(_child(root, f"PP_SPIN_ORB/PP_RELBETA.{i}"), "jjj")
        if j < 0.4 or abs(abs(j - beta.l) - 0.5) > 1e-6:
            raise InputError(
                f"PP_RELBETA.{i}: expected j = {beta.l} ± 1/2, got {j:g}; copy the file again"
            )
        yield j


def _strengths(
    root: ET.Element, projectors: list[RadialFunction], spins: list[float]
) -> np.ndarray:
    count = len(projectors)
    if not count:
        return np.zeros((0, 0))
    found = _numbers(_child(root, "PP_NONLOCAL/PP_DIJ"), count**2).reshape(count, count)
    if np.abs(found - found.T).max() > _ASYMMETRY * max(1.0, float(np.abs(found).max())):
        raise InputError("PP_DIJ: expected a symmetric matrix, got another; copy the file again")
    l = np.array([beta.l for beta in projectors])
    j = np.array(spins)
    same = (l[:, None] == l) & (j[:, None] == j)
    if np.abs(found[~same]).max(initial=0.0) > _ASYMMETRY:
        raise InputError(
            "PP_DIJ: expected zeros between different angular momenta, got others; copy the file "
            "again"
        )
    share = np.where(j > 0, (2 * j + 1) / (2 * (2 * l + 1)), 1.0)
    return found * same * share * ENERGIES["rydberg"]


def _child(root: ET.Element, path: str) -> ET.Element:
    found = root.find(path)
    if found is None:
        raise InputError(f"expected {path}, there is none; {_CURE}")
    return found


def _number(element: ET.Element, name: str, default: float | None = None) -> float:
    word = element.get(name)
    try:
        value = float(word.replace("D", "E")) if word else default
    except ValueError:
        value = None
    if value is None or not abs(value) < 1e12:
        raise InputError(
            f"{element.tag}: expected a number as {name}, got {str(word)[:20]!r}; correct it"
        )
    return value


def _whole(element: ET.Element, name: str, default: int | None = None) -> int:
    value = _number(element, name, None if default is None else float(default))
    if value != int(value):
        raise InputError(
            f"{element.tag}: expected a whole number as {name}, got {value:g}; correct it"
        )
    return int(value)


def _switch(element: ET.Element, name: str) -> bool:
    word = element.get(name, "F").strip().strip(".").upper()
    if word not in ("T", "F", "TRUE", "FALSE", ""):
        raise InputError(f"{element.tag}: expected T or F as {name}, got {word[:20]!r}; correct it")
    return word.startswith("T")


def _numbers(element: ET.Element, count: int | None) -> np.ndarray:
    words = (element.text or "").replace("D", "E").replace("d", "e").split()
    try:
        found = np.array(words, dtype=float)
    except ValueError:
        bad = next(w for w in words if not _is_number(w))
        raise InputError(f"{element.tag}: expected numbers, got {bad[:20]!r}; correct it") from None
    if count is not None and len(found) != count:
        raise InputError(
            f"{element.tag}: expected {count} numbers, got {len(found)}; copy the file again"
        )
    if not np.isfinite(found).all():
        raise InputError(
            f"{element.tag}: expected finite numbers, got NaN or infinity; copy it again"
        )
    return found


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
