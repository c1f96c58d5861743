"""The unit of lengths that a file states: ångström or bohr."""

from collections.abc import Mapping

from deeph_zero.data.reading.state import Say
from deeph_zero.data.reading.words import quote
from deeph_zero.errors import InputError

_ATOMIC = {"bohr", "bohrs", "au", "a.u.", "a0", "atomic", "atomic_unit", "atomic_units"}
_ANGSTROM = {"angstrom", "angstroms", "ang", "a", "\u00e5", "\u212b", "\u00e5ngstr\u00f6m"}
_TOO_FAR = {"nm", "nanometer", "nanometers", "pm", "picometer", "picometers"}
"""Units that are refused by their names: the contacts alone would not show the long ones."""
_PERHAPS_OF_LENGTH = ("units", "unit")
"""Keys that may state the unit of an energy, or a program's name of its units."""
_OF_LENGTH = ("length_unit", "length_units", "position_unit", "pos_unit", "r_unit")


def is_unit_key(key: str) -> bool:
    """Whether a key states a unit that may be of lengths, in any case.

    Args:
        key: The key.

    Returns:
        True if it does.
    """
    return key.lower() in _PERHAPS_OF_LENGTH + _OF_LENGTH


def is_bohr(unit: str) -> bool | None:
    """Whether a name of a unit is one of bohr.

    Args:
        unit: The name, in any case.

    Returns:
        True for bohr, False for ångström, None for any other.
    """
    name = unit.strip().lower()
    return True if name in _ATOMIC else False if name in _ANGSTROM else None


def stated_in_bohr(stated: Mapping[str, str], say: Say) -> bool | None:
    """Whether a file says that its lengths are in bohr.

    Args:
        stated: Keys for which :func:`is_unit_key` holds, with their values.
        say: Takes a warning about a unit that is not used.

    Returns:
        True for bohr, False for ångström, None where nothing is said that can be used.

    Raises:
        InputError: If two keys contradict each other, or lengths are in another unit.
    """
    used: tuple[str, bool] | None = None
    unused: list[str] = []
    for key, unit in stated.items():
        found = is_bohr(unit)
        if found is not None:
            if used is not None and used[1] != found:
                raise InputError(
                    f"expected one unit of length, got {used[0]} and {key}={unit}; leave one"
                )
            used = (f"{key}={unit}", found)
        elif unit.strip().lower() in _TOO_FAR or key.lower() in _OF_LENGTH:
            raise InputError(
                f"expected {key}= angstrom or bohr, got {quote(unit)}; convert the coordinates"
            )
        elif unit.strip():
            unused.append(f"{key}={unit}")
    bohr = used is not None and used[1]
    for words in unused:
        say(f"{words} is not used: the coordinates are read in {'bohr' if bohr else 'angstrom'}")
    return None if used is None else bohr
