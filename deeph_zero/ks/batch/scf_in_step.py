"""SCF of several molecules in step: each has its own DIIS, the cycles' work is done for all."""

import torch

from deeph_zero.ks.batch.ks_batch import KSBatch
from deeph_zero.ks.scf.iteration import Step, Wanted
from deeph_zero.ks.scf.result import SCFResult, SCFSettings
from deeph_zero.ks.scf.solve import steps
from deeph_zero.ks.scf.start import filled_density, starting_density
from deeph_zero.types import GivenMatrices, MoleculeMatrix


def solve_batch(
    batch: KSBatch, dm0s: GivenMatrices | None, settings: SCFSettings
) -> list[SCFResult]:
    """Iterate every molecule until it stops by itself.

    Args:
        batch: The molecules.
        dm0s: Their starting density matrices; None starts from ``settings.init_guess``.
        settings: Tolerances and the iteration's knobs, of all of them.

    Returns:
        The last iterates, in order; non-convergence is a result.

    Raises:
        InputError: If their number is not the number of molecules, or one is not of its molecule.
    """
    if dm0s is None:
        dm0s = [starting_density(layer, settings.init_guess) for layer in batch.layers]
    batch.check(dm0s)
    results: dict[int, SCFResult] = {}
    coarse, fine = _Grid(batch, settings), _Grid(batch, settings)
    with torch.no_grad():
        pairs = zip(batch.layers, dm0s, strict=True)
        runs = [steps(layer, dm, settings) for layer, dm in pairs]
        answers: dict[int, Step | None] = dict.fromkeys(range(len(batch)))
        while answers:
            wanted: dict[int, Wanted] = {}
            for k, one in answers.items():
                try:
                    wanted[k] = next(runs[k]) if one is None else runs[k].send(one)
                except StopIteration as end:
                    results[k] = end.value
            on_fine = {k: one for k, one in wanted.items() if one.layer is batch.layers[k]}
            on_coarse = {k: one for k, one in wanted.items() if k not in on_fine}
            answers = {**fine.answer(on_fine), **coarse.answer(on_coarse)}
    return [results[k] for k in range(len(batch))]


class _Grid:
    """Does the builds on one of the two grids, of whoever asks for one."""

    def __init__(self, batch: KSBatch, settings: SCFSettings) -> None:
        """Nothing is stacked yet.

        Args:
            batch: All molecules.
            settings: Tolerances and the iteration's knobs.
        """
        self._whole = batch
        self._settings = settings
        self._members: list[int] = []
        self._batch: KSBatch | None = None
        self._last: dict[int, Step] = {}

    def answer(self, wanted: dict[int, Wanted]) -> dict[int, Step]:
        """One build for each that wants one.

        Args:
            wanted: By position in the batch.

        Returns:
            Density, T S and build of each.
        """
        if not wanted:
            return {}
        batch = self._gather(wanted)
        filled = self._filled(wanted)
        known = [wanted[k].coarse if k in wanted else None for k in self._members]
        builds = batch.build([filled[k][0] for k in self._members], known)
        for k, built in zip(self._members, builds, strict=True):
            self._last[k] = (*filled[k], built)
            if k not in wanted:  # computed along, asked for by nobody
                batch.layers[self._members.index(k)].fock_builds -= 1
        return {k: self._last[k] for k in wanted}

    def _gather(self, wanted: dict[int, Wanted]) -> KSBatch:
        """The batch of those that want a build, or one that is at most twice as large.

        Stacking anew costs something.
        """
        strategy = self._whole.strategy
        idle = set(self._members) - set(wanted)
        fits = self._batch is not None and set(wanted) <= set(self._members)
        if not fits or (idle and (strategy == "merged" or 2 * len(wanted) <= len(self._members))):
            self._members = sorted(wanted)
            layers = [wanted[k].layer for k in self._members]
            self._batch = type(self._whole)(layers, strategy=strategy)
        assert self._batch is not None
        return self._batch

    def _filled(self, wanted: dict[int, Wanted]) -> dict[int, tuple[MoleculeMatrix, float]]:
        """Density and T S of every member; of an idle one the last."""
        batch, tol = self._batch, self._settings.degeneracy_tol
        assert batch is not None
        focks = {k: one.fock for k, one in wanted.items() if one.fock is not None}
        if len(focks) == len(self._members):
            found = batch.filled([focks[k] for k in self._members], tol)
            return dict(zip(self._members, found, strict=True))
        out = {k: step[:2] for k, step in self._last.items() if k in self._members}
        out |= {k: (o.dm, o.entropy_energy) for k, o in wanted.items() if o.dm is not None}
        out |= {k: filled_density(wanted[k].layer, fock, tol) for k, fock in focks.items()}
        return out
