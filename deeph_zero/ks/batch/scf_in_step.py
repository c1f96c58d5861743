"""SCF of several molecules in step: each has its own DIIS, the cycles' work is done for all."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from deeph_zero.ks.batch.ks_batch import KSBatch
from deeph_zero.ks.batch.stacked_scf import StackedSCF, in_step
from deeph_zero.ks.scf.iteration import Request, State, Step, Wanted, finished
from deeph_zero.ks.scf.result import SCFResult, SCFSettings
from deeph_zero.ks.scf.solve import (
    Solution,
    answer,
    coarse_solution,
    steps,
    to_diagonalise,
)
from deeph_zero.ks.scf.start import filled_density, starting_density
from deeph_zero.ks.terms.build import FockBuild
from deeph_zero.types import GivenMatrices, MoleculeMatrix


def solve_batch(
    batch: KSBatch,
    dm0s: GivenMatrices | None,
    settings: SCFSettings,
    first_builds: Sequence[FockBuild | None] | None = None,
) -> list[SCFResult]:
    """Iterate every molecule until it stops by itself.

    Args:
        batch: The molecules.
        dm0s: Their starting density matrices; None starts from ``settings.init_guess``.
        settings: Tolerances and the iteration's knobs, of all of them.
        first_builds: The builds at ``dm0s``, where they exist already.

    Returns:
        The last iterates, in order; non-convergence is a result.

    Raises:
        InputError: If their number is not the number of molecules, or one is not of its molecule.
    """
    if dm0s is None:
        dm0s = [starting_density(layer, settings.init_guess) for layer in batch.layers]
    batch.check(dm0s)
    firsts = [None] * len(batch) if first_builds is None else list(first_builds)
    return batch.within_memory(lambda: _solved(batch, dm0s, settings, firsts))


def _solved(
    batch: KSBatch,
    dm0s: GivenMatrices,
    settings: SCFSettings,
    firsts: Sequence[FockBuild | None],
) -> list[SCFResult]:
    out: dict[int, SCFResult] = {}
    with torch.no_grad():
        rest = list(range(len(batch)))
        for members, padding in batch.padded_buckets():
            stack = StackedSCF([batch.layers[k] for k in members], settings, padding)
            found = stack.solve([dm0s[k] for k in members], [firsts[k] for k in members])
            out |= zip(members, found, strict=True)
            rest = [k for k in rest if k not in out]
        if rest:
            starts = [dm0s[k] for k in rest], [firsts[k] for k in rest]
            found = _each_by_itself(batch.subset(rest), *starts, settings)
            out |= zip(rest, found, strict=True)
    return [out[k] for k in range(len(batch))]


def coarse_solutions(
    batch: KSBatch, dms: GivenMatrices, focks: GivenMatrices
) -> list[Solution | None]:
    """:func:`~deeph_zero.ks.scf.solve.coarse_solution` of every molecule.

    Args:
        batch: The molecules.
        dms: Density matrices.
        focks: F of each, Eh.

    Returns:
        The solutions, in order; None as there.

    Raises:
        ComputationError: If a matrix is not finite.
    """
    return batch.within_memory(lambda: _coarse_ends(batch, dms, focks))


def _coarse_ends(batch: KSBatch, dms: GivenMatrices, focks: GivenMatrices) -> list[Solution | None]:
    found: dict[int, Solution | None] = {}
    with torch.no_grad():
        for members, padding in batch.padded_buckets():
            kinds: dict[float, list[int]] = {}
            for k in members:
                if batch.layers[k].coarse is not None:
                    kinds.setdefault(batch.layers[k].degeneracy_tol, []).append(k)
            for tol, some in kinds.items():
                layers = [batch.layers[k] for k in some]
                shared = padding if len(some) == len(members) else None
                stack = StackedSCF(layers, SCFSettings(degeneracy_tol=tol), shared)
                ends = stack.estimates({i: (dms[k], focks[k]) for i, k in enumerate(some)})
                found |= zip(some, ends.values(), strict=True)
        for k in set(range(len(batch))) - set(found):
            found[k] = coarse_solution(batch.layers[k], dms[k], focks[k])
    return [found[k] for k in range(len(batch))]


def _each_by_itself(
    batch: KSBatch,
    dms: Sequence[MoleculeMatrix],
    first_builds: Sequence[FockBuild | None],
    settings: SCFSettings,
) -> list[SCFResult]:
    """Builds of all together, what is between them one molecule after another."""
    coarse, fine = _Grid(batch, settings), _Grid(batch, settings)
    each = zip(batch.layers, dms, first_builds, strict=True)
    runs = [steps(layer, dm, settings, built) for layer, dm, built in each]

    def answers(asked: Mapping[int, Request]) -> dict[int, Any]:
        found: dict[int, Any] = {}
        builds: dict[int, Wanted] = {}
        for k, one in asked.items():
            if isinstance(one, Wanted):
                builds[k] = one
            else:
                found[k] = answer(one, settings)
        on_fine = {k: one for k, one in builds.items() if one.layer is batch.layers[k]}
        on_coarse = {k: one for k, one in builds.items() if k not in on_fine}
        return {**found, **fine.answer(on_fine), **coarse.answer(on_coarse)}

    ended = in_step(dict(enumerate(runs)), answers)
    return [finished(one, settings) for one in ended.values()]


class _Grid:
    """Makes the builds of one of the two grids for the iterations that ask for one."""

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

    def answer(self, wanted: dict[int, Wanted]) -> dict[int, State]:
        """One build for each that wants one.

        Args:
            wanted: By position in the batch.

        Returns:
            The iterate of each.
        """
        if not wanted:
            return {}
        batch = self._gather(wanted)
        filled = self._filled(wanted)
        known = [wanted[k].known if k in wanted else None for k in self._members]
        builds = batch.build([filled[k][0] for k in self._members], known)
        for k, built in zip(self._members, builds, strict=True):
            self._last[k] = (*filled[k], built)
            if k not in wanted:  # computed along, asked for by nobody
                batch.layers[self._members.index(k)].fock_builds -= 1
        return {k: State.of(one.layer, self._last[k]) for k, one in wanted.items()}

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
        mixed = {k: one for k, one in wanted.items() if one.dm is None}
        focks = {k: to_diagonalise(one, self._settings) for k, one in mixed.items()}
        if len(focks) == len(self._members):
            found = batch.filled([focks[k] for k in self._members], tol)
            return dict(zip(self._members, found, strict=True))
        out = {k: step[:2] for k, step in self._last.items() if k in self._members}
        out |= {k: (o.dm, o.entropy_energy) for k, o in wanted.items() if o.dm is not None}
        out |= {k: filled_density(wanted[k].layer, fock, tol) for k, fock in focks.items()}
        return out
