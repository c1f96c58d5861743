"""What a run folder remembers of a run: its settings, whether it is done, where to go on."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host.documents import parse_json, read_document
from deeph_zero.host.files import write_json, write_text
from deeph_zero.host.reporting import Reporter
from deeph_zero.host.runtime import Runtime, set_threads
from deeph_zero.integrals.ahead import IntegralsAhead
from deeph_zero.ks.counts import Builds
from deeph_zero.molecule import Molecule
from deeph_zero.predict.intervals import Calibration
from deeph_zero.settings.config import FitConfig
from deeph_zero.settings.config_file import CONFIG_TOML, sections_of, to_toml
from deeph_zero.train.lightning_io import KEEP, check_checkpoint
from deeph_zero.train.module import FitModule
from deeph_zero.train.reserve import Costs
from deeph_zero.train.store.cache import HeavyStore
from deeph_zero.train.stream import Stream
from deeph_zero.train.taught import Problem
from deeph_zero.train.team import Team

CONFIG_FILE = "config.json"
"""Resolved settings of a run; ``--resume`` compares them."""
SUMMARY_FILE = "summary.json"
LIMITS = ("epochs", "steps", "conv_tol_grad")
"""Settings that say how far a run goes: ``--resume`` may change them."""
FREE = ("skip_bad", "memory_mb", "disk_mb")
"""Other settings that ``--resume`` may change: the result does not depend on them."""
ENDS = ("converged", "epochs", "steps")
"""Values of ``stopped_by`` after which the same command has nothing left to do."""


@dataclasses.dataclass
class Run:
    """What one call of :func:`~deeph_zero.train.fit.run_fit` carries around.

    Attributes:
        config: Every setting.
        runtime: Device, threads, seed, deadline.
        reporter: Progress and messages.
        out: Run folder.
        command: Command line, for the record.
        failed: Frames left out.
        molecules: The structures the summary is about.
        started: ``time.monotonic()`` when the command began.
        problems: Geometries prepared so far.
        lost: With several processes, positions in ``problems`` of those that could not be prepared,
            and why.
        module: What is trained, once there is something.
        entries: Certified structures so far, by position in ``molecules``.
        builds_before: Builds of earlier attempts, as far as they were recorded.
        earlier_entries: ``structures`` of an earlier attempt whose model is still the one there is.
        team: The processes that share the work; None for one process.
        validation: Structures of a file that measure the model while it trains.
        measuring: Positions in ``molecules`` of frames kept out for the same.
        validators: Both, solved.
        validated: Errors of the final weights at them.
        held_out: Positions in ``molecules`` that are not trained on but calibrate the model.
        calibration: What came of them.
        calibration_builds: Fock builds spent on them.
        uncalibrated: Why nothing came of them.
        left_out: What the time limit left out.
        costs: What each kind of work took.
        store: Keeps the large tensors of the geometries, once there are some.
        stream: Replaces displaced copies during training, if asked for.
    """

    config: FitConfig
    runtime: Runtime
    reporter: Reporter
    out: Path
    command: str
    failed: list[dict[str, Any]]
    molecules: list[Molecule]
    started: float = dataclasses.field(default_factory=time.monotonic)
    problems: list[Problem] = dataclasses.field(default_factory=list)
    lost: dict[int, str] = dataclasses.field(default_factory=dict)
    module: FitModule | None = None
    entries: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)
    builds_before: Builds = dataclasses.field(default_factory=Builds)
    earlier_entries: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    team: Team | None = None
    validation: list[Molecule] = dataclasses.field(default_factory=list)
    measuring: tuple[int, ...] = ()
    validators: list[Problem] = dataclasses.field(default_factory=list)
    validated: dict[str, Any] | None = None
    held_out: tuple[int, ...] = ()
    calibration: Calibration | None = None
    calibration_builds: Builds = dataclasses.field(default_factory=Builds)
    uncalibrated: str = ""
    left_out: list[str] = dataclasses.field(default_factory=list)
    costs: Costs = dataclasses.field(default_factory=Costs)
    store: HeavyStore | None = None
    stream: Stream | None = None

    @property
    def leads(self) -> bool:
        """Whether this process reads, writes and reports."""
        return self.team is None or self.team.leads

    @property
    def present(self) -> list[Problem]:
        """Geometries that this process has."""
        return [p for p in self.problems if p.present]

    @property
    def limits(self) -> dict[str, Any]:
        """How far this run goes."""
        return {name: getattr(self.config, name) for name in LIMITS}

    def save_settings(self) -> None:
        """Write ``config.json``, which makes the folder a run that ``--resume`` accepts.

        ``config.toml`` beside it holds the same for people, and for repeating the run.

        Raises:
            ComputationError: If the disk refuses; a new run has left nothing then.
        """
        is_new = not (self.out / CONFIG_FILE).exists()
        try:
            self.save_toml(self.config)
            write_json(self.out / CONFIG_FILE, settings(self.config, self.molecules))
        except ComputationError:
            if is_new:
                self.forget_settings()
            raise

    def hire_workers(self) -> IntegralsAhead | None:
        """Processes that compute integrals ahead of need; they take their threads from this one."""
        count = self.config.workers
        if count == 0 or self.team is not None:
            return None
        set_threads(max(1, self.runtime.threads - count))
        return IntegralsAhead(count)

    def look_ahead(self, coming: Sequence[int | None], start: int) -> None:
        """Let the workers begin with what is needed next.

        Args:
            coming: Positions in the store in the order in which they will be used; None costs
                nothing.
            start: The first one of them that is still to come.
        """
        if self.store is None or self.store.ahead is None:
            return
        ahead = self.store.ahead
        soon = [k for k in coming[start : start + ahead.limit] if k is not None]
        ahead.plan(self.store.missing(soon))

    def dismiss_workers(self) -> None:
        """End them; all threads are this process's again."""
        if self.store is not None and self.store.ahead is not None:
            self.store.ahead.close()
            self.store.ahead = None
            set_threads(self.runtime.threads)

    def release(self) -> None:
        """Give back what the run took on disk beside its files, and its processes."""
        self.dismiss_workers()
        if self.store is not None:
            self.store.close()

    def forget_settings(self) -> None:
        """Undo :meth:`save_settings`."""
        for name in (CONFIG_FILE, CONFIG_TOML):
            (self.out / name).unlink(missing_ok=True)

    def save_toml(self, config: FitConfig) -> None:
        """Write ``config.toml``, with the device and the threads that were resolved.

        Args:
            config: Every setting, as far as it is resolved.
        """
        found = {"device": str(self.runtime.device), "threads": self.runtime.threads}
        if not self.leads:
            return
        runtime = config.runtime.model_copy(update=found)
        resolved = config.model_copy(update={"runtime": runtime})
        write_text(self.out / CONFIG_TOML, to_toml(sections_of(resolved)))


def settings(config: FitConfig, molecules: list[Molecule]) -> dict[str, Any]:
    """What two attempts at one run have in common.

    Args:
        config: Every setting.
        molecules: The structures.

    Returns:
        JSON values.
    """
    values = config.model_dump(
        mode="json", exclude={"data": True, "runtime": {"max_time", "verbose"}}
    )
    frames = [[m.file, m.frame, _fingerprint(m)] for m in molecules]
    return {"config": values, "frames": frames}


def _fingerprint(molecule: Molecule) -> str:
    """Fingerprint of elements, positions (to 1e-6 bohr), charge and spin, not of the file."""
    text = json.dumps(
        [
            molecule.numbers.tolist(),
            [[f"{x:.6f}" for x in row] for row in molecule.coords.tolist()],
            molecule.charge,
            molecule.spin,
        ]
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def compare_settings(run: Run) -> None:
    """Make sure that the run in the folder is the one asked for.

    Args:
        run: The run asked for.

    Raises:
        InputError: If it is another one, or its settings cannot be read.
    """
    path = run.out / CONFIG_FILE
    if not path.exists():
        return  # killed before anything was computed: nothing to disagree with
    old = _own_document(path, "the settings of a run", _is_settings)
    new = json.loads(json.dumps(settings(run.config, run.molecules)))
    # a longer run is what people resume for; where the structures lie does not matter
    for doc in (old, new):
        for name in (*LIMITS, *FREE):
            doc.get("config", {}).pop(name, None)
        doc["structures"] = [frame[2] for frame in doc.pop("frames", [])]
    if old != new:
        names = sorted(_differences(old, new))
        raise InputError(
            f"--resume: expected the settings of the run in {run.out}, got another "
            f"{', '.join(names)}; repeat the first command with --resume, or use --overwrite"
        )


def _differences(old: Any, new: Any, name: str = "") -> set[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = old.keys() | new.keys()
        return {d for k in keys for d in _differences(old.get(k), new.get(k), k)}
    return set() if old == new else {name or "settings"}


def earlier_summary(run: Run) -> dict[str, Any]:
    """``summary.json`` of the attempt before; empty if there is none."""
    path = run.out / SUMMARY_FILE
    if not path.exists():
        return {}
    return _own_document(path, "the summary of a run", _is_summary)


def _own_document(path: Path, what: str, is_one: Callable[[Any], bool]) -> dict[str, Any]:
    """A JSON file of the run that goes on; another document in its place is refused."""
    try:
        found = parse_json(read_document(path))
        reason = "" if is_one(found) else "it is another JSON document"
    except InputError:
        raise
    except (OSError, ValueError) as error:
        found, reason = {}, str(getattr(error, "strerror", None) or error)
    if reason:
        raise InputError(
            f"{path}: expected {what}, cannot use it ({reason}); put the run's own file back, or "
            "use --overwrite to start again"
        )
    return found


def _is_settings(found: Any) -> bool:
    if not isinstance(found, dict) or not isinstance(found.get("config"), dict):
        return False
    frames = found.get("frames")
    return isinstance(frames, list) and all(isinstance(f, list) and len(f) == 3 for f in frames)


def _is_summary(found: Any) -> bool:
    if not isinstance(found, dict):
        return False
    builds, entries = found.get("fock_builds", 0), found.get("structures", [])
    return (
        (builds is None or type(builds) is int)
        and isinstance(entries, list)
        and all(isinstance(entry, dict) for entry in entries)
    )


def is_done(run: Run, summary: dict[str, Any]) -> bool:
    """Whether an earlier attempt came to the end that is asked for now, certificates included.

    Args:
        run: The run asked for.
        summary: Summary of the earlier attempt.

    Returns:
        True if the same command has nothing left to do.
    """
    files = all((run.out / name).exists() for name in ("model.safetensors", "predictions.h5"))
    ended = summary.get("stopped_by") in ENDS and summary.get("limits") == run.limits
    entries = summary.get("structures") or []
    return files and ended and bool(entries) and all(e.get("energy") is not None for e in entries)


def resume_point(run: Run) -> Path | None:
    """The checkpoint to go on from, checked; None to start at the beginning."""
    checkpoint = run.out / KEEP
    # a kill during the very first checkpoint leaves the folder without one
    if not (checkpoint / "state.safetensors").exists():
        return None
    check_checkpoint(checkpoint)  # before anything of the run changes
    return checkpoint
