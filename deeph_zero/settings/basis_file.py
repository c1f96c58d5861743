"""Basis-set files that a user names, as text for the settings."""

from pathlib import Path

from deeph_zero.ao.basis_text import MAX_BYTES, canonical
from deeph_zero.errors import InputError
from deeph_zero.host.files import regular_file


def read_basis_file(path: str | Path) -> str:
    """A basis file that the user named, as text for the settings.

    Args:
        path: In NWChem's format.

    Returns:
        Its numbers, as :func:`canonical`.

    Raises:
        InputError: If it is no ordinary file or not of this format; one line with file and line.
    """
    path = Path(path)
    regular_file(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: expected a basis file, there is none; check the path") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path}: cannot read the basis set ({reason}); check the path") from None
    if len(content) > MAX_BYTES:
        raise InputError(f"{path}: expected a basis set, the file has over 16 MB; cut it down")
    try:
        return canonical(content.decode("utf-8-sig", errors="replace"), path.name)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
