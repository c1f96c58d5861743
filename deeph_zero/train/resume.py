"""What a run folder remembers of a run: its settings, whether it is done, where to go on."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deeph_zero.ao.basis_text import label_of
from deeph_zero.errors import ComputationError, InputError, argument
from deeph_zero.host.documents import parse_json, read_document
from deeph_zero.host.files import remove_abandoned, write_json, write_text
from deeph_zero.host.run_folder import PLAIN_FILES
from deeph_zero.ks.counts import Builds
from deeph_zero.molecule import Molecule
from deeph_zero.settings.config import FitConfig
from deeph_zero.settings.config_file import CONFIG_TOML, sections_of, to_toml
from deeph_zero.train.lightning_io import KEEP, check_checkpoint
from deeph_zero.train.run import Earlier, Run

CONFIG_FILE = "config.json"
"""Resolved settings of a run; ``--resume`` compares them."""
SUMMARY_FILE = "summary.json"
LIMITS = ("epochs", "steps", "conv_tol_grad")
"""Settings that say how far a run goes: ``--resume`` may change them."""
FREE = ("skip_bad", "memory_mb", "disk_mb")
"""Other settings that ``--resume`` may change: the result does not depend on them."""
MEANS = ("device", "threads", "workers")
"""Those that change nothing but rounding; ``--resume`` says so."""
_LONGEST = 40
"""Characters of a value that are said."""
ENDS = ("converged", "epochs", "steps")
"""Values of ``stopped_by`` after which the same command has nothing left to do."""


def save_settings(run: Run) -> None:
    """Write ``config.json``, which makes the folder a run that ``--resume`` accepts.

    ``config.toml`` beside it holds the same for people, and for repeating the run. What a killed
    attempt left half written goes.

    Args:
        run: The run.

    Raises:
        ComputationError: If the disk refuses; a new run has left nothing then.
    """
    remove_abandoned(*(run.out / name for name in PLAIN_FILES))
    is_new = not (run.out / CONFIG_FILE).exists()
    try:
        save_toml(run, run.config)
        write_json(run.out / CONFIG_FILE, settings(run.config, run.molecules))
    except ComputationError:
        if is_new:
            forget_settings(run.out)
        raise


def forget_settings(out: Path) -> None:
    """Undo :func:`save_settings`.

    Args:
        out: Run folder.
    """
    for name in (CONFIG_FILE, CONFIG_TOML):
        (out / name).unlink(missing_ok=True)


def save_toml(run: Run, config: FitConfig) -> None:
    """Write ``config.toml``, with the device and the threads that were resolved.

    Args:
        run: The run.
        config: Every setting, as far as it is resolved.
    """
    if not run.leads:
        return
    found = {"device": str(run.runtime.device), "threads": run.runtime.threads}
    runtime = config.runtime.model_copy(update=found)
    resolved = config.model_copy(update={"runtime": runtime})
    write_text(run.out / CONFIG_TOML, to_toml(sections_of(resolved)))


def limits(config: FitConfig) -> dict[str, Any]:
    """How far a run goes.

    Args:
        config: Its settings.

    Returns:
        Values of :data:`LIMITS`.
    """
    return {name: getattr(config, name) for name in LIMITS}


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
    fraction = config.data.validation
    # a fraction says which structures are trained on, a file lies where it lies
    values["validation"] = fraction if isinstance(fraction, float) else None
    frames = [[m.file, m.frame, fingerprint(m)] for m in molecules]
    return {"config": values, "frames": frames}


def fingerprint(molecule: Molecule) -> str:
    """Fingerprint of elements, positions (to 1e-6 bohr), cell, charge and spin, not of the file."""
    facts: list[Any] = [
        molecule.numbers.tolist(),
        [[f"{x:.6f}" for x in row] for row in molecule.coords.tolist()],
        molecule.charge,
        molecule.spin,
    ]
    if molecule.lattice is not None:
        facts += [[[f"{x:.6f}" for x in row] for row in molecule.lattice.tolist()], molecule.pbc]
        facts += [molecule.moments]
    text = json.dumps(facts)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def compare_settings(run: Run) -> str:
    """Make sure that the run in the folder is the one asked for.

    Args:
        run: The run asked for.

    Returns:
        What to say of it, in one line; nothing as a rule.

    Raises:
        InputError: If it is another one, or its settings cannot be read.
    """
    path = run.out / CONFIG_FILE
    if not path.exists():
        return ""  # killed before anything was computed: nothing to disagree with
    old = _own_document(path, "the settings of a run", _is_settings)
    new = json.loads(json.dumps(settings(run.config, run.molecules)))
    if "validation" not in old["config"]:  # of an earlier version
        new["config"].pop("validation")
    # a longer run is what people resume for; where the structures lie does not matter
    for doc in (old, new):
        for name in (*LIMITS, *FREE):
            doc.get("config", {}).pop(name, None)
        doc["structures"] = [frame[2] for frame in doc.pop("frames", [])]
    before, now = _without_means(old), _without_means(new)
    if old != new:
        found = sorted(_differences(old, new).items())
        names = [name + _values(*pair) * (name != "structures") for name, pair in found]
        raise InputError(
            f"{argument('resume', True)}: expected the settings of the run in {run.out}, got "
            f"another {', '.join(names)}; repeat the first command with it, or use "
            f"{argument('overwrite', True)}"
        )
    other = ", ".join(argument(name) for name in MEANS if before.get(name) != now.get(name))
    return other and f"the run began with another {other}; results may differ in the last digits"


def _without_means(doc: dict[str, Any]) -> dict[str, Any]:
    """Take the means of a run out of its settings."""
    config = doc["config"]
    runtime = config.get("runtime")
    places = [config, runtime] if isinstance(runtime, dict) else [config]
    return {name: place.pop(name) for place in places for name in MEANS if name in place}


def _differences(old: Any, new: Any, name: str = "") -> dict[str, tuple[Any, Any]]:
    """Settings that differ, with the value of each side."""
    if isinstance(old, dict) and isinstance(new, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for key in old.keys() | new.keys():
            found |= _differences(old.get(key), new.get(key), key)
        return found
    return {} if old == new else {name or "settings": (old, new)}


def _values(old: Any, new: Any) -> str:
    """Both values of a setting; a basis set written out by its label."""
    texts = [label_of(v) if isinstance(v, str) else json.dumps(v) for v in (old, new)]
    before, now = (t if len(t) <= _LONGEST else f"{t[:_LONGEST]}..." for t in texts)
    return f" ({before} there, {now} here)"


def earlier_summary(run: Run) -> dict[str, Any]:
    """``summary.json`` of the attempt before; empty if there is none."""
    path = run.out / SUMMARY_FILE
    if not path.exists():
        return {}
    return _own_document(path, "the summary of a run", _is_summary)


def taken_over(run: Run, *, trained: bool, note: str = "") -> dict[str, Any] | None:
    """Take over what the attempt before left; its settings were compared.

    Args:
        run: The run asked for; its ``earlier`` is filled.
        trained: The model of that attempt is still there.
        note: What :func:`compare_settings` has to say where the run goes on.

    Returns:
        Its summary where the same command has nothing left to do, else None.

    Raises:
        InputError: If the summary cannot be read.
    """
    before = earlier_summary(run)
    if is_done(run, before):
        run.reporter.message(f"{run.out} is finished: nothing left to do")
        return before
    if note:
        run.reporter.warning(note)
    counts = (int(before.get(key) or 0) for key in ("fock_builds", "coarse_builds"))
    entries = list(before.get("structures") or []) if trained else []
    run.earlier = Earlier(builds=Builds(*counts), entries=entries)
    return None


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
            f"use {argument('overwrite', True)} to start again"
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
    ended = summary.get("stopped_by") in ENDS and summary.get("limits") == limits(run.config)
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
