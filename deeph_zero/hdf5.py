"""HDF5 files of predictions and labels: one group per structure, whole or not there."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from deeph_zero.errors import ComputationError
from deeph_zero.file_errors import cannot, cure_of, errno_in
from deeph_zero.files import atomic_path

DATASETS = (
    "numbers", "positions", "overlap", "fock", "fock_rebuilt", "density", "mo_energy", "mo_occ",
    "mulliken_charges", "lowdin_charges", "spin_populations", "bond_orders", "forces",
)  # fmt: skip
"""Datasets of one structure; a missing one was not computed."""


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
