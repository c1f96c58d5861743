"""The place of an output: whether it is free, and holding it while a command writes."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from deeph_zero.errors import InputError
from deeph_zero.file_errors import cannot
from deeph_zero.files import HDF5_SUFFIXES, journal_beside, json_beside, open_own

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
LOCK_NAME = ".lock"


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
        if path.is_symlink() and not path.exists():
            raise InputError(f"-o {path}: this symbolic link leads nowhere; choose another -o")
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
    # os.path: Path.resolve raises where links go in a circle
    ours = {os.path.realpath(p) for p in (path, *([json_beside(path)] if kind == "file" else []))}
    for name in inputs:
        if os.path.realpath(name) in ours:
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
    with os.fdopen(open_own(lock), "r+b") as handle:
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
