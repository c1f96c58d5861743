"""Crystals that calibrate a run: frames kept out, or copies drawn for it, refined at its end."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deeph_zero.errors import DeephZeroError, InputError, argument
from deeph_zero.ks.counts import Builds
from deeph_zero.molecule import Molecule
from deeph_zero.nn.network import FockNetwork
from deeph_zero.predict.crystal import CrystalPrediction, predict_crystal
from deeph_zero.predict.crystal_intervals import crystal_sample
from deeph_zero.predict.crystal_model import CrystalModel
from deeph_zero.predict.intervals import REFINE_TOL, Sample
from deeph_zero.settings.config import FitConfig
from deeph_zero.train.calibrate import conclude, held_out, wanted_frames
from deeph_zero.train.crystal_samples import Geometry, copies, geometries
from deeph_zero.train.run import Run


def frames_kept_out(config: FitConfig, count: int) -> tuple[int, ...]:
    """Which frames calibrate; none where copies are drawn, as many as wanted are drawn besides.

    Args:
        config: ``calibration`` and ``samples``.
        count: Frames there are.

    Returns:
        Positions, ascending.

    Raises:
        InputError: If more frames are asked for than can be spared.
    """
    wanted = config.calibration or 0
    if config.samples:
        return ()
    if wanted > count // 2:
        raise InputError(
            f"{argument('calibration')}: expected frames twice as many as it keeps out, got "
            f"{count} and {wanted}; give more, or {argument('samples', 'N')}, beside which copies "
            "are drawn for it"
        )
    return held_out(config, count)


def calibrating(
    config: FitConfig, molecules: Sequence[Molecule], kept_out: Sequence[int]
) -> list[Geometry]:
    """The crystals that calibrate a run.

    Args:
        config: ``calibration``, and how copies are drawn.
        molecules: The frames.
        kept_out: Positions of those that are not trained on.

    Returns:
        Frames, or copies like those of training but none of them.
    """
    if not config.samples:
        found = geometries(config, molecules) if kept_out else []
        return [found[k] for k in kept_out]
    wanted = wanted_frames(config, len(molecules) * (1 + config.samples))
    rng = np.random.default_rng([config.runtime.seed, 2])
    return [
        one
        for k, m in enumerate(molecules)
        for one in copies(m, config, len(range(k, wanted, len(molecules))), rng)
    ]


def calibrate_crystals(
    run: Run,
    network: FockNetwork,
    found: Sequence[Geometry],
    meta: dict[str, Any],
    stopped: Callable[[], bool],
) -> None:
    """Predict and refine; put the calibration into ``meta`` if there is one.

    A crystal that fails or does not converge is left out with a warning.

    Args:
        run: The run.
        network: Trained, in evaluation mode.
        found: The crystals.
        meta: Contents of ``model.json``; "calibration" is set or removed.
        stopped: Whether to end early.
    """
    meta.pop("calibration", None)
    model = CrystalModel(network, meta)
    samples: list[tuple[Molecule, Sample]] = []
    tried = 0
    with run.reporter.task("calibration", len(found)) as task:
        for geometry in found:
            if stopped():
                break
            tried += 1
            try:
                refined = _refined(model, geometry)
                run.results.calibration_builds += Builds(
                    refined.ks.fock_builds, refined.coarse_builds
                )
                samples.append((geometry.molecule, crystal_sample(refined)))
            except DeephZeroError as error:
                run.reporter.warning(f"{geometry.molecule.where}not calibrated with: {error}")
            task.advance()
    conclude(run, meta, samples, tried=tried, wanted=len(found))


def _refined(model: CrystalModel, geometry: Geometry) -> CrystalPrediction:
    molecule, method = geometry.molecule, geometry.method
    ready = model.prepare(molecule, method)
    return predict_crystal(model.network, ready, molecule, method, refine=REFINE_TOL)
