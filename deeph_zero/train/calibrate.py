"""Frames kept out of training: refined when it ends, and the intervals that come from them."""

from collections.abc import Sequence
from typing import Any

import torch

from deeph_zero.errors import ComputationError, InputError, argument
from deeph_zero.host import runtime
from deeph_zero.ks.counts import Builds
from deeph_zero.model import Model
from deeph_zero.molecule import Molecule
from deeph_zero.predict.intervals import REFINE_TOL, Sample, are_unlike, calibrated
from deeph_zero.predict.single import Prediction
from deeph_zero.settings.config import FEWEST_CALIBRATION, FitConfig
from deeph_zero.train.module import FitModule
from deeph_zero.train.run import Run

AUTOMATIC = 20
AUTOMATIC_FROM = 100
"""Without a setting, so many frames are kept out of a run of at least so many."""

FRAMES_PER_BLOCK = 5

TOGETHER = 16
"""Frames in one call on a GPU: the deadline is looked at between calls."""


def wanted_frames(config: FitConfig, count: int) -> int:
    """How many frames calibrate a run.

    Args:
        config: ``calibration`` may say it.
        count: Geometries there are.

    Returns:
        As many as were asked for; else some of a large run, and none of a small one.
    """
    if config.calibration is not None:
        return config.calibration
    return AUTOMATIC if count >= AUTOMATIC_FROM else 0


def held_out(config: FitConfig, count: int) -> tuple[int, ...]:
    """Which frames of a run calibrate it.

    Neighbours in a trajectory resemble each other: a frame between two that were trained on says
    little about a new one, so frames are kept out in blocks, spread evenly.

    Args:
        config: ``calibration`` says how many.
        count: Frames there are.

    Returns:
        Positions, ascending; none if the run is too small.

    Raises:
        InputError: If more frames are asked for than can be spared.
    """
    wanted = wanted_frames(config, count)
    if wanted > count // 2:
        raise InputError(
            f"{argument('calibration')}: expected at most half of the {count} frames, got "
            f"{wanted}; give more frames, or {argument('calibration', 0)}"
        )
    if not wanted:
        return ()
    blocks = -(-wanted // FRAMES_PER_BLOCK)
    sizes = [wanted // blocks + (b < wanted % blocks) for b in range(blocks)]
    middles = [(b + 0.5) * count / blocks for b in range(blocks)]
    starts = [round(m - size / 2) for m, size in zip(middles, sizes, strict=True)]
    return tuple(s + k for s, size in zip(starts, sizes, strict=True) for k in range(size))


def refine_held_out(run: Run, module: FitModule, meta: dict[str, Any]) -> dict[int, Prediction]:
    """Predict and refine the frames kept out; put the calibration into ``meta`` if there is one.

    A frame that fails or does not converge is left out with a warning. Ends early when the time
    limit passes, or will pass before there are enough frames for a calibration.

    Args:
        run: The run.
        module: The trained network.
        meta: Contents of ``model.json``; "calibration" is set or removed.

    Returns:
        Predictions by position in ``run.molecules``.
    """
    meta.pop("calibration", None)
    run.results.calibration = None
    done: dict[int, Prediction] = {}
    begin, tried = runtime.now(), 0
    todo = list(run.roles.held_out)
    at_once = TOGETHER if _model(run, module).gains_together else 1
    with run.reporter.task("calibration", len(todo)) as task:
        while todo and not _is_late(run, begin, tried, sum(map(_is_usable, done.values()))):
            some, todo = todo[:at_once], todo[at_once:]
            tried += len(some)
            done |= _refined(run, module, some)
            for _ in some:
                task.advance()
    usable = [p for p in done.values() if _is_usable(p)]
    found = [(p.molecule, Sample.of(p)) for p in usable]
    conclude(run, meta, found, tried=tried, wanted=len(run.roles.held_out))
    return done


def conclude(
    run: Run,
    meta: dict[str, Any],
    found: Sequence[tuple[Molecule, Sample]],
    *,
    tried: int,
    wanted: int,
) -> None:
    """Make a calibration of what was refined, or say why there is none.

    Args:
        run: The run; its results are set.
        meta: Contents of ``model.json``; "calibration" is set if there is one.
        found: Structures that could be refined, and what they say.
        tried: How many were tried.
        wanted: How many were to be.
    """
    if len(found) >= FEWEST_CALIBRATION:
        unlike = are_unlike([molecule for molecule, _ in found])
        run.results.calibration = calibrated([sample for _, sample in found], unlike=unlike)
        meta["calibration"] = run.results.calibration.to_dict()
    elif tried < wanted:
        run.results.uncalibrated = f"the time limit let {tried} of {wanted} frames be refined"
        run.results.left_out.append(f"the calibration ({tried} of {wanted} frames refined)")
    elif wanted:
        run.results.uncalibrated = (
            f"{len(found)} of {wanted} frames could be refined, {FEWEST_CALIBRATION} are needed"
        )
        run.reporter.warning(
            f"{run.results.uncalibrated}: no intervals; give a larger {argument('calibration')}"
        )


def calibration_entry(run: Run) -> dict[str, Any]:
    """What a summary says of the calibration.

    Args:
        run: The run.

    Returns:
        ``calibrated``, and what it is or why there is none.
    """
    found = run.results.calibration
    if found is not None:
        return {"calibrated": True, "calibration": found.to_dict()}
    none = f"no frames were kept out for it; {argument('calibration')} says how many to keep out"
    return {"calibrated": False, "not_calibrated": run.results.uncalibrated or none}


def _refined(run: Run, module: FitModule, keys: Sequence[int]) -> dict[int, Prediction]:
    """Predictions of some frames; of fewer at once where that fails, without the one at fault."""
    reason = ""
    # the failure is let go of before the next try: it holds what was computed
    try:
        return dict(zip(keys, refine_some(run, module, keys), strict=True))
    except (ComputationError, InputError) as error:
        reason = str(error)
    except torch.OutOfMemoryError:
        if len(keys) == 1:
            raise
    if len(keys) == 1:
        where = run.molecules[keys[0]].where
        run.reporter.warning(f"{where}not calibrated with: {reason}")
        return {}
    half = len(keys) // 2
    return _refined(run, module, keys[:half]) | _refined(run, module, keys[half:])


def _model(run: Run, module: FitModule) -> Model:
    return Model(module.network.eval(), run.config.solved, device=run.runtime.device)


def refine_some(run: Run, module: FitModule, keys: Sequence[int]) -> list[Prediction]:
    """Predict and refine frames, counting their builds and their time.

    Args:
        run: The run.
        module: The network as it is.
        keys: Positions in ``run.molecules``.

    Returns:
        The predictions, in order.

    Raises:
        InputError: If the structure cannot be used.
        ComputationError: If it cannot be computed.
    """
    model, begin = _model(run, module), runtime.now()
    found = model.predict_all([run.molecules[k] for k in keys], refine=REFINE_TOL)
    seconds = (runtime.now() - begin) / len(keys)
    for one in found:
        run.costs.add("reference", seconds)
        run.results.calibration_builds += Builds(one.fock_builds, one.coarse_builds)
    return found


def _is_late(run: Run, begin: float, tried: int, usable: int) -> bool:
    """Whether the time is up, or will be before there are enough frames for a calibration."""
    deadline = run.runtime.deadline
    if deadline.at is None or deadline.expired():
        return deadline.expired()
    missing = max(1, FEWEST_CALIBRATION - usable)
    if tried < FRAMES_PER_BLOCK:  # refinements were measured before training, from a worse start
        return deadline.remaining() < 0.5 * missing * run.costs.reference
    return deadline.remaining() < missing * (runtime.now() - begin) / tried


def _is_usable(prediction: Prediction) -> bool:
    certificate, refined = prediction.certificate, prediction.refined
    return (
        certificate is not None
        and certificate.dipole_change is not None
        and refined is not None
        and refined.converged
    )
