"""Refinements of several predictions on a device: their SCFs run in step."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from deeph_zero.errors import InputError
from deeph_zero.kohnsham import KohnSham
from deeph_zero.kohnsham.batch import KohnShamBatch
from deeph_zero.ks.batch.copies import to_host
from deeph_zero.ks.response.open_shell import exact_part, is_clear
from deeph_zero.ks.scf.result import SCFResult
from deeph_zero.ks.terms.build import FockBuild
from deeph_zero.predict.answer import At
from deeph_zero.predict.single import is_worse
from deeph_zero.types import AOMatrix

MATRICES = ("fock", "dm", "mo_energy", "mo_coeff", "mo_occ")

Begin = tuple[Tensor, FockBuild | None]
"""A density on the device and the build there, its numbers on the processor."""


def refine_together(
    batch: KohnShamBatch,
    here: Sequence[At],
    there: Sequence[At],
    starts: Sequence[FockBuild | None],
    *,
    tol: float,
    compare_start: bool,
) -> list[tuple[SCFResult, dict[str, Any]]]:
    """:func:`~deeph_zero.predict.single.refine_best` of several molecules.

    Args:
        batch: The molecules on the device.
        here: Predicted densities and their builds, on the processor.
        there: Densities and builds on the device.
        starts: The builds at the superposed atoms, where they were made, on the device.
        tol: Norm of the orbital gradient to reach, Eh.
        compare_start: Also converge from the superposed atoms, and count.

    Returns:
        What :func:`~deeph_zero.predict.single.refine_best` does of each.

    Raises:
        InputError: If ``tol`` is not positive.
        ComputationError: If a matrix is not finite.
    """
    if not tol > 0:
        raise InputError(f"expected a positive tolerance to refine to, got {tol}; use e.g. 1e-5")
    standard = _from_atoms(batch, starts)
    worse = [_is_worse(one, start, tol) for one, (_, start) in zip(here, standard, strict=True)]
    begins: list[Begin] = []
    for k, at in enumerate(there):
        assert at.built is not None
        own = dataclasses.replace(_built(here[k]), fock=at.built.fock)
        begins.append(_on_device(standard[k], starts[k]) if worse[k] else (at.dm, own))
    done = _solved(batch, begins, tol)
    facts: list[dict[str, Any]] = [{"standard_start": one} for one in worse]
    if compare_start:
        rest = [k for k, one in enumerate(worse) if not one]
        usual = dict(enumerate(done))
        if rest:
            some = KohnShamBatch([batch.layers[k] for k in rest], strategy=batch.strategy)
            again = [_on_device(standard[k], starts[k]) for k in rest]
            usual |= zip(rest, _solved(some, again, tol), strict=True)
        for k, fact in enumerate(facts):
            fact["standard_iterations"] = usual[k].iterations
    for k, (result, fact) in enumerate(zip(done, facts, strict=True)):
        if result.converged:
            fact["instability"] = instability(here[k].ks, there[k].ks, result.dm, result.fock)
    return list(zip(done, facts, strict=True))


def _built(at: At) -> FockBuild:
    assert at.built is not None
    return at.built


def _from_atoms(batch: KohnShamBatch, starts: Sequence[FockBuild | None]) -> list[Begin]:
    """Superposed atoms, on the device, and the builds there, on the processor."""
    known = [one for one in starts if one is not None]
    builds = iter(builds_on_host(known))
    pairs = zip(batch.layers, starts, strict=True)
    return [(ks.data.dm_guess, None if one is None else next(builds)) for ks, one in pairs]


def _on_device(begin: Begin, start: FockBuild | None) -> Begin:
    """With the build's matrix on the device."""
    dm, built = begin
    if built is None or start is None:
        return dm, None
    return dm, dataclasses.replace(built, fock=start.fock)


def _is_worse(here: At, start: FockBuild | None, tol: float) -> bool:
    if start is None:
        return False
    guess = here.ks.data.dm_guess, start
    return is_worse(here.ks, (here.dm, _built(here)), guess, tol=tol)


def _solved(batch: KohnShamBatch, begins: Sequence[Begin], tol: float) -> list[SCFResult]:
    """The SCFs, their results on the processor."""
    settings = {"conv_tol": tol, "conv_tol_grad": tol, "hint": False}
    firsts = [built for _, built in begins]
    return results_on_host(batch.scf([dm for dm, _ in begins], first_builds=firsts, **settings))


def results_on_host(found: Sequence[SCFResult]) -> list[SCFResult]:
    """Results with their matrices on the processor, copied in one go.

    Args:
        found: Results on one device.

    Returns:
        The results; their matrices are on the processor.
    """
    moved = iter(to_host([getattr(one, name) for one in found for name in MATRICES]))
    return [dataclasses.replace(one, **{name: next(moved) for name in MATRICES}) for one in found]


def instability(near: KohnSham, far: KohnSham, dm: AOMatrix, fock: AOMatrix) -> float | None:
    """Whether a lower open shell hides, looked for on a device only where the gap allows it.

    Args:
        near: The layer on the processor, without integrals for builds; or ``far``.
        far: The layer on the device.
        dm: Density matrix, where ``near`` is.
        fock: F there, Eh.

    Returns:
        As :func:`~deeph_zero.ks.response.open_shell.spin_instability`.
    """
    at = near.to_layer(dm), near.to_layer(fock)
    if near is not far and is_clear(near.layer, *at, exact_part(far.layer.data)):
        return None
    device = far.data.ovlp.device
    return far.spin_instability(dm.to(device), fock.to(device))


def builds_on_host(built: Sequence[FockBuild]) -> list[FockBuild]:
    """Fock matrices and numbers, each kind copied in one go.

    Args:
        built: Builds on a device.

    Returns:
        The builds on the processor.
    """
    focks = to_host([one.fock for one in built])
    numbers = to_host(
        [x.reshape(()) for one in built for x in (*one.parts.values(), one.n_electrons)]
    )
    rest = iter(numbers)
    found: list[FockBuild] = []
    for one, fock in zip(built, focks, strict=True):
        parts = {name: next(rest) for name in one.parts}
        found.append(FockBuild(parts=parts, fock=fock, n_electrons=next(rest)))
    return found
