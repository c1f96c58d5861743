"""Every other format: through ASE, whose readers may raise anything and ignore the charge."""

import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase
import ase.db
import ase.io
from ase.io.formats import UnknownFileTypeError, filetype, ioformats
from ase.io.trajectory import TrajectoryReader

from deeph_zero.data.reading import recognise
from deeph_zero.data.reading.content import WholeFileError, text_of
from deeph_zero.data.reading.poscar import check_poscar
from deeph_zero.data.reading.sqlite import tables_of
from deeph_zero.data.reading.state import Say
from deeph_zero.data.reading.stated import is_layer, stated_beside
from deeph_zero.data.reading.words import integer, quote, refusal
from deeph_zero.errors import InputError

_NO_FILES = {"postgresql", "mysql", "bundletrajectory", "eon", "db", "json"}
"""Formats of ASE that are servers, folders or databases."""

_UNDERSCORE = re.compile(rb"(?<![\w.])[+-]?\d+_\d[\d_]*(?:\.\d*)?(?![\w.])")
"""What Python, and so ASE, reads as a number, and nobody else."""
_ALAT = re.compile(rb"(?im)^[^!\n]*?(?<![\w(])(A\s*=)\s*(\d+\.?\d*(?:[ed][+-]?\d+)?|\.\d+)")
_SEARCHED = 2**26


def ase_frames(
    path: Path, content: bytes, suffix: str, say: Say, name: str | None = None
) -> Iterator[ase.Atoms | InputError]:
    """Frames of a format that only ASE knows; those before a broken one are kept.

    Args:
        path: The file.
        content: Its bytes, unpacked.
        suffix: Ending of its name, lower case, without that of its packing.
        say: Takes a warning about the frames that come next.
        name: ASE's name of the format where it is known.

    Yields:
        The atoms, or an error in the place of one that cannot be read.

    Raises:
        WholeFileError: If ASE does not know the format.
    """
    name = name or _format(path, content, suffix)
    if name == "traj":
        yield from _trajectory(content)
        return
    parts = _gen_parts(text_of(content)) if name == "gen" else []
    if len(parts) > 1:
        for part in parts:
            yield from ase_frames(path, part.encode(), suffix, say, name)
        return
    if not ioformats[name].isbinary:
        try:
            _check_text(name, content)
        except WholeFileError:
            raise
        except InputError as error:
            yield error
            return
    if name == "cube":
        say("the box of the cube is read as the cell of a crystal; write .xyz if it is a molecule")
    if is_layer(name, content):
        say("assume_isolated is not used; a layer has pbc T T F or is asked for by its dimension")
    yield from _read(path, content, name)


def _check_text(name: str, content: bytes) -> None:
    """Refuse what ASE would read with liberties, or as something else."""
    text = text_of(content)  # ASE would decode it line by line
    if found := _UNDERSCORE.search(content[:_SEARCHED]):
        raise WholeFileError(
            f"expected numbers, got {quote(found[0].decode())}; correct it or write .xyz"
        )
    if name == "vasp":
        check_poscar(text)


def _read(path: Path, content: bytes, name: str) -> Iterator[ase.Atoms | InputError]:
    """Frames as ASE reads them, with the state that the file states beside them."""
    stated = stated_beside(name, content)
    content = _with_celldm(content, name)
    kind = ioformats[name]
    by_name = not kind.acceptsfd
    source: Any = path.absolute() if by_name else _handle(content, kind.isbinary)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frames = ase.io.iread(source, ":", format=name, do_not_split_by_at_sign=True)
            for atoms in frames:
                if not isinstance(atoms, ase.Atoms):
                    yield InputError("expected a structure, got none; check the file")
                    continue
                atoms.info.update(stated)
                yield atoms
    except Exception as error:  # ASE raises whatever its parsers meet
        yield refusal(name, error)


def _with_celldm(content: bytes, name: str) -> bytes:
    """An input of Quantum ESPRESSO whose ``A`` (ångström) is celldm(1), as ASE looks for it."""
    from ase.io.espresso import units

    found = _ALAT.search(content) if name == "espresso-in" else None
    if found is None or b"celldm(1)" in content.lower():
        return content
    length = float(found[2].lower().replace(b"d", b"e")) / units["Bohr"]
    return content[: found.start(1)] + b"celldm(1) = %.17g" % length + content[found.end() :]


def _gen_parts(text: str) -> list[str]:
    """Structures of a DFTB+ file: ASE reads the first, a trajectory has them one after another."""
    lines = [line for line in text.split("\n") if line.strip()]
    parts, start = [], 0
    while start < len(lines):
        words = lines[start].split()
        natm = integer(words[0]) if len(words) == 2 else None
        if natm is None or natm < 1:
            return [text]  # ASE says what is wrong
        end = start + 2 + natm + (0 if words[1].upper() == "C" else 4)
        parts.append("\n".join([*lines[start:end], ""]))
        start = end
    return parts


def _handle(content: bytes, is_binary: bool) -> io.BytesIO | io.StringIO:
    return io.BytesIO(content) if is_binary else io.StringIO(text_of(content))


def _format(path: Path, content: bytes, suffix: str) -> str:
    """ASE's name of the format: from the name of the file, or where that is generic its content."""
    peek = io.BytesIO(content)
    plain = _without_packing(path.name)
    if suffix not in recognise.GENERIC or any(f.match_name(plain) for f in ioformats.values()):
        peek.name = str(path.with_name(plain))
    try:
        name = filetype(peek, guess=True)
    except (UnknownFileTypeError, ValueError, TypeError):
        name = ""
    if name not in ioformats or name in _NO_FILES or not ioformats[name].can_read:
        raise WholeFileError(
            f"expected a structure file, got none in a format ASE knows, nor {recognise.NAMES}; "
            "write it as .xyz"
        )
    return name


def _without_packing(name: str) -> str:
    return re.sub(r"(\.(gz|bz2|xz))+$", "", name, flags=re.IGNORECASE)


def _trajectory(content: bytes) -> Iterator[ase.Atoms | InputError]:
    """Frame by frame, so that a damaged one costs only itself."""
    try:
        reader = TrajectoryReader(io.BytesIO(content))
        count = len(reader)
    except Exception as error:  # ASE raises whatever its parsers meet
        raise WholeFileError(str(refusal("traj", error))) from None
    for k in range(count):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                atoms = reader[k]
            assert isinstance(atoms, ase.Atoms)
            yield atoms
        except Exception as error:  # ASE raises whatever its parsers meet
            yield refusal("traj", error)


def json_frames(path: Path) -> Iterator[ase.Atoms | InputError]:
    """Rows of a database of ASE in JSON, with the keys and data that belong to them.

    Args:
        path: The file.

    Yields:
        The atoms, or an error in the place of a row that cannot be read.
    """
    yield from _rows(path, "json")


def database_frames(path: Path) -> Iterator[ase.Atoms | InputError]:
    """Rows of a database of ASE in SQLite, with the keys and data that belong to them.

    Args:
        path: The file.

    Yields:
        The atoms, or an error in the place of a row that cannot be read.

    Raises:
        WholeFileError: If it is no such database.
    """
    if "systems" not in tables_of(path):
        raise WholeFileError(
            "expected a database of ASE or QH9, it has no table systems or data; write it as .xyz"
        )
    yield from _rows(path, "db")


def _rows(path: Path, kind: str) -> Iterator[ase.Atoms | InputError]:
    """Rows in order; after a broken one the next is asked for by its number."""
    done = 0
    last: int | None = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            database: Any = ase.db.connect(str(path.absolute()), type=kind, use_lock_file=False)
            count = database.count()
    except Exception as error:  # ASE raises whatever its parsers meet
        raise WholeFileError(str(refusal(kind, error))) from None
    while done < count:
        try:
            for row in database.select(*([] if last is None else [f"id>{last}"]), sort="id"):
                done, last = done + 1, row.id
                yield _row(row, kind)
            done = count
        except Exception as error:  # ASE raises whatever its parsers meet
            done, last = done + 1, (last or 0) + 1
            yield refusal(kind, error)


def _row(row: Any, kind: str) -> ase.Atoms | InputError:
    try:
        atoms = row.toatoms(add_additional_information=True)
        for key in atoms.info.get("key_value_pairs", {}):
            # a key named charge is hidden behind a property of the row
            atoms.info["key_value_pairs"][key] = vars(row).get(key)
    except Exception as error:  # ASE raises whatever its parsers meet
        return refusal(kind, error)
    return atoms
