"""Folders of a format: where the structures are, and writing a folder whole or not at all."""

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from deeph_zero.data.reading.content import WholeFileError, content_of, text_of
from deeph_zero.errors import InputError, argument
from deeph_zero.host.files import cannot_write, temporary_beside


def structure_folders(path: Path, needed: str) -> list[Path]:
    """Folders with one structure each: the path itself, those in its ``dft``, or those in it.

    Args:
        path: What the user named.
        needed: A file that such a folder has.

    Returns:
        The folders, sorted by name.

    Raises:
        WholeFileError: If there is none.
    """
    if (path / needed).is_file():
        return [path]
    parent = path / "dft" if (path / "dft").is_dir() else path
    try:
        found = sorted(p for p in parent.iterdir() if (p / needed).is_file())
    except OSError as error:
        raise WholeFileError(
            f"cannot be read ({error.strerror or error}); check the path"
        ) from None
    if not found:
        raise WholeFileError(
            f"expected {needed} in the folder or in folders of it, there is none; check the path"
        )
    return found


def text_in(folder: Path, name: str) -> str:
    """Text of a file of a folder.

    Args:
        folder: Where.
        name: Its name.

    Returns:
        The text.

    Raises:
        InputError: If it is not there or no text.
    """
    try:
        return text_of(content_of(folder / name))
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    except OSError as error:
        raise InputError(
            f"expected {name}, it cannot be read ({error.strerror or error}); check the folder"
        ) from None


def numbers_of(line: str, count: int, place: str) -> list[float]:
    """The first numbers of a line.

    Args:
        line: Words separated by spaces.
        count: How many are needed; more may follow.
        place: File and line, for messages.

    Returns:
        The numbers, all finite.

    Raises:
        InputError: If there are fewer, or a word is no number.
    """
    words = line.split()[:count]
    try:
        # Fortran writes the exponent of large numbers with D
        found = [float(word.replace("D", "E").replace("d", "e")) for word in words]
    except ValueError:
        found = []
    if len(found) < count or not all(abs(x) < 1e12 for x in found):
        raise InputError(
            f"{place}: expected {count} numbers, got {line.strip()[:60]!r}; correct it"
        )
    return found


def check_folder(path: Path, *, overwrite: bool, ours: Iterable[str]) -> None:
    """Refuse a folder that is no free place for an output.

    Args:
        path: The folder.
        overwrite: Replace one that holds nothing but files of the format.
        ours: Names of such files and folders.

    Raises:
        InputError: If it cannot be written here.
    """
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise InputError(f"{path}: expected a folder to make, there is a file; choose another name")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; make it first")
    if not path.exists() or not any(path.iterdir()):
        return
    if not overwrite:
        raise InputError(
            f"{path} exists and is not empty; use {argument('overwrite', True)} or another name"
        )
    known = set(ours)
    for entry in path.rglob("*"):
        inside = entry.relative_to(path).parts
        if entry.is_symlink() or not (entry.is_dir() or entry.name in known) or len(inside) > 3:
            raise InputError(
                f"{argument('overwrite')}: {path} holds {'/'.join(inside)[:80]}, which is no file "
                "of this format; choose another name"
            )


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new folder that takes its name, and the place of an older one, when the block succeeds.

    Args:
        path: Final name; see :func:`check_folder`.

    Yields:
        The folder to write to.

    Raises:
        ComputationError: If writing fails.
    """
    temporary = temporary_beside(path)
    try:
        temporary.mkdir()
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
