"""Self-consistent field of a crystal: on one mesh or two, and what it says of the result."""

import logging

import torch

from deeph_zero.errors import argument
from deeph_zero.ks.periodic.iteration import Mixer, State, iterate
from deeph_zero.ks.periodic.layer import CrystalLayer
from deeph_zero.ks.periodic.result import CrystalSCFResult, CrystalSCFSettings
from deeph_zero.ks.periodic.two_meshes import on_two_meshes
from deeph_zero.ks.periodic.types import BlochMatrix

_log = logging.getLogger("deeph_zero")

NO_GAP = 1e-4
"""Eh; without smearing a smaller gap is said to be none."""

COARSE = 1e-4
"""Eh per cell; a larger ``grid_error`` is said."""


PAYS = 3.0
"""Points of the target mesh for one of the coarse mesh from which two are used."""


@torch.no_grad()
def crystal_scf(
    layer: CrystalLayer, dm0: BlochMatrix | None, settings: CrystalSCFSettings
) -> CrystalSCFResult:
    """Iterate to self-consistency.

    Args:
        layer: The crystal.
        dm0: Starting density matrix; None: superposed free atoms.
        settings: Tolerances and the iteration's knobs.

    Returns:
        The last iterate; non-convergence is not an exception.

    Raises:
        ComputationError: If a Fock matrix is not finite.
    """
    coarse = layer.coarse() if settings.two_grids and layer.coarse_ratio >= PAYS else None
    before = layer.fock_builds
    if dm0 is None and layer.data.dm_guess is not None:
        dm0 = layer.data.dm_guess()
    if coarse is None:
        start = None if dm0 is None else State.of(layer, dm0, 0.0)
        state, cycles = iterate(layer, start, settings, Mixer(layer, settings))
    else:
        state, cycles = on_two_meshes(layer, coarse, dm0, settings)
    builds = layer.fock_builds - before, 0 if coarse is None else coarse.fock_builds
    result = _result(layer, state, settings, (cycles, *builds))
    _say(layer, result)
    return result


def _result(
    layer: CrystalLayer,
    state: State,
    settings: CrystalSCFSettings,
    counts: tuple[int, int, int],
) -> CrystalSCFResult:
    bands = layer.bands(state.built.fock, settings.degeneracy_tol)
    cycles, builds, coarse_builds = counts
    return CrystalSCFResult(
        energy=state.free_energy + state.entropy_energy,
        entropy_energy=state.entropy_energy,
        parts={name: float(e) for name, e in state.built.parts.items()},
        fock=state.built.fock,
        dm=state.dm,
        mo_energy=layer.orthogonal.without_removed(bands.mo_energy),
        mo_coeff=bands.mo_coeff,
        mo_occ=bands.filling.occ,
        fermi=bands.filling.fermi,
        gap=bands.filling.gap,
        converged=state.converged,
        iterations=cycles,
        fock_builds=builds,
        coarse_builds=coarse_builds,
        gradient_norm=state.norm,
        n_electrons=state.built.n_electrons,
        grid_error=layer.grid_error(state.built),
        exxdiv=layer.data.exxdiv,
        build=state.built,
    )


def _say(layer: CrystalLayer, result: CrystalSCFResult) -> None:
    """What a user should know of the result."""
    if abs(result.grid_error) > COARSE:
        _log.warning(
            "the grid is coarse for these functions: two routes to the density's gradient differ "
            "by %.1e Eh per cell; use a larger %s",
            result.grid_error,
            argument("ke_cutoff"),
            extra={"of_a_kind": True},
        )
    if layer.smearing == 0 and result.gap < NO_GAP:
        _log.warning(
            "no gap between filled and empty levels: use smearing, for example %s",
            argument("smearing", 0.005),
        )
    elif layer.smearing == 0 and (over := _overlap(result)) > 0:
        _log.warning(
            "filled levels of one spin lie up to %.1e Eh above empty ones of the other, so another "
            "moment has a lower energy: use smearing, for example %s, which frees the moment",
            over,
            argument("smearing", 0.005),
            extra={"of_a_kind": True},
        )


def _overlap(result: CrystalSCFResult) -> float:
    """How far filled levels of one spin reach above empty ones of the other, Eh; else negative."""
    if len(result.mo_occ) == 1:
        return -float("inf")
    filled = result.mo_occ > 0.5
    top = torch.where(filled, result.mo_energy, -torch.inf).max()
    return float(top - torch.where(filled, torch.inf, result.mo_energy).min())
