"""Whether a predicted matrix fills the orbitals that its base fills, with a gap like its."""

from typing import Any

import torch

from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.layer import Orbitals
from deeph_zero.types import AOMatrix

SAME_SPACE = 0.8
"""Least part of an occupied orbital within the base's occupied space. Sixteen molecules larger than
any trained on: 0.997 and more; ethanols pushed by 0.4 Å, whose gaps are a tenth: 0.94 and more; a
cation of a model of neutral molecules: 0.63."""

CLOSED = 0.25
"""Part of the base's gap below which a gap counts as closed; 0.74 to 1.15 for those molecules, 0.2
for the cation."""


@torch.no_grad()
def doubts(ks: KohnSham, fock: AOMatrix, base: AOMatrix) -> tuple[str, ...]:
    """Signs that a matrix fills the wrong orbitals; costs two diagonalisations and no build.

    A base is wrong in its energies, seldom in which orbitals are filled: it is physics alone.
    Levels that are filled in part belong to no side and are not judged.

    Args:
        ks: Kohn-Sham layer of the molecule.
        fock: H, Eh.
        base: H₀ that it corrects, Eh.

    Returns:
        One phrase per sign; none if there is no sign.
    """
    found, before = (ks.layer.orbitals(ks.to_layer(matrix)) for matrix in (fock, base))
    if found.degenerate or before.degenerate:
        return ()
    ovlp, words = ks.data.ovlp, []
    names = ("alpha ", "beta ") if ks.unrestricted else ("",)
    for spin, (name, n) in enumerate(zip(names, ks.nelec, strict=False)):
        if not _is_whole(found, spin) or not 0 < n < ks.nmo:
            continue
        occupied, filled = (o.mo_coeff[spin, :, :n] for o in (found, before))
        least = float(torch.linalg.svdvals(occupied.mT @ ovlp @ filled)[-1]) ** 2
        gap, gap_before = (_gap(o, spin, n) for o in (found, before))
        if least < SAME_SPACE:
            words.append(
                f"an occupied {name}orbital lies to {100 * least:.0f} % only in those of its base"
            )
        if gap < CLOSED * gap_before:
            words.append(f"the {name}gap is {gap:.3f} Eh, that of its base {gap_before:.3f} Eh")
    return tuple(words)


def with_base(ks: KohnSham, fock: AOMatrix, base: AOMatrix) -> dict[str, Any]:
    """What a prediction says of its base: ``base`` on the CPU, and ``doubts``.

    Args:
        ks: Kohn-Sham layer of the molecule.
        fock: H, Eh.
        base: H₀, Eh.

    Returns:
        Fields of :class:`~deeph_zero.predict.single.Prediction`.
    """
    return {"base": base.cpu(), "doubts": doubts(ks, fock, base)}


def _gap(orbitals: Orbitals, spin: int, n: int) -> float:
    return float(orbitals.mo_energy[spin, n] - orbitals.mo_energy[spin, n - 1])


def _is_whole(orbitals: Orbitals, spin: int) -> bool:
    occ = orbitals.mo_occ[spin]
    return bool(((occ == 0) | (occ == occ.max())).all())
