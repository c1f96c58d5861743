"""``deeph-zero project``: a Kohn-Sham potential of another program as an AO Hamiltonian."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deeph_zero.data.formats.labels import NUMERICAL, LabelsSink
from deeph_zero.data.formats.protocol import Matrices, Record, Structure, sizes_of
from deeph_zero.errors import ComputationError, InputError, argument
from deeph_zero.host.files import json_beside, remove_abandoned, write_json
from deeph_zero.host.hdf5 import PredictionWriter
from deeph_zero.host.reporting import Reporter
from deeph_zero.host.version import __version__
from deeph_zero.integrals.one_electron import lindep_threshold
from deeph_zero.integrals.periodic.block_mesh import MOST_POINTS, blocks_of, mesh_for
from deeph_zero.integrals.periodic.kpoints import KPoints, make_kpoints
from deeph_zero.integrals.periodic.projection import (
    OrbitalsOnMesh,
    grid_overlap_error,
    projected,
)
from deeph_zero.jobs.projection_setup import Given, set_up
from deeph_zero.kohnsham.k_path import KPath, k_path
from deeph_zero.ks.periodic.occupation import GIVEN_TOL, Filling, fill
from deeph_zero.ks.periodic.orthogonalise import BlochOrthogonaliser
from deeph_zero.predict import band_structure
from deeph_zero.settings.project_config import ProjectConfig

FORMAT_VERSION = 1
_COARSE = 1e-4
"""Error of the overlap on the grid that is warned about."""
_STEEP = 0.05
"""Part of the potential in its own grid's outermost waves that is warned about."""
_FAR = 1e-4
"""Error of a level from the blocks (Eh) that is warned about."""
_PROBE = np.array([0.137, -0.291, 0.413])
"""A k-point off every mesh."""
_NEGLIGIBLE = 1e-9
"""Blocks without a larger element are left out, Eh."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Levels:
    """Levels on a mesh of k-points and how they are filled.

    Attributes:
        kpoints: Where.
        fock: [nspin, nk, nao, nao], Eh.
        ovlp: [nk, nao, nao].
        energies: [nspin, nk, nao], Eh.
        coefficients: [nspin, nk, nao, nao].
        filling: Occupations and Fermi level.
    """

    kpoints: KPoints
    fock: torch.Tensor
    ovlp: torch.Tensor
    energies: torch.Tensor
    coefficients: torch.Tensor
    filling: Filling


def run_project(
    config: ProjectConfig, given: Given, out: Path, *, reporter: Reporter, command: str
) -> dict[str, Any]:
    """Project, write the matrices and the summary.

    Args:
        config: What is wanted.
        given: What it is made of.
        out: The HDF5 file.
        reporter: Where messages go.
        command: The command line as typed.

    Returns:
        The summary.

    Raises:
        InputError: If the inputs do not belong together.
        ComputationError: If the blocks' mesh is too small for the functions.
    """
    started = time.monotonic()
    work = _Projection(config, given, reporter)
    path = work.path()
    work.check_grid()
    shape = work.block_mesh()
    dense = work.levels(make_kpoints(config.kmesh or shape), of=f"{config.kmesh or shape}")
    whole = (
        dense
        if config.kmesh in (None, shape)
        else work.levels(make_kpoints(shape), of=f"{shape} for the blocks")
    )
    record = work.record(whole, dense.filling.fermi[0])
    error = work.block_error(record)
    bands = (path, _block_levels(record, path.kpts))
    facts = work.facts(dense) | {"block_mesh": list(shape), "block_error": error}
    summary = {
        "version": __version__,
        "format_version": FORMAT_VERSION,
        "command": command,
        **facts,
        "bands": work.band_facts(bands, dense),
        "wall_time_s": time.monotonic() - started,
        "written": str(out),
    }
    arrays = _arrays(dense, bands, dense_matrices=config.kmesh is not None)
    remove_abandoned(out, json_beside(out))
    with PredictionWriter(out) as writer:
        LabelsSink(writer, "project").write(record, arrays, work.attributes(dense))
    write_json(json_beside(out), summary)
    return summary


class _Projection:
    """One potential, one structure, one basis."""

    def __init__(self, config: ProjectConfig, given: Given, reporter: Reporter) -> None:
        self.config, self.given, self.reporter = config, given, reporter
        self.crystal = set_up(given, config.ke_cutoff, reporter)
        self.molecule, self.orbitals = given.structure, self.crystal.orbitals

    @property
    def nspin(self) -> int:
        """Spins of the potential."""
        return len(self.crystal.values)

    # ---- what is looked at

    def check_grid(self) -> None:
        """Warn of a grid that is too coarse for the functions, or for the potential itself."""
        shape = self.given.potential.shape
        steep, finer = self.given.potential.outermost(), self.crystal.mesh != shape
        if steep > _STEEP:
            # what the grid left out is not between its points: only there a program's own sums
            # and these are one
            between = f"; on {self.crystal.mesh} its levels are not the program's" if finer else ""
            self.reporter.warning(
                f"{self.given.path}: {steep:.0%} of the potential is in the shortest waves of its "
                f"grid {shape}, which is too coarse for it{between}; write it on a finer one"
            )
        self.grid_error = self._grid_error()
        if self.grid_error > _COARSE:
            cure = f"use a larger {argument('ke_cutoff')}"
            if steep > _STEEP:
                cure = "write the potential on a finer one"
            self.reporter.warning(
                f"the grid {self.crystal.mesh} is coarse for this basis: overlaps on it are off by "
                f"up to {self.grid_error:.1e}; {cure}"
            )

    def _grid_error(self) -> float:
        if isinstance(self.orbitals, OrbitalsOnMesh):
            return self.orbitals.missing_norm()
        gamma = KPoints(scaled=np.zeros((1, 3)), weights=np.ones(1))
        ngrids = self.crystal.values.shape[-1]
        return grid_overlap_error(self.orbitals, self.crystal.volume, ngrids, gamma)

    def block_mesh(self) -> tuple[int, int, int]:
        """k-points that the blocks are summed from."""
        if self.config.block_mesh is not None:
            return self.config.block_mesh
        found = mesh_for(self.crystal.lattice, self.molecule.coords, self.orbitals.reach())
        if max(found) == MOST_POINTS:
            self.reporter.warning(
                f"the functions reach far: blocks are summed from {found} k-points, more may be "
                f"needed; see block_error, and {argument('block_mesh')}"
            )
        return found

    # ---- what is computed

    def at(self, kpoints: KPoints) -> tuple[torch.Tensor, torch.Tensor]:
        """H and S."""
        return projected(self.orbitals, self.crystal.values, self.crystal.volume, kpoints)

    def levels(self, kpoints: KPoints, *, of: str) -> Levels:
        """H, S, and the filled levels of a mesh."""
        mesh = of.strip("(").replace(")", "")
        self.reporter.message(
            f"projecting at {len(kpoints.weights)} k-points (mesh {mesh}), "
            f"{sum(sizes_of(self.orbitals.shells))} functions"
        )
        # each point for itself: the mean over k and -k is left to the sums
        points = dataclasses.replace(kpoints, partners=None)
        fock, ovlp = self.at(points)
        energies, coefficients = _basis_at(ovlp).orbitals(fock)
        filling = self._filling(energies, torch.from_numpy(kpoints.weights))
        return Levels(
            kpoints=kpoints,
            fock=fock,
            ovlp=ovlp,
            energies=energies,
            coefficients=coefficients,
            filling=filling,
        )

    def _filling(self, energies: torch.Tensor, weights: torch.Tensor) -> Filling:
        return fill(
            energies,
            weights,
            self.crystal.channels,
            smearing=self.config.smearing,
            degeneracy_tol=GIVEN_TOL,
        )

    def record(self, levels: Levels, fermi: float) -> Record:
        """Real-space blocks, with the Fermi level of the mesh that was asked for."""
        shells = self.orbitals.shells
        fock = levels.fock if self.nspin == 2 else levels.fock[0]
        h, s = blocks_of(
            [fock, levels.ovlp],
            levels.kpoints,
            self.crystal.lattice,
            self.molecule.coords,
            sizes_of(shells),
            threshold=_NEGLIGIBLE,
        )
        structure = Structure(
            numbers=self.molecule.numbers,
            coords=self.molecule.coords,
            lattice=self.crystal.lattice,
            pbc=np.array(self.molecule.pbc if self.molecule.periodic else (True,) * 3),
            charge=self.molecule.charge,
            spin=self.molecule.spin,
            name=self.molecule.file,
        )
        facts = {"fermi": fermi, "basis": self._basis_label()}
        return Record(structure, Matrices(shells=shells, fock=h, overlap=s, facts=facts))

    def _basis_label(self) -> str:
        return NUMERICAL if self.given.basis.numerical else self.given.basis.label

    def block_error(self, record: Record) -> float:
        """Largest error of a level below the Fermi level + 0.2 Eh from the blocks, off the mesh."""
        probe = _PROBE[None]
        single = KPoints(scaled=probe, weights=np.ones(1))
        fock, ovlp = self.at(single)
        exact = _basis_at(ovlp).levels(fock)
        found = _block_levels(record, probe)
        low = exact < float(record.matrices.facts["fermi"]) + 0.2
        error = float((exact - found)[low].abs().max()) if bool(low.any()) else 0.0
        if error > _FAR:
            self.reporter.warning(
                f"levels from the blocks are off by up to {error:.1e} Eh between their k-points; "
                f"use a larger {argument('block_mesh')}"
            )
        return error

    def path(self) -> KPath:
        """k-points of the bands."""
        pbc = self.molecule.pbc if self.molecule.periodic else (True, True, True)
        return k_path(self.crystal.lattice, pbc, self.config.path, self.config.points)

    # ---- what is said

    def facts(self, levels: Levels) -> dict[str, Any]:
        """Entries of the summary."""
        given, filling = self.given, levels.filling
        top, bottom = _edges(levels.energies, filling.occ)
        return {
            "potential": str(given.path),
            "potential_format": given.potential.kind,
            "potential_grid": list(given.potential.shape),
            "structure": {"file": self.molecule.file, "frame": self.molecule.frame},
            "basis": given.basis.label,
            "pseudo": given.pseudopotentials.label,
            "n_functions": sum(sizes_of(self.orbitals.shells)),
            "n_electrons": self.crystal.electrons,
            "charge": self.molecule.charge,
            "fft_mesh": list(self.crystal.mesh),
            "grid_overlap_error": self.grid_error,
            "kmesh": list(levels.kpoints.mesh or ()),
            "smearing": self.config.smearing,
            "fermi": filling.fermi[0],
            "homo": top,
            "lumo": bottom,
            "gap": max(bottom - top, 0.0) if np.isfinite(bottom) else None,
            "magnetic_moment": _moment(levels),
        }

    def band_facts(self, bands: tuple[KPath, torch.Tensor], levels: Levels) -> dict[str, Any]:
        """The path, and the gap along it."""
        path, energies = bands
        fermi = levels.filling.fermi[0]
        below, above = energies[energies <= fermi], energies[energies > fermi]
        metal = bool(((energies <= fermi).any(1) & (energies > fermi).any(1)).any())
        gap = float(above.min() - below.max()) if len(below) and len(above) else None
        return {
            "labels": [[n, float(x)] for n, x in zip(path.labels, path.ticks, strict=True)],
            "points": len(path.kpts),
            "gap": 0.0 if metal else gap,
        }

    def attributes(self, levels: Levels) -> dict[str, Any]:
        """Attributes of the group."""
        given = self.given
        return {
            "file": self.molecule.file,
            "frame": self.molecule.frame,
            "pseudo": given.pseudopotentials.label,
            "kmesh": list(levels.kpoints.mesh or ()),
            "fft_mesh": list(self.crystal.mesh),
            "smearing": self.config.smearing,
            "n_electrons": self.crystal.electrons,
        }


def _basis_at(ovlp: torch.Tensor) -> BlochOrthogonaliser:
    """Orthonormal functions, with PySCF's threshold for linear dependence."""
    return BlochOrthogonaliser(ovlp, lindep_threshold())


def _block_levels(record: Record, kpts: np.ndarray) -> torch.Tensor:
    """Levels from blocks, [nspin, nk, nao]."""
    try:
        return band_structure.levels(record, kpts)
    except InputError:
        raise ComputationError(
            "expected blocks whose overlap is positive between their k-points, those of so few "
            f"k-points are not; use a larger {argument('block_mesh')}"
        ) from None


def _edges(energies: torch.Tensor, occ: torch.Tensor) -> tuple[float, float]:
    """Highest level with, and lowest level without half of its electrons."""
    half = 0.5 * (2.0 if len(energies) == 1 else 1.0)
    filled, empty = energies[occ >= half], energies[occ < half]
    top = float(filled.max()) if len(filled) else -np.inf
    return top, float(empty.min()) if len(empty) else np.inf


def _moment(levels: Levels) -> float | None:
    if len(levels.energies) == 1:
        return None
    weights = torch.from_numpy(levels.kpoints.weights)
    up, down = (levels.filling.occ.sum(-1) * weights).sum(-1).tolist()
    return up - down


def _arrays(
    levels: Levels, bands: tuple[KPath, torch.Tensor], *, dense_matrices: bool
) -> dict[str, Any]:
    """Datasets beside the blocks."""
    path, energies = bands
    squeeze = len(levels.energies) == 1

    def spin(tensor: torch.Tensor) -> np.ndarray:
        return (tensor[0] if squeeze else tensor).numpy()

    out: dict[str, Any] = {
        "kpts": levels.kpoints.scaled,
        "kweights": levels.kpoints.weights,
        "mo_energy": spin(levels.energies),
        "mo_occ": spin(levels.filling.occ),
        "band_kpts": path.kpts,
        "band_distances": path.distances,
        "band_energies": spin(energies),
    }
    if dense_matrices:
        c, occ = levels.coefficients, levels.filling.occ
        density = torch.einsum("skip,skp,skjp->skij", c, occ.to(c), c.conj())
        out |= {"fock": spin(levels.fock), "density": spin(density), "overlap": levels.ovlp.numpy()}
    return out
