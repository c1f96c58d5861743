"""Labels of crystals: an SCF at k-points, and its matrices there and in real space."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from deeph_zero.ao.basis_text import for_elements
from deeph_zero.errors import ComputationError, argument
from deeph_zero.integrals.mole import shell_ls, symbols_of
from deeph_zero.integrals.periodic.calculation import crystal_calculation
from deeph_zero.integrals.periodic.cell import build_cell
from deeph_zero.integrals.periodic.folded_blocks import PROBES
from deeph_zero.jobs.journal import Record, digest
from deeph_zero.kohnsham import KohnSham
from deeph_zero.kohnsham.crystal import CrystalKohnSham, CrystalResult
from deeph_zero.method import CrystalMethod, Method
from deeph_zero.molecule import Molecule
from deeph_zero.predict.record import structure_record
from deeph_zero.settings.config import LabelConfig
from deeph_zero.settings.crystal_config import BASIS, KSPACING

FORMAT_VERSION = 2
"""Of a group with real-space blocks."""

INEXACT = 1e-5
"""Eh; a larger error of H(k) from blocks is said."""


def crystal_method(molecule: Molecule, config: LabelConfig) -> Method:
    """What is solved of a crystal, its mesh of k-points resolved.

    Args:
        molecule: The structure.
        config: Settings; a basis that was not asked for is the crystals' own default.

    Returns:
        The method.
    """
    assert molecule.lattice is not None
    asked, crystal = config.method, config.crystal
    pseudo = None if crystal.pseudo.lower() == "none" else crystal.pseudo
    return Method(
        xc=asked.xc,
        basis=asked.basis if "basis" in asked.model_fields_set else BASIS,
        unrestricted=True if asked.unrestricted else None,
        smearing=config.smearing,
        crystal=CrystalMethod(
            kmesh=crystal.kmesh
            or mesh_of(molecule.lattice, molecule.pbc, crystal.kspacing or KSPACING),
            pseudo=pseudo,
            ke_cutoff=crystal.ke_cutoff,
        ),
    )


def mesh_of(
    lattice: np.ndarray, pbc: tuple[bool, bool, bool], spacing: float
) -> tuple[int, int, int]:
    """The smallest mesh of k-points that are nowhere further apart than wanted.

    Args:
        lattice: Vectors in rows, bohr.
        pbc: Periodic directions.
        spacing: 1/bohr.

    Returns:
        Points along each reciprocal vector.
    """
    vectors = np.array(lattice)
    if not pbc[2]:
        vectors[2] = [0.0, 0.0, 1.0]
    reciprocal = 2 * np.pi * np.linalg.inv(vectors).T
    counts = [math.ceil(float(np.linalg.norm(b)) / spacing - 1e-9) for b in reciprocal]
    if not pbc[2]:
        counts[2] = 1
    n1, n2, n3 = (max(1, n) for n in counts)
    return n1, n2, n3


def check_crystal(molecule: Molecule, config: LabelConfig) -> None:
    """Refuse what cannot be computed, before any integral.

    Args:
        molecule: The structure.
        config: Settings.

    Raises:
        InputError: If it cannot.
    """
    method = crystal_method(molecule, config)
    crystal_calculation(build_cell(molecule, method), **_keywords(molecule, method))


def crystal_layer(
    molecule: Molecule, method: Method, *, device: str, say: Callable[[str], None] | None = None
) -> CrystalKohnSham:
    """The Kohn-Sham layer of a crystal.

    Args:
        molecule: The structure.
        method: What is solved.
        device: Where the tensors live.
        say: Takes a warning of one line.

    Returns:
        The layer.

    Raises:
        InputError: If it cannot be computed.
    """
    cell = build_cell(molecule, method, say)
    ks = KohnSham.from_pyscf(cell, device=device, **_keywords(molecule, method))
    assert isinstance(ks, CrystalKohnSham)
    return ks


def _keywords(molecule: Molecule, method: Method) -> dict[str, Any]:
    assert method.crystal is not None
    return {
        "xc": method.xc,
        "kmesh": method.crystal.kmesh,
        "shifted": method.crystal.shifted,
        "unrestricted": method.unrestricted,
        "smearing": method.smearing,
        "fix_spin": method.crystal.fix_spin,
        "moments": molecule.moments,
    }


def label_crystal(
    index: int,
    molecule: Molecule,
    config: LabelConfig,
    device: torch.device,
    warn: Callable[[str], None],
) -> Record:
    """Converge a crystal.

    Args:
        index: Its position among the structures.
        molecule: The structure.
        config: Settings.
        device: Where it is computed.
        warn: Takes a line.

    Returns:
        The result.

    Raises:
        InputError: If it cannot be computed.
        ComputationError: If the energy is not finite.
    """
    method = crystal_method(molecule, config)
    say = lambda text: warn(molecule.where + text)  # noqa: E731
    ks = crystal_layer(molecule, method, device=str(device), say=say)
    result = ks.scf(
        conv_tol=config.conv_tol,
        conv_tol_grad=config.conv_tol_grad,
        max_cycle=config.max_cycle,
        two_grids=config.method.two_grids,
    )
    if not math.isfinite(result.energy):
        raise ComputationError(f"expected a finite SCF energy, got {result.energy}")
    if not result.converged:
        say(
            f"SCF not converged after {result.iterations} cycles; use a larger "
            f"{argument('max_cycle')}, or {argument('smearing', 0.01)} for a metal"
        )
    arrays = _arrays(molecule, ks, result)
    attributes = _attributes(molecule, method, ks, result)
    try:
        arrays |= _blocks(ks, result, attributes)
        if attributes["blocks_error"] > INEXACT:
            say(
                f"the real-space blocks give H(k) to {attributes['blocks_error']:.0e} Eh, as the "
                f"grid resolves the pseudopotential; use a larger {argument('ke_cutoff')}"
            )
    except ComputationError as error:
        say(f"{error}; the label has none")
    return Record(
        index=index,
        digest=digest(molecule),
        arrays=arrays,
        attributes=attributes,
        entry=_entry(molecule, method, ks, result),
        auxbasis=None,
        fock_builds=result.fock_builds,
        coarse_builds=result.coarse_builds,
    )


def _fermi(result: CrystalResult) -> float:
    """One level for all spins: the chemical potential, or the middle of the gap."""
    homo, lumo = frontier(result)
    if len(set(result.fermi)) == 1 or not lumo > homo or not math.isfinite(lumo):
        return sum(result.fermi) / len(result.fermi)
    return 0.5 * (homo + lumo)


def frontier(result: CrystalResult) -> tuple[float, float]:
    """Highest level that is at least half filled, and lowest one that is not, Eh.

    Args:
        result: An SCF.

    Returns:
        The two; infinite where there is none.
    """
    full = 2.0 if len(result.mo_occ) == 1 else 1.0
    filled = result.mo_occ > 0.5 * full
    homo = torch.where(filled, result.mo_energy, -torch.inf).max()
    lumo = torch.where(filled, torch.inf, result.mo_energy).min()
    return float(homo), float(lumo)


def _without_spin_axis(values: torch.Tensor) -> np.ndarray:
    """[*spin, nk, ...]: an axis of two spins, none for a closed shell."""
    return np.asarray((values[0] if len(values) == 1 else values).cpu())


def _arrays(molecule: Molecule, ks: CrystalKohnSham, result: CrystalResult) -> dict[str, Any]:
    info = ks.info
    arrays: dict[str, Any] = {
        "numbers": molecule.numbers,
        "positions": molecule.coords,
        "lattice": info.lattice,
        "pbc": np.array(info.pbc),
        "kpts": info.kpts,
        "kweights": info.kweights,
        "overlap": np.asarray(ks.data.ovlp.to(torch.complex128).cpu()),
        "fock": _without_spin_axis(result.fock.to(torch.complex128)),
        "density": _without_spin_axis(result.dm.to(torch.complex128)),
        "mo_energy": _without_spin_axis(result.mo_energy),
        "mo_occ": _without_spin_axis(result.mo_occ),
        "fermi": np.array(result.fermi if len(set(result.fermi)) > 1 else result.fermi[0]),
        "free_energy": np.array(result.free_energy),
    }
    if molecule.moments is not None:
        arrays["moments"] = np.array(molecule.moments)
    return arrays


def _attributes(
    molecule: Molecule, method: Method, ks: CrystalKohnSham, result: CrystalResult
) -> dict[str, Any]:
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
        "kmesh": np.array(method.crystal.kmesh),
        "fft_mesh": np.array(ks.info.fft_mesh),
        "smearing": method.smearing,
        "gauge": ks.info.gauge,
        "energy": result.energy,
        "free_energy": result.free_energy,
        "fermi": _fermi(result),
        "gap": result.gap if math.isfinite(result.gap) else None,
        "converged": result.converged,
        "exxdiv": ks.data.exxdiv,
    }


def _blocks(
    ks: CrystalKohnSham, result: CrystalResult, attributes: dict[str, Any]
) -> dict[str, Any]:
    """Datasets of the blocks; how exact they are goes to the attributes."""
    found = result.real_space()
    probes = [list(row) for row in np.where(ks.info.pbc, np.array(PROBES[:2]), 0.0)]
    exact = result.hamiltonian(probes).cpu()
    ours = found.fock.at_k(torch.tensor(probes, dtype=torch.float64))
    attributes["blocks_error"] = float(
        (ours - (exact[0] if len(exact) == 1 else exact)).abs().max()
    )
    shells = shell_ls(ks.cell.to_mol())
    return {
        "shells": np.array([(k, l) for k, ls in enumerate(shells) for l in ls], dtype=np.int64),
        "block_atoms": found.fock.pairs.numpy(),
        "block_cells": found.fock.cells.numpy(),
        "block_offsets": found.fock.offsets.numpy(),
        "blocks": found.fock.values.numpy(),
        "overlap_blocks": found.overlap.values.numpy(),
    }


def _entry(
    molecule: Molecule, method: Method, ks: CrystalKohnSham, result: CrystalResult
) -> dict[str, Any]:
    """The entry of the summary; energies per cell."""
    assert method.crystal is not None
    homo, lumo = (x if math.isfinite(x) else None for x in frontier(result))
    record = structure_record(
        molecule,
        certificate=None,
        dipole=None,
        n_electrons=result.n_electrons,
        spin_square=None,
        residual_mae=None,
        converged=result.converged,
    )
    record |= {
        "energy": result.energy,
        "homo": homo,
        "lumo": lumo,
        "gap": result.gap if math.isfinite(result.gap) else None,
        "free_energy": result.free_energy,
        "fermi": _fermi(result),
        "grid_error": result.grid_error,
        "basis": for_elements(method.basis, symbols_of(molecule)),
        "pseudo": method.crystal.pseudo,
        "kmesh": list(method.crystal.kmesh),
        "fft_mesh": list(ks.info.fft_mesh),
        "iterations": result.iterations,
    }
    if ks.unrestricted:
        up, down = ks.n_electrons(result.dm)
        record["moment"] = up - down
    return record


def summary_method(config: LabelConfig, molecules: Any) -> Method:
    """The method that a summary states: of crystals alone with the crystals' own basis.

    Args:
        config: Settings.
        molecules: The structures, where they are a list.

    Returns:
        The method; that of molecules is as it was.
    """
    asked = "basis" in config.method.model_fields_set
    only = isinstance(molecules, list | tuple) and all(m.periodic for m in molecules)
    if asked or not only or not molecules:
        return config.solved
    return dataclasses.replace(config.solved, basis=BASIS)
