"""What a network of crystals is to reproduce: each geometry solved, looked up, or remembered."""

from collections.abc import Sequence

from deeph_zero.data.crystal_labels import CrystalLabels
from deeph_zero.errors import DeephZeroError, InputError
from deeph_zero.host.runtime import stop_reason
from deeph_zero.host.signals import Interrupt
from deeph_zero.ks.counts import Builds
from deeph_zero.nn.network import FockNetwork
from deeph_zero.predict.record import failure
from deeph_zero.prepared.crystal import PreparedCrystal, prepare_structure
from deeph_zero.train.crystal_memory import Memory
from deeph_zero.train.crystal_samples import Geometry
from deeph_zero.train.crystals import Lesson, TaughtCrystal, teach, teach_density
from deeph_zero.train.run import Run
from deeph_zero.train.validation import check_positions

SOLVED = 1e-5
"""Norm of the orbital gradient (Eh) to which crystals are solved to learn from."""
SETTLED = 1e-8
"""Change of the energy (Eh per cell) at which they are."""
CHECKED, CHECKED_FROM = 5, 8
"""One geometry in so many is kept out to choose the weights, where nobody says which, of so many at
least: of fourteen cells of graphene two choose a readout half as wrong as one alone does."""


class Targets:
    """Solves the geometries of a run.

    Attributes:
        lessons: What is learnt from.
        checks: What only measures.
        checked: Positions of frames among ``checks``.
        kept: Prepared crystals by position, where there is one alone.
        builds: Fock builds spent.
        memory: What is solved, on disk.
    """

    def __init__(self, run: Run) -> None:
        """Nothing is solved yet.

        Args:
            run: The run.
        """
        self._run = run
        self.lessons: list[Lesson] = []
        self.checks: list[Lesson] = []
        self.checked: list[int] = []
        self.kept: dict[int, PreparedCrystal] = {}
        self.builds = Builds()
        self.memory = Memory(run.out)

    def solve(
        self, network: FockNetwork, found: Sequence[Geometry], frames: int, interrupt: Interrupt
    ) -> str | None:
        """Solve what there is.

        Args:
            network: What the geometries are prepared for.
            found: All geometries, those of a validation file last.
            frames: How many are not of a validation file.
            interrupt: Whether to end early.

        Returns:
            Why it ended early; None if it did not.

        Raises:
            ComputationError: If the disk refuses.
        """
        files = self._run.config.data.labels
        labels = CrystalLabels(files) if files else None
        out = self._kept_out(found, frames)
        todo = [(k, g) for k, g in enumerate(found) if k not in self._run.roles.held_out]
        stopped: str | None = None
        with self._run.reporter.task("solving", len(todo)) as task:
            for k, geometry in todo:
                stopped = stop_reason(interrupt, self._run.runtime.deadline)
                if stopped:
                    break
                try:
                    lesson = self._lesson(network, k, geometry, labels, keep=len(found) == 1)
                except DeephZeroError as error:
                    self._lost(geometry, error)
                else:
                    (self.checks if k in out else self.lessons).append(lesson)
                task.advance()
        if not self.lessons and not self._run.roles.validation:
            self.lessons, self.checks = self.checks, []
        return stopped

    def _kept_out(self, found: Sequence[Geometry], frames: int) -> set[int]:
        """What only measures: of a file, a fraction of the frames, else a few copies."""
        asked = self._run.config.data.validation
        if isinstance(asked, str):
            return set(range(frames, len(found)))
        if isinstance(asked, float):
            count = len(self._run.molecules)
            taken = self._run.roles.held_out
            left = count - len(taken)
            self.checked = list(check_positions(asked, count, taken)) if left > 1 else []
            return set(self.checked)
        free = [k for k in range(frames) if k not in self._run.roles.held_out]
        if len(free) < CHECKED_FROM:
            return set()
        copies = [k for k in free if found[k].frame is None]
        return set((copies or free)[CHECKED - 1 :: CHECKED])

    def _lesson(
        self,
        network: FockNetwork,
        k: int,
        geometry: Geometry,
        labels: CrystalLabels | None,
        *,
        keep: bool,
    ) -> Lesson:
        spec = network.spec
        ready = prepare_structure(
            geometry.molecule,
            geometry.method,
            spec.layout,
            cutoff=spec.cutoff,
            dtype=network.dtype,
            features=spec.inputs,
            say=self._run.reporter.warning if geometry.frame is not None else None,
        )
        taught = self.memory.recall(k, geometry.molecule, ready)
        if taught is None:
            taught = _taught(geometry, ready, labels)
            self.builds += Builds(taught.fock_builds, taught.coarse_builds)
            self.memory.keep(k, geometry.molecule, taught)
        if keep:
            self.kept[k] = ready
        return Lesson.of(taught)

    def _lost(self, geometry: Geometry, error: DeephZeroError) -> None:
        molecule = geometry.molecule
        if any(molecule is one for one in self._run.roles.validation):
            self._run.reporter.warning(f"{molecule.where}not measured with: {error}")
            return
        if geometry.frame is None:
            of = f" of {molecule.where[:-2]}" if molecule.where else ""
            self._run.reporter.warning(f"a displaced copy{of} is left out: {error}")
            return
        self._run.results.failed.append(failure(molecule, error))
        self._run.reporter.warning(molecule.where + self._run.results.failed[-1]["error"])


def _taught(
    geometry: Geometry, ready: PreparedCrystal, labels: CrystalLabels | None
) -> TaughtCrystal:
    if labels is None:
        return teach(
            ready,
            conv_tol=SETTLED,
            conv_tol_grad=SOLVED,
            two_grids=geometry.method.two_grids,
        )
    index = labels.index(geometry.molecule)
    if index is None:
        raise InputError("expected a label for every crystal, got none; label it first")
    return teach_density(ready, labels.label(index, geometry.method).dm)
