"""What the end of a run needs of its time limit, from what each kind of work took so far."""

import contextlib
import dataclasses
from collections.abc import Iterator

from deeph_zero.host import runtime
from deeph_zero.host.runtime import Deadline

TRAINING = 0.5
"""Part of the time left at its start that training keeps, however many certificates there are."""
CALIBRATED = 0.1
"""Part of the time left that training keeps whatever a calibration asks for: one that asks for
more than the rest is left out."""
MARGIN = 1.15
"""What measured times are multiplied by: the machine may have other work."""
FILES = 2.0
"""Seconds for the summary and the page of the run."""
BUILDS_PER_CERTIFICATE = 3
BUILDS_PER_REFERENCE = 12
"""Fock builds that stand for one while none was measured."""


class Costs:
    """Mean seconds of each kind of work."""

    def __init__(self) -> None:
        """Nothing was done yet."""
        self._spent: dict[str, tuple[float, int]] = {}

    @contextlib.contextmanager
    def measured(self, kind: str) -> Iterator[None]:
        """Count what happens in the block as one piece of work; what fails is not counted.

        Args:
            kind: Name of the work.

        Yields:
            Nothing.
        """
        begin = runtime.now()
        yield
        self.add(kind, runtime.now() - begin)

    def add(self, kind: str, seconds: float) -> None:
        """Count one piece of work."""
        spent, n = self._spent.get(kind, (0.0, 0))
        self._spent[kind] = spent + seconds, n + 1

    def each(self, kind: str, otherwise: float = 0.0) -> float:
        """Mean seconds of one; ``otherwise`` if there was none yet."""
        spent, n = self._spent.get(kind, (otherwise, 1))
        return spent / n

    @property
    def certificate(self) -> float:
        """Seconds of one certificate, from builds if none was made."""
        return self.each("certificate", BUILDS_PER_CERTIFICATE * self.each("build"))

    @property
    def reference(self) -> float:
        """Seconds of one refinement, the same."""
        builds = BUILDS_PER_REFERENCE * self.each("build")
        return self.each("reference", self.each("integrals") + builds)


@dataclasses.dataclass(frozen=True)
class Ending:
    """What is still to be done after training.

    Attributes:
        certificates: Structures to certify.
        references: Frames to refine for the calibration.
        passes: Passes over all geometries (the closed-form readout is one).
        steps_per_pass: Training steps that one pass is as long as, at most.
    """

    certificates: int
    references: int
    passes: int
    steps_per_pass: int

    def seconds(self, costs: Costs) -> tuple[float, float, float]:
        """What it takes.

        Args:
            costs: What was measured so far.

        Returns:
            Seconds for files and passes, for the calibration, and for the certificates.
        """
        fixed = FILES + 2 * costs.each("model")
        fixed += self.passes * self.steps_per_pass * costs.each("step")
        calibration = self.references * costs.reference
        return MARGIN * fixed, MARGIN * calibration, MARGIN * self.certificates * costs.certificate


class TrainingDeadline:
    """When training has to end, so that the rest fits; asked after every step."""

    def __init__(self, whole: Deadline, costs: Costs, ending: Ending) -> None:
        """Training begins now.

        Args:
            whole: Time limit of the run.
            costs: Measured so far, and further on.
            ending: What follows.
        """
        self._whole, self._costs, self._ending = whole, costs, ending
        self._left = whole.remaining()
        self._asked: float | None = None

    def reserve(self) -> float:
        """Seconds to keep back by what is known now."""
        files, calibration, certificates = self._ending.seconds(self._costs)
        if files + calibration > (1.0 - CALIBRATED) * self._left:
            calibration = 0.0
        enough = min(files + calibration + certificates, (1.0 - TRAINING) * self._left)
        return max(enough, files + calibration if calibration else 0.0)

    def expired(self) -> bool:
        """Whether training has to end; the time between two calls is one step's."""
        if self._whole.at is None:
            return False
        now = runtime.now()
        if self._asked is not None:
            self._costs.add("step", now - self._asked)
        self._asked = now
        return self._whole.remaining() <= self.reserve()


def fits(deadline: Deadline, costs: Costs, kind: str) -> bool:
    """Whether one more piece of work ends before the deadline, going by those before it."""
    return not deadline.expired() and deadline.remaining() >= costs.each(kind)
