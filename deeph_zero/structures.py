"""Read molecules from structure files, check them, and turn angstrom into bohr (only here)."""

import dataclasses
import io
import itertools
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
from ase.data import chemical_symbols
from ase.io.extxyz import read_xyz
from ase.io.formats import UnknownFileTypeError, filetype

from deeph_zero.contacts import check_contacts
from deeph_zero.errors import InputError
from deeph_zero.files import HDF5_SUFFIXES
from deeph_zero.molecule import Molecule
from deeph_zero.qh9 import is_qh9, qh9_frames
from deeph_zero.reading.state import Say, log_warning, stated_state
from deeph_zero.sources import (
    SMILES_PREFIX,
    WholeFileError,
    hdf5_frames,
    npz_frames,
    smiles_frames,
)
from deeph_zero.units import BOHR_IN_ANGSTROM

_XYZ_SUFFIXES = {".xyz", ".extxyz"}
_BINARY_SUFFIXES = {".npz", ".db", *HDF5_SUFFIXES}
"""Read piece by piece: such files can be larger than the memory."""
_COUNT = re.compile(r"\s*\d+\s*")


@dataclasses.dataclass(frozen=True)
class BadFrame:
    """A frame that could not be used.

    Attributes:
        file: Path as the user gave it.
        frame: Index from 0, or None when the file as a whole cannot be read.
        error: One line: what was expected, what came.
    """

    file: str
    frame: int | None
    error: str

    def __str__(self) -> str:
        """``file frame N: error``."""
        place = self.file if self.frame is None else f"{self.file} frame {self.frame}"
        return f"{place}: {self.error}"

    def as_dict(self) -> dict[str, Any]:
        """The entry of ``failed`` in a summary."""
        return {"file": self.file, "frame": self.frame, "error": self.error}


def read_structures(
    paths: Sequence[str | Path],
    *,
    charge: int | None = None,
    spin: int | None = None,
    limit: int | None = None,
    allow_close_contacts: bool = False,
) -> tuple[list[Molecule], list[BadFrame]]:
    """Read every frame of every file; a bad frame does not cost the good ones.

    Args:
        paths: Files in any format ASE reads, npz arrays, our own HDF5 files, QH9 databases,
            ``.smi`` files, or ``smiles:CCO``.
        charge: Charge of frames without a ``charge=`` of their own; None means 0.
        spin: 2S of frames without a ``spin=`` of their own; None means 0.
        limit: Frames read of each file; None reads all.
        allow_close_contacts: Take atoms nearer to each other than in any molecule.

    Returns:
        The good molecules in input order, coordinates in bohr, and the bad frames.
    """
    molecules: list[Molecule] = []
    bad: list[BadFrame] = []
    for path in paths:
        for frame, item in enumerate(itertools.islice(_read_source(str(path)), limit)):
            try:
                if isinstance(item, InputError):
                    raise item
                if isinstance(item, Molecule):
                    molecules.append(_checked(item, allow_close_contacts))
                    continue
                molecule = _molecule(item, charge or 0, spin or 0, str(path), frame)
                molecules.append(_checked(molecule, allow_close_contacts))
            except WholeFileError as error:
                bad.append(BadFrame(str(path), None, str(error)))
            except InputError as error:
                bad.append(BadFrame(str(path), frame, str(error)))
    return molecules, bad


def from_atoms(
    atoms: ase.Atoms, *, charge: int = 0, spin: int = 0, allow_close_contacts: bool = False
) -> Molecule:
    """One molecule from an ASE object.

    Args:
        atoms: Positions in angstrom; the charge and the spin it states win over the defaults, see
            :func:`deeph_zero.reading.state.stated_state`.
        charge: Charge when the object states none.
        spin: 2S when the object states none.
        allow_close_contacts: As in :func:`read_structures`.

    Returns:
        The checked molecule, coordinates in bohr.

    Raises:
        InputError: If it is no molecule we can treat.
    """
    return _checked(_molecule(atoms, charge, spin, "", 0), allow_close_contacts)


def _checked(molecule: Molecule, insist: bool) -> Molecule:
    """The molecule, unless its atoms cannot be where they are."""
    _check_positions(molecule.coords * BOHR_IN_ANGSTROM, molecule.numbers, insist)
    return molecule


def _read_source(name: str) -> Iterator[ase.Atoms | Molecule | InputError]:
    """A molecule given by its SMILES, or the frames of a file."""
    if not name.startswith(SMILES_PREFIX):
        yield from _read_file(Path(name))
        return
    try:
        yield from smiles_frames(name.removeprefix(SMILES_PREFIX))
    except WholeFileError as error:
        yield error


def _read_file(path: Path) -> Iterator[ase.Atoms | Molecule | InputError]:
    """Frames in order, an error in the place of each frame that cannot be parsed."""
    try:
        with path.open("rb") as file:
            content = file.read(1 if path.suffix.lower() in _BINARY_SUFFIXES else -1)
        if not content.strip():
            yield WholeFileError("expected a structure, the file is empty; write a molecule to it")
        else:
            yield from _read_format(path, content)
    except FileNotFoundError:
        yield WholeFileError("expected a structure file, there is none; check the path")
    except IsADirectoryError:
        yield WholeFileError("expected a structure file, this is a folder; name the files in it")
    except OSError as error:
        yield WholeFileError(f"cannot be read ({error.strerror or error}); check the path")
    except WholeFileError as error:
        yield error


def _read_format(path: Path, content: bytes) -> Iterator[ase.Atoms | Molecule | InputError]:
    """Frames by the reader that belongs to the file's ending."""
    suffix = path.suffix.lower()
    if suffix in _XYZ_SUFFIXES:
        yield from _read_xyz_text(_decode(content))
    elif suffix == ".npz":
        yield from npz_frames(path)
    elif suffix in HDF5_SUFFIXES:
        yield from hdf5_frames(path)
    elif suffix == ".smi":
        yield from smiles_frames(_decode(content))
    elif suffix == ".db" and is_qh9(path):
        yield from qh9_frames(path)
    else:
        yield from _read_with_ase(path)


def _decode(content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise WholeFileError("expected text, the content is binary; check the file")
    return text


def _read_xyz_text(text: str) -> Iterator[ase.Atoms | InputError]:
    """Split an xyz file into frames; ASE parses each."""
    for chunk in _split_xyz(text.splitlines()):
        if isinstance(chunk, InputError):
            yield chunk
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                atoms = next(iter(read_xyz(io.StringIO(chunk), 0)))
            yield atoms
        except Exception as error:  # ASE raises whatever its parsers meet
            yield InputError(_explain(chunk, error))


def _split_xyz(lines: list[str]) -> Iterator[str | InputError]:
    """Frame by frame: the text of a complete frame, or what is wrong with the place."""
    i = 0
    while True:
        while i < len(lines) and not lines[i].strip():
            i += 1
        if i >= len(lines):
            return
        if not _COUNT.fullmatch(lines[i]):
            yield InputError(
                f"line {i + 1}: expected the number of atoms, got {_quote(lines[i])}; "
                "an xyz frame is a count, a comment line, and one line per atom"
            )
            i = _next_count(lines, i + 1)
            continue
        natm = int(lines[i])
        start, end = i + 2, _body_end(lines, i + 2, natm)
        if end - start < natm:
            yield InputError(f"expected {natm} atom lines, got {end - start}; the frame is cut off")
            i = _resume(lines, i, end)
            continue
        follows = next((k for k in range(end, len(lines)) if lines[k].strip()), len(lines))
        if follows < len(lines) and not _COUNT.fullmatch(lines[follows]):
            yield InputError(
                f"expected {natm} atom lines and then a new frame, got "
                f"{_quote(lines[follows])} in line {follows + 1}; correct the atom count"
            )
            i = _resume(lines, i, _next_count(lines, follows))
            continue
        yield "\n".join(lines[i:end]) + "\n"
        i = end


def _resume(lines: list[str], start: int, end: int) -> int:
    """Where to go on after a broken frame: a number for a comment may be the next frame's count."""
    comment = start + 1
    return comment if comment < len(lines) and _COUNT.fullmatch(lines[comment]) else end


def _body_end(lines: list[str], start: int, natm: int) -> int:
    """End of at most ``natm`` lines that can be atoms (no blank line, no new atom count)."""
    end = start
    while end < len(lines) and end - start < natm:
        if not lines[end].strip() or _COUNT.fullmatch(lines[end]):
            break
        end += 1
    return min(end, max(len(lines), start))


def _next_count(lines: list[str], start: int) -> int:
    """First line from ``start`` on that can begin a frame."""
    return next((k for k in range(start, len(lines)) if _COUNT.fullmatch(lines[k])), len(lines))


def _explain(chunk: str, error: Exception) -> str:
    """Why ASE refused a frame, in the reader's words."""
    if isinstance(error, KeyError) and error.args and isinstance(error.args[0], str):
        return f"expected an element symbol, got {_quote(error.args[0])}; correct the symbol"
    for line in chunk.splitlines()[2:]:
        words = line.split()
        if len(words) < 4 or not all(_is_number(word) for word in words[1:4]):
            return f"expected 'symbol x y z', got {_quote(line)}; correct the line"
    return f"ASE cannot parse the frame ({_first_line(error)}); correct it"


def _read_with_ase(path: Path) -> Iterator[ase.Atoms | InputError]:
    """Any other format; the frames before a broken one are kept."""
    try:
        name = filetype(str(path))
        frames = ase.io.iread(str(path), ":", format=name, do_not_split_by_at_sign=True)
        while True:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                atoms = next(frames, None)
            if atoms is None:
                return
            yield atoms if isinstance(atoms, ase.Atoms) else InputError("expected a structure")
    except OSError:
        raise
    except UnknownFileTypeError:
        raise WholeFileError(
            "expected a structure file in a format ASE knows; write it as .xyz"
        ) from None
    except Exception as error:  # ASE raises whatever its parsers meet
        yield InputError(f"ASE cannot read it ({_first_line(error)}); correct it or write .xyz")


def _molecule(
    atoms: ase.Atoms, charge: int, spin: int, file: str, frame: int, *, say: Say = log_warning
) -> Molecule:
    """Check one frame and convert it."""
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    if len(numbers) == 0:
        raise InputError("expected a molecule, got no atoms; leave the frame out")
    if atoms.pbc.any():
        raise InputError("periodic systems are not supported; write it without pbc and cell")
    if (numbers < 1).any():
        symbol = atoms.symbols[int(np.argmax(numbers < 1))]
        raise InputError(f"expected an element, got atom {symbol!r}; ghost atoms are not supported")
    stated_charge, stated_spin = stated_state(atoms, say)
    charge = charge if stated_charge is None else stated_charge
    spin = spin if stated_spin is None else stated_spin
    if spin < 0:
        raise InputError(f"expected spin= (2S) of 0 or more, got {spin}; correct it")
    return Molecule(
        numbers=numbers,
        coords=np.asarray(atoms.positions, dtype=np.float64) / BOHR_IN_ANGSTROM,
        charge=charge,
        spin=spin,
        file=file,
        frame=frame,
    )


def _check_positions(positions: np.ndarray, numbers: np.ndarray, insist: bool) -> None:
    """Finite, and no two atoms nearer than in any molecule."""
    finite = np.isfinite(positions).all(axis=1)
    if not finite.all():
        k = int(np.argmin(finite))
        xyz = " ".join(f"{x:g}" for x in positions[k])
        symbol = chemical_symbols[numbers[k]]
        raise InputError(
            f"expected finite coordinates, got {xyz} for atom {k + 1} ({symbol}); correct them"
        )
    check_contacts(numbers, positions, insist=insist)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _quote(text: str) -> str:
    """A short, printable quotation of what came."""
    short = " ".join(text.split())
    return repr(short if len(short) <= 40 else short[:37] + "...")


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:120] if lines else type(error).__name__
