"""One crystal of ``deeph-zero evaluate``: a prediction against a label, or its own SCF."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from deeph_zero.data.crystal_labels import CrystalLabels
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.integrals.mole import shell_ls, symbols_of
from deeph_zero.jobs.compare import LEFT_OF_LEVELS, ROUNDING, ao_blocks
from deeph_zero.jobs.unconverged import crystal_advice
from deeph_zero.kohnsham.crystal_result import CrystalResult
from deeph_zero.ks.periodic.types import BlochMatrix, weighted_trace, without_potential
from deeph_zero.ks.smearing import NO_ORBITAL
from deeph_zero.molecule import Molecule
from deeph_zero.predict.crystal import CrystalPrediction
from deeph_zero.predict.crystal_intervals import crystal_covered
from deeph_zero.predict.crystal_model import CrystalModel
from deeph_zero.predict.crystal_record import CrystalState
from deeph_zero.predict.orbital_blocks import BLOCKS
from deeph_zero.predict.record import failure
from deeph_zero.settings.crystal_config import SmearedCrystalConfig
from deeph_zero.settings.crystal_method import ModelCrystals, crystal_method
from deeph_zero.settings.evaluate_config import EvaluateConfig

NAMES = ("energy_error", "energy_error_per_atom", "subspace_distance", "fock", "rebuilt")
"""What is averaged over crystals."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Reference:
    """What a crystal is compared with; energies per cell."""

    fock: BlochMatrix
    dm: BlochMatrix
    free_energy: float | None


def usable_crystals(
    molecules: Sequence[Molecule],
    failed: list[dict[str, Any]],
    labels: CrystalLabels,
    settings: ModelCrystals,
) -> tuple[list[Molecule], list[dict[str, Any]]]:
    """The crystals that can be compared, before any work.

    Args:
        molecules: Crystals that could be read.
        failed: Those that could not ({file, frame, error}).
        labels: Reference values; one that is no reference costs its crystal, not the others.
        settings: What the labels must have been made with.

    Returns:
        Crystals whose label can be used, or that have none, and all failures.

    Raises:
        InputError: If nothing is left; the first reason.
    """
    good: list[Molecule] = []
    new: list[dict[str, Any]] = []
    for molecule in molecules:
        index = labels.index(molecule)
        try:
            if index is not None:
                labels.check(index, crystal_method(molecule, settings))
        except InputError as error:
            new.append(failure(molecule, error))
        else:
            good.append(molecule)
    failed = [*failed, *new]
    if not good:
        first, more = new[0], len(failed) - 1
        also = f" (no structure can be used: this and {more} more)" if more else ""
        raise InputError(f"{first['file']} frame {first['frame']}: {first['error']}{also}")
    return good, failed


def evaluate_crystal(
    model: CrystalModel,
    molecule: Molecule,
    labels: CrystalLabels | None,
    config: EvaluateConfig,
) -> dict[str, Any]:
    """Errors of one prediction.

    Args:
        model: The model.
        molecule: The crystal.
        labels: Reference values; None, or no label of it: its own SCF.
        config: SCF settings.

    Returns:
        JSON values, hartree per cell (free energies with smearing); matrices and levels up to a
        constant potential, ``bands_constant`` is that of levels. ``fock`` is the network's H,
        ``rebuilt`` is F[P(H)].

    Raises:
        InputError: If a label is of another method.
        ComputationError: If the reference SCF does not converge.
    """
    label = None
    asked = None
    if labels is not None and (index := labels.index(molecule)) is not None:
        label = labels.label(index, crystal_method(molecule, model.settings()))
        asked = SmearedCrystalConfig.parse({"kmesh": label.kmesh})
    found = model.predict_structure(molecule, model.settings(asked))
    ks = found.ks
    if label is not None and (ks.nspin, ks.nk, ks.nao) != tuple(label.fock.shape[:3]):
        raise InputError(
            f"expected matrices of shape {(ks.nspin, ks.nk, ks.nao, ks.nao)} in its label, got "
            f"{tuple(label.fock.shape)}; label it again"
        )
    labelled = label is not None
    cold = _scf(found, None, config, labelled=labelled) if config.scf or not labelled else None
    if label is not None:
        fock, dm = (x if ks.dtype.is_complex else x.real for x in (label.fock, label.dm))
        reference = _Reference(fock=fock, dm=dm, free_energy=label.free_energy)
    else:
        assert cold is not None
        reference = _Reference(fock=cold.fock, dm=cold.dm, free_energy=cold.free_energy)
    row = _errors(found, reference) | _inside(found, reference)
    coarse = found.coarse_builds + (cold.coarse_builds if cold is not None else 0)
    if found.certificate is not None and found.certificate.doubts:
        row["doubts"] = list(found.certificate.doubts)
    if cold is not None and config.scf:
        warm = _scf(found, found.dm, config, labelled=labelled)
        row["scf"] = {
            "builds_minao": cold.fock_builds,
            "builds_model": warm.fock_builds,
            "iterations_minao": cold.iterations,
            "iterations_model": warm.iterations,
            "saved": 1.0 - warm.fock_builds / cold.fock_builds,
        }
        coarse += warm.coarse_builds
    row["fock_builds"], row["coarse_builds"] = ks.fock_builds, coarse
    row["converged"] = True
    return row


def _inside(found: CrystalPrediction, reference: _Reference) -> dict[str, Any]:
    """Whether the reference lies in the intervals, and why they may promise nothing."""
    row: dict[str, Any] = {}
    if found.out_of_distribution:
        row["out_of_distribution"] = list(found.out_of_distribution)
    if found.intervals is None:
        return row
    ks, fock, dm = found.ks, reference.fock, reference.dm
    levels = ks.bands(fock)
    exact = CrystalState(
        fock=fock,
        dm=dm,
        mo_energy=ks.orthogonal.without_removed(levels.mo_energy),
        mo_occ=levels.filling.occ,
        fermi=levels.filling.fermi,
        entropy_energy=levels.filling.entropy_energy,
        energy=None,
        free_energy=reference.free_energy,
        converged=True,
    )
    left = float(ks.commutator(fock, dm).norm()) / 2**0.5
    spare = {"energy": ROUNDING, "levels": max(ROUNDING, LEFT_OF_LEVELS * left)}
    return row | {"covered": crystal_covered(found, exact, spare)}


def _scf(
    found: CrystalPrediction, dm: Tensor | None, config: EvaluateConfig, *, labelled: bool
) -> CrystalResult:
    result = found.ks.scf(dm, conv_tol=config.conv_tol, max_cycle=config.max_cycle)
    if not result.converged:
        cure = crystal_advice(
            result,
            max_cycle=config.max_cycle,
            smearing=found.method.smearing,
            trained=True,
            labelled=labelled,
        )
        raise ComputationError(
            f"the reference SCF did not converge in {result.iterations} cycles {cure}"
        )
    return result


def _errors(found: CrystalPrediction, reference: _Reference) -> dict[str, Any]:
    molecule, ks = found.molecule, found.ks
    assert found.certificate is not None
    assert found.fock_rebuilt is not None
    energy = found.certificate.free_energy
    error = None if reference.free_energy is None else energy - reference.free_energy
    per_pair = 0.5 * ks.nspin
    change = per_pair * (found.dm - reference.dm) @ ks.data.ovlp
    electrons = per_pair * sum(ks.n_electrons(reference.dm))
    distance = float(weighted_trace(ks.data.weights, change, change))
    row: dict[str, Any] = {
        "file": molecule.file,
        "frame": molecule.frame,
        "charge": molecule.charge,
        "spin": molecule.spin,
        "natm": molecule.natm,
        "energy": energy,
        "reference_energy": reference.free_energy,
        "energy_error_estimate": found.certificate.energy_error_estimate,
        "orbital_gradient_rms": found.certificate.orbital_gradient_rms,
        "energy_error": error,
        "energy_error_per_atom": None if error is None else error / molecule.natm,
        "subspace_distance": (max(distance, 0.0) / (2 * electrons)) ** 0.5,
    }
    shells = shell_ls(ks.cell.to_mol())
    for name, matrix in (("fock", found.fock), ("rebuilt", found.fock_rebuilt)):
        rest, levels = _differences(found, matrix, reference.fock)
        row[name] = {"mae": float(rest.abs().mean()), **levels}
        if name == "fock":
            flat = rest.abs().reshape(-1, ks.nao, ks.nao).cpu().numpy()
            row[name] |= ao_blocks(flat, symbols_of(molecule), shells)
    return row


def _differences(
    found: CrystalPrediction, matrix: BlochMatrix, exact: BlochMatrix
) -> tuple[Tensor, dict[str, Any]]:
    """H - F - μ S, and errors between orbitals and of bands up to the first empty one."""
    ks = found.ks
    weights = ks.data.weights
    rest = without_potential(weights, matrix - exact, ks.data.ovlp)
    ours, theirs = ks.bands(matrix), ks.bands(exact)
    c = theirs.mo_coeff
    mixed = (c.mH @ rest @ c).abs()
    occupied = theirs.filling.occ > 0.5 * (2.0 / ks.nspin)
    empty = ~occupied & (theirs.mo_energy < NO_ORBITAL)
    masks = [
        a.unsqueeze(-1) & b.unsqueeze(-2)
        for a, b in ((occupied, occupied), (occupied, empty), (empty, empty))
    ]
    blocks = {
        name: float(mixed[mask].mean()) if bool(mask.any()) else None
        for name, mask in zip(BLOCKS, masks, strict=True)
    }
    count = int((theirs.filling.occ > 0.01).any(0).any(0).sum()) + 1
    levels = (ours.mo_energy - theirs.mo_energy)[..., :count]
    constant = (levels * weights[:, None]).sum(1).mean()
    levels = levels - constant
    gaps = ours.filling.gap - theirs.filling.gap
    return rest, {
        "blocks": blocks,
        "bands_mae": float(levels.abs().mean()),
        "bands_max": float(levels.abs().max()),
        "bands_constant": abs(float(constant)),
        "gap_mae": abs(gaps) if torch.isfinite(torch.tensor(gaps)) else None,
    }
