"""Certificates of several molecules on a device: responses and coarse SCFs for all in one go.

What is left of each, the quadratic model and a few diagonalisations, is done on the processor.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import torch

from deeph_zero.ks.batch.copies import to_device, to_host
from deeph_zero.ks.batch.ks_batch import KSBatch
from deeph_zero.ks.batch.stacked_scf import StackedSCF
from deeph_zero.ks.certificate import Certificate, certificate_of, certify, end_of
from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.ks.response.quadratic import QuadraticModel, Step
from deeph_zero.ks.scf.result import SCFSettings
from deeph_zero.ks.scf.solve import Solution
from deeph_zero.types import SpinMatrix


@dataclasses.dataclass(frozen=True)
class Point:
    """A density at which a build was made.

    Attributes:
        layer: The molecule on the processor; needs no integrals for builds.
        dm: The density matrix, on the processor.
        fock: F there, Eh, on the processor.
        energy: E there, Eh.
        there: Density and Fock matrix on the device.
    """

    layer: KohnShamLayer
    dm: SpinMatrix
    fock: SpinMatrix
    energy: float
    there: tuple[SpinMatrix, SpinMatrix]


def certify_together(batch: KSBatch, points: Sequence[Point]) -> list[Certificate]:
    """:func:`~deeph_zero.ks.certificate.certify` of several molecules, the coupled estimate.

    Args:
        batch: The molecules on their device; their builds are counted.
        points: Where to certify, in order.

    Returns:
        The certificates, as of each alone to the tolerances of the equations.

    Raises:
        ComputationError: If a matrix is not finite.
    """
    return batch.within_memory(lambda: _certified(batch, points))


def _certified(batch: KSBatch, points: Sequence[Point]) -> list[Certificate]:
    found: dict[int, Certificate] = {}
    with torch.no_grad():
        ungridded: list[int] = []
        for members, padding in batch.padded_buckets():
            kinds: dict[float, list[int]] = {}
            for k in members:
                layer = batch.layers[k]
                if layer.coarse is None:
                    ungridded.append(k)
                else:
                    kinds.setdefault(layer.degeneracy_tol, []).append(k)
            for tol, some in kinds.items():
                settings = SCFSettings(degeneracy_tol=tol)
                shared = padding if len(some) == len(members) else None
                layers = [batch.layers[k] for k in some]
                stack = StackedSCF(layers, settings, shared)
                found |= _of_stack(stack, {k: points[k] for k in some}, layers)
        found |= _without_coarse_grid(batch, {k: points[k] for k in sorted(ungridded)})
        for k in set(range(len(batch))) - set(found):
            at = points[k]
            found[k] = certify(batch.layers[k], *at.there, at.energy)
    return [found[k] for k in range(len(batch))]


def _of_stack(
    stack: StackedSCF, points: Mapping[int, Point], layers: Sequence[KohnShamLayer]
) -> dict[int, Certificate]:
    """Certificates of molecules with a coarse grid."""
    keys, some = list(points), list(points.values())
    models = [QuadraticModel(at.layer, at.dm, at.fock) for at in some]
    moving = [k for k, model in enumerate(models) if model.cheap != 0]
    along = to_device([models[k].direction() for k in moving], some[0].there[0].device)
    asked = {k: (some[k].there[0], one) for k, one in zip(moving, along, strict=True)}
    dfocks = stack.responses(asked) if asked else {}
    steps = _steps(models, layers, dfocks)
    solved = stack.estimates({k: some[k].there for k in steps})
    ends = _on_host(solved)
    return {
        key: _certificate(at, model, steps.get(k), ends.get(k))
        for k, (key, at, model) in enumerate(zip(keys, some, models, strict=True))
    }


def _without_coarse_grid(batch: KSBatch, points: Mapping[int, Point]) -> dict[int, Certificate]:
    """Certificates of molecules whose estimate is that of the quadratic model."""
    models = {k: QuadraticModel(at.layer, at.dm, at.fock) for k, at in points.items()}
    moving = [k for k, model in models.items() if model.cheap != 0]
    dfocks: dict[int, SpinMatrix] = {}
    if moving:
        device = points[moving[0]].there[0].device
        along = to_device([models[k].direction() for k in moving], device)
        found = batch.subset(moving).response([points[k].there[0] for k in moving], along)
        dfocks = dict(zip(moving, found, strict=True))
    order = {k: i for i, k in enumerate(models)}
    layers = [batch.layers[k] for k in models]
    steps = _steps(list(models.values()), layers, {order[k]: one for k, one in dfocks.items()})
    return {
        k: _certificate(points[k], model, steps.get(order[k]), None) for k, model in models.items()
    }


def _steps(
    models: Sequence[QuadraticModel],
    layers: Sequence[KohnShamLayer],
    dfocks: Mapping[int, SpinMatrix],
) -> dict[int, Step]:
    """Steps to the minima; none where the energy curves downwards."""
    known = dict(zip(dfocks, to_host(list(dfocks.values())), strict=True))
    steps: dict[int, Step] = {}
    for k, (model, layer) in enumerate(zip(models, layers, strict=True)):
        step = model.no_step()
        if k in known:
            step = model.step_along(
                known[k], sum((share for share, _ in layer.data.exchange), start=0.0)
            )
        if step is not None:
            steps[k] = step
    return steps


def _on_host(solved: Mapping[int, Solution | None]) -> dict[int, Solution]:
    found = {k: one for k, one in solved.items() if one is not None}
    dms = to_host([one.dm for one in found.values()])
    focks = to_host([one.fock for one in found.values()])
    each = zip(found.items(), dms, focks, strict=True)
    return {k: Solution(dm, fock, one.change) for (k, one), dm, fock in each}


def _certificate(
    at: Point, model: QuadraticModel, step: Step | None, solved: Solution | None
) -> Certificate:
    end = None if step is None else end_of(at.dm, at.fock, step, solved)
    return certificate_of(at.layer, at.fock, at.energy, model, dm=at.dm, end=end, coupled=True)
