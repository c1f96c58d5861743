"""Read structures from files, check them, and turn angstrom into bohr (only here)."""

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.data import chemical_symbols

from deeph_zero.data.contacts import check_contacts
from deeph_zero.data.qh9 import is_qh9, qh9_frames
from deeph_zero.data.reading.cells import crystal_cell, initial_moments, unpaired_electrons
from deeph_zero.data.reading.cif import cif_crystals
from deeph_zero.data.reading.content import (
    WholeFileError,
    content_of,
    head_of,
    inner_suffix,
    text_of,
)
from deeph_zero.data.reading.espresso import espresso_xml
from deeph_zero.data.reading.mol import mol2_records, mol_records
from deeph_zero.data.reading.other import ase_frames, database_frames, json_frames
from deeph_zero.data.reading.own_files import hdf5_frames
from deeph_zero.data.reading.pdb import pdb_models
from deeph_zero.data.reading.program_inputs import (
    gaussian_jobs,
    nwchem_geometry,
    orca_jobs,
    qchem_jobs,
    turbomole_coord,
)
from deeph_zero.data.reading.program_outputs import output_geometries
from deeph_zero.data.reading.recognise import TEXT_SUFFIXES, format_of
from deeph_zero.data.reading.state import (
    Say,
    check_moments,
    log_warning,
    stated_state,
    warn_of_results,
)
from deeph_zero.data.reading.words import check_size
from deeph_zero.data.reading.xyz import xyz_frames
from deeph_zero.data.sources import npz_frames, smiles_frames
from deeph_zero.errors import ComputationError, InputError, argument
from deeph_zero.host.files import HDF5_SUFFIXES
from deeph_zero.molecule import SMILES_PREFIX, Molecule
from deeph_zero.units import BOHR_IN_ANGSTROM

_TEXT_READERS: dict[str, Callable[[str, Say], Iterator[ase.Atoms | InputError]]] = {
    "xyz": xyz_frames,
    "mol": mol_records,
    "mol2": mol2_records,
    "pdb": pdb_models,
    "gaussian-in": gaussian_jobs,
    "orca-in": orca_jobs,
    "qchem-in": qchem_jobs,
    "nwchem-in": nwchem_geometry,
    "turbomole": turbomole_coord,
    "espresso-xml": espresso_xml,
    "cif": cif_crystals,
    **{name: output_geometries(name) for name in ("gaussian-out", "orca-out", "qchem-out")},
}

_NO_TEXT = (b"SQLite format 3", b"\x89HDF", b"PK\x03\x04")
"""Beginnings of files that are not read as a whole."""


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
        file = self.file if self.file.strip() else repr(self.file)
        place = file if self.frame is None else f"{file} frame {self.frame}"
        return f"{place}: {self.error}"

    def as_dict(self) -> dict[str, Any]:
        """The entry of ``failed`` in a summary."""
        return {"file": self.file, "frame": self.frame, "error": self.error}


class _Notes:
    """Warnings about the frames of a file: each kind is one line, however many frames it meets."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: dict[str, list[Any]] = {}
        self.frame = 0

    def say(self, message: str) -> None:
        """Note a warning about the frame that is being read."""
        kind = re.sub(r"[-+.\d]+", "#", message)
        self._found.setdefault(kind, [self.frame, message, set()])[2].add(self.frame)

    def log(self) -> None:
        """Say what was noted."""
        for frame, message, frames in self._found.values():
            more = f" (and {len(frames) - 1} more)" if len(frames) > 1 else ""
            log_warning(f"{self._file} frame {frame}{more}: {message}")


def read_structures(
    paths: Sequence[str | Path] | str | Path,
    *,
    charge: int | None = None,
    spin: int | None = None,
    limit: int | None = None,
    allow_close_contacts: bool = False,
    expired: Callable[[], bool] | None = None,
    crystals: bool = False,
    dimension: int | None = None,
) -> tuple[list[Molecule], list[BadFrame]]:
    """Read every frame of every file; a bad frame does not cost the good ones.

    Args:
        paths: One file or several, in any format ASE reads, npz arrays, our own HDF5 files, QH9
            databases, ``.smi`` files, or ``smiles:CCO``. The content decides which format it is.
        charge: Charge of frames that state none; None means 0.
        spin: 2S of frames that state none; None means 0.
        limit: Frames read of each file; None reads all.
        allow_close_contacts: Take atoms nearer to each other than in any molecule.
        expired: Tells whether a time limit is over; None is no limit.
        crystals: Take crystals; they are refused otherwise.
        dimension: Periodic directions of crystals, 2 or 3; None: as their frames say.

    Returns:
        The good structures in input order, coordinates in bohr, and the bad frames.

    Raises:
        InputError: If ``paths`` are no names of files.
        ComputationError: If the time is over before the last frame: none is left out in silence.
    """
    molecules: list[Molecule] = []
    bad: list[BadFrame] = []
    for path in listed(paths):
        notes = _Notes(str(path))
        frames = itertools.islice(_read_source(str(path), notes.say), limit)
        for frame, item in enumerate(frames):
            if expired is not None and expired():
                raise time_is_over(f"reading {path}, {frame} of its frames were read")
            try:
                if isinstance(item, InputError):
                    raise item
                if isinstance(item, Molecule):
                    stated = {"charge": (charge, item.charge), "spin": (spin, item.spin)}
                    _warn_of_options(notes.say, **stated)
                    found = _with_dimension(item, dimension, notes.say)
                else:
                    place = (str(path), frame)
                    found = _molecule(
                        item, charge, spin, *place, dimension=dimension, say=notes.say
                    )
                molecules.append(_checked(found, allow_close_contacts, crystals))
            except WholeFileError as error:
                bad.append(BadFrame(str(path), None, str(error)))
            except InputError as error:
                bad.append(BadFrame(str(path), frame, str(error)))
            notes.frame = frame + 1
        notes.log()
    return molecules, bad


def listed(paths: Any) -> list[str | Path]:
    """Structure files as a list; one alone is no sequence of letters.

    Args:
        paths: What a Python user gave.

    Returns:
        The paths.

    Raises:
        InputError: If they are no names of files.
    """
    several = isinstance(paths, Iterable) and not isinstance(paths, str | Path)
    found: list[Any] = list(paths) if several else [paths]
    for path in found:
        if not isinstance(path, str | Path):
            raise InputError(
                f"paths: expected names of structure files, got {type(path).__name__}; give the "
                "file, or a list of files"
            )
    return found


def time_is_over(place: str) -> ComputationError:
    """What to raise where a time limit ends before all structures are there.

    Args:
        place: What was being done, and how far it came.

    Returns:
        The error.
    """
    return ComputationError(
        f"the time limit ended while {place}; nothing was computed, allow more "
        f"{argument('max_time')} or give "
        "fewer structures"
    )


def from_atoms(
    atoms: ase.Atoms,
    *,
    charge: int = 0,
    spin: int = 0,
    allow_close_contacts: bool = False,
    crystals: bool = False,
) -> Molecule:
    """One structure from an ASE object.

    Args:
        atoms: Positions in angstrom; the charge and the spin it states win over the defaults, see
            :func:`deeph_zero.data.reading.state.stated_state`.
        charge: Charge when the object states none.
        spin: 2S when the object states none.
        allow_close_contacts: As in :func:`read_structures`.
        crystals: As in :func:`read_structures`.

    Returns:
        The checked structure, coordinates in bohr.

    Raises:
        InputError: If it is no molecule we can treat.
    """
    return _checked(_molecule(atoms, charge, spin, "", 0), allow_close_contacts, crystals)


def _checked(molecule: Molecule, insist: bool, crystals: bool) -> Molecule:
    """The structure, unless its atoms cannot be where they are, or it is an unwanted crystal."""
    if molecule.periodic and not crystals:
        raise InputError(
            "expected a molecule here, got a periodic structure; give a model of crystals, or "
            "write it without pbc and cell if it is a molecule"
        )
    positions = molecule.coords * BOHR_IN_ANGSTROM
    check_size(positions, molecule.numbers)
    lattice = None if molecule.lattice is None else molecule.lattice * BOHR_IN_ANGSTROM
    check_contacts(molecule.numbers, positions, lattice=lattice, pbc=molecule.pbc, insist=insist)
    return molecule


def _read_source(name: str, say: Say) -> Iterator[ase.Atoms | Molecule | InputError]:
    """A molecule given by its SMILES, or the frames of a file; never an exception."""
    try:
        frames = iter(_frames_of(name, say))
        first = next(frames, None)
        if first is None:
            cure = "write a molecule to it"
            if name.startswith(SMILES_PREFIX):
                cure = f"write a SMILES behind the colon, for example {SMILES_PREFIX}CCO"
            first = WholeFileError(f"expected a structure, got none; {cure}")
        yield first
        yield from frames
    except Exception as error:  # the libraries below raise whatever they meet
        yield _whole(error, name)


def _frames_of(name: str, say: Say) -> Iterator[ase.Atoms | Molecule | InputError]:
    if not name.strip():
        raise WholeFileError("expected the name of a structure file, got an empty one; name it")
    if name.startswith(SMILES_PREFIX):
        return smiles_frames(name.removeprefix(SMILES_PREFIX), say)
    return _read_file(Path(name), say)


def _whole(error: Exception, name: str) -> WholeFileError:
    """Why a file cannot be read at all, or from here on."""
    reason = (str(error).splitlines() or [""])[0][:100] or type(error).__name__
    if isinstance(error, FileNotFoundError):
        message = "expected a structure file, there is none; check the path"
    elif isinstance(error, IsADirectoryError):
        message = "expected a structure file, this is a folder; name the files in it"
    elif isinstance(error, OSError):
        message = f"cannot be read ({error.strerror or reason}); check the path"
    elif isinstance(error, InputError):
        message = str(error).removeprefix(f"{name}: ")
    elif isinstance(error, MemoryError):
        message = "the file does not fit into the memory; split it"
    else:
        message = f"cannot be read as a structure ({reason}); check it or write it as .xyz"
    return WholeFileError(message)


def _read_file(path: Path, say: Say) -> Iterator[ase.Atoms | Molecule | InputError]:
    """Frames in order, an error in the place of each frame that cannot be parsed."""
    head, suffix = head_of(path), inner_suffix(path)
    if head.startswith(b"\x89HDF") or path.suffix.lower() in HDF5_SUFFIXES:
        return hdf5_frames(path)
    if head.startswith(b"PK\x03\x04") or path.suffix.lower() == ".npz":
        return npz_frames(path, say)
    if head.startswith(b"SQLite format 3") or (path.suffix.lower() == ".db" and head):
        return qh9_frames(path) if is_qh9(path) else database_frames(path)
    content = content_of(path)
    if not content.strip():
        raise WholeFileError("expected a structure, the file is empty; write a molecule to it")
    if content.startswith(_NO_TEXT):  # it was packed: their readers take places in a file
        raise WholeFileError("expected text, got a packed database, HDF5 or npz file; unpack it")
    return _read_content(path, content, suffix, say)


def _read_content(
    path: Path, content: bytes, suffix: str, say: Say
) -> Iterator[ase.Atoms | Molecule | InputError]:
    """Frames of a file that is read as a whole, by what it holds."""
    try:
        text = text_of(content)
    except WholeFileError:
        if suffix in TEXT_SUFFIXES:
            raise
        return ase_frames(path, content, suffix, say)
    name = format_of(text, suffix)
    if name == "smiles":
        return smiles_frames(text, say)
    if name is None and path.suffix.lower() == ".json":
        return json_frames(path)
    if name is None and text.split("\n", 1)[0].strip().isdigit():
        name = "xyz"  # a broken one: ASE's own reader may not come to an end
    reader = _TEXT_READERS.get(name or "")
    return reader(text, say) if reader else ase_frames(path, content, suffix, say, name)


def _molecule(
    atoms: ase.Atoms,
    charge: int | None,
    spin: int | None,
    file: str,
    frame: int,
    *,
    dimension: int | None = None,
    say: Say = log_warning,
) -> Molecule:
    """Check one frame and convert it."""
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    if len(numbers) == 0:
        raise InputError("expected a molecule, got no atoms; leave the frame out")
    wrong = (numbers < 1) | (numbers >= len(chemical_symbols))
    if wrong.any():
        number = int(numbers[np.argmax(wrong)])
        word = "atom 'X'; ghost atoms are not supported" if number == 0 else f"number {number}"
        raise InputError(f"expected an element, got {word}; leave the atom out or correct it")
    check_size(atoms.positions, numbers)  # before anything is done with them
    found = crystal_cell(atoms, say if file else _nothing, dimension)
    moments = None if found is None else initial_moments(atoms, say)
    stated_charge, stated_spin = stated_state(atoms, say)
    if moments is not None:
        moments, stated_spin = unpaired_electrons(moments, stated_spin, say)
    if file:
        _warn_of_options(say, charge=(charge, stated_charge), spin=(spin, stated_spin))
    charge = (charge or 0) if stated_charge is None else stated_charge
    spin = (spin or 0) if stated_spin is None else stated_spin
    if found is None:
        check_moments(atoms, charge, spin)
    if spin < 0:
        raise InputError(f"expected spin= (2S) of 0 or more, got {spin}; correct it")
    if file:
        warn_of_results(atoms, charge, spin, say)
    return Molecule(
        numbers=numbers,
        coords=np.asarray(atoms.positions, dtype=np.float64) / BOHR_IN_ANGSTROM,
        charge=charge,
        spin=spin,
        file=file,
        frame=frame,
        lattice=None if found is None else found[0] / BOHR_IN_ANGSTROM,
        pbc=(False, False, False) if found is None else found[1],
        moments=moments,
    )


def _with_dimension(molecule: Molecule, dimension: int | None, say: Say) -> Molecule:
    """A structure of our own files, periodic in as many directions as asked for."""
    if molecule.lattice is None or dimension is None:
        return molecule
    box = ase.Atoms(cell=molecule.lattice * BOHR_IN_ANGSTROM, pbc=molecule.pbc)
    found = crystal_cell(box, say, dimension)
    assert found is not None
    return dataclasses.replace(molecule, lattice=found[0] / BOHR_IN_ANGSTROM, pbc=found[1])


def _nothing(message: str) -> None:
    """A box around a molecule is nothing to speak of in Python."""
    del message


def _warn_of_options(say: Say, **values: tuple[int | None, int | None]) -> None:
    """Say so where a frame overrules a charge or spin that was asked for."""
    for name, (asked, stated) in values.items():
        if asked is not None and stated not in (None, asked):
            say(f"the {name} {stated} that the frame states is used, not {asked}")
