"""GTH pseudopotentials by name, as numbers: no file of the working folder is read."""

import re
import warnings
from pathlib import Path

from pyscf.gto.basis import PP_ALIAS, PP_NAME_PATTERN
from pyscf.lib.exceptions import BasisNotFoundError
from pyscf.pbc.gto import pseudo

from deeph_zero.errors import InputError

_UNKNOWN = (BasisNotFoundError, LookupError, OSError, ValueError, AssertionError, RuntimeError)


def is_gth(name: str) -> bool:
    """Whether PySCF's library has pseudopotentials of this name.

    Args:
        name: Such as gth-pbe, gth-pade-q4 or GTH-GGA-q4.

    Returns:
        True if so.
    """
    plain = re.sub(r"-q\d+$", "", name, flags=re.IGNORECASE).lower()
    return plain.replace("-", "").replace("_", "") in PP_ALIAS or bool(
        PP_NAME_PATTERN.fullmatch(name)
    )


def gth_parameters(name: str, symbol: str) -> list:
    """The pseudopotential of an element.

    Args:
        name: Name of a family.
        symbol: Element.

    Returns:
        PySCF's form.

    Raises:
        InputError: If there is none.
    """
    if not is_gth(name) or Path(name).exists():  # PySCF would open the file
        raise InputError(
            f"expected the name of GTH pseudopotentials, got {name[:60]!r}; give for example "
            "gth-pbe, or the element's UPF file"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = pseudo.load(name, symbol)
    except _UNKNOWN:
        found = None
    if not found:
        raise InputError(
            f"expected a pseudopotential of {symbol}, {name} has none; give its UPF file"
        )
    return found


def valence_of(parameters: list) -> int:
    """Electrons beside the core.

    Args:
        parameters: From :func:`gth_parameters`.

    Returns:
        Their number.
    """
    return int(sum(parameters[0]))
