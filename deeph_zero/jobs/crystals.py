"""Labels of crystals: an SCF at k-points, and its matrices there and in real space."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from deeph_zero.errors import ComputationError, argument
from deeph_zero.host.saying import Naming
from deeph_zero.integrals.periodic.calculation import crystal_calculation_of
from deeph_zero.integrals.periodic.cell import (
    MOST_GRID_POINTS,
    MOST_POINTS_IN_BOXES,
    build_cell,
)
from deeph_zero.integrals.periodic.folded_blocks import PROBES
from deeph_zero.integrals.periodic.system import checked_overlap
from deeph_zero.jobs.journal import Record, digest
from deeph_zero.jobs.unconverged import crystal_advice
from deeph_zero.kohnsham.crystal import CrystalKohnSham
from deeph_zero.kohnsham.crystal_result import CrystalResult
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.predict.crystal_record import (
    CrystalState,
    block_arrays,
    crystal_arrays,
    crystal_attributes,
    crystal_entry,
)
from deeph_zero.settings.config import LabelConfig
from deeph_zero.settings.crystal_method import CrystalSettings, crystal_basis, crystal_method

INEXACT = 1e-5
"""Eh; a larger error of H(k) from blocks is said."""


def check_crystal(
    molecule: Molecule,
    config: CrystalSettings,
    *,
    sparse: bool = False,
    say: Callable[[str], None] | None = None,
) -> None:
    """Refuse what cannot be computed, before any integral but the overlap.

    Args:
        molecule: The structure.
        config: Settings.
        sparse: Sparse blocks are wanted of it, and no layer.
        say: Takes a warning of one line.

    Raises:
        InputError: If it cannot.
    """
    method = crystal_method(molecule, config)
    most = MOST_POINTS_IN_BOXES if sparse else MOST_GRID_POINTS
    cell = build_cell(molecule, method, say, most_points=most)
    found = crystal_calculation_of(cell, method, molecule.moments)
    if not sparse:  # large crystals have no dense S(k)
        checked_overlap(cell, found.kpoints, "cpu", remember=True)


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
    return CrystalKohnSham.of_method(cell, method, moments=molecule.moments, device=device)


def elements_of(molecule: Molecule) -> frozenset[int]:
    """What functions and pseudopotentials, and so the grid they want, depend on.

    Args:
        molecule: A structure.

    Returns:
        Its atomic numbers.
    """
    return frozenset(int(z) for z in molecule.numbers)


def label_crystal(
    index: int,
    molecule: Molecule,
    config: LabelConfig,
    device: torch.device,
    warn: Callable[[str], None],
    *,
    naming: Naming,
) -> Record:
    """Converge a crystal.

    Args:
        index: Its position among the structures.
        molecule: The structure.
        config: Settings.
        device: Where it is computed.
        warn: Takes a line.
        naming: Names the structure in warnings of its SCF.

    Returns:
        The result.

    Raises:
        InputError: If it cannot be computed.
        ComputationError: If the energy is not finite.
    """
    method = crystal_method(molecule, config)
    say = lambda text: warn(molecule.where + text)  # noqa: E731
    # what is to be said of its cell was, before the first of them
    ks = crystal_layer(molecule, method, device=str(device))
    with naming.of(molecule.where, elements_of(molecule)):
        result = ks.scf(
            conv_tol=config.conv_tol,
            conv_tol_grad=config.conv_tol_grad,
            max_cycle=config.max_cycle,
            two_grids=config.method.two_grids,
        )
    if not math.isfinite(result.energy):
        raise ComputationError(f"expected a finite SCF energy, got {result.energy}")
    if not result.converged:
        cure = crystal_advice(result, max_cycle=config.max_cycle, smearing=method.smearing)
        say(f"SCF not converged after {result.iterations} cycles {cure}")
    state = CrystalState.of_result(result)
    arrays = crystal_arrays(molecule, ks, state)
    attributes = crystal_attributes(molecule, method, ks, state)
    try:
        arrays |= _blocks(ks, result, attributes)
        if attributes["blocks_error"] > INEXACT:
            say(
                f"the real-space blocks give H(k) to {attributes['blocks_error']:.0e} Eh, as the "
                f"grid resolves the pseudopotential; use a larger {argument('ke_cutoff')}"
            )
    except ComputationError as error:
        say(f"{error}; the label has none")
    entry = crystal_entry(molecule, method, ks, state, n_electrons=result.n_electrons)
    return Record(
        index=index,
        digest=digest(molecule),
        arrays=arrays,
        attributes=attributes,
        entry=entry | {"grid_error": result.grid_error, "iterations": result.iterations},
        auxbasis=None,
        fock_builds=result.fock_builds,
        coarse_builds=result.coarse_builds,
    )


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
    return block_arrays(ks, found)


def summary_method(config: LabelConfig, molecules: Any) -> Method:
    """The method that a summary states: of crystals alone their own basis, no molecules' grid.

    Args:
        config: Settings.
        molecules: The structures, where they are a list.

    Returns:
        The method; that of molecules is as it was.
    """
    listed = isinstance(molecules, list | tuple) and len(molecules) > 0
    if not listed or not all(m.periodic for m in molecules):
        return config.solved
    basis = crystal_basis(config.method)
    return dataclasses.replace(
        config.solved, basis=basis, density_fit=False, auxbasis=None, grid_level=None
    )
