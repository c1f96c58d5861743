"""One call of ``fit`` as it goes: what was asked for, the geometries, what came of them."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deeph_zero.host.reporting import Reporter
from deeph_zero.host.runtime import Runtime, set_threads, setup
from deeph_zero.integrals.ahead import IntegralsAhead
from deeph_zero.ks.counts import Builds
from deeph_zero.molecule import Molecule
from deeph_zero.predict.intervals import Calibration
from deeph_zero.settings.config import FitConfig
from deeph_zero.train.module import FitModule
from deeph_zero.train.reserve import Costs
from deeph_zero.train.store.cache import HeavyStore
from deeph_zero.train.stream import Stream
from deeph_zero.train.taught import Absent, Problem
from deeph_zero.train.team import Team


@dataclasses.dataclass(frozen=True, kw_only=True)
class Roles:
    """Structures that are not trained on.

    Attributes:
        held_out: Positions among the run's structures of those that calibrate the model.
        measuring: Positions of those that measure it while it trains.
        validation: Structures of a file of their own for the same.
    """

    held_out: tuple[int, ...] = ()
    measuring: tuple[int, ...] = ()
    validation: tuple[Molecule, ...] = ()

    def entry(self, k: int, *, calibrates: bool, validates: bool = False) -> dict[str, bool]:
        """What a structure is for, where it is not trained on, as its entry says it.

        Args:
            k: Its position.
            calibrates: It calibrated the model.
            validates: It measured the model, if it is not of ``measuring``.

        Returns:
            One field, or none.
        """
        if validates or k in self.measuring:
            return {"validation": True}
        return {"calibration": True} if calibrates else {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Earlier:
    """What earlier attempts at the run left.

    Attributes:
        builds: Their builds, as far as they were recorded.
        entries: ``structures`` of an attempt whose model is still the one there is.
    """

    builds: Builds = dataclasses.field(default_factory=Builds)
    entries: list[dict[str, Any]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Geometries:
    """The geometries of a run, filled while they are prepared.

    Attributes:
        problems: Those trained on; a stream replaces some of them.
        validators: Those that measure, solved.
        lost: With several processes, positions in ``problems`` of those that could not be prepared,
            and why.
        store: Keeps their large tensors.
        stream: Replaces displaced copies during training, if asked for.
    """

    problems: list[Problem | Absent] = dataclasses.field(default_factory=list)
    validators: list[Problem] = dataclasses.field(default_factory=list)
    lost: dict[int, str] = dataclasses.field(default_factory=dict)
    store: HeavyStore | None = None
    stream: Stream | None = None

    @property
    def present(self) -> list[Problem]:
        """Geometries that this process trains on."""
        return [p for p in self.problems if isinstance(p, Problem)]

    @property
    def builds(self) -> list[Builds]:
        """Builds of every geometry."""
        return [p.ks.builds for p in (*self.present, *self.validators)]

    def look_ahead(self, coming: Sequence[int | None], start: int) -> None:
        """Let the workers begin with what is needed next.

        Args:
            coming: Positions in the store in the order in which they will be used; None entries
                are skipped.
            start: The first one of them that is still to come.
        """
        if self.store is None or self.store.ahead is None:
            return
        ahead = self.store.ahead
        soon = [k for k in coming[start : start + ahead.limit] if k is not None]
        ahead.plan(self.store.missing(soon))


@dataclasses.dataclass
class Results:
    """What came of a run so far.

    Attributes:
        failed: Frames left out.
        entries: Certified structures, by position among the run's structures.
        validated: Errors of the final weights at the structures that measure.
        against_base: Those of the final weights and of the base alone, see :mod:`.worth`.
        calibration: What came of the frames that calibrate.
        calibration_builds: Builds spent on them.
        uncalibrated: Why nothing came of them.
        left_out: What the time limit left out.
    """

    failed: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    entries: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)
    validated: dict[str, Any] | None = None
    against_base: dict[str, Any] | None = None
    calibration: Calibration | None = None
    calibration_builds: Builds = dataclasses.field(default_factory=Builds)
    uncalibrated: str = ""
    left_out: list[str] = dataclasses.field(default_factory=list)

    def fail(self, entry: dict[str, Any]) -> None:
        """Add a structure that nobody asked to leave out: the list that was given stays as it is.

        Args:
            entry: What went wrong.
        """
        self.failed = [*self.failed, entry]


@dataclasses.dataclass(kw_only=True)
class Run:
    """One call of :func:`~deeph_zero.train.fit.run_fit`.

    Attributes:
        config: Every setting.
        runtime: Device, threads, seed, deadline.
        reporter: Progress and messages.
        out: Run folder.
        molecules: The structures the summary is about.
        command: Command line, for the record.
        roles: Which of them are not trained on.
        earlier: What earlier attempts left.
        team: The processes that share the work; None for one process.
        started: ``time.monotonic()`` when the command began.
        geometries: What is trained on, and what measures.
        module: What is trained, once there is something.
        results: What came of it so far.
        costs: What each kind of work took.
    """

    config: FitConfig
    runtime: Runtime
    reporter: Reporter
    out: Path
    molecules: list[Molecule]
    command: str = ""
    roles: Roles = dataclasses.field(default_factory=Roles)
    earlier: Earlier = dataclasses.field(default_factory=Earlier)
    team: Team | None = None
    started: float = dataclasses.field(default_factory=time.monotonic)
    geometries: Geometries = dataclasses.field(default_factory=Geometries)
    module: FitModule | None = None
    results: Results = dataclasses.field(default_factory=Results)
    costs: Costs = dataclasses.field(default_factory=Costs)

    @classmethod
    def begun(cls, config: FitConfig, failed: list[dict[str, Any]], **rest: Any) -> "Run":
        """A run whose process is set up.

        Args:
            config: Every setting.
            failed: Frames left out before; those that cannot be prepared are added.
            **rest: Other fields of a run.

        Returns:
            The run; its clock began with the command.
        """
        results = Results(failed=failed)
        run = cls(config=config, runtime=setup(config.runtime), results=results, **rest)
        run.started = config.runtime.started or run.started
        return run

    @property
    def leads(self) -> bool:
        """Whether this process reads, writes and reports."""
        return self.team is None or self.team.leads

    def hire_workers(self) -> IntegralsAhead | None:
        """Processes that compute integrals ahead of need; they take their threads from this one."""
        count = self.config.workers
        if count == 0 or self.team is not None:
            return None
        set_threads(max(1, self.runtime.threads - count))
        return IntegralsAhead(count, self.runtime.device)

    def dismiss_workers(self) -> None:
        """End them; all threads are this process's again."""
        store = self.geometries.store
        if store is not None and store.ahead is not None:
            store.ahead.close()
            store.ahead = None
            set_threads(self.runtime.threads)

    def release(self) -> None:
        """Give back what the run took on disk beside its files, and its processes."""
        self.dismiss_workers()
        if self.geometries.store is not None:
            self.geometries.store.close()
