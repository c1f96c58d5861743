"""The place of an output: whether it is free, and holding it while a command writes.

An output takes the place of its name: a link to a file of another folder is replaced by the file,
and what it led to stays as it is. A link to a folder is the folder.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Literal

from deeph_zero.errors import InputError, argument
from deeph_zero.host.files import (
    HDF5_SUFFIXES,
    cannot,
    elsewhere,
    journal_beside,
    json_beside,
    open_own,
    output_argument,
)
from deeph_zero.host.run_folder import (
    LOCK_NAME,
    PLAIN_FILES,
    check_file,
    check_parts,
    clear,
    is_run,
    is_run_file,
    listing,
)

Kind = Literal["run", "file", "json", "html", "other"]
"""What an output is: a run folder, an HDF5 file with its JSON beside it, one file of a kind, or of
any."""


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
        raise InputError(f"{_resume()} and {_overwrite()} exclude each other; give one of them")
    parts = [path, json_beside(path), journal_beside(path)] if kind == "file" else [path]
    check_apart([(output_argument(), part) for part in parts], inputs, resume=resume)
    try:
        if path.is_symlink() and not path.exists():
            raise InputError(f"{_out(path)}: this symbolic link leads nowhere; {elsewhere()}")
        if kind == "run":
            _check_free(path / LOCK_NAME, path)
            _check_run(path, resume, overwrite)
        else:
            _check_file(path, overwrite, kind, resume=resume)
        _check_writable(path)
    except OSError as error:
        raise InputError(cannot("use", path, error) + f"; {elsewhere()}") from None


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
        raise InputError(cannot("create", folder, error) + f"; {elsewhere()}") from None
    try:
        with _locked(folder) if kind == "run" else contextlib.nullcontext():
            if kind == "run":
                _check_run(path, resume, overwrite)  # again: now nobody else writes there
            if kind == "run" and overwrite:
                clear(path)
            with listing(path) if kind == "run" else contextlib.nullcontext():
                yield path
    except BaseException:
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()  # only when empty
        raise


def check_apart(
    outputs: Sequence[tuple[str, Path]], inputs: Sequence[str | Path], *, resume: bool = False
) -> None:
    """No output is an input, or another output, under whatever name.

    Args:
        outputs: Option and file (or run folder) of each.
        inputs: Files, and folders of models, that the command reads.
        resume: The settings kept in a run may be those it is resumed with.

    Raises:
        InputError: At the first that is.
    """
    seen: dict[object, str] = {}
    read = [Path(name) for name in inputs]
    read += [json_beside(p) for p in read if p.suffix.lower() in HDF5_SUFFIXES]
    for option, path in outputs:
        if any(_meets(path, other, resume) for other in read):
            raise InputError(
                f"{option} {path}: this is an input of the same command; choose another {option}"
            )
        for key in _identities(path):
            if seen.get(key, option) != option or (key in seen and option != outputs[0][0]):
                raise InputError(
                    f"{option} {path}: expected a file of its own, {seen[key]} writes there too; "
                    f"choose another {option}"
                )
        seen |= dict.fromkeys(_identities(path), option)


def _identities(path: Path) -> set[object]:
    """What two names of one file have in common."""
    found: set[object] = {os.path.realpath(path)}
    with contextlib.suppress(OSError, ValueError):
        status = path.stat()
        found.add((status.st_dev, status.st_ino))
    return found


def _meets(output: Path, source: Path, resume: bool) -> bool:
    """Whether writing the output would replace (a part of) what is read."""
    if _identities(output) & _identities(source):
        return True
    if os.path.isdir(output):  # noqa: PTH112  (a run; a name too long is no error here)
        return _is_of_run(source, output) and not (resume and source.name == "config.toml")
    is_folder = os.path.isdir(source)  # noqa: PTH112
    model = source if is_folder else source.parent
    reads_run = is_folder or source.name == "model.safetensors"
    return reads_run and output.suffix != ".html" and _is_of_run(output, model)


def _is_of_run(path: Path, folder: Path) -> bool:
    """Whether a file is one of those that a run in the folder writes."""
    name = os.path.relpath(os.path.realpath(path), os.path.realpath(folder)).replace(os.sep, "/")
    if is_run_file(name):
        return True
    ours = [folder / plain for plain in PLAIN_FILES]
    return any(_identities(path) & _identities(other) for other in ours if os.path.lexists(other))


def _check_run(path: Path, resume: bool, overwrite: bool) -> None:
    if path.exists() and not path.is_dir():
        raise InputError(f"{_out(path)}: expected a run folder, this is a file; {elsewhere()}")
    contents = [p for p in path.iterdir() if p.name != LOCK_NAME] if path.exists() else []
    ours = is_run(path)
    if resume and not ours:
        there = "this folder holds none" if contents else "there is none"
        raise InputError(f"{_resume()}: expected a run at {path}, {there}; leave it out")
    if contents and overwrite and not ours:
        raise InputError(
            f"{_overwrite()}: {path} holds files but no run, and only runs are replaced; "
            f"{elsewhere()}"
        )
    if contents and not (resume or overwrite):
        raise InputError(f"{path} exists and is not empty; use {_resume()} or {_overwrite()}")
    check_parts(path)


def _check_file(path: Path, overwrite: bool, kind: Kind, *, resume: bool) -> None:
    suffixes = HDF5_SUFFIXES if kind == "file" else (f".{kind}",)
    if kind != "other" and path.suffix.lower() not in suffixes:
        raise InputError(f"{_out(path)}: expected a name ending in {suffixes[0]}; {elsewhere()}")
    for part in (path, json_beside(path)) if kind == "file" else (path,):
        if part.is_dir():
            raise InputError(f"{part}: expected a file, this is a folder; {elsewhere()}")
        check_file(part)
    begun = journal_beside(path).exists() and kind == "file"
    if begun:
        _check_free(journal_beside(path), path)
    if resume and not begun:
        there = f"{path} is complete" if path.exists() else "there is none"
        raise InputError(f"{_resume()}: expected an unfinished {path}, {there}; leave it out")
    if not (resume or overwrite):
        check_vacant(path, kind=kind, begun=begun)


def check_vacant(path: Path, *, kind: Kind = "file", begun: bool) -> None:
    """Refuse an output that is there already, where nobody said what to do with it.

    Args:
        path: The file.
        kind: Which it is.
        begun: A journal of it is there.

    Raises:
        InputError: If it is there, or was begun.
        OSError: If the disk refuses.
    """
    for part in (path, json_beside(path)) if kind == "file" else (path,):
        if part.exists() and part.stat().st_size:
            cure = f"{_resume()}, {_overwrite()}" if begun else _overwrite()
            raise InputError(
                f"{part} exists and is not empty; use {cure} or another {output_argument()}"
            )
    if begun:
        raise InputError(f"{path} was begun and not finished; use {_resume()} or {_overwrite()}")


def _check_writable(path: Path) -> None:
    place = next(p for p in (path, *path.absolute().parents) if p.is_dir())
    nearest = next(p for p in (path.parent, *path.absolute().parents) if p.exists())
    if not nearest.is_dir():
        raise InputError(f"{path}: {nearest} is a file, not a folder; {elsewhere()}")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{path}: no permission to write in {place}; {elsewhere()}")


def _check_free(lock: Path, output: Path) -> None:
    """Refuse an output that another process holds: nothing of it is there to go on with yet."""
    if not lock.is_file() or lock.is_symlink():
        return
    with contextlib.suppress(PermissionError), lock.open("rb") as handle:
        hold(handle, output)


def open_held(path: Path, output: Path, *, busy: str = "in use", create: bool = True) -> IO[bytes]:
    """Open a lock or a journal of our own and hold it as long as it is open.

    Args:
        path: The lock or the journal.
        output: What it stands for.
        busy: What another process has it for.
        create: Make it if need be.

    Returns:
        The file, unbuffered; its content is as it was.

    Raises:
        InputError: If another process holds it, or something else is in its place.
        OSError: If the disk refuses, or there is none to open.
    """
    while True:
        handle = os.fdopen(open_own(path, create=create), "r+b", buffering=0)
        try:
            hold(handle, output, busy=busy)
            if _names(path, handle):
                return handle
        except BaseException:
            handle.close()
            raise
        handle.close()


def _names(path: Path, handle: IO[bytes]) -> bool:
    """Whether an open file still has its name; its last holder may just have removed it."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.lstat(), os.fstat(handle.fileno()))
    return False


def hold(handle: IO[bytes], output: Path, *, busy: str = "in use") -> None:
    """Lock a file for this process as long as it is open.

    Args:
        handle: The file.
        output: What it stands for.
        busy: What another process has it for.

    Raises:
        InputError: If another process holds it.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            f"{output} is {busy} by another deeph-zero; wait for it or {elsewhere()}"
        ) from None
    except OSError:
        pass  # a file system without locks: go on without one


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this process; the system lets go when the process ends in any way."""
    lock = folder / LOCK_NAME
    with open_held(lock, folder):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _out(path: Path) -> str:
    return argument("out", str(path), option="-o")


def _resume() -> str:
    return argument("resume", True)


def _overwrite() -> str:
    return argument("overwrite", True)
