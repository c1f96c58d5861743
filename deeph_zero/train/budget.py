"""When to spend the next Fock build: per geometry, only while its target limits the network."""

import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from deeph_zero.errors import ComputationError
from deeph_zero.kohnsham.batch import KohnShamBatch
from deeph_zero.ks.batch.ks_batch import gains, gains_together
from deeph_zero.ks.batch.scf_in_step import coarse_solutions
from deeph_zero.train.losses import LossValue
from deeph_zero.train.taught import Absent, Problem, here
from deeph_zero.train.teacher import Solved
from deeph_zero.types import AOMatrix

_log = logging.getLogger("deeph_zero")

MAX_FAILURES = 3
"""Failed attempts at a geometry in a row before it is left out of the training."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """How builds are rationed.

    Attributes:
        ratio: A target is improved while its expected error exceeds this part of the network's
            error at the geometry; 0 improves every target until it is confirmed.
        first: Geometries taught from the start, from F[P₀]; the others join in waves, each twice
            as many as are there, and their first build is made at the network's density.
        last: Fraction of the training at which all have joined.
    """

    ratio: float = 0.0
    first: int | None = None
    last: float = 0.3

    def wants(self, target_error: float, network_error: float) -> bool:
        """Whether the next build at a geometry without a confirmed target is worth its cost.

        Args:
            target_error: Expected error of the target so far, occupied-virtual rms, Eh.
            network_error: Error of the network's H against the target; infinite if unknown.

        Returns:
            False while nothing is known of the network, unless every target is to be confirmed.
        """
        return self.ratio == 0 or target_error > self.ratio * network_error

    def joined(self, n_geometries: int, progress: float) -> int:
        """How many geometries are taught at a point of the training.

        Args:
            n_geometries: All there are.
            progress: Fraction of the training that is done.

        Returns:
            From ``first`` to ``n_geometries``.
        """
        if self.first is None or self.first >= n_geometries:
            return n_geometries
        waves = math.ceil(math.log2(n_geometries / self.first))
        done = math.floor(waves * min(1.0, progress / self.last) + 1e-9)
        return min(n_geometries, self.first * 2**done)


class Lessons:
    """The teachers of a run: who is taught when, what it costs, and who had to be left out.

    Attributes:
        budget: How builds are rationed.
        together: Whether the integrals of a batch are in memory together, so that its builds can
            be made in one call.
        errors: Orbital gradient of the network's H at every geometry when it was last seen, Eh.
        dropped: Geometries that were left out, and why.
    """

    def __init__(self, problems: Sequence[Problem | Absent], budget: Budget) -> None:
        """Bind.

        Args:
            problems: The geometries.
            budget: How their builds are rationed.
        """
        self.budget = budget
        self.together = False
        self.errors = [math.inf] * len(problems)
        self.dropped: dict[int, str] = {}
        self._problems = problems
        self._failures: dict[int, int] = {}
        self._taught: set[int] = set()
        # frames of a file are often neighbours in time: the first ones are a random choice
        order = torch.randperm(len(problems), generator=torch.Generator().manual_seed(1))
        self._order = order.tolist()
        self._rank = {k: rank for rank, k in enumerate(self._order)}

    def _problem(self, k: int) -> Problem:
        return here(self._problems[k])

    def members(self, progress: float) -> list[int]:
        """Geometries that are taught at a point of the training, in input order."""
        n = self.budget.joined(len(self._order), progress)
        return sorted(k for k in self._order[:n] if k not in self.dropped)

    def batch(self, wanted: Sequence[int], progress: float) -> list[int]:
        """A batch with those who have not joined yet replaced by members, each at most once.

        Args:
            wanted: Positions from the loader.
            progress: Fraction of the training that is done.

        Returns:
            Positions to train on.

        Raises:
            ComputationError: If every geometry had to be left out.
        """
        if len(self.dropped) == len(self._order):
            raise ComputationError(
                "expected Fock builds at the training geometries, all of them failed, the last "
                f"one with: {list(self.dropped.values())[-1]}; check the structures"
            )
        n = self.budget.joined(len(self._order), progress)
        found = (self._order[self._rank[k] % n] for k in wanted)
        return [k for k in dict.fromkeys(found) if k not in self.dropped]

    def new_round(self) -> None:
        """Another epoch: every geometry may cost one build again."""
        self._taught.clear()

    def teach(
        self, batch: Sequence[int], predict: Callable[[list[int]], Sequence[AOMatrix]]
    ) -> None:
        """At most one build per geometry of a batch and round.

        Args:
            batch: Positions.
            predict: The network's H at some positions, without gradient.
        """
        new = [k for k in batch if k not in self._taught]
        self._taught.update(new)
        fresh = [k for k in new if not self._problem(k).teacher.started]
        known = set(new) - set(fresh)
        self.advance([k for k in new if k in known and self._worth_it(k)])
        for k, fock in zip(fresh, predict(fresh) if fresh else [], strict=True):
            self.guard(k, lambda k=k, fock=fock: self._join(self._problem(k), fock))

    def advance(self, keys: Sequence[int]) -> None:
        """One more build of some geometries, several in one call where that is faster.

        Args:
            keys: Positions of geometries with unfinished teachers.
        """
        proposals: dict[int, AOMatrix] = {}
        for k in keys:
            problem = self._problem(k)
            shares = self.together and gains(problem.fock0.device, problem.ks.info.ngrids)
            if shares and not problem.teacher.needs_solver:
                dm = self.guard(k, problem.teacher.proposal, forgives=False)
                if dm is not None:
                    proposals[k] = dm
            else:
                self.guard(k, problem.teacher.advance)
        if proposals:
            batch = KohnShamBatch([self._problem(k).ks for k in proposals])
            try:
                builds = batch.build(list(proposals.values()))
            except (ComputationError, torch.linalg.LinAlgError):  # whose fault it is shows alone
                for k in proposals:
                    self.guard(k, self._problem(k).teacher.advance)
                return
            each = zip(proposals.items(), builds, strict=True)
            solved = self._solved({k: (dm, built.fock) for (k, dm), built in each})
            for (k, dm), built in zip(proposals.items(), builds, strict=True):
                learn = self._problem(k).teacher.learn
                self.guard(k, functools.partial(learn, dm, built, solved.get(k)))

    def offer(self, values: Mapping[int, LossValue]) -> None:
        """Let teachers consider builds that losses made; one that knows a better density refuses.

        Args:
            values: By position, their numbers on the host.
        """
        builds = {
            k: value.at
            for k, value in values.items()
            if value.at is not None and value.gradient < self._problem(k).teacher.residual
        }
        solved = self._solved({k: (dm, fock) for k, (dm, fock, _) in builds.items()})
        for k, (dm, fock, energy) in builds.items():
            offer = self._problem(k).teacher.offer
            self.guard(k, functools.partial(offer, dm, fock, float(energy), solved.get(k)))

    def _solved(self, at: Mapping[int, tuple[AOMatrix, AOMatrix]]) -> dict[int, Solved]:
        """Where coarse SCFs end from new builds: of all that need it in step, on a GPU."""
        if not all(gains_together(fock.device) for _, fock in at.values()):
            return {}
        open_ = {k: one for k, one in at.items() if not self._problem(k).teacher.ends_at(*one)}
        if not open_:
            return {}
        some = KohnShamBatch([self._problem(k).ks for k in open_])
        dms, focks = ([one[i] for one in open_.values()] for i in (0, 1))
        try:
            found = coarse_solutions(some.batch, some.to_layers(dms), some.to_layers(focks))
        except (ComputationError, torch.linalg.LinAlgError):  # whose fault it is shows alone
            return {}
        return {k: (one,) for k, one in zip(open_, found, strict=True)}

    def likely(self, k: int) -> bool:
        """Whether the next visit of a geometry will probably cost a build.

        Args:
            k: Its position.

        Returns:
            True unless what is known now speaks against it.
        """
        if k in self.dropped or k in self._taught:
            return False
        return not self._problem(k).teacher.started or self._worth_it(k)

    def _worth_it(self, k: int) -> bool:
        teacher = self._problem(k).teacher
        return not teacher.finished and self.budget.wants(teacher.expected_error, self.errors[k])

    @staticmethod
    def _join(problem: Problem, fock: AOMatrix) -> None:
        """First build of a geometry, at the network's density unless there is none."""
        if problem.teacher.started or not bool(torch.isfinite(fock).all()):
            problem.teacher.advance()
            return
        dm = problem.ks.density(fock)
        built = problem.ks.build(dm)
        problem.teacher.offer(dm, built.fock, float(built.energy))

    def failed(self, k: int) -> bool:
        """Whether the last attempt at a geometry failed."""
        return k in self._failures

    def forget(self, k: int) -> None:
        """Another geometry has taken this place."""
        self.errors[k] = math.inf
        self._taught.discard(k)
        self._failures.pop(k, None)

    def guard(self, k: int, work: Callable[[], Any], *, forgives: bool = True) -> Any:
        """Do something with one geometry; its failure is counted and does not end the training.

        Args:
            k: Position of the geometry.
            work: What to do.
            forgives: Whether success ends the row of failures; false for a part of the work.

        Returns:
            What ``work`` returns; None if it failed.
        """
        try:
            result = work()
        except (ComputationError, torch.linalg.LinAlgError) as error:
            self._failures[k] = self._failures.get(k, 0) + 1
            if self._failures[k] >= MAX_FAILURES:
                self.dropped[k] = str(error).splitlines()[0]
                where = self._problems[k].molecule.where
                _log.warning("%sleft out of the training: %s", where, self.dropped[k])
            return None
        if forgives:
            self._failures.pop(k, None)
        return result

    def state(self) -> dict[str, Any]:
        """Everything needed to go on after a restart."""
        return {
            "teachers": [
                p.teacher.state() if isinstance(p, Problem) else {} for p in self._problems
            ],
            "errors": self.errors,
            "taught": sorted(self._taught),
            "dropped": [[k, text] for k, text in self.dropped.items()],
            "failures": [[k, n] for k, n in self._failures.items()],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state`."""
        for problem, teacher in zip(self._problems, state["teachers"], strict=True):
            if isinstance(problem, Problem):
                problem.teacher.restore(teacher)
        self.errors = list(state["errors"])
        self._taught = set(state["taught"])
        self.dropped = {int(k): str(text) for k, text in state["dropped"]}
        self._failures = {int(k): int(n) for k, n in state["failures"]}
