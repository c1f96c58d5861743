"""Frames kept out of training: refined when it ends, and the intervals that come from them."""

from typing import Any

from deeph_zero.config import FEWEST_CALIBRATION, FitConfig
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.integrals.mole import place
from deeph_zero.model import Model
from deeph_zero.predict.calibration import calibrate
from deeph_zero.predict.single import Prediction
from deeph_zero.train.module import FitModule
from deeph_zero.train.resume import Run

AUTOMATIC = 20
AUTOMATIC_FROM = 100
"""Without a setting, so many frames are kept out of a run of at least so many."""

REFINE_TOL = 1e-6
"""Gradient norm (Eh) of the references: their energies are then right to 1e-10 Eh or better."""

FRAMES_PER_BLOCK = 5


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
    wanted = config.calibration
    if wanted is None:
        wanted = AUTOMATIC if count >= AUTOMATIC_FROM else 0
    if wanted > count // 2:
        raise InputError(
            f"--calibration: expected at most half of the {count} frames, got {wanted}; give more "
            "frames, or --calibration 0"
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

    A frame that fails or does not converge is left out with a warning. Ends early, without a
    calibration, when the deadline passes.

    Args:
        run: The run.
        module: The trained network.
        meta: Contents of ``model.json``; "calibration" is set or removed.

    Returns:
        Predictions by position in ``run.molecules``.
    """
    meta.pop("calibration", None)
    run.calibration, run.calibration_builds = None, 0
    model = Model(module.network.eval(), run.config.method, device=run.runtime.device)
    done: dict[int, Prediction] = {}
    with run.reporter.task("calibration", len(run.held_out)) as task:
        for k in run.held_out:
            if run.runtime.deadline.expired():
                return done
            molecule = run.molecules[k]
            try:
                done[k] = model.predict(molecule, refine=REFINE_TOL)
            except (ComputationError, InputError) as error:
                run.reporter.warning(f"{place(molecule)}not calibrated with: {error}")
            task.advance()
    run.calibration_builds += sum(p.fock_builds for p in done.values())
    usable = [p for p in done.values() if _is_usable(p)]
    if len(usable) >= FEWEST_CALIBRATION:
        run.calibration = calibrate(usable)
        meta["calibration"] = run.calibration.to_dict()
    elif run.held_out:
        run.reporter.warning(
            f"{len(usable)} of {len(run.held_out)} frames could be refined, {FEWEST_CALIBRATION} "
            "are needed: no intervals; give a larger --calibration"
        )
    return done


def _is_usable(prediction: Prediction) -> bool:
    certificate, refined = prediction.certificate, prediction.refined
    return (
        certificate is not None
        and certificate.dipole_change is not None
        and refined is not None
        and refined.converged
    )
