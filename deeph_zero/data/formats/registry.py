"""Which format a file is of, and how it is opened; the one list of all of them."""

import contextlib
import dataclasses
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from deeph_zero.data.formats.conventions import CONVENTIONS, ENERGIES
from deeph_zero.data.formats.folders import check_folder, whole_folder
from deeph_zero.data.formats.lmdb_file import MAGIC, LMDBFile
from deeph_zero.data.formats.pickles import unpickled
from deeph_zero.data.formats.protocol import Rescaled, Shells, Sink, Source
from deeph_zero.data.formats.sqlite_rows import columns_of
from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.data.reading.sqlite import tables_of
from deeph_zero.errors import InputError, argument
from deeph_zero.host.files import HDF5_SUFFIXES, atomic_path, regular_file
from deeph_zero.host.hdf5 import PredictionWriter

ShellsOf = Callable[[np.ndarray, str], Shells]


@dataclasses.dataclass(frozen=True)
class Format:
    """What is known of a format before it is opened.

    Attributes:
        title: For people.
        module: Module of this folder.
        source: Class that reads it; "" where it is only written.
        sink: Class that writes it; "" where it is only read.
        suffixes: Endings of a name that ask for it as an output.
        folder: Whether it is a folder.
        gaussian: Whether its functions are Gaussians of a basis set that has a name.
        single: Whether it holds one structure only.
        says_method: Whether functional and basis have a place in it.
        takes_overlap: Whether an overlap has.
    """

    title: str
    module: str
    source: str = ""
    sink: str = ""
    suffixes: tuple[str, ...] = ()
    folder: bool = False
    gaussian: bool = False
    single: bool = False
    says_method: bool = False
    takes_overlap: bool = True


FORMATS: dict[str, Format] = {
    "labels": Format(
        "labels of deeph-zero (HDF5)",
        "labels",
        "LabelsSource",
        "LabelsSink",
        HDF5_SUFFIXES,
        says_method=True,
    ),
    "deeph": Format(
        "DeepH folder", "deeph", "DeepHSource", "DeepHSink", folder=True, says_method=True
    ),
    "deeph-legacy": Format(
        "DeepH folder, legacy layout",
        "deeph_legacy",
        "LegacySource",
        "LegacySink",
        folder=True,
        says_method=True,
    ),
    "hsx": Format("SIESTA or HONPAS HSX file", "hsx", "HSXSource"),
    "cube": Format(
        "Gaussian cube of the density",
        "pyscf_files",
        sink="CubeSink",
        suffixes=(".cube", ".cub"),
        takes_overlap=False,
        single=True,
        says_method=True,
    ),
    "pyscf": Format(
        "PySCF checkpoint",
        "pyscf_files",
        sink="CheckpointSink",
        suffixes=(".chk", ".chkfile"),
        takes_overlap=False,
        single=True,
        says_method=True,
    ),
    "aims": Format("FHI-aims folder (text)", "fhi_aims", "AimsSource"),
    "openmx": Format("OpenMX .scfout", "openmx", "OpenMXSource"),
    "wannier90": Format(
        "Wannier90's _hr.dat",
        "wannier90",
        sink="HRSink",
        suffixes=("_hr.dat",),
        single=True,
        says_method=True,
    ),
    "qh9": Format(
        "QH9 database (SQLite)",
        "qh9_source",
        "QH9Source",
        "QH9Sink",
        (".db",),
        gaussian=True,
        takes_overlap=False,
    ),
    "nabladft": Format(
        "nablaDFT or PhiSNet database (SQLite)",
        "nabladft",
        "NablaSource",
        "NablaSink",
        gaussian=True,
    ),
    "schnorb": Format(
        "SchNOrb database (ASE, SQLite)", "schnorb", "SchNOrbSource", "SchNOrbSink", gaussian=True
    ),
    "sphnet": Format(
        "SPHNet, QHFlow or QHNet database (LMDB)",
        "sphnet",
        "SPHNetSource",
        "SPHNetSink",
        (".lmdb", ".mdb"),
        gaussian=True,
        takes_overlap=False,
    ),
    "deeptb": Format("DeePTB or dftio frames (LMDB)", "deeptb", "DeePTBSource", "DeePTBSink"),
    "dftio": Format("dftio folder", "deeptb", "DftioSource", "DftioSink", folder=True),
}
"""By the names that ``--from`` and ``--to`` take."""


def _class(name: str, attribute: str) -> Any:
    module = importlib.import_module(f"deeph_zero.data.formats.{FORMATS[name].module}")
    return getattr(module, attribute)


def recognise(path: Path) -> str:
    """The format of a file or folder, by what it holds.

    Args:
        path: What the user named.

    Returns:
        One of :data:`FORMATS`.

    Raises:
        WholeFileError: If it is none of them.
    """
    if path.is_dir():
        return _of_folder(path)
    if not path.exists():
        raise WholeFileError("expected a file or a folder, there is no such file; check the path")
    regular_file(path)
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise WholeFileError(f"cannot be read ({error.strerror}); check the path") from None
    if head.startswith(b"\x89HDF") or path.suffix.lower() in HDF5_SUFFIXES:
        return "labels"
    if head[16:20] == MAGIC:
        return _of_lmdb(path)
    if path.suffix.lower() in _SUFFIXES:
        return _SUFFIXES[path.suffix.lower()]
    if head.startswith(b"SQLite format 3") or path.suffix.lower() == ".db":
        return _of_database(path)
    raise _unknown()


def _of_database(path: Path) -> str:
    """By the tables and columns; what is none of them is called QH9, whose reader says why."""
    if not path.is_file():
        return "qh9"
    tables = tables_of(path)
    columns = columns_of(path, "data") if "data" in tables else []
    if "Ham" not in columns and {"R", "H"} <= set(columns):
        return "nabladft"
    if "systems" in tables and "numbers" in columns_of(path, "systems") and not columns:
        return "schnorb"
    return "qh9"


def _of_lmdb(path: Path) -> str:
    """By the keys of the first value."""
    found = None
    with contextlib.suppress(InputError):  # what is wrong is said when it is read
        file = LMDBFile(path)
        found = unpickled(file.value(0)) if len(file) else None
    return "deeptb" if isinstance(found, dict) and "hamiltonian" in found else "sphnet"


_SUFFIXES = {".hsx": "hsx", ".scfout": "openmx", ".lmdb": "sphnet", ".mdb": "sphnet"}
"""Endings of files to read that say what they are."""
_MARKS = (
    ("data.mdb", "lmdb"),
    ("atomic_numbers.dat", "dftio"),
    ("basis-indices.out", "aims"),
    ("orbital_types.dat", "deeph-legacy"),
    ("POSCAR", "deeph"),
)
"""Files by which a folder is known."""


def _of_folder(path: Path) -> str:
    """By the files in it, or in the first folder in it that is known."""
    try:
        inside = sorted(p for p in path.iterdir() if p.is_dir())
        deeper = sorted(p for p in (path / "dft").iterdir()) if (path / "dft").is_dir() else []
        for folder in (path, *deeper[:100], *inside[:100]):
            for name, found in _MARKS:
                if (folder / name).is_file():
                    return _of_lmdb(folder / name) if found == "lmdb" else found
            for file in sorted(folder.iterdir()) if folder.is_dir() else ():
                if file.suffix.lower() in _SUFFIXES:
                    return _SUFFIXES[file.suffix.lower()]
        _check_complete(path)
    except OSError as error:
        raise WholeFileError(f"cannot be read ({error.strerror}); check the path") from None
    raise _unknown()


def _check_complete(folder: Path) -> None:
    """Name the file that is missing of a program whose other files are there."""
    names = {p.name.lower() for p in folder.iterdir() if p.is_file()}
    ends = {suffix for name in names for suffix in (Path(name).suffix, name[-7:])}
    found = next((text for mark, text in _INCOMPLETE if mark in names | ends), None)
    if found is not None:
        raise WholeFileError(found)


_INCOMPLETE = (
    (
        "rs_hamiltonian.out",
        (
            "expected basis-indices.out beside FHI-aims' rs_hamiltonian.out, there is none; it "
            "says which functions there are: run FHI-aims with output basis"
        ),
    ),
    (
        "openmx.out",
        (
            "expected a .scfout file beside OpenMX's output, there is none; run OpenMX with "
            "HS.fileout on"
        ),
    ),
    (
        "_in.dat",
        (
            "expected a .scfout file beside OpenMX's input, there is none; run OpenMX with "
            "HS.fileout on"
        ),
    ),
    (
        ".fdf",
        "expected an .HSX file beside SIESTA's input, there is none; run SIESTA with SaveHS true",
    ),
    ("vsc", "expected matrices, got a potential (VSC); deeph-zero project makes matrices of it"),
)
"""File names, or their ends, and what is missing beside them."""


def _unknown() -> WholeFileError:
    names = ", ".join(k for k, f in FORMATS.items() if f.source)
    return WholeFileError(
        f"expected Hamiltonian data of one of the formats {names}; say which with "
        f"{argument('name', option='--from')}"
    )


def target_of(path: Path) -> str:
    """The format an output's name asks for.

    Args:
        path: The output.

    Returns:
        One of :data:`FORMATS`; a name without an ending is a folder of DeepH.

    Raises:
        InputError: If no format has such a name.
    """
    name = path.name.lower()
    for key, found in FORMATS.items():
        if found.sink and any(name.endswith(suffix) for suffix in found.suffixes):
            return key
    if path.is_dir() or not path.suffix:
        return "deeph"
    endings = ", ".join(s for f in FORMATS.values() if f.sink for s in f.suffixes)
    raise InputError(
        f"{path}: expected a name ending in {endings}, or without an ending for a folder; rename "
        f"it or say the format with {argument('name', option='--to')}"
    )


def open_source(
    path: Path,
    name: str,
    shells_of: ShellsOf,
    basis: str,
    *,
    stated: bool = True,
    unit: str | None = None,
) -> Source:
    """Open a file for reading.

    Args:
        path: File or folder.
        name: Its format.
        shells_of: Shells of atoms in a Gaussian basis.
        basis: The basis set of files that do not say which.
        stated: Whether the user named that basis set.
        unit: Unit of energy, one of :data:`deeph_zero.data.formats.conventions.ENERGIES`; None is
            the format's.

    Returns:
        The source.

    Raises:
        InputError: If the format cannot be read, or the file is damaged; with its place.
    """
    found = FORMATS[name]
    if not found.source:
        given_as = argument("name", name, option="--from")
        raise InputError(
            f"{given_as}: expected a format to read, {found.title} is only written; "
            "convert from what it was written from"
        )
    opener = _class(name, found.source)
    given: tuple[Any, ...] = (shells_of, basis) if found.gaussian else ()
    if name == "labels":
        given = (shells_of,)
    elif name == "deeptb":
        given = (shells_of, basis if stated else None)
    try:
        source = opener(path, *given)
    except WholeFileError as error:
        raise InputError(f"{path}: {error}") from None
    if not len(source):
        raise InputError(f"{path}: expected structures, {found.title} holds none; check the file")
    return source if unit is None else Rescaled(source, ENERGIES[unit] / CONVENTIONS[name].energy)


def check_target(path: Path, name: str, *, overwrite: bool, count: int) -> None:
    """Refuse an output before anything is written.

    Args:
        path: File or folder.
        name: Its format.
        overwrite: Replace what is there.
        count: How many structures will be written.

    Raises:
        InputError: If the format cannot be written, or not here, or holds fewer structures.
    """
    found = FORMATS[name]
    if not found.sink:
        given_as = argument("name", name, option="--to")
        raise InputError(f"{given_as}: expected a format to write, {found.title} is only read")
    if found.single and count > 1:
        raise InputError(
            f"{path}: expected one structure, got {count}; {found.title} holds one: use "
            f"{argument('count', 1, option='--first')}"
        )
    if found.folder:
        module = importlib.import_module(f"deeph_zero.data.formats.{found.module}")
        check_folder(path, overwrite=overwrite, ours=module.FILES)


@contextlib.contextmanager
def open_sink(path: Path, name: str, *, count: int, source: str) -> Iterator[Sink]:
    """A file or folder that appears as a whole when the block ends well.

    Args:
        path: Its name; see :func:`check_target`.
        name: Its format.
        count: How many structures will be written.
        source: The format they come from.

    Yields:
        Where to write.
    """
    found = FORMATS[name]
    make = _class(name, found.sink)
    if name == "labels":
        with PredictionWriter(path) as writer:
            yield make(writer, source)
    elif found.folder:
        with whole_folder(path) as folder:
            yield make(folder, count)
    else:
        with atomic_path(path) as temporary, contextlib.closing(make(temporary)) as sink:
            yield sink
