"""Structures that are no coordinate files: npz arrays and SMILES."""

import importlib
import math
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ase
import numpy as np
from jaxtyping import Float, Int

from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.data.reading.length_units import is_unit_key, stated_in_bohr
from deeph_zero.data.reading.state import Say, is_result, names_state
from deeph_zero.errors import InputError
from deeph_zero.units import BOHR_IN_ANGSTROM

_NUMBERS = ("nuclear_charges", "z", "Z", "numbers", "atomic_numbers", "charges")
_POSITIONS = ("coords", "R", "positions", "pos")
_CELLS = ("cell", "cells", "lattice", "lattices", "lattice_vectors", "cell_vectors", "box")
_LAST = 118
_UNPACKED = 2**30
"""Bytes up to which an array may unpack to many times its size."""


def npz_frames(path: Path, say: Say) -> Iterator[ase.Atoms]:
    """Frames of an npz file of the rMD17 or QM9 kind, in ångström unless it says ``units``.

    Atomic numbers (``nuclear_charges``, ``z``, ``numbers``, ...) are [natm], [n, natm] with zeros
    behind the last atom, or flat with the number of atoms of each frame in ``N``; positions
    (``coords``, ``R``, ``positions``, ``pos``) likewise. ``charge`` and ``spin`` (2S) may be there
    for all frames or for each, and so may the vectors of a ``cell`` (``lattice``, ``box``, ...) in
    rows, [3, 3], or its three edges, with ``pbc``.

    Args:
        path: The file.
        say: Takes a warning about its units.

    Yields:
        One object per frame, ``info`` with charge and spin where the file has them.

    Raises:
        WholeFileError: If it is no such file.
    """
    data = _npz_arrays(path)
    numbers = _real(_array(data, _NUMBERS, "atomic numbers"), "atomic numbers")
    positions = _real(_array(data, _POSITIONS, "positions in angstrom"), "positions")
    if (numbers != np.rint(numbers)).any() or ((numbers < 0) | (numbers > _LAST)).any():
        raise WholeFileError(
            f"expected whole atomic numbers from 0 to {_LAST}, got others; check the arrays"
        )
    if positions.shape[-1:] != (3,):
        raise WholeFileError(
            f"expected positions of shape [frames, atoms, 3], got {positions.shape}; "
            "check the arrays"
        )
    frames = list(_npz_split(numbers.astype(np.int64), positions.astype(np.float64), data))
    if not frames:
        raise WholeFileError("expected structures, the arrays hold 0 frames; check the arrays")
    used = next(name for name in _NUMBERS if name in data)
    states = [key for key in data if _speaks_of_state(key) and key != used]
    sizes = [len(z) for z, _ in frames]
    atomic = {key: _per_atom(data[key], sizes, names_state(key)) for key in states}
    extra = {key: _per_frame(data[key], key, len(frames)) for key in states if atomic[key] is None}
    unit, cells = _unit(data, say), _cells(data, len(frames))
    pbc = _directions(data, len(frames), cells is not None)
    for k, (z, xyz) in enumerate(frames):
        info = {key: values[k] for key, values in extra.items()}
        atoms = ase.Atoms(numbers=z, positions=xyz * unit, info=info, pbc=pbc[k])
        if cells is not None:
            atoms.set_cell(cells[k] * unit)
        for key, values in atomic.items():
            if values is not None:
                atoms.set_array(key, values[k])
        yield atoms


def _speaks_of_state(key: str) -> bool:
    """Charge and spin by name, or in one letter as published sets have them."""
    return is_result(key) or key in ("S", *_NUMBERS[-1:])


def _unit(data: Mapping[str, np.ndarray], say: Say) -> float:
    """Ångström per unit of the positions."""
    stated: dict[str, str] = {}
    for key in filter(is_unit_key, data):
        units = sorted({_text(unit) for unit in data[key].flat})
        if len(units) > 1:
            raise WholeFileError(
                f"expected one unit in {key}, got {units[0]} and {units[1]}; leave the one of "
                "the positions"
            )
        stated[key] = "".join(units)
    try:
        return BOHR_IN_ANGSTROM if stated_in_bohr(stated, say) else 1.0
    except InputError as error:
        raise WholeFileError(str(error)) from None


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _cells(data: Mapping[str, np.ndarray], n_frames: int) -> np.ndarray | None:
    """Vectors of every frame's cell in rows, [n, 3, 3]; None where there is none."""
    name = next((name for name in _CELLS if name in data), None)
    if name is None:
        return None
    values = _real(data[name], f"{name} as vectors of a cell").astype(np.float64)
    shape = values.shape
    if shape in ((3,), (1, 3)) or (shape == (n_frames, 3) and n_frames != 3):
        values = values[..., None] * np.eye(3)  # edges
    elif shape[-1:] == (9,) and values.ndim <= 2:
        values = values.reshape(*shape[:-1], 3, 3)
    if values.shape not in ((3, 3), (1, 3, 3), (n_frames, 3, 3)):
        raise WholeFileError(
            f"expected {name} of shape [3, 3] or [{n_frames}, 3, 3], got {shape}; check the arrays"
        )
    if "type" in data and name == "lattice":  # sGDML's files, with vectors in columns
        values = values.swapaxes(-1, -2)
    return np.broadcast_to(values, (n_frames, 3, 3))


def _directions(data: Mapping[str, np.ndarray], n_frames: int, has_cell: bool) -> np.ndarray:
    """Periodic directions of every frame, [n, 3]; all where there is a cell and nothing else."""
    values = data.get("pbc", np.array(has_cell))
    whole = values.dtype.kind == "b" or (values.dtype.kind in "iu" and set(values.flat) <= {0, 1})
    if not whole or values.shape not in ((), (1,), (3,), (1, 3), (n_frames, 3)):
        raise WholeFileError(
            f"expected pbc of three truth values, got {values.dtype} of shape {values.shape}; "
            "check the arrays"
        )
    return np.broadcast_to(values.astype(bool), (n_frames, 3))


def _per_atom(values: np.ndarray, sizes: list[int], is_total: bool) -> list[np.ndarray] | None:
    """Numbers of each frame's atoms, where an array holds such; None where it does not.

    One axis under the name of a total (``charge``) is a total of each frame, perhaps a wrong one.
    """
    if values.dtype.kind not in "iuf" or values.size in (1, len(sizes)):
        return None
    longest = max(sizes)
    if values.shape in ((len(sizes), longest), (len(sizes), longest, 1)):
        rows = values.reshape(len(sizes), longest)
        return [row[:size] for row, size in zip(rows, sizes, strict=True)]
    if is_total:
        return None
    if values.shape == (longest,) and set(sizes) == {longest}:
        return [values] * len(sizes)
    if values.shape == (sum(sizes),):
        return np.split(values, np.cumsum(sizes)[:-1])
    return None


def _npz_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        _check_headers(path)
        with np.load(path, allow_pickle=False) as archive:
            wanted = {*_NUMBERS, *_POSITIONS, *_CELLS, "N", "S", "pbc"}
            found = {
                key: archive[key]
                for key in archive.files
                if key in wanted or is_result(key) or is_unit_key(key)
            }
            return found | ({"type": np.array("")} if "type" in archive.files else {})
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, KeyError, TypeError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise WholeFileError(
            f"expected arrays of numbers in npz, cannot read it ({lines[0][:80]}); write it with "
            "numpy.savez, without objects"
        ) from None
    except (MemoryError, NotImplementedError, RuntimeError) as error:
        raise WholeFileError(
            f"expected arrays that fit into the memory, cannot read them ({error}); split the file"
        ) from None


def _check_headers(path: Path) -> None:
    """Sizes as announced are there, and nothing unpacks to far more than the file holds."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.file_size > max(_UNPACKED, 200 * member.compress_size):
                raise WholeFileError(
                    f"expected arrays that fit the file's size, {member.filename[:40]!r} unpacks "
                    f"to {member.file_size / 1e9:.1f} GB; write it with numpy.savez"
                )
            if not member.filename.endswith(".npy"):
                continue
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                read = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read(file)
                size = math.prod(shape) * dtype.itemsize
                if not dtype.hasobject and size != member.file_size - file.tell():
                    raise ValueError(
                        f"{member.filename[:40]} announces {size} bytes and has "
                        f"{member.file_size - file.tell()}"
                    )


def _real(values: np.ndarray, what: str) -> np.ndarray:
    """Real numbers: a complex one would lose its imaginary part."""
    if values.dtype.kind not in "iuf":
        raise WholeFileError(
            f"expected {what} as real numbers, got whole atomic numbers or positions of type "
            f"{values.dtype}; check the arrays"
        )
    return values


def _array(data: Mapping[str, np.ndarray], names: tuple[str, ...], what: str) -> np.ndarray:
    for name in names:
        if name in data:
            return data[name]
    raise WholeFileError(
        f"expected {what} under one of the keys {', '.join(names)}, got none of them; rename yours"
    )


def _npz_split(
    numbers: Int[np.ndarray, "..."], positions: Float[np.ndarray, "... 3"], data: Mapping[str, Any]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frame by frame (numbers, positions), whatever way they are stacked."""
    if positions.ndim == 2 and "N" in data:
        ends = np.cumsum(np.atleast_1d(data["N"]).astype(np.int64))
        if len(ends) == 0 or ends[-1] != len(positions) or numbers.shape != (len(positions),):
            raise WholeFileError(
                f"expected N to add up to the {len(positions)} positions and atomic numbers; "
                "check the arrays"
            )
        yield from zip(np.split(numbers, ends[:-1]), np.split(positions, ends[:-1]), strict=True)
        return
    if positions.ndim == 2:
        positions = positions[None]
    if positions.ndim != 3 or numbers.shape not in (positions.shape[:2], positions.shape[1:2]):
        raise WholeFileError(
            f"expected atomic numbers of shape {positions.shape[1:2]} or {positions.shape[:2]} "
            f"beside these positions, got {numbers.shape}; check the arrays"
        )
    for k, xyz in enumerate(positions):
        z = numbers if numbers.ndim == 1 else numbers[k]
        last = int(np.flatnonzero(z)[-1]) + 1 if z.any() else 0  # zeros behind fill the array up
        yield z[:last], xyz[:last]


def _per_frame(values: np.ndarray, key: str, n_frames: int) -> list[Any]:
    flat = np.asarray(values).reshape(-1)
    if len(flat) not in (1, n_frames):
        raise WholeFileError(
            f"expected one {key} or {n_frames} of them, got {len(flat)}; check the arrays"
        )
    return flat.tolist() * (n_frames if len(flat) == 1 else 1)


def smiles_frames(text: str, say: Say) -> Iterator[ase.Atoms | InputError]:
    """One force-field geometry per SMILES: one a line, a name may follow, # begins a comment line.

    Args:
        text: Content of a ``.smi`` file, or one SMILES.
        say: Takes a warning about the molecule that comes next.

    Yields:
        The molecule with hydrogens, ``info`` with charge and spin as the SMILES states them; an
        error in the place of one that cannot be built.

    Raises:
        WholeFileError: If RDKit is not installed.
    """
    from deeph_zero.data.reading.smiles import embedded

    chem, all_chem = _rdkit()
    for line in text.splitlines():
        # only at the start: inside a SMILES it is a triple bond
        if line.strip() and not line.lstrip().startswith("#"):
            words = line.split()
            # a name may follow, or an extension that states radicals
            extended = len(words) > 1 and re.fullmatch(r"\|.*\|", words[1]) is not None
            given = " ".join(words[: 1 + extended])
            try:
                yield embedded(chem, all_chem, given, say)
            except InputError as error:
                yield error


def _rdkit() -> tuple[Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            chem, all_chem, log = (
                importlib.import_module(name)
                for name in ("rdkit.Chem", "rdkit.Chem.AllChem", "rdkit.RDLogger")
            )
    except ImportError:
        raise WholeFileError(
            "SMILES need RDKit, which is not installed; run pip install 'deeph-zero[smiles]'"
        ) from None
    log.DisableLog("rdApp.*")
    return chem, all_chem
