"""Output files: claim a place, write whole files or none, and say what stood in the way."""

import contextlib
import fcntl
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import h5py
import numpy as np

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.file_errors import cannot, cure_of, errno_in

Kind = Literal["run", "file", "json", "html", "db"]
"""What an output is: a run folder, an HDF5 file with its JSON beside it, or one file of a kind."""

RUN_MARKS = ("model.json", "model.safetensors", "summary.json", "checkpoints")
"""A folder with one of these is a run of ours."""
RUN_FILES = (
    *RUN_MARKS,
    "config.json",
    "config.toml",
    "metrics.csv",
    "predictions.h5",
    "report.html",
    "report_plots",
    "tensorboard",
)
"""What ``--overwrite`` may remove from a run; anything else in the folder stays."""
HDF5_SUFFIXES = (".h5", ".hdf5")
LOCK_NAME = ".lock"

DATASETS = (
    "numbers", "positions", "overlap", "fock", "fock_rebuilt", "density", "mo_energy", "mo_occ",
    "mulliken_charges", "lowdin_charges", "spin_populations", "bond_orders", "forces",
)  # fmt: skip
"""Datasets of one structure; a missing one was not computed."""


def check_output(
    path: Path,
    *,
    kind: Kind,
    resume: bool = False,
    overwrite: bool = False,
    inputs: Sequence[str | Path] = (),
) -> None:
    """See whether an output can be written here; changes nothing.

    Args:
        path: Run folder or HDF5 file.
        kind: Which of the two.
        resume: Go on with a run that is there.
        overwrite: Replace what is there.
        inputs: Files of the same command, which must not be overwritten.

    Raises:
        InputError: If the place is taken, is no place for it, or cannot be written.
    """
    if resume and overwrite:
        raise InputError("--resume and --overwrite exclude each other; give one of them")
    _refuse_inputs(path, kind, inputs)
    try:
        if kind == "run":
            _check_run(path, resume, overwrite)
        else:
            _check_file(path, overwrite, kind, resume=resume)
        _check_writable(path)
    except OSError as error:
        raise InputError(cannot("use", path, error) + "; choose another -o") from None


@contextlib.contextmanager
def claim_output(
    path: Path,
    *,
    kind: Kind,
    resume: bool = False,
    overwrite: bool = False,
    inputs: Sequence[str | Path] = (),
) -> Iterator[Path]:
    """Check as :func:`check_output`, create the folders, and hold the place.

    A run folder stays locked inside the block, so that two commands cannot write one run. When
    the block fails, the folders made here are removed again as long as they are empty.

    Args:
        path: Run folder or HDF5 file.
        kind: Which of the two.
        resume: Go on with a run that is there.
        overwrite: Replace what is there.
        inputs: Files of the same command, which must not be overwritten.

    Yields:
        The path.

    Raises:
        InputError: If the place cannot be claimed.
    """
    check_output(path, kind=kind, resume=resume, overwrite=overwrite, inputs=inputs)
    folder = path if kind == "run" else path.parent
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(cannot("create", folder, error) + "; choose another -o") from None
    try:
        with _locked(folder) if kind == "run" else contextlib.nullcontext():
            if kind == "run" and overwrite:
                _clear_run(path)
            yield path
    except BaseException:
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()  # only when empty
        raise


def _refuse_inputs(path: Path, kind: Kind, inputs: Sequence[str | Path]) -> None:
    ours = {path.resolve()} | ({json_beside(path).resolve()} if kind == "file" else set())
    for name in inputs:
        if Path(name).resolve() in ours:
            raise InputError(f"-o {path}: this is an input of the same command; choose another -o")


def _check_run(path: Path, resume: bool, overwrite: bool) -> None:
    if path.exists() and not path.is_dir():
        raise InputError(f"-o {path}: expected a run folder, this is a file; choose another -o")
    contents = [p for p in path.iterdir() if p.name != LOCK_NAME] if path.exists() else []
    # a run killed early has no model yet, but nothing foreign either
    is_run = bool(contents) and (
        any((path / name).exists() for name in RUN_MARKS) or set(contents) <= set(_leavings(path))
    )
    if resume and not is_run:
        there = "this folder holds none" if contents else "there is none"
        raise InputError(f"--resume: expected a run at {path}, {there}; leave --resume out")
    if contents and overwrite and not is_run:
        raise InputError(
            f"--overwrite: {path} holds files but no run, and only runs are replaced; "
            "choose another -o"
        )
    if contents and not (resume or overwrite):
        raise InputError(f"{path} exists and is not empty; use --resume or --overwrite")


def _check_file(path: Path, overwrite: bool, kind: Kind, *, resume: bool) -> None:
    suffixes = HDF5_SUFFIXES if kind == "file" else (f".{kind}",)
    if path.suffix.lower() not in suffixes:
        raise InputError(f"-o {path}: expected a name ending in {suffixes[0]}; choose another -o")
    for part in (path, json_beside(path)) if kind == "file" else (path,):
        if part.is_dir():
            raise InputError(f"{part}: expected a file, this is a folder; choose another -o")
    begun = journal_beside(path).exists() and kind == "file"
    if resume and not begun:
        there = f"{path} is complete" if path.exists() else "there is none"
        raise InputError(f"--resume: expected an unfinished {path}, {there}; leave --resume out")
    if resume or overwrite:
        return
    for part in (path, json_beside(path)) if kind == "file" else (path,):
        if part.exists() and part.stat().st_size:
            cure = "--resume, --overwrite" if begun else "--overwrite"
            raise InputError(f"{part} exists and is not empty; use {cure} or another -o")
    if begun:
        raise InputError(f"{path} was begun and not finished; use --resume or --overwrite")


def _check_writable(path: Path) -> None:
    place = next(p for p in (path, *path.absolute().parents) if p.is_dir())
    nearest = next(p for p in (path.parent, *path.absolute().parents) if p.exists())
    if not nearest.is_dir():
        raise InputError(f"{path}: {nearest} is a file, not a folder; choose another -o")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{path}: no permission to write in {place}; choose another -o")


def _clear_run(path: Path) -> None:
    for part in _leavings(path):
        if part.is_dir() and not part.is_symlink():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)


def _leavings(path: Path) -> list[Path]:
    """What a run wrote, including the temporary names of a killed one."""
    patterns = [form.format(name) for name in RUN_FILES for form in ("{}", "{}.new", ".{}.*.tmp")]
    return [part for pattern in patterns for part in path.glob(pattern)]


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this process; the system lets go when the process ends in any way."""
    lock = folder / LOCK_NAME
    with lock.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{folder} is in use by another deeph-zero; wait for it or choose another -o"
            ) from None
        except OSError:
            pass  # a file system without locks: go on without one
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def json_beside(path: Path) -> Path:
    """The summary that belongs to an HDF5 file."""
    return path.with_suffix(".json")


def journal_beside(path: Path) -> Path:
    """What an unfinished HDF5 file goes on from, see ``predict/journal.py``."""
    return path.with_name(path.name + ".part")


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name in the same folder that becomes ``path`` when the block succeeds.

    Args:
        path: Final name.

    Yields:
        The name to write to.

    Raises:
        ComputationError: If writing fails (disk full, folder gone).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ComputationError(cannot("write", path, error) + cure_of(error)) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file as a whole.

    Args:
        path: Where.
        text: Content.

    Raises:
        ComputationError: If writing fails; the old file, if any, is still there then.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    """Write JSON as a whole; NaN and infinity become null, NumPy values plain ones.

    Args:
        path: Where.
        data: Anything made of mappings, sequences, numbers, strings, NumPy values.

    Raises:
        ComputationError: If writing fails.
    """
    write_text(path, to_json(data) + "\n")


def to_json(data: Any) -> str:
    """Standard JSON text of ``data``, see :func:`write_json`."""
    return json.dumps(_plain(data), indent=1, allow_nan=False, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def group_names(names: Iterable[str]) -> list[str]:
    """Groups of an HDF5 file in the order of writing: "9999" is before "10000"."""
    return sorted(names, key=lambda name: (len(name), name))


class PredictionWriter:
    """Writes ``predictions.h5``, ``out.h5`` or ``labels.h5``: one group per structure.

    Use it in a ``with`` block. The file appears under its name when the block ends well; a block
    that fails leaves nothing and keeps an older file.
    """

    def __init__(self, path: str | Path) -> None:
        """Nothing is created before the block begins.

        Args:
            path: Name of the finished file.
        """
        self._path = Path(path)
        self._stack = contextlib.ExitStack()
        self._file: h5py.File | None = None
        self.count = 0

    def __enter__(self) -> "PredictionWriter":
        """Open the temporary file.

        Returns:
            The writer.

        Raises:
            ComputationError: If it cannot be created.
        """
        temporary = self._stack.enter_context(atomic_path(self._path))
        with self._stack, self._errors():
            self._file = h5py.File(temporary, "w")
            self._stack = self._stack.pop_all()
        return self

    def write(self, arrays: Mapping[str, Any], attributes: Mapping[str, Any]) -> str:
        """Add one structure.

        Args:
            arrays: Datasets by name (see :data:`DATASETS`), atomic units, AO order of PySCF; a
                value of None is left out.
            attributes: ``energy`` (hartree), ``charge``, ``spin``, ``xc``, ``basis``, ...; a value
                of None is left out.

        Returns:
            Name of the group, "0000" for the first.

        Raises:
            ComputationError: If writing fails.
            ValueError: If a dataset has a name that is not in the format.
        """
        unknown = set(arrays) - set(DATASETS)
        if unknown:
            raise ValueError(f"expected datasets out of {DATASETS}, got {sorted(unknown)}")
        if self._file is None:
            raise ValueError("expected an open writer; use it in a with block")
        name = f"{self.count:04d}"
        with self._errors():
            group = self._file.create_group(name)
            for key, value in arrays.items():
                if value is not None:
                    group.create_dataset(key, data=np.asarray(value))
            group.attrs["ao_order"] = "pyscf"
            for key, value in attributes.items():
                if value is not None:
                    group.attrs[key] = value
        self.count += 1
        return name

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close; give the file its name if all went well."""
        with self._stack:
            if kind is None:
                with self._errors():
                    self._close()
            else:
                with contextlib.suppress(Exception):
                    self._close()
                # told to the temporary file too, so that it is removed instead of renamed
                self._stack.pop_all().__exit__(kind, error, trace)

    def _close(self) -> None:
        handle, self._file = self._file, None
        if handle is not None:
            handle.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """HDF5 reports a full disk as OSError or RuntimeError, with its own wording."""
        try:
            yield
        except (OSError, RuntimeError) as error:
            number = getattr(error, "errno", None) or errno_in(str(error))
            plain = OSError(number, os.strerror(number)) if number else OSError(str(error))
            raise ComputationError(cannot("write", self._path, plain) + cure_of(plain)) from None
