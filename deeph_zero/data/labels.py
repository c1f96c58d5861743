"""Reference data of `deeph-zero label` (HDF5) as training labels, matched to structures."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from scipy.spatial import KDTree

from deeph_zero.data.label_method import method_differences
from deeph_zero.data.stored_values import HEAVIEST, Group, check_electrons, check_matrices
from deeph_zero.errors import InputError, argument
from deeph_zero.host.hdf5 import InnerGroup, group_names, open_hdf5
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.types import AOMatrix, OrbitalEnergies

SAME_POSITION = 1e-6
"""Largest difference of a coordinate between a structure and its label, bohr."""

_REQUIRED = ("numbers", "positions", "fock", "density", "mo_energy", "mo_occ")
_ATTRIBUTES = ("energy", "charge", "spin", "xc", "basis")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Label:
    """Converged reference values of one structure; float64, CPU, PySCF's AO order.

    Attributes:
        fock: Converged Fock matrix, Eh.
        dm: Its density matrix, occupations included.
        energy: Total energy, Eh.
        mo_energy: Orbital energies, Eh.
        mo_occ: Occupations.
        converged: Whether the SCF behind it converged.
    """

    fock: AOMatrix
    dm: AOMatrix
    energy: float
    mo_energy: OrbitalEnergies
    mo_occ: OrbitalEnergies
    converged: bool = True


@dataclasses.dataclass(frozen=True)
class _Entry:
    """Where a label lies; its matrices are read when they are needed."""

    path: Path
    group: str
    molecule: Molecule
    method: Method

    @property
    def where(self) -> str:
        return f"{self.path} frame {self.molecule.frame}"


class LabelStore:
    """The labels of some files, found by structure; matrices stay on disk until asked for."""

    def __init__(self, paths: Sequence[str | Path], *, skip_bad: bool = False) -> None:
        """Read what is in the files, without the matrices.

        Args:
            paths: HDF5 files of ``deeph-zero label`` (or ``predictions.h5`` files).
            skip_bad: Leave damaged labels out and note them in ``bad`` instead of stopping.

        Raises:
            InputError: If a file cannot be read or is no label file.
        """
        self.bad: dict[tuple[str, int], str] = {}
        """What is wrong with labels that were left out, by file and frame."""
        bad = self.bad if skip_bad else None
        self._entries = [entry for path in paths for entry in _entries(Path(path), bad)]
        self._by_kind: dict[tuple[bytes, int, int], list[int]] = {}
        for k, entry in enumerate(self._entries):
            self._by_kind.setdefault(_kind(entry.molecule), []).append(k)
        self._places = {
            kind: KDTree(np.stack([self._entries[k].molecule.coords.ravel() for k in members]))
            for kind, members in self._by_kind.items()
        }

    def __len__(self) -> int:
        """Number of labels."""
        return len(self._entries)

    @property
    def molecules(self) -> list[Molecule]:
        """The labelled structures in file order; ``file`` and ``frame`` say where the label is."""
        return [entry.molecule for entry in self._entries]

    def method(self, index: int) -> Method:
        """What label ``index`` was made with."""
        return self._entries[index].method

    def where(self, index: int) -> str:
        """File and frame of label ``index``, for messages."""
        return self._entries[index].where

    def index(self, molecule: Molecule) -> int | None:
        """Position of the label of a structure.

        Args:
            molecule: Elements in the same order, positions within 1e-6 bohr, charge and spin.

        Returns:
            The position, or None if there is no label for it.
        """
        kind = _kind(molecule)
        if kind not in self._places:
            return None
        # in numbers of labels times structures a search through all would be quadratic
        bound = float(np.nextafter(SAME_POSITION, 1.0))
        distance, best = self._places[kind].query(
            molecule.coords.ravel(), p=np.inf, distance_upper_bound=bound
        )
        return self._by_kind[kind][int(best)] if distance <= SAME_POSITION else None

    def require(self, index: int, wanted: Method) -> None:
        """Stop at a label of another method.

        Args:
            index: Position, from 0.
            wanted: What it must have been made with.

        Raises:
            InputError: If it was made with something else.
        """
        try:
            different = method_differences(self.method(index), wanted)
        except InputError as error:  # a functional that is none
            raise InputError(f"{self.where(index)}: {error}") from None
        if different:
            raise InputError(
                f"{self.where(index)}: expected a label of the same method, got "
                f"{' and '.join(different)}; label the structures again or change the settings"
            )

    def read(self, index: int, wanted: Method | None = None) -> Label:
        """Label ``index``.

        Args:
            index: Position, from 0.
            wanted: What it must have been made with; None takes any.

        Returns:
            The label.

        Raises:
            InputError: If it was made with another method, or is damaged.
        """
        if wanted is not None:
            self.require(index, wanted)
        return _read(self._entries[index])

    def check(self, molecule: Molecule) -> None:
        """Stop at a label that is damaged or not converged; a structure may have none.

        Args:
            molecule: The structure.

        Raises:
            InputError: If its label cannot be used.
        """
        index = self.index(molecule)
        if index is not None:
            _converged(self.read(index), self.where(index))


def label_for(
    store: LabelStore,
    molecule: Molecule,
    wanted: Method,
    shape: Sequence[int] | None = None,
) -> Label | None:
    """The label of a geometry that is made ready for training.

    Args:
        store: The labels there are.
        molecule: The structure.
        wanted: What it must have been made with.
        shape: Shape of the geometry's Fock matrix, [nao, nao] or [2, nao, nao], where known.

    Returns:
        The label, or None if there is none for this structure.

    Raises:
        InputError: If it was made with another method, or for another spin treatment.
    """
    index = store.index(molecule)
    if index is None:
        return None
    label = store.read(index, wanted)
    if shape is not None and tuple(label.fock.shape) != tuple(shape):
        raise InputError(
            f"{store.where(index)}: expected a label of shape {tuple(shape)}, got "
            f"{tuple(label.fock.shape)}; label with the same {argument('unrestricted')} and "
            f"{argument('break_symmetry')}"
        )
    return _converged(label, store.where(index))


def _converged(label: Label, place: str) -> Label:
    if not label.converged:
        raise InputError(
            f"{place}: expected a converged label, its SCF did not converge; label it again with "
            "`deeph-zero label --max-cycle N` or leave it out"
        )
    return label


def check_labels(store: LabelStore, molecules: Sequence[Molecule], method: Method) -> int:
    """See before any work whether the labels of some structures were made with a method.

    Args:
        store: The labels there are.
        molecules: The structures.
        method: What the labels must have been made with; its fitting set as asked for.

    Returns:
        How many of the structures have a label.

    Raises:
        InputError: If one was made with another method.
    """
    from deeph_zero.integrals.mole import auxbasis_name, build_mole

    found, wanted = 0, {}
    for molecule in molecules:
        index = store.index(molecule)
        if index is None:
            continue
        kind = _kind(molecule)
        if kind not in wanted:
            mol = build_mole(molecule, basis=method.basis)
            fitting = auxbasis_name(mol, method.xc, method.auxbasis) if method.density_fit else None
            wanted[kind] = method.fitted_with(fitting)
        store.require(index, wanted[kind])
        found += 1
    return found


def _kind(molecule: Molecule) -> tuple[bytes, int, int]:
    numbers = np.asarray(molecule.numbers, dtype=np.int64)
    return numbers.tobytes(), molecule.charge, molecule.spin


@contextlib.contextmanager
def _open(path: Path) -> Iterator[InnerGroup]:
    if not path.exists():
        raise InputError(f"{path}: expected a label file, there is none; check the path")
    try:
        with open_hdf5(path) as handle:
            yield handle
    except OSError as error:
        lines = str(error).splitlines()
        raise InputError(
            f"{path}: expected labels in HDF5, cannot read it ({lines[0][:80]}); "
            "make them with `deeph-zero label`"
        ) from None


def _entries(path: Path, bad: dict[tuple[str, int], str] | None) -> list[_Entry]:
    """Labels of a file; damaged ones go to ``bad``, or raise InputError where there is none."""
    with _open(path) as handle:
        names = group_names(name for name in handle if isinstance(handle[name], h5py.Group))
        if not names:
            raise InputError(
                f"{path}: expected labels, the file holds no structure; "
                "make them with `deeph-zero label`"
            )
        found = []
        for frame, name in enumerate(names):
            try:
                found.append(_entry(path, name, frame, handle[name]))
            except InputError as error:
                if bad is None:
                    raise
                bad[str(path), frame] = str(error).removeprefix(f"{path} frame {frame}: ")
        return found


def _entry(path: Path, name: str, frame: int, group: Any) -> _Entry:
    missing = [key for key in _REQUIRED if key not in group]
    missing += [key for key in _ATTRIBUTES if key not in group.attrs]
    if "lattice" in group and "kpts" in group:
        raise InputError(
            f"{path} frame {frame}: expected a label of a molecule, got one of a crystal, which "
            "networks do not take yet; leave it out"
        )
    if missing and "blocks" in group:
        raise InputError(
            f"{path} frame {frame}: expected a label in a Gaussian basis, got real-space blocks; "
            f"where they are Gaussians, convert the source again with its {argument('basis')}"
        )
    if missing:
        raise InputError(
            f"{path} frame {frame}: expected a label with {missing[0]}, it has none; "
            "make the file with `deeph-zero label`"
        )
    values = Group(group, f"{path} frame {frame}")
    numbers = values.array("numbers", "iu")
    coords = values.array("positions", "fiu")
    if numbers.ndim != 1 or not len(numbers) or coords.shape != (len(numbers), 3):
        raise values.wrong("positions of shape [atoms, 3]", f"{numbers.shape} and {coords.shape}")
    if numbers.min() < 1 or numbers.max() > HEAVIEST:
        raise values.wrong(f"atomic numbers from 1 to {HEAVIEST}", str(numbers.tolist()))
    molecule = Molecule(
        numbers=numbers.astype(np.int64),
        coords=coords.astype(np.float64),
        charge=values.whole("charge"),
        spin=values.whole("spin"),
        file=str(path),
        frame=frame,
    )
    values.check_facts()
    fitted = "density_fit" not in group.attrs or values.switch("density_fit")
    fitting = values.text("auxbasis") if fitted and "auxbasis" in group.attrs else None
    method = Method(
        basis=values.text("basis"),
        density_fit=fitting is not None,
        auxbasis=fitting,
        xc=values.text("xc"),
        grid_level=values.whole("grid_level") if "grid_level" in group.attrs else None,
        smearing=values.number("smearing") if "smearing" in group.attrs else 0.0,
    )
    return _Entry(path, name, molecule, method)


def _read(entry: _Entry) -> Label:
    from deeph_zero.integrals.basis_sets import electrons_beside_cores

    with _open(entry.path) as handle:
        values = Group(handle[entry.group], entry.where)
        names = {
            "fock": values.fock_name,
            "dm": "density",
            "mo_energy": "mo_energy",
            "mo_occ": "mo_occ",
        }
        arrays = {name: values.array(key, "fiu") for name, key in names.items()}
        if "refined" in values.attributes and not values.switch("refined"):
            raise InputError(
                f"{entry.where}: expected converged values, got a prediction that was not refined; "
                f"predict it again with {argument('refine', 1e-5)} or make the file with "
                "`deeph-zero label`"
            )
        energy, converged = values.number("energy"), True
        if "converged" in values.attributes:
            converged = values.switch("converged")
    check_matrices(values, arrays["fock"], arrays["dm"], arrays["mo_energy"], arrays["mo_occ"])
    molecule = entry.molecule
    electrons = electrons_beside_cores(molecule.numbers.tolist(), entry.method.basis)
    check_electrons(values, electrons, molecule.charge, molecule.spin, arrays["mo_occ"])
    tensors = {
        name: torch.from_numpy(np.array(value, dtype=np.float64)) for name, value in arrays.items()
    }
    return Label(**tensors, energy=energy, converged=converged)
