"""Certificates of several geometries of a training on a device: all of them in one go."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from deeph_zero.kohnsham import KohnSham
from deeph_zero.kohnsham.batch import KohnShamBatch
from deeph_zero.ks.batch.copies import to_host
from deeph_zero.ks.parallel.room import Room
from deeph_zero.nn.inputs import collate
from deeph_zero.nn.network import FockNetwork
from deeph_zero.predict.answer import Asked
from deeph_zero.predict.refined_together import instability
from deeph_zero.predict.single import Prediction
from deeph_zero.predict.together import answers, check_predicted
from deeph_zero.prepared.molecule import Prepared
from deeph_zero.prepared.several import Several, on_processor
from deeph_zero.train.taught import Problem


@torch.no_grad()
def certified_together(
    network: FockNetwork,
    problems: Sequence[Problem],
    layers: Sequence[KohnSham],
    *,
    near_enough: float,
    room: Room,
) -> list[Prediction]:
    """Predictions of geometries that were trained on, with certificates.

    Args:
        network: Trained, on the device.
        problems: The geometries.
        layers: Their layers with integrals to certify with, on the device; they count the builds.
        near_enough: Orbital gradient (rms, Eh) up to which a lower open shell is looked for.
        room: Learns how many fit the device's memory.

    Returns:
        The predictions, each as it would be alone, to rounding.

    Raises:
        ComputationError: If a matrix is not finite.
    """
    batch, light = KohnShamBatch(layers), on_processor(layers)
    prepared, focks = _predicted(network, problems, light)
    method = problems[0].ks.info.method
    several = Several(prepared, batch)
    found = answers(several, focks, Asked(), method=method, known=(None, None))
    room.learn(len(problems), scarce=batch.batch.scarce)
    return [
        _with_instability(one, near, far, near_enough)
        for one, near, far in zip(found, light, batch.layers, strict=True)
    ]


def _predicted(
    network: FockNetwork, problems: Sequence[Problem], light: Sequence[KohnSham]
) -> tuple[list[Prepared], list[Tensor]]:
    """The geometries on the processor, and the network's H of each."""
    outputs = network.eval()(collate([one.inputs for one in problems]))
    pairs = zip(problems, outputs, strict=True)
    corrections = to_host([one.correction(output) for one, output in pairs])
    bases, seen = to_host([one.fock0 for one in problems]), network.scales.seen_corrections
    prepared: list[Prepared] = []
    focks: list[Tensor] = []
    for problem, ks, base, correction in zip(problems, light, bases, corrections, strict=True):
        own = Prepared(
            molecule=problem.molecule,
            ks=ks,
            fock0=base,
            start=None,
            matrices=None,
            stored=problem.stored,
        )
        prepared.append(own)
        focks.append(own.bounded(correction, seen))
        check_predicted(problem.molecule, focks[-1])
    return prepared, focks


def _with_instability(
    found: Prediction, near: KohnSham, far: KohnSham, near_enough: float
) -> Prediction:
    """With a sign of a lower open shell, where the density is near enough to tell."""
    assert found.certificate is not None
    assert found.fock_rebuilt is not None
    if found.certificate.orbital_gradient_rms > near_enough:
        return found
    sign = instability(near, far, found.dm, found.fock_rebuilt)
    return dataclasses.replace(found, instability=sign)
