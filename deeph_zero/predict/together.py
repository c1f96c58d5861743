"""Predictions of several molecules on a device: network, diagonalisation and builds in one go.

A device is bound by launches: as many molecules as fit its memory cost hardly more than one. What
is left of each (orbitals, dipoles, records) is done on the processor; derivatives are made on the
device, one molecule after another.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.errors import ComputationError
from deeph_zero.integrals.portable import Portable
from deeph_zero.kohnsham.batch import KohnShamBatch
from deeph_zero.ks.batch.certificates import Point, certify_together
from deeph_zero.ks.batch.copies import to_device, to_host
from deeph_zero.ks.certificate import Certificate
from deeph_zero.ks.parallel.room import Room
from deeph_zero.ks.scf.result import SCFResult
from deeph_zero.method import Method
from deeph_zero.model_files.card import Card
from deeph_zero.molecule import Molecule
from deeph_zero.nn.inputs import collate
from deeph_zero.nn.network import FockNetwork
from deeph_zero.predict.answer import Asked, At, Made, answer
from deeph_zero.predict.intervals import Calibration
from deeph_zero.predict.refined_together import builds_on_host, refine_together
from deeph_zero.predict.single import Prediction
from deeph_zero.prepared.molecule import Prepared
from deeph_zero.prepared.several import Several, prepare_several


def predict_together(
    network: FockNetwork,
    molecules: Sequence[Molecule],
    asked: Asked,
    *,
    method: Method,
    known: tuple[Calibration | None, Card | None],
    device: torch.device,
    room: Room | None = None,
    portables: Sequence[Portable | None] = (),
) -> tuple[list[Prediction], Several]:
    """Predictions of several molecules, each as it would be alone, to rounding.

    Args:
        network: On the device.
        molecules: Structures of elements that the network knows.
        asked: What is asked for.
        method: What is solved.
        known: The model's calibration and card.
        device: Where to compute.
        room: Learns how many molecules fit the device's memory.
        portables: Integrals of each that were made before; None where they are made here.

    Returns:
        One prediction per molecule, and what was made for them, layers among it.

    Raises:
        ComputationError: If a matrix is not finite, or something did not converge.
    """
    several = prepare_several(
        molecules,
        method,
        network.reading,
        device=device,
        builds=asked.builds,
        portables=portables,
    )
    focks = network_focks(network, several.prepared, device)
    found = answers(several, focks, asked, method=method, known=known)
    if room is not None and several.batch is not None:
        room.learn(len(molecules), scarce=several.batch.batch.scarce)
    return found, several


def answers(
    several: Several,
    focks: Sequence[Tensor],
    asked: Asked,
    *,
    method: Method,
    known: tuple[Calibration | None, Card | None],
) -> list[Prediction]:
    """What follows from H of several molecules.

    Args:
        several: The molecules made ready.
        focks: H of each, Eh, on the processor.
        asked: What is asked for.
        method: What is solved.
        known: The model's calibration and card.

    Returns:
        One prediction per molecule.

    Raises:
        ComputationError: If a matrix is not finite, or something did not converge.
    """
    here, there = _densities(several.prepared, several.batch, focks, builds=asked.builds)
    made: list[Made] = [Made() for _ in here]
    if several.batch is not None and asked.builds:
        made = _made(several.batch, several.prepared, (here, there), asked)
    out: list[Prediction] = []
    each = zip(several.prepared, focks, there, here, made, strict=True)
    for own, fock, at, light, found in each:
        where = {"light": light, "made": found}
        out.append(answer(own, fock, at, asked, method=method, known=known, **where))
    return out


@torch.no_grad()
def network_focks(
    network: FockNetwork, prepared: Sequence[Prepared], device: torch.device
) -> list[Tensor]:
    """H of several molecules on the processor, from one call of the network.

    Args:
        network: On the device.
        prepared: The molecules, on the processor.
        device: Where the network is.

    Returns:
        H of each, Eh.

    Raises:
        ComputationError: If one is not finite.
    """
    inputs = collate([one.inputs for one in prepared])
    # where blocks lie stays on the processor: a device would be asked for every molecule's sizes
    moved = dataclasses.replace(inputs, patterns=()).to(device)
    found = network(dataclasses.replace(moved, patterns=inputs.patterns))
    values, seen = to_host([one.values for one in found]), network.scales.seen_corrections
    focks: list[Tensor] = []
    for own, flat in zip(prepared, values, strict=True):
        correction = BlockMatrix(own.inputs.patterns[0], flat)
        focks.append(own.predicted(correction, seen))
        check_predicted(own.molecule, focks[-1])
    return focks


def check_predicted(molecule: Molecule, fock: Tensor) -> None:
    """See whether what a network gave is a matrix.

    Args:
        molecule: The structure.
        fock: H, Eh.

    Raises:
        ComputationError: If it is not finite.
    """
    if not bool(torch.isfinite(fock).all()):
        raise ComputationError(
            f"{molecule.where}expected finite Fock matrix elements from the network, got NaN "
            "or infinity; the geometry is far outside its training data: train it on such "
            "structures"
        )


def _densities(
    prepared: Sequence[Prepared],
    batch: KohnShamBatch | None,
    focks: Sequence[Tensor],
    *,
    builds: bool,
) -> tuple[list[At], list[At]]:
    """Densities and the builds at them, on the processor and on the device."""
    if batch is None or not builds:
        found = [
            At(own.ks, own.ks.density(f), None) for own, f in zip(prepared, focks, strict=True)
        ]
        return found, found
    dms = batch.density(to_device(focks, batch.layers[0].data.ovlp.device))
    built = batch.build(dms)
    there = [At(*one) for one in zip(batch.layers, dms, built, strict=True)]
    each = zip(prepared, to_host(dms), builds_on_host(built), strict=True)
    return [At(own.ks, dm, one) for own, dm, one in each], there


def _made(
    batch: KohnShamBatch,
    prepared: Sequence[Prepared],
    points: tuple[list[At], list[At]],
    asked: Asked,
) -> list[Made]:
    """Refinements and error estimates, of all molecules in step."""
    here, there = points
    refined: list[tuple[SCFResult | None, dict[str, Any]]] = [(None, {}) for _ in here]
    if asked.tol is not None:
        starts = [own.start for own in prepared]
        more = {"tol": asked.tol, "compare_start": asked.compare_start}
        refined = list(refine_together(batch, here, there, starts, **more))
    certified: list[Certificate | None] = [None] * len(here)
    if asked.certificate and asked.coupled:
        at = [_point(*pair) for pair in zip(here, there, strict=True)]
        certified = list(certify_together(batch.batch, at))
    each = zip(refined, certified, strict=True)
    return [Made(refined=done, facts=facts, certified=one) for (done, facts), one in each]


def _point(here: At, there: At) -> Point:
    assert here.built is not None
    assert there.built is not None
    near, far = here.ks, there.ks
    return Point(
        layer=near.layer,
        dm=near.to_layer(here.dm),
        fock=near.to_layer(here.built.fock),
        energy=float(here.built.energy),
        there=(far.to_layer(there.dm), far.to_layer(there.built.fock)),
    )
