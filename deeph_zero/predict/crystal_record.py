"""What files and summaries say of a crystal: of labels, predictions and runs alike."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from deeph_zero.ao.basis_text import for_elements
from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.errors import ComputationError
from deeph_zero.integrals.mole import shell_ls, symbols_of
from deeph_zero.integrals.periodic.folded_blocks import RealSpace
from deeph_zero.kohnsham.crystal import CrystalKohnSham
from deeph_zero.ks.periodic.occupation import ROUNDING
from deeph_zero.ks.periodic.result import CrystalSCFResult
from deeph_zero.ks.periodic.types import BandEnergies, BlochMatrix
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.predict.crystal import CrystalPrediction
from deeph_zero.predict.crystal_sparse import SparsePrediction
from deeph_zero.predict.record import structure_record

FORMAT_VERSION = 2
"""Version of a group with real-space blocks."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrystalState:
    """A density of a crystal and the levels beside it; per cell, at the layer's k-points.

    Attributes:
        fock: The matrix that the levels are of, Eh.
        dm: Density matrix.
        mo_energy: Levels, Eh.
        mo_occ: Their occupations.
        fermi: Fermi level of each spin, Eh.
        entropy_energy: T S, Eh; 0 where levels are filled in order.
        energy: Eh; None where no build was made.
        free_energy: E - T S.
        converged: Whether an SCF met its tolerances; None where there was none.
    """

    fock: BlochMatrix
    dm: BlochMatrix
    mo_energy: BandEnergies
    mo_occ: BandEnergies
    fermi: tuple[float, ...]
    entropy_energy: float
    energy: float | None
    free_energy: float | None
    converged: bool | None

    @classmethod
    def of_result(cls, result: CrystalSCFResult) -> "CrystalState":
        """The state at the end of an SCF."""
        return cls(**{f.name: getattr(result, f.name) for f in dataclasses.fields(cls)})

    @classmethod
    def of_prediction(cls, found: CrystalPrediction) -> "CrystalState":
        """The refined one, else that of the network's own density."""
        if found.refined is not None:
            return cls.of_result(found.refined)
        levels = found.levels
        return cls(
            fock=found.fock if found.built is None else found.built.fock,
            dm=found.dm,
            mo_energy=found.ks.orthogonal.without_removed(levels.mo_energy),
            mo_occ=levels.filling.occ,
            fermi=levels.filling.fermi,
            entropy_energy=levels.filling.entropy_energy,
            energy=found.energy,
            free_energy=found.free_energy,
            converged=None,
        )

    @property
    def frontier(self) -> tuple[float | None, float | None]:
        """Highest filled and lowest empty level of all k-points and spins, Eh.

        Smeared levels count as filled up to the Fermi level; others that are filled in part are
        both.
        """
        full = 2.0 if len(self.mo_occ) == 1 else 1.0
        if self.entropy_energy > 0:
            levels = self.mo_energy.new_tensor(self.fermi)[:, None, None]
            filled = self.mo_energy <= levels
            empty = ~filled
        else:
            filled, empty = self.mo_occ > ROUNDING, self.mo_occ < full - ROUNDING
        homo = float(torch.where(filled, self.mo_energy, -torch.inf).max())
        lumo = float(torch.where(empty, self.mo_energy, torch.inf).min())
        return homo if math.isfinite(homo) else None, lumo if math.isfinite(lumo) else None

    @property
    def fermi_level(self) -> float:
        """One level for all spins: the chemical potential, or the middle of the gap, Eh."""
        homo, lumo = self.frontier
        if len(set(self.fermi)) == 1 or homo is None or lumo is None or lumo <= homo:
            return sum(self.fermi) / len(self.fermi)
        return 0.5 * (homo + lumo)

    @property
    def gap(self) -> float | None:
        """Lowest empty minus highest filled level, 0 where they overlap, Eh; None without both."""
        homo, lumo = self.frontier
        return None if homo is None or lumo is None else max(0.0, lumo - homo)


def without_spin_axis(values: torch.Tensor) -> np.ndarray:
    """[*spin, nk, ...]: an axis of two spins, none for a closed shell."""
    return np.asarray((values[0] if len(values) == 1 else values).cpu())


def crystal_arrays(molecule: Molecule, ks: CrystalKohnSham, state: CrystalState) -> dict[str, Any]:
    """Datasets of a crystal's HDF5 group but its blocks.

    Args:
        molecule: The structure.
        ks: Its layer.
        state: What is stored.

    Returns:
        Arrays, atomic units; ``fock`` is the state's.
    """
    info, fermi = ks.info, state.fermi
    arrays: dict[str, Any] = {
        "numbers": molecule.numbers,
        "positions": molecule.coords,
        "lattice": info.lattice,
        "pbc": np.array(info.pbc),
        "kpts": info.kpts,
        "kweights": info.kweights,
        "overlap": np.asarray(ks.data.ovlp.to(torch.complex128).cpu()),
        "fock": without_spin_axis(state.fock.to(torch.complex128)),
        "density": without_spin_axis(state.dm.to(torch.complex128)),
        "mo_energy": without_spin_axis(state.mo_energy),
        "mo_occ": without_spin_axis(state.mo_occ),
        "fermi": np.array(fermi if len(set(fermi)) > 1 else fermi[0]),
    }
    if state.free_energy is not None:
        arrays["free_energy"] = np.array(state.free_energy)
    if molecule.moments is not None:
        arrays["moments"] = np.array(molecule.moments)
    return arrays


def crystal_attributes(
    molecule: Molecule, method: Method, ks: CrystalKohnSham, state: CrystalState
) -> dict[str, Any]:
    """Attributes of the group.

    Args:
        molecule: The structure.
        method: What was solved.
        ks: Its layer.
        state: What is stored.

    Returns:
        JSON values and arrays.
    """
    assert method.crystal is not None
    return _solved(molecule, method) | {
        "kmesh": np.array(method.crystal.kmesh),
        "fft_mesh": np.array(ks.info.fft_mesh),
        "gauge": ks.info.gauge,
        "energy": state.energy,
        "free_energy": state.free_energy,
        "fermi": state.fermi_level,
        "gap": state.gap,
        "converged": state.converged,
        "exxdiv": ks.data.exxdiv,
    }


def block_arrays(ks: CrystalKohnSham, found: RealSpace) -> dict[str, Any]:
    """Datasets of real-space blocks.

    Args:
        ks: The layer, for the shells.
        found: The blocks.

    Returns:
        Arrays.
    """
    return _blocks(shell_ls(ks.cell.to_mol()), found.fock, found.overlap)


def prediction_blocks(found: CrystalPrediction, say: Callable[[str], None]) -> dict[str, Any]:
    """Datasets of a prediction's blocks.

    Args:
        found: The prediction.
        say: Takes a line where its functions reach over too many cells.

    Returns:
        Arrays; none in that case.
    """
    try:
        return block_arrays(found.ks, found.real_space())
    except ComputationError as error:
        say(f"{error}; the prediction has none")
        return {}


def sparse_group(found: SparsePrediction, fermi: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Datasets and attributes of a prediction without a layer: blocks alone.

    Args:
        found: The prediction.
        fermi: Its Fermi level, Eh.

    Returns:
        Arrays and attributes.
    """
    molecule, method, cell = found.molecule, found.method, found.prepared.cell
    arrays = {
        "numbers": molecule.numbers,
        "positions": molecule.coords,
        "lattice": np.asarray(cell.lattice_vectors()),
        "pbc": np.array(molecule.pbc),
        **_blocks(shell_ls(cell.to_mol()), found.hamiltonian, found.overlap),
    }
    return arrays, _solved(molecule, method) | {
        "gauge": "lattice",
        "fermi": fermi,
        "refined": False,
        "blocks_of": "fock",
    }


def _solved(molecule: Molecule, method: Method) -> dict[str, Any]:
    """What was solved, and for which crystal: attributes that every group has."""
    assert method.crystal is not None
    return {
        "format_version": FORMAT_VERSION,
        "file": molecule.file,
        "frame": molecule.frame,
        "charge": molecule.charge,
        "spin": molecule.spin,
        "xc": method.xc,
        "basis": for_elements(method.basis, symbols_of(molecule)),
        "pseudo": method.crystal.pseudo or "none",
        "smearing": method.smearing,
    }


def _blocks(
    shells: Sequence[Sequence[int]], fock: BlockMatrix, overlap: BlockMatrix
) -> dict[str, Any]:
    return {
        "shells": np.array([(k, l) for k, ls in enumerate(shells) for l in ls], dtype=np.int64),
        "block_atoms": fock.pairs.numpy(),
        "block_cells": fock.cells.numpy(),
        "block_offsets": fock.offsets.numpy(),
        "blocks": fock.values.numpy(),
        "overlap_blocks": overlap.values.numpy(),
    }


def crystal_entry(
    molecule: Molecule,
    method: Method,
    ks: CrystalKohnSham,
    state: CrystalState,
    *,
    n_electrons: float | None,
) -> dict[str, Any]:
    """The entry of the summary; energies per cell.

    Args:
        molecule: The structure.
        method: What was solved.
        ks: Its layer.
        state: What the entry is about.
        n_electrons: Density integrated on the grid.

    Returns:
        JSON values.
    """
    assert method.crystal is not None
    homo, lumo = state.frontier
    record = structure_record(
        molecule,
        certificate=None,
        dipole=None,
        n_electrons=n_electrons,
        spin_square=None,
        residual_mae=None,
        converged=state.converged,
    )
    record |= {
        "energy": state.energy,
        "homo": homo,
        "lumo": lumo,
        "gap": state.gap,
        "free_energy": state.free_energy,
        "fermi": state.fermi_level,
        "basis": for_elements(method.basis, symbols_of(molecule)),
        "pseudo": method.crystal.pseudo,
        "kmesh": list(method.crystal.kmesh or ()),
        "fft_mesh": list(ks.info.fft_mesh),
    }
    if ks.unrestricted:
        up, down = ks.n_electrons(state.dm)
        record["moment"] = up - down
    return record


def crystal_prediction_entry(found: CrystalPrediction) -> dict[str, Any]:
    """Entry of a prediction: at the network's own density, and beside it the refined energy.

    With smearing ``energy_error_estimate`` is that of the free energy, and ``energy_estimate`` is
    the free energy minus it; ``doubts`` say why it may be far too small.

    Args:
        found: The prediction.

    Returns:
        JSON values.
    """
    own = dataclasses.replace(found, refined=None)
    state = CrystalState.of_prediction(own)
    n_electrons = None if found.built is None else found.built.n_electrons
    record = crystal_entry(found.molecule, found.method, found.ks, state, n_electrons=n_electrons)
    record["residual_mae"] = found.residual_mae
    if found.built is not None:
        record["grid_error"] = found.ks.grid_error(found.built)
    c = found.certificate
    if c is not None:
        record |= {
            "energy_error_estimate": c.energy_error_estimate,
            "energy_estimate": c.free_energy - c.energy_error_estimate,
            "orbital_gradient_rms": c.orbital_gradient_rms,
        }
        if c.doubts:
            record["doubts"] = list(c.doubts)
    if found.intervals is not None:
        record["intervals"] = found.intervals
    if found.out_of_distribution:
        record["out_of_distribution"] = list(found.out_of_distribution)
    done = found.refined
    if done is not None:
        record |= {
            "refined_energy": done.energy,
            "refined_free_energy": done.free_energy,
            "refine_fock_builds": done.fock_builds,
            "refine_coarse_builds": done.coarse_builds,
            "refine_iterations": done.iterations,
            "converged": done.converged,
        }
    if found.forces is not None:
        record["forces"] = found.forces.tolist()
    return record


def crystal_prediction_group(found: CrystalPrediction) -> tuple[dict[str, Any], dict[str, Any]]:
    """Datasets and attributes of a prediction's group, but its blocks.

    ``fock`` is the network's H, ``fock_rebuilt`` is F of ``density``, levels and occupations are
    those of the latter where there is one.

    Args:
        found: The prediction.

    Returns:
        Arrays and attributes.
    """
    state = CrystalState.of_prediction(found)
    arrays = crystal_arrays(found.molecule, found.ks, state)
    if found.built is not None:
        arrays["fock_rebuilt"] = arrays["fock"]
    arrays["fock"] = without_spin_axis(found.fock.to(torch.complex128))
    if found.forces is not None:
        arrays["forces"] = np.asarray(found.forces)
    attributes = crystal_attributes(found.molecule, found.method, found.ks, state)
    refined = found.refined is not None
    return arrays, attributes | {
        "refined": refined,
        "blocks_of": "fock_rebuilt" if refined else "fock",
    }
