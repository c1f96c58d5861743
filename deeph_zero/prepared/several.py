"""Several molecules made ready for a network on a device: what can be done in one go is.

Integrals are made on the processor, here or ahead of need; Fock builds, dielectric steps and
diagonalisations are made on the device for all of them. What is small is then done on the
processor, where the matrices are copied together.
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from deeph_zero.integrals.bare import NoTwoElectron
from deeph_zero.integrals.portable import Portable
from deeph_zero.kohnsham import KohnSham
from deeph_zero.kohnsham.batch import KohnShamBatch
from deeph_zero.ks.batch.copies import to_device, to_host
from deeph_zero.ks.scf.mixing import is_undecided
from deeph_zero.ks.terms.build import FockBuild
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.nn.balance import Balance
from deeph_zero.nn.inputs import PhysicsMatrices, prepare_inputs
from deeph_zero.nn.reading import Reading
from deeph_zero.prepared.molecule import (
    TRAINING_GAP_FLOOR,
    Means,
    Prepared,
    ao_memory,
    check_start,
    kohn_sham,
    prepare,
)


@dataclasses.dataclass(frozen=True)
class Several:
    """Molecules made ready together.

    Attributes:
        prepared: Each of them; its layer is on the processor and makes no build, its ``start`` is
            on the device.
        batch: Their layers on the device; None where nobody asked for a build.
    """

    prepared: list[Prepared]
    batch: KohnShamBatch | None


def prepare_several(
    molecules: Sequence[Molecule],
    method: Method,
    reading: Reading,
    *,
    device: torch.device,
    builds: bool,
    portables: Sequence[Portable | None] = (),
) -> Several:
    """:func:`~deeph_zero.prepared.molecule.prepare` of several molecules.

    Args:
        molecules: The structures.
        method: What is solved.
        reading: What the network reads and corrects.
        device: Where builds are made.
        builds: Whether Fock builds follow.
        portables: Integrals of each that were made before; None where they are made here.

    Returns:
        The prepared geometries; the same numbers as one by one, to rounding.

    Raises:
        ComputationError: If a starting Fock matrix is not finite.
    """
    physics = reading.inputs == "physics"
    batch: KohnShamBatch | None = None
    light: list[KohnSham] = []
    if builds or physics:
        batch, light = _layers(molecules, method, device, portables or [None] * len(molecules))
    if physics:
        assert batch is not None
        prepared = _of_builds(molecules, batch, light, reading)
    else:
        prepared = [prepare(one, method, reading, builds=False) for one in molecules]
        if batch is not None:
            for own, one in zip(prepared, light, strict=True):
                own.ks = one
    return Several(prepared, batch)


def _layers(
    molecules: Sequence[Molecule],
    method: Method,
    device: torch.device,
    portables: Sequence[Portable | None],
) -> tuple[KohnShamBatch, list[KohnSham]]:
    """Layers on the device, and the same on the processor without what builds need."""
    whole: list[KohnSham] = []
    share = ao_memory(device) / len(molecules)
    for molecule, portable in zip(molecules, portables, strict=True):
        layer = kohn_sham(
            molecule,
            method,
            Means(device, ao_memory_mb=share),
            gap_floor=TRAINING_GAP_FLOOR,
            portable=portable,
        )
        whole.append(layer)
    return KohnShamBatch(whole), on_processor(whole)


SMALL = ("ovlp", "hcore", "dipole", "nuclear_dipole", "dm_guess")


def on_processor(layers: Sequence[KohnSham]) -> list[KohnSham]:
    """Layers without what builds need, for what is small.

    Args:
        layers: On one device.

    Returns:
        Copies on the processor, which make no build; all tensors are copied in one go.
    """
    datas = [one.data.plain() for one in layers]
    small = [getattr(data, name) for data in datas for name in SMALL]
    moved = iter(to_host([*small, *(one.x for one in layers)]))
    found: list[KohnSham] = []
    for ks, data in zip(layers, datas, strict=True):
        own = dataclasses.replace(
            data,
            **{name: next(moved) for name in SMALL},
            coulomb=NoTwoElectron(),
            exchange=(),
            functional=None,
            grid=None,
            coarse=None,
            nlc=None,
        )
        found.append(ks.on(own))
    for light, x in zip(found, moved, strict=True):
        light.x = x
    return found


def _of_builds(
    molecules: Sequence[Molecule],
    batch: KohnShamBatch,
    light: Sequence[KohnSham],
    reading: Reading,
) -> list[Prepared]:
    """With H₀ from Fock builds, and inputs from H₀."""
    starts = batch.build([ks.data.dm_guess for ks in batch.layers])
    focks, dms = _bases(
        molecules, batch, light, starts, dielectric=reading.corrected == "dielectric"
    )
    found: list[Prepared] = []
    for k, (molecule, ks) in enumerate(zip(molecules, light, strict=True)):
        data = ks.data
        matrices = PhysicsMatrices(
            ovlp=data.ovlp,
            hcore=data.hcore,
            dm0=data.dm_guess,
            fock0=focks[k],
            ddm0=dms[k] - data.dm_guess,
        )
        place = molecule.numbers, molecule.coords, molecule.charge, molecule.spin
        own = Prepared(
            molecule=molecule,
            ks=ks,
            fock0=focks[k],
            start=starts[k],
            matrices=matrices,
            stored=prepare_inputs(
                reading.layout, *place, matrices, cutoff=reading.cutoff, dtype=reading.dtype
            ),
            balance=Balance.of(data.ovlp) if reading.balanced else None,
        )
        found.append(own)
    return found


def _bases(
    molecules: Sequence[Molecule],
    batch: KohnShamBatch,
    light: Sequence[KohnSham],
    starts: Sequence[FockBuild],
    *,
    dielectric: bool,
) -> tuple[list[Tensor], list[Tensor]]:
    """H₀ and P(H₀) of each, on the processor."""
    guesses = [ks.data.dm_guess for ks in batch.layers]
    focks = to_host([one.fock for one in starts])
    for molecule, fock in zip(molecules, focks, strict=True):
        check_start(molecule, fock)
    moves = [
        dielectric and not is_undecided(ks.layer, ks.to_layer(fock))
        for ks, fock in zip(light, focks, strict=True)
    ]
    if any(moves):
        steps = to_host(batch.dielectric_steps([one.fock for one in starts], guesses))
        each = zip(focks, steps, moves, strict=True)
        focks = [fock + step if moved else fock for fock, step, moved in each]
    return focks, to_host(batch.density(to_device(focks, guesses[0].device)))
