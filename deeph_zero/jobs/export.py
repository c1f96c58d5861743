"""Files for other programs beside the HDF5: PySCF checkpoints, Molden, cubes, one per structure."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from deeph_zero.errors import InputError, argument
from deeph_zero.host.files import journal_beside, json_beside, output_argument
from deeph_zero.host.outputs import check_apart
from deeph_zero.host.run_folder import check_file
from deeph_zero.predict import meanfield
from deeph_zero.settings.config import PredictConfig


def wanted(config: PredictConfig) -> bool:
    """Whether anything is to be written for other programs."""
    return bool(config.chkfile or config.molden or config.cube)


def export(
    mf: Any, config: PredictConfig, out: Path, index: int | None, warn: Callable[[str], None]
) -> None:
    """Write what was asked for of one structure, without cubes of what it does not have.

    Args:
        mf: Its mean-field object, with orbitals.
        config: What to write.
        out: The HDF5 file; cubes are named after it.
        index: Position of the structure's group in ``out``; None if there is only one structure.
        warn: Takes a line about a cube that does not exist.

    Raises:
        ComputationError: If writing fails.
    """
    made: list[Path] = []
    try:
        for kind, path in _paths(config, out, index):
            new = not path.exists()
            if kind == "chkfile":
                meanfield.write_chkfile(mf, path)
            elif kind == "molden":
                meanfield.write_molden(mf, path)
            elif not _cube(mf, kind, path, warn):
                continue
            made += [path] * new
    except BaseException:  # a structure that fails leaves no files that the next run would refuse
        for path in made:
            path.unlink(missing_ok=True)
        raise


def _cube(mf: Any, kind: str, path: Path, warn: Callable[[str], None]) -> bool:
    """Write a cube; False if there is none, also none of an earlier run."""
    try:
        meanfield.write_cube(mf, kind, path)
    except InputError as error:
        path.unlink(missing_ok=True)
        warn(str(error))
        return False
    return True


def check(
    config: PredictConfig,
    out: Path,
    count: int,
    *,
    overwrite: bool,
    inputs: Sequence[str | Path] = (),
) -> None:
    """Refuse to write over files, before anything is computed.

    Args:
        config: What is to be written.
        out: The HDF5 file.
        count: Structures.
        overwrite: Writing over files is what was asked for.
        inputs: What the command reads.

    Raises:
        InputError: If a file is there already, or its folder is not, or it is read or written
            otherwise.
    """
    written = [(output_argument(), path) for path in (out, json_beside(out), journal_beside(out))]
    for index in range(count) if count > 1 else [None]:
        for kind, path in _paths(config, out, index):
            written.append((f"--{kind if kind in ('chkfile', 'molden') else 'cube'}", path))
    check_apart(written, inputs)
    for index in range(count) if count > 1 else [None]:
        for kind, path in _paths(config, out, index):
            option = kind if kind in ("chkfile", "molden") else "cube"
            given = argument(option, str(path))
            if not path.parent.is_dir():
                raise InputError(f"{given}: the folder {path.parent} does not exist; make it first")
            if path.is_dir():
                raise InputError(f"{given}: expected a file, this is a folder; choose another name")
            check_file(path)
            if path.exists() and not overwrite:
                again = argument("overwrite", True)
                raise InputError(f"{path} exists; use {again} or another name")


def _paths(config: PredictConfig, out: Path, index: int | None) -> Iterator[tuple[str, Path]]:
    number = "" if index is None else f"_{index:04d}"
    for kind in ("chkfile", "molden"):
        name = getattr(config, kind)
        if name is not None:
            path = Path(name)
            yield kind, path.with_name(path.stem + number + path.suffix)
    for kind in dict.fromkeys(config.cube):
        yield kind, out.with_name(f"{out.stem}{number}_{kind}.cube")
