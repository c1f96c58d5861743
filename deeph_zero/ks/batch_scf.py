"""SCF of several molecules in step: each has its own DIIS, the cycles' work is done for all."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from deeph_zero.ks.scf import SCFResult, SCFSettings, Step, scf_steps
from deeph_zero.types import MoleculeMatrix

if TYPE_CHECKING:
    from deeph_zero.ks.batch import KSBatch


def solve_batch(
    batch: "KSBatch", dm0s: Sequence[MoleculeMatrix], settings: SCFSettings
) -> list[SCFResult]:
    """Iterate every molecule until it stops by itself.

    Args:
        batch: The molecules.
        dm0s: Their starting density matrices.
        settings: Tolerances and the iteration's knobs, of all of them.

    Returns:
        The last iterates, in order; non-convergence is a result.
    """
    before = [layer.fock_builds for layer in batch.layers]
    results: dict[int, SCFResult] = {}
    with torch.no_grad():
        parts = zip(batch.layers, dm0s, batch.build(dm0s), before, strict=True)
        runs = [scf_steps(layer, dm, settings, built, n) for layer, dm, built, n in parts]
        members = list(range(len(batch)))
        focks: dict[int, MoleculeMatrix] = {}
        answers: dict[int, Step | None] = dict.fromkeys(members)
        current = batch
        while answers:
            for k, answer in answers.items():
                try:
                    run = runs[k]
                    focks[k] = next(run) if answer is None else run.send(answer)
                except StopIteration as end:
                    results[k] = end.value
                    focks[k] = end.value.fock
            active = [k for k in members if k not in results]
            if active and _shrinks(batch, len(active), len(members)):
                members, current = active, batch.subset(active)
            found = _cycle(current, [focks[k] for k in members], settings) if active else []
            answers = {k: one for k, one in zip(members, found, strict=False) if k not in results}
            for k in members:
                if k in results and active:  # computed along, asked for by nobody
                    batch.layers[k].fock_builds -= 1
    return [results[k] for k in range(len(batch))]


def _shrinks(batch: "KSBatch", n_active: int, n_members: int) -> bool:
    """Stacking anew costs something, so stacks shrink by half at least."""
    return n_active < n_members if batch.strategy == "merged" else 2 * n_active <= n_members


def _cycle(batch: "KSBatch", focks: Sequence[MoleculeMatrix], settings: SCFSettings) -> list[Step]:
    """Density, T S and build of every matrix to diagonalise."""
    filled = batch.filled(focks, settings.degeneracy_tol)
    builds = batch.build([dm for dm, _ in filled])
    return [(dm, ts, built) for (dm, ts), built in zip(filled, builds, strict=True)]
