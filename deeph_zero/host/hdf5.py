"""HDF5 files of predictions and labels: read from the file alone, written whole or not at all."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from deeph_zero.errors import InputError
from deeph_zero.host.files import atomic_path, cannot_write, errno_in, regular_file

DATASETS = (
    "numbers", "positions", "overlap", "fock", "fock_rebuilt", "density", "mo_energy", "mo_occ",
    "mulliken_charges", "lowdin_charges", "spin_populations", "bond_orders", "forces",
    "lattice", "pbc", "shells", "block_atoms", "block_cells", "block_offsets", "blocks",
    "overlap_blocks", "density_blocks", "kpts", "kweights", "band_kpts", "band_distances",
    "band_energies", "fermi", "free_energy", "moments", "polarizability", "dipole_derivatives",
    "frequencies", "ir_intensities", "normal_modes",
    "band_ticks", "dos_energies", "dos",
)  # fmt: skip
"""Datasets of one structure; a missing one was not computed."""


_MOST_COMPRESSED = 1040
"""Deflate cannot do better; what announces more than that has no data behind it."""


class InnerGroup(h5py.Group):
    """A group whose datasets and groups lie in its own file; anything else is refused.

    HDF5 follows links into other files, reads raw bytes of any file as "external storage", and puts
    "virtual" datasets together from other files: a stranger's file could name one of the reader's.
    """

    def __getitem__(self, name: Any) -> Any:
        """A member, checked.

        Args:
            name: Its name, without slashes.

        Returns:
            Group or dataset.

        Raises:
            InputError: If it is a link, damaged, or its data lie outside the file.
            KeyError: If there is none.
        """
        if not isinstance(name, str) or "/" in name.strip("/"):
            raise KeyError(name)
        if name not in self:
            raise KeyError(name)
        if self.id.links.get_info(name.strip("/").encode()).type != h5py.h5l.TYPE_HARD:
            raise self._outside(name, "a link")
        try:
            found = super().__getitem__(name)
            if isinstance(found, h5py.Group):
                return InnerGroup(found.id)
            if isinstance(found, h5py.Dataset):
                self._check_dataset(name, found)
        except InputError:
            raise
        except Exception as error:  # HDF5 raises whatever a damaged header gives
            raise self._damaged(name, error) from None
        return found

    def __iter__(self) -> Iterator[str]:
        """Names of members.

        Yields:
            Each name.

        Raises:
            InputError: If one is no text, or leads nowhere, which only damage makes.
        """
        for name in super().__iter__():
            if not isinstance(name, str) or name not in self:
                raise self._damaged(str(name)[:40], KeyError("its name leads nowhere"))
            yield name

    def get(self, name: Any, default: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """A member as :meth:`__getitem__` gives it, or ``default`` where there is none."""
        return self[name] if name in self else default  # noqa: SIM401  (this is that method)

    def values(self) -> Any:
        """Every member, checked."""
        return [self[name] for name in self]

    def items(self) -> Any:
        """Names and members, checked."""
        return [(name, self[name]) for name in self]

    def __contains__(self, name: Any) -> bool:
        """Whether there is a member of this name; links are not followed to see."""
        plain = name.strip("/") if isinstance(name, str) else "/"
        return bool(plain) and "/" not in plain and self.id.links.exists(plain.encode())

    def _check_dataset(self, name: str, found: h5py.Dataset) -> None:
        if found.external is not None:
            raise self._outside(name, "external storage")
        if found.is_virtual:
            raise self._outside(name, "a virtual dataset")
        size = os.path.getsize(self.file.filename)  # noqa: PTH202  (called for every dataset)
        if found.nbytes > _MOST_COMPRESSED * size:
            raise InputError(
                f"{self.file.filename}: expected data of {self._place(name)}, got "
                f"{found.nbytes:.1e} announced bytes that are not there; write the file again"
            )

    def _damaged(self, name: str, error: Exception) -> InputError:
        reason = " ".join(str(error).strip("'\"").split())[:80]
        return InputError(
            f"{self.file.filename}: expected {self._place(name)}, it is damaged ({reason}); "
            "copy or write the file again"
        )

    def _place(self, name: str) -> str:
        return f"{str(self.name).rstrip('/')}/{name}"

    def _outside(self, name: str, what: str) -> InputError:
        return InputError(
            f"{self.file.filename}: expected {self._place(name)} inside the file, got {what}, "
            "which is not followed; copy the data into the file"
        )


@contextlib.contextmanager
def open_hdf5(path: str | Path) -> Iterator[InnerGroup]:
    """Open a file for reading, and nothing outside it.

    Args:
        path: An ordinary file.

    Yields:
        Its root.

    Raises:
        InputError: If it is a pipe or a device.
        OSError: If it cannot be read, or is no HDF5.
    """
    regular_file(path)
    try:
        with h5py.File(path, "r") as handle:
            yield InnerGroup(h5py.h5g.open(handle.id, b"/"))
    except RuntimeError as error:
        if type(error) is not RuntimeError:
            raise
        raise OSError(str(error)) from error  # h5py's other word for a damaged file


def group_names(names: Iterable[str]) -> list[str]:
    """Groups of an HDF5 file in the order of writing: "9999" is before "10000"."""
    return sorted(names, key=lambda name: (len(name), name))


class _PatientFile:
    """The file HDF5 writes to; a refused write is kept for :meth:`check` and not told to HDF5.

    Its library may crash where a write fails while it closes a file.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b", buffering=0)
        self._error: OSError | None = None

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        end = self._file.tell() + len(view)
        try:
            while view and self._error is None:
                view = view[self._file.write(view) :]
        except OSError as error:
            self._error = error
        self._file.seek(end)
        return len(memoryview(data).cast("B"))

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size) or b""

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        found = self._file.read(len(view)) or b""
        view[:] = found.ljust(len(view), b"\0")  # what could not be written reads as zeros
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return self._file.truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size or 0

    def seek(self, place: int, whence: int = 0) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        pass  # unbuffered

    def close(self) -> None:
        self._file.close()


@contextlib.contextmanager
def hdf5_written_to(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file in the place of an empty one; a full disk is an exception, never a crash.

    Args:
        path: The empty file.

    Yields:
        The open file.

    Raises:
        OSError: If the disk refuses; the file is of no use then.
    """
    disk = _PatientFile(path)
    with contextlib.closing(disk):
        with h5py.File(disk, "w") as handle:
            yield handle
        disk.check()


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
        self._disk: _PatientFile | None = None
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
            self._disk = self._stack.enter_context(contextlib.closing(_PatientFile(temporary)))
            self._file = h5py.File(self._disk, "w")
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
            if self._disk is not None:
                self._disk.check()
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
            if self._disk is not None:
                self._disk.check()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """HDF5 reports a full disk as OSError or RuntimeError, with its own wording."""
        try:
            yield
        except (OSError, RuntimeError) as error:
            number = getattr(error, "errno", None) or errno_in(str(error))
            plain = OSError(number, os.strerror(number)) if number else OSError(str(error))
            raise cannot_write(self._path, plain) from None
