"""What in a folder a run wrote: a list kept in it, and what runs without one are known by."""

import contextlib
import fnmatch
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from deeph_zero.errors import InputError
from deeph_zero.host.documents import parse_json, read_document
from deeph_zero.host.files import elsewhere, regular_file, write_json
from deeph_zero.host.version import __version__

MANIFEST = ".manifest.json"
LOCK_NAME = ".lock"
RUN_FILES = (
    "model.json",
    "model.safetensors",
    "summary.json",
    "config.json",
    "config.toml",
    "metrics.csv",
    "predictions.h5",
    "report.html",
    "checkpoints/last.ckpt/state.json",
    "checkpoints/last.ckpt/state.safetensors",
    "checkpoints/crystal_*.json",
    "checkpoints/crystal_*.safetensors",
    "tensorboard/events.out.tfevents.*",
    "report_plots/*.svg",
    "report_plots/*.png",
    "report_plots/.manifest.json",
)
"""All that a run may write; nothing else in its folder is ever removed."""
PLAIN_FILES = tuple(name for name in RUN_FILES if "*" not in name)
"""Those of them with a name of their own."""
_FOLDERS = ("checkpoints/last.ckpt", "checkpoints", "tensorboard", "report_plots")
_KIND = "deeph-zero run"
_PLOTS = "deeph-zero plots"
_SUMMARY_KEYS = {"version", "format_version", "structures", "stopped_by", "wall_time_s"}


def is_run_file(name: str) -> bool:
    """Whether a run writes files of this name, given relative to its folder."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in RUN_FILES)


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run of ours, by what its files say and not by their names.

    Args:
        folder: Any folder.

    Returns:
        True also for a run that was killed before it wrote anything that says so.
    """
    if not folder.is_dir():
        return False
    if _listed(folder) is not None or _known_by_content(folder):
        return True
    names = {p.name for p in folder.iterdir()} - {LOCK_NAME, MANIFEST}
    return bool(names) and all(_is_temporary(name) for name in names)


def _known_by_content(folder: Path) -> bool:
    summary, model = _json(folder / "summary.json"), _json(folder / "model.json")
    config = _json(folder / "config.json")
    state = _json(folder / "checkpoints" / "last.ckpt" / "state.json")
    return (
        summary.keys() >= _SUMMARY_KEYS
        or model.get("kind") == "deeph-zero model"
        or config.keys() == {"config", "frames"}
        or state.get("kind") == "deeph-zero checkpoint"
    )


def _json(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, InputError):
        found = parse_json(read_document(path))
        return found if isinstance(found, dict) else {}
    return {}


def _is_temporary(name: str) -> bool:
    """Names of files that are being written, see ``files`` and ``tensor_files``."""
    if name.endswith(".new"):
        return is_run_file(name.removesuffix(".new"))
    parts = name.rsplit(".", 2)
    whole = parts[0][1:]
    named = is_run_file(whole) or whole == MANIFEST
    return name.startswith(".") and parts[2:] == ["tmp"] and named


def _listed(folder: Path) -> list[str] | None:
    """What the list in the folder says, as far as a run may write it; None without a list."""
    found = _json(folder / MANIFEST)
    files = found.get("files")
    if found.get("kind") != _KIND or not isinstance(files, list):
        return None
    return [name for name in files if name in RUN_FILES or is_run_file(str(name))]


def _there(folder: Path) -> Iterator[str]:
    """Files in the folder that a run may have written; links to folders are not followed."""
    for place in ("", *_FOLDERS):
        inside = folder / place
        parts = [inside, *inside.parents][: len(PurePosixPath(place).parts)]
        if not inside.is_dir() or any(part.is_symlink() for part in parts):
            continue
        for entry in os.scandir(inside):
            name = f"{place}/{entry.name}" if place else entry.name
            temporary = _is_temporary(entry.name) or _is_temporary_in(place, entry.name)
            if (is_run_file(name) or temporary) and not entry.is_dir(follow_symlinks=False):
                yield name


def _is_temporary_in(place: str, name: str) -> bool:
    plain = name.removesuffix(".new")
    if plain == name and name.startswith(".") and name.endswith(".tmp"):
        plain = name[1:].rsplit(".", 2)[0]
    return plain != name and is_run_file(f"{place}/{plain}")


def check_parts(folder: Path) -> None:
    """See whether the places of a run's files are its own: it would write through a linked folder.

    Args:
        folder: Where a run is, or will be.

    Raises:
        InputError: If a link or a file stands in the place of a folder, or no file in that of one.
    """
    for place in _FOLDERS:
        check_folder(folder / place)
    for name in PLAIN_FILES:
        check_file(folder / name)


def check_folder(path: Path) -> None:
    """Refuse a link or a file in the place of a folder that is to be written to.

    Args:
        path: The folder; nothing need be there.

    Raises:
        InputError: If something else is there.
    """
    if os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
        what = "a link" if path.is_symlink() else "a file"
        raise InputError(f"{path}: expected a folder, this is {what}; remove it or {elsewhere()}")


def check_file(path: Path) -> None:
    """Refuse what is no file in the place of one that is to be written; links will be replaced.

    Args:
        path: The file; nothing need be there.

    Raises:
        InputError: If something else is there.
    """
    if path.is_dir() and not path.is_symlink():
        raise InputError(f"{path}: expected a file, this is a folder; remove it or {elsewhere()}")
    regular_file(path)


def clear(folder: Path) -> None:
    """Remove what the run wrote, and nothing else.

    Args:
        folder: A run.

    Raises:
        OSError: If the disk refuses.
    """
    listed = _listed(folder)
    for name in list(_there(folder)):
        known = listed is None or any(fnmatch.fnmatchcase(name, item) for item in listed)
        if known or not is_run_file(name):
            (folder / name).unlink(missing_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    for place in _FOLDERS:
        if not (folder / place).is_symlink():
            with contextlib.suppress(OSError):
                (folder / place).rmdir()  # only when empty


@contextlib.contextmanager
def listing(folder: Path) -> Iterator[None]:
    """Keep the list of what is written in the block.

    Until its end the list says what may come: a killed run is known by it.

    Args:
        folder: The folder, claimed.

    Yields:
        Nothing.
    """
    before = _listed(folder)
    foreign = [n for n in _there(folder) if before is None and not _known_by_content(folder)]
    ours = [pattern for pattern in RUN_FILES if not fnmatch.filter(foreign, pattern)]
    _write(folder, ours)
    try:
        yield
    finally:
        written = [n for n in _there(folder) if n not in foreign and is_run_file(n)]
        with contextlib.suppress(Exception):  # the disk may be what ended the block
            if written:
                _write(folder, written)
            else:
                (folder / MANIFEST).unlink(missing_ok=True)


def add(folder: Path, paths: list[Path]) -> None:
    """Add files to the list of a run, where there is one.

    Args:
        folder: Perhaps a run.
        paths: Files that were written into it.
    """
    listed = _listed(folder)
    if listed is None:
        return
    inside = [p.relative_to(folder).as_posix() for p in paths if p.is_relative_to(folder)]
    _write(folder, [*listed, *inside])


def settle_plots(folder: Path, written: list[Path]) -> list[str]:
    """Remove plots of an earlier call that were not made again, and keep a list of those there are.

    Only what the list in the folder names is removed.

    Args:
        folder: Where plots lie.
        written: Those that were made now.

    Returns:
        Names of other pictures, which nothing says are ours.
    """
    found = _json(folder / MANIFEST)
    before = found.get("files") if found.get("kind") == _PLOTS else None
    ours = {path.name for path in written}
    pictures = {p.name for p in folder.iterdir() if p.suffix in (".svg", ".png")} - ours
    gone = pictures & {name for name in before or [] if isinstance(name, str)}
    for name in gone:
        (folder / name).unlink(missing_ok=True)
    content = {"kind": _PLOTS, "version": __version__, "files": sorted(ours)}
    write_json(folder / MANIFEST, content)
    return sorted(pictures - gone)


def _write(folder: Path, names: list[str]) -> None:
    files = sorted(dict.fromkeys(names))
    write_json(folder / MANIFEST, {"kind": _KIND, "version": __version__, "files": files})
