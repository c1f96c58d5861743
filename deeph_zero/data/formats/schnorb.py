"""SchNOrb's databases of ASE (SchNetPack 0.2): H and S of MD17's molecules, hartree and ångström.

Each row's data has ``hamiltonian`` and ``overlap`` as base64 of plain bytes beside ``_shape_...``
and ``_dtype_...``; the metadata's ``basisdef`` lists (index, type, n, l, m) of the functions of
each element.

References:
    K. T. Schütt et al., Nat. Commun. 10, 5024 (2019); its code is named SchNOrb.
"""

import base64
import binascii
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ase
import ase.db
import numpy as np

from deeph_zero.ao.convention import stored_order
from deeph_zero.data.formats.conventions import CONVENTIONS
from deeph_zero.data.formats.protocol import (
    Matrices,
    Record,
    Shells,
    Structure,
    check_one_basis,
    closed_shell,
    from_dense,
    in_order,
    required_overlap,
    sizes_of,
)
from deeph_zero.data.formats.registry import ShellsOf
from deeph_zero.data.formats.sqlite_rows import Rows
from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.data.stored_values import HEAVIEST
from deeph_zero.errors import InputError, argument

_UNITS = CONVENTIONS["schnorb"]


def _connect(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ase.db.connect(str(path.absolute()), type="db", use_lock_file=False)


class SchNOrbSource:
    """A database of geometries of one molecule or several, neutral closed shells."""

    order = _UNITS.order

    def __init__(self, path: Path, shells_of: ShellsOf, basis: str) -> None:
        """Find the rows.

        Args:
            path: The database.
            shells_of: Shells of atoms in a basis set, where the file has no ``basisdef``.
            basis: That basis set.

        Raises:
            WholeFileError: If it is no such file.
        """
        rows = Rows(path, "systems", ("id", "numbers", "positions"))
        self._ids = [row[0] for row in rows.select("SELECT id FROM systems ORDER BY id")]
        self._path, self._shells_of, self._basis = path, shells_of, basis
        self._database = _connect(path)
        try:
            metadata = self._database.metadata
        except Exception as error:  # ASE raises whatever it meets
            raise WholeFileError(f"expected ASE's metadata ({str(error)[:80]})") from None
        self._shells = _basisdef(metadata)

    def __len__(self) -> int:
        """Number of geometries."""
        return len(self._ids)

    def place(self, index: int) -> str:
        """File and frame."""
        return f"{self._path} frame {index}"

    def _row(self, index: int) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self._database.get(id=self._ids[index])
        except Exception as error:  # ASE raises whatever it meets
            line = (str(error).splitlines() or [""])[0][:80]
            raise InputError(f"expected a row of ASE ({line}); leave the row out") from None

    def structure(self, index: int) -> Structure:
        """The atoms of a row."""
        row = self._row(index)
        numbers = np.asarray(row.numbers, dtype=np.int64)
        coords = np.asarray(row.positions, dtype=float)
        good = len(numbers) and coords.shape == (len(numbers), 3) and np.isfinite(coords).all()
        if not good or not (numbers.min() > 0 and numbers.max() <= HEAVIEST):
            raise InputError("expected atoms at finite positions, got others; leave the row out")
        return Structure(numbers=numbers, coords=coords * _UNITS.length, name=str(self._ids[index]))

    def matrices(self, index: int) -> Matrices:
        """H and S of a row."""
        row = self._row(index)
        shells = self._of(np.asarray(row.numbers, dtype=np.int64))
        nao = sum(sizes_of(shells))
        try:
            data = row.data
        except Exception as error:  # ASE raises whatever it meets
            raise InputError(f"expected data of the row ({str(error)[:80]})") from None
        overlap = _array(data, "overlap", nao) if "overlap" in data else None
        return from_dense(
            shells, _array(data, "hamiltonian", nao), overlap, facts={"basis": self._basis}
        )

    def _of(self, numbers: np.ndarray) -> Shells:
        for number in set(numbers.tolist()) - self._shells.keys():
            self._shells[number] = self._shells_of(np.array([number]), self._basis)[0]
        return tuple(self._shells[int(z)] for z in numbers)


def _basisdef(metadata: object) -> dict[int, tuple[int, ...]]:
    """Shells of each element; nothing of those the table does not describe."""
    table = metadata.get("basisdef") if isinstance(metadata, Mapping) else None
    try:
        rows = np.asarray(table if table is not None else [], dtype=np.int64)
    except (TypeError, ValueError):
        return {}
    if rows.ndim != 3 or rows.shape[2] != 5:
        return {}
    found = {}
    for number, functions in enumerate(rows):
        ls, at = [], 0
        used = functions[functions[:, 2] > 0]
        while at < len(used):
            l = int(used[at, 3])
            part = used[at : at + 2 * l + 1, 3] if 0 <= l <= 12 else used[:0, 3]
            if len(part) != 2 * l + 1 or (part != l).any():
                break
            ls.append(l)
            at += 2 * l + 1
        if ls and at == len(used):
            found[number] = tuple(ls)
    return found


def _array(data: Mapping[str, Any], name: str, nao: int) -> np.ndarray:
    """A matrix of a row, whether ASE kept it as an array or SchNetPack as base64."""
    value = data.get(name)
    if isinstance(value, str):
        kind = str(data.get(f"_dtype_{name}", "float32"))
        if kind.lstrip("<=|") not in ("float32", "float64", "f4", "f8"):
            raise InputError(f"expected {name} of real numbers, got {kind[:20]!r}")
        try:
            raw = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise InputError(f"expected {name} in base64, got another text") from None
        width = np.dtype(kind.lstrip("=|")).newbyteorder("<")
        value = np.frombuffer(raw, width) if len(raw) % width.itemsize == 0 else None
    found = np.asarray(value if isinstance(value, np.ndarray) else np.zeros(0))
    if found.dtype.kind != "f" or found.size != nao * nao:
        raise InputError(
            f"expected {name} of {nao} functions, got {found.size} numbers; leave the row out, or "
            f"give the {argument('basis')} it is in"
        )
    return found.astype(float).reshape(nao, nao)


class SchNOrbSink:
    """Writes a database of ASE with SchNetPack's keys."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Args:
            path: An empty file.
        """
        path.unlink(missing_ok=True)
        self._database = _connect(path)
        self._database.__enter__()
        self._shells: dict[int, tuple[int, ...]] = {}

    def write(self, record: Record) -> None:
        """Add a molecule; the layout holds neutral closed shells only."""
        structure = closed_shell(record, "SchNOrb")
        matrices = in_order(record.matrices, _UNITS.order)
        check_one_basis(self._shells, record, matrices.shells, "SchNOrb")
        arrays = {
            "hamiltonian": matrices.fock.to_dense().numpy(),
            "overlap": required_overlap(matrices).to_dense().numpy(),
        }
        if "energy" in matrices.facts:
            arrays["energy"] = np.array([float(matrices.facts["energy"])])
        data: dict[str, Any] = {}
        for name, values in arrays.items():
            data[name] = base64.b64encode(values.astype("<f8").tobytes()).decode()
            data[f"_shape_{name}"] = list(values.shape)
            data[f"_dtype_{name}"] = "float64"
        atoms = ase.Atoms(structure.numbers, structure.coords / _UNITS.length)
        self._database.write(atoms, data=data)

    def close(self) -> None:
        """Write the basis' description, and let go of the file."""
        width = max((sum(2 * l + 1 for l in ls) for ls in self._shells.values()), default=0)
        table = np.zeros((max(self._shells, default=0) + 1, width, 5), dtype=int)
        for number, ls in self._shells.items():
            rows = []
            for k, l in enumerate(ls):
                n = l + 1 + list(ls[:k]).count(l)
                by_m = dict(zip(stored_order(l, "m"), range(-l, l + 1), strict=True))
                rows += [(0, n, l, by_m[place]) for place in stored_order(l, _UNITS.order)]
            table[number, : len(rows), 1:] = rows
            table[number, : len(rows), 0] = range(len(rows))
        self._database.metadata = {"basisdef": table.tolist()}
        self._database.__exit__(None, None, None)
