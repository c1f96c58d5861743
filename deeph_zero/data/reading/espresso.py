"""Structures in the XML file that Quantum ESPRESSO leaves of a run, bohr."""

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element

import ase
import numpy as np
from ase.data import atomic_numbers

from deeph_zero.data.reading.state import Say
from deeph_zero.data.reading.words import number
from deeph_zero.data.reading.xml_text import plain_xml
from deeph_zero.errors import InputError
from deeph_zero.units import BOHR_IN_ANGSTROM

_CURE = "copy the file again, or write .xyz"


def espresso_xml(text: str, say: Say) -> Iterator[ase.Atoms | InputError]:
    """The last structure of a run; that of the input where the run has no output.

    Args:
        text: The file.
        say: Not used.

    Yields:
        The crystal.

    Raises:
        InputError: If there is none.
    """
    del say
    # the prefix is bound to an address on the network, which is of no interest here
    root = plain_xml(re.sub(r"<(/?)qes:", r"<\1", text))
    found = root.find("output/atomic_structure")
    found = root.find("input/atomic_structure") if found is None else found
    if found is None:
        raise InputError(f"expected an atomic_structure, there is none; {_CURE}")
    symbols, places = [], []
    for atom in found.findall("atomic_positions/atom"):
        label = re.sub(r"[^A-Za-z].*", "", atom.get("name", "")).capitalize()
        if label not in atomic_numbers or label == "X":
            raise InputError(f"expected an element, got {atom.get('name', '')[:20]!r}; {_CURE}")
        symbols.append(label)
        places.append(_vector(atom.text, "a position"))
    if not places:
        raise InputError(f"expected atomic_positions, got none; {_CURE}")
    cell = [_vector(found.findtext(f"cell/a{k}"), "a lattice vector") for k in (1, 2, 3)]
    yield ase.Atoms(
        symbols,
        np.array(places) * BOHR_IN_ANGSTROM,
        cell=np.array(cell) * BOHR_IN_ANGSTROM,
        pbc=True,
        info=_state(root),
    )


def _state(root: Element) -> dict[str, str]:
    """The charge of the cell, and the unpaired electrons where the input fixes them."""
    found: dict[str, str] = {}
    charge = root.findtext("input/bands/tot_charge")
    spin = root.findtext("input/bands/tot_magnetization")
    if charge is not None:
        found["charge"] = charge.strip()
    if spin is not None and (number(spin.strip()) or 0.0) >= 0:
        found["spin"] = spin.strip()
    return found


def _vector(text: str | None, what: str) -> list[float]:
    values = [number(word) for word in (text or "").split()]
    found = [float(x) for x in values if x is not None]
    if len(found) != 3 or len(values) != 3:
        raise InputError(f"expected {what} of three numbers, got {(text or '')[:40]!r}; {_CURE}")
    return found
