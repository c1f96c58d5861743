"""Labels of crystals (HDF5 of `deeph-zero label`), matched to structures."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from deeph_zero.ao.basis_text import same_basis
from deeph_zero.data.formats.labels import LabelsSource
from deeph_zero.data.formats.protocol import required_overlap
from deeph_zero.data.labels import SAME_POSITION
from deeph_zero.data.stored_values import Group
from deeph_zero.data.structures import read_structures
from deeph_zero.errors import InputError, argument
from deeph_zero.host.hdf5 import group_names, open_hdf5
from deeph_zero.integrals.one_electron import lindep_threshold
from deeph_zero.ks.periodic.occupation import GIVEN_TOL, channels, fill
from deeph_zero.ks.periodic.orthogonalise import BlochOrthogonaliser
from deeph_zero.ks.periodic.types import BandEnergies, BlochMatrix
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule

Mesh = tuple[int, int, int]
"""Points along the vectors of a cell, or of its reciprocal lattice."""
_CURE = "make the file again, with `deeph-zero label`"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrystalLabel:
    """Converged values of one crystal, at its k-points; a spin axis throughout.

    Attributes:
        fock: F, Eh.
        dm: P.
        mo_energy: Levels, Eh.
        mo_occ: Occupations.
        energy: Eh per cell; None of a projected potential, which states none.
        free_energy: E - T S, likewise.
        kmesh: The mesh.
        kpts: Fractions of the reciprocal vectors, [nk, 3].
    """

    fock: BlochMatrix
    dm: BlochMatrix
    mo_energy: BandEnergies
    mo_occ: BandEnergies
    energy: float | None
    free_energy: float | None
    kmesh: tuple[int, int, int]
    kpts: np.ndarray


class CrystalLabels:
    """Labels of some files; matrices stay on disk until asked for."""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        """Read which structures there are.

        Args:
            paths: Files of ``deeph-zero label``.

        Raises:
            InputError: If a file cannot be read.
        """
        self._places: list[tuple[Path, str, Molecule]] = []
        for path in map(Path, paths):
            molecules, bad = read_structures([path], crystals=True, allow_close_contacts=True)
            if bad and bad[0].frame is None:
                raise InputError(str(bad[0]))
            with open_hdf5(path) as handle:
                names = group_names(handle)
            self._places += [(path, names[m.frame], m) for m in molecules if m.periodic]

    def __len__(self) -> int:
        """Number of labelled crystals."""
        return len(self._places)

    def index(self, molecule: Molecule) -> int | None:
        """Position of a structure's label: same atoms, charge and spin, positions and lattice."""
        for k, (_, _, other) in enumerate(self._places):
            if _same_structure(molecule, other):
                return k
        return None

    def check(self, index: int, method: Method) -> tuple[Mesh | None, Mesh | None]:
        """Stop at a label that cannot be used, before any work; no matrix is read.

        Args:
            index: From :meth:`index`.
            method: What it must have been made with; its grids are free.

        Returns:
            Its k-points and the points of its FFT grid, where it states them.

        Raises:
            InputError: If it is of another method, or not converged.
        """
        path, name, molecule = self._places[index]
        place = f"{path} frame {molecule.frame}"
        with open_hdf5(path) as handle:
            found = dict(Group(handle[name], place, cure=_CURE).attributes)
        _check(found, method, place)
        return _mesh(found.get("kmesh")), _mesh(found.get("fft_mesh"))

    def label(self, index: int, method: Method) -> CrystalLabel:
        """One label.

        Args:
            index: From :meth:`index`.
            method: What it must have been made with; its k-points are free.

        Returns:
            The label.

        Raises:
            InputError: If it is of another method, not converged, or damaged.
        """
        path, name, molecule = self._places[index]
        place = f"{path} frame {molecule.frame}"
        try:
            with open_hdf5(path) as handle:
                group = Group(handle[name], place, cure=_CURE)
                _check(dict(group.attributes), method, place)
                if "fock" in group or "blocks" not in group:
                    return _read(group, place)
            return _of_blocks(path, molecule, method, place)
        except InputError:
            raise
        except (OSError, KeyError, ValueError, TypeError, IndexError) as error:
            text = " ".join(str(error).split())[:120]
            raise InputError(f"{place}: expected a crystal's label, got {text}; {_CURE}") from None


def _same_structure(a: Molecule, b: Molecule) -> bool:
    same = (a.charge, a.spin, a.pbc) == (b.charge, b.spin, b.pbc)
    if not same or a.lattice is None or b.lattice is None:
        return False
    if not np.array_equal(a.numbers, b.numbers):
        return False
    rows = 3 if a.pbc[2] else 2  # of a layer the third vector only spans the box
    apart = np.abs(a.coords - b.coords).max(), np.abs(a.lattice - b.lattice)[:rows].max()
    return bool(max(apart) <= SAME_POSITION)


def _of_blocks(path: Path, molecule: Molecule, method: Method, place: str) -> CrystalLabel:
    """Blocks alone, of another program or a projected potential: levels filled on a mesh."""
    from deeph_zero.integrals.periodic.cell import build_cell  # PySCF is heavy
    from deeph_zero.integrals.periodic.kpoints import make_kpoints

    assert method.crystal is not None
    kmesh = method.crystal.kmesh
    if kmesh is None:
        raise InputError(
            f"{place}: expected a mesh of k-points for its real-space blocks, got a list; give "
            f"{argument('kmesh')}"
        )
    matrices = LabelsSource(path, lambda *_: ()).matrices(molecule.frame)
    if matrices.spinor:
        raise InputError(f"{place}: expected collinear spins, got spin-orbit coupling; label it")
    cell = build_cell(molecule, method)
    points = make_kpoints(kmesh, shifted=method.crystal.shifted, dimension=int(cell.dimension))
    at = torch.from_numpy(points.scaled)
    fock = matrices.fock.at_k(at)
    fock = fock if matrices.spin_polarised else fock[None]
    basis = BlochOrthogonaliser(required_overlap(matrices).at_k(at), lindep_threshold())
    energies, c = basis.orbitals(fock)
    electrons, spin = float(cell.tot_electrons()), float(molecule.spin)
    filled = channels(
        ((electrons + spin) / 2, (electrons - spin) / 2),
        unrestricted=matrices.spin_polarised,
        smearing=method.smearing,
        fix_spin=method.crystal.fix_spin,
    )
    weights = torch.from_numpy(points.weights)
    occ = fill(energies, weights, filled, smearing=method.smearing, degeneracy_tol=GIVEN_TOL).occ
    return CrystalLabel(
        fock=fock.to(torch.complex128),
        dm=((c * occ.unsqueeze(-2)) @ c.mH).to(torch.complex128),
        mo_energy=energies,
        mo_occ=occ,
        energy=None,
        free_energy=None,
        kmesh=kmesh,
        kpts=points.scaled,
    )


def _read(group: Group, place: str) -> CrystalLabel:
    found = dict(group.attributes)
    fock, dm = (group.array(name, "cf") for name in (group.fock_name, "density"))
    levels, occ = (group.array(name, "f") for name in ("mo_energy", "mo_occ"))
    kpts = group.array("kpts", "f")
    if fock.ndim not in (3, 4) or fock.shape != dm.shape or fock.shape[-3] != len(kpts):
        raise InputError(
            f"{place}: expected matrices [*spin, nk, nao, nao], got {fock.shape} and {dm.shape} "
            f"for {len(kpts)} k-points; {_CURE}"
        )
    with_spin = [x if fock.ndim == 4 else x[None] for x in (fock, dm, levels, occ)]
    n1, n2, n3 = (int(n) for n in found["kmesh"])
    energy, free = (
        None if found.get(name) is None else float(found[name])
        for name in ("energy", "free_energy")
    )
    return CrystalLabel(
        fock=torch.from_numpy(np.ascontiguousarray(with_spin[0])),
        dm=torch.from_numpy(np.ascontiguousarray(with_spin[1])),
        mo_energy=torch.from_numpy(np.ascontiguousarray(with_spin[2])),
        mo_occ=torch.from_numpy(np.ascontiguousarray(with_spin[3])),
        energy=energy,
        free_energy=energy if free is None else free,
        kmesh=(n1, n2, n3),
        kpts=kpts,
    )


def _mesh(found: object) -> Mesh | None:
    """Three whole numbers, where there are such."""
    numbers = np.ravel(np.asarray([] if found is None else found))
    if numbers.shape != (3,) or numbers.dtype.kind not in "iu":
        return None
    n1, n2, n3 = (int(n) for n in numbers)
    return n1, n2, n3


def _check(found: dict[str, object], method: Method, place: str) -> None:
    _check_method(found, method, place)
    _check_converged(found, place)


def _check_converged(found: dict[str, object], place: str) -> None:
    """What is not self-consistent is no reference."""
    if not bool(found.get("refined", True)):
        raise InputError(
            f"{place}: expected converged values, got a prediction that was not refined; predict "
            f"it again with {argument('refine', 1e-5)} or make the file with `deeph-zero label`"
        )
    if not bool(found.get("converged", True)):
        raise InputError(
            f"{place}: expected a converged label, its SCF did not converge; label it again with "
            f"{argument('smearing', 0.005)} or a larger {argument('max_cycle')}, or leave it out"
        )


def _check_method(found: dict[str, object], method: Method, place: str) -> None:
    """A label of another problem teaches, and measures, something else."""
    assert method.crystal is not None
    wanted = {
        "xc": method.xc.lower(),
        "pseudo": (method.crystal.pseudo or "none").lower(),
        "smearing": method.smearing,
    }
    mine = {name: found.get(name) for name in wanted}
    mine = {k: v.lower() if isinstance(v, str) else v for k, v in mine.items()}
    different = [name for name in wanted if mine[name] is not None and mine[name] != wanted[name]]
    if not same_basis(str(found.get("basis")), method.basis):
        different.append("basis")
    if different:
        name = different[0]
        ours = method.basis if name == "basis" else wanted[name]
        raise InputError(
            f"{place}: expected labels of {argument(name)} {ours}, got {found.get(name)}; label "
            "the structures with the model's own settings"
        )
