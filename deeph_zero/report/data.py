"""What a report is made of: the files of a run, a prediction or labels, read and checked."""

import csv
import dataclasses
import io
import math
import os
from collections import defaultdict, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Float, Int

from deeph_zero.data.stored_values import HEAVIEST, Group, check_electrons, check_matrices
from deeph_zero.errors import InputError
from deeph_zero.host.documents import parse_json, read_document
from deeph_zero.host.files import HDF5_SUFFIXES, json_beside, regular_file
from deeph_zero.host.hdf5 import group_names, open_hdf5
from deeph_zero.host.one_line import quoted
from deeph_zero.integrals.basis_sets import electrons_beside_cores
from deeph_zero.ks.given import by_spin
from deeph_zero.report.numbers import formula, number, structure_name

Kind = Literal["run", "predict", "label", "matrices"]
"""``matrices``: files of ``bands``, and what ``convert`` made of numerical orbitals."""
SUMMARY_FILE = "summary.json"
PREDICTIONS_FILE = "predictions.h5"
METRICS_FILE = "metrics.csv"
MODEL_FILE = "model.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matrices:
    """One HDF5 group. Atomic units, PySCF's AO order; a leading axis of 2 is spin.

    Attributes:
        molecule: ``numbers`` [natm], ``coords`` [natm, 3] bohr, ``charge``, ``spin``, ``basis``.
        overlap: S, [nao, nao].
        fock: The network's H (of labels, the converged Fock matrix), Eh.
        fock_rebuilt: F[P], Eh; None if no build was made.
        dm: Density matrix.
        mo_energy: Levels, Eh, [nmo] or [2, nmo].
        mo_occ: Their occupations.
    """

    numbers: Int[np.ndarray, " natm"]
    coords: Float[np.ndarray, "natm 3"]
    charge: int
    spin: int
    basis: str
    overlap: Float[np.ndarray, "nao nao"]
    fock: Float[np.ndarray, "*spin nao nao"]
    fock_rebuilt: Float[np.ndarray, "*spin nao nao"] | None
    dm: Float[np.ndarray, "*spin nao nao"]
    mo_energy: Float[np.ndarray, "*spin nmo"]
    mo_occ: Float[np.ndarray, "*spin nmo"]

    @property
    def unrestricted(self) -> bool:
        """Alpha and beta have matrices of their own."""
        return len(by_spin(self.dm, 2)) == 2

    @property
    def hamiltonian(self) -> np.ndarray:
        """The matrix whose eigenvalues ``mo_energy`` are."""
        return self.fock if self.fock_rebuilt is None else self.fock_rebuilt

    @property
    def symbols(self) -> list[str]:
        """Chemical symbols."""
        return [chemical_symbols[z] for z in self.numbers]

    def occupied(self) -> list[int]:
        """Occupied orbitals per spin channel (one entry for a closed shell)."""
        full = 1.0 if self.unrestricted else 2.0
        return [round(float(o.sum()) / full) for o in np.atleast_2d(self.mo_occ)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Structure:
    """One entry of the summary and where its matrices are.

    Attributes:
        entry: Entry of ``structures`` in ``summary.json``.
        group: HDF5 group; None if it has none.
        formula: With subscripts; "" if the group is missing.
        natm: Atoms; 0 if the group is missing.
        unrestricted: The density has two spins.
        periodic: It is a crystal: matrices are at k-points.
    """

    entry: dict[str, Any]
    group: str | None = None
    formula: str = ""
    natm: int = 0
    unrestricted: bool = False
    periodic: bool = False

    @property
    def name(self) -> str:
        """File name and frame."""
        return structure_name(self.entry)

    @property
    def error_estimate(self) -> float | None:
        """Estimated energy error, Eh."""
        return number(self.entry.get("energy_error_estimate"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Everything a report says comes from here.

    Attributes:
        path: What was given: a run folder or an HDF5 file.
        kind: What wrote it.
        summary: The summary.
        summary_path: Where it stood.
        structures: In the summary's order.
        metrics: Columns of ``metrics.csv``, NaN where a row has none; empty if there is no file.
        model: ``model.json``; empty if there is none.
        hdf5: The matrices; None if the file is missing.
    """

    path: Path
    kind: Kind
    summary: dict[str, Any]
    summary_path: Path
    structures: list[Structure]
    metrics: dict[str, np.ndarray]
    model: dict[str, Any]
    hdf5: Path | None

    def matrices(self, structure: Structure) -> Matrices | None:
        """Matrices of one structure.

        Args:
            structure: One of ``structures``.

        Returns:
            None if the file has none of it, of a crystal, or of unknown functions.

        Raises:
            InputError: If they are there and cannot be used.
        """
        if self.hdf5 is None or structure.group is None or structure.periodic:
            return None
        if self.kind == "matrices":
            return None
        place = f"{self.hdf5} group {structure.group}"
        try:
            with open_hdf5(self.hdf5) as handle:
                return _matrices(handle[structure.group], place)
        except InputError:
            raise
        except (OSError, KeyError, ValueError, TypeError, IndexError) as error:
            text = " ".join(str(error).split())[:120]
            raise InputError(
                f"{self.hdf5}: expected matrices of one structure in group {structure.group}, got "
                f"{text}; write the file again"
            ) from None


def read_source(path: Path) -> Source:
    """Read a run folder, or an HDF5 file with its JSON beside it.

    Args:
        path: What the user gave.

    Returns:
        Its contents.

    Raises:
        InputError: If it is neither, or a file in it cannot be read.
    """
    if path.suffix.lower() in HDF5_SUFFIXES and path.is_file():
        summary_path, hdf5, folder = json_beside(path), path, None
    elif path.is_dir():
        summary_path, hdf5, folder = path / SUMMARY_FILE, path / PREDICTIONS_FILE, path
    else:
        there = "is another kind of file" if path.exists() else "does not exist"
        raise InputError(
            f"expected a run folder, or an .h5 file of predict or label, got {path}, which {there}"
            "; give the folder that deeph-zero fit wrote"
        )
    if not summary_path.is_file():
        raise InputError(
            f"expected {summary_path}, which does not exist; a run that was killed before its end "
            "gets one with deeph-zero fit ... --resume"
        )
    summary = _read_json(summary_path, _LISTS)
    converted = "source_format" in summary and _there(hdf5)
    entries = [] if converted else summary.get("structures")
    if entries is None:
        raise InputError(
            f"{summary_path}: expected a summary with a list of structures, got none; give a "
            "folder that deeph-zero fit wrote"
        )
    _check_entries(summary_path, entries)
    groups, kind = _groups(hdf5) if _there(hdf5) else ({}, "predict")
    model = folder / MODEL_FILE if folder else None
    if converted or "points" in summary:
        kind = "matrices"
    return Source(
        path=path,
        kind="run" if folder else kind,
        summary=summary,
        summary_path=summary_path,
        structures=_converted(summary, groups) if converted else _match(entries, groups),
        metrics=_read_metrics(folder / METRICS_FILE) if folder else {},
        model=_read_json(model) if model and _there(model) else {},
        hdf5=hdf5 if _there(hdf5) else None,
    )


def _there(path: Path) -> bool:
    """Whether a file is there; anything else in its place is an error, and nothing is none."""
    regular_file(path)
    if path.is_file() or not os.path.lexists(path):
        return path.is_file()
    what = "a folder" if path.is_dir() else "a link that leads nowhere"
    raise InputError(f"{path}: expected a file, this is {what}; put the run's own file back")


def _read_json(path: Path, lists: Sequence[str] = ()) -> dict[str, Any]:
    """A JSON object in which ``lists``, where they are, are lists; the page doubts the rest."""
    cure = "put the run's own file back, or run it again"
    try:
        data = parse_json(read_document(path))
    except InputError:
        raise
    except (OSError, ValueError) as error:
        text = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: expected JSON, got {text}; {cure}") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected a JSON object, got {quoted(data)}; {cure}")
    for name in lists:
        if data.get(name) is not None and not isinstance(data[name], list):
            raise InputError(
                f"{path}: expected {name} to be a list, got {quoted(data[name])}; {cure}"
            )
    return data


_LISTS = ("structures", "failed")


def _check_entries(path: Path, entries: list[Any]) -> None:
    for k, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(
                f"{path}: expected a summary with a list of structures, got {quoted(entry)} as "
                f"structures[{k}]; give a folder that deeph-zero fit wrote"
            )


def _read_metrics(path: Path) -> dict[str, np.ndarray]:
    """Columns as numbers; half a line at the end of a killed run is left out."""
    if not _there(path):
        return {}
    try:
        text = read_document(path).decode("utf-8")
        rows = list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])))
    except (OSError, ValueError, csv.Error):
        return {}
    names = [n for n in (rows[0] if rows else {}) if n]
    return {name: np.array([_float(row.get(name)) for row in rows]) for name in names}


def _float(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


_Key = tuple[str, int]
"""File and frame."""


def _converted(
    summary: dict[str, Any], groups: dict[_Key, deque[dict[str, Any]]]
) -> list[Structure]:
    """One for each group of a converted file; the summary has no list of them."""
    name = Path(str(summary.get("source", ""))).name
    every = [facts for waiting in groups.values() for facts in waiting]
    return [Structure(entry={"file": name, "frame": k}, **facts) for k, facts in enumerate(every)]


def _groups(path: Path) -> tuple[dict[_Key, deque[dict[str, Any]]], Kind]:
    """Group names and formulas by file and frame, and which command wrote the file."""
    found: dict[_Key, deque[dict[str, Any]]] = defaultdict(deque)
    rebuilt = False
    try:
        with open_hdf5(path) as handle:
            for name in group_names(handle):
                group = handle[name]
                attributes = group.attrs
                values = Group(group, f"{path} group {name}", cure="write the file again")
                numbers = values.array("numbers", "iu")
                if numbers.ndim != 1 or not (numbers > 0).all() or not (numbers <= HEAVIEST).all():
                    raise values.wrong("atomic numbers", quoted(numbers.tolist()))
                symbols = [chemical_symbols[z] for z in numbers]
                values.check_facts()
                key = str(attributes.get("file", "")), int(attributes.get("frame", 0))
                found[key].append(
                    {
                        "group": name,
                        "formula": formula(symbols, int(attributes.get("charge", 0))),
                        "natm": len(symbols),
                        "unrestricted": _has_two_spins(group),
                        "periodic": "lattice" in group,
                    }
                )
                # a label has one Fock matrix; a prediction always says whether it was refined
                rebuilt = rebuilt or "refined" in attributes
    except InputError:
        raise
    except (OSError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        text = " ".join(str(error).split())[:120]
        raise InputError(
            f"{path}: expected an HDF5 file of deeph-zero, got {text}; write the file again"
        ) from None
    return found, "predict" if rebuilt else "label"


def _has_two_spins(group: Any) -> bool:
    """Whether the density, or what else there is, has two spins."""
    if "density" in group:
        return group["density"].ndim == 3 + ("kpts" in group)
    if "blocks" in group:
        return group["blocks"].ndim == 2
    if "band_energies" in group:
        return group["band_energies"].ndim == 3
    return group["density"].ndim == 3  # which it lacks, and is named for


def _match(
    entries: list[dict[str, Any]], groups: dict[_Key, deque[dict[str, Any]]]
) -> list[Structure]:
    """Pair entries and groups; entries without a certificate have no group."""
    structures = []
    for entry in entries:
        frame = number(entry.get("frame"))
        waiting = groups.get((str(entry.get("file", "")), int(frame or 0)))
        # a structure that is given twice has two groups, in the order of the entries
        facts = waiting.popleft() if waiting else {}
        structures.append(Structure(entry=entry, **facts))
    return structures


def _matrices(group: Any, place: str) -> Matrices:
    values = Group(group, place, cure="write the file again")
    numbers, coords = values.array("numbers", "iu"), values.array("positions", "fiu")
    if coords.shape != (*numbers.shape, 3):
        raise values.wrong("positions of shape [atoms, 3]", f"{numbers.shape} and {coords.shape}")
    names = ("fock", "density", "mo_energy", "mo_occ", "overlap")
    arrays = {name: values.array(name, "fiu").astype(float) for name in names}
    fock, dm, overlap = arrays["fock"], arrays["density"], arrays["overlap"]
    check_matrices(values, fock, dm, arrays["mo_energy"], arrays["mo_occ"])
    rebuilt = values.array("fock_rebuilt", "fiu") if "fock_rebuilt" in values else None
    for matrix, shape in ((overlap, fock.shape[-2:]), (rebuilt, fock.shape)):
        if matrix is not None and matrix.shape != shape:
            raise values.wrong(f"a matrix of shape {shape}", f"{matrix.shape}")
    charges = {n: values.whole(n) for n in ("charge", "spin") if n in values.attributes}
    basis = values.text("basis") if "basis" in values.attributes else ""
    if basis and charges.keys() == {"charge", "spin"}:
        electrons = electrons_beside_cores(numbers.tolist(), basis)
        check_electrons(values, electrons, charges["charge"], charges["spin"], arrays["mo_occ"])
    return Matrices(
        numbers=numbers.astype(np.int64),
        coords=coords.astype(float),
        charge=charges.get("charge", 0),
        spin=charges.get("spin", 0),
        basis=basis,
        overlap=overlap,
        fock=fock,
        fock_rebuilt=None if rebuilt is None else rebuilt.astype(float),
        dm=dm,
        mo_energy=arrays["mo_energy"],
        mo_occ=arrays["mo_occ"],
    )


def choose(structures: list[Structure], count: int) -> list[Structure]:
    """The structures to look at closely: worst and best by estimated error, then in input order.

    Args:
        structures: All.
        count: How many at most.

    Returns:
        Those with matrices, worst first.
    """
    shown = [k for k, s in enumerate(structures) if s.group is not None]
    errors = {k: structures[k].error_estimate for k in shown}
    known = sorted((e, -k) for k, e in errors.items() if e is not None)
    # the worst first, of equal ones the first in the file; then the best
    order = dict.fromkeys([*(-k for _, k in (known[-1:] + known[:1])), *shown])
    return [structures[k] for k in order][:count]
