"""Calibrated intervals of crystals, by the rule of those of molecules with energies per atom.

The energy is centred on the certificate's estimate of the converged one, levels on those of
F[P(H)]: what is left of their errors is of first order, like that of the network's own bands.
"""

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from deeph_zero.errors import InputError, argument
from deeph_zero.ks.periodic.certificate import CrystalCertificate
from deeph_zero.molecule import Molecule
from deeph_zero.predict.crystal import CrystalPrediction
from deeph_zero.predict.crystal_record import CrystalState
from deeph_zero.predict.intervals import Calibration, Sample, far_from_calibration, reach_of

STATED = ("homo", "lumo", "gap", "fermi")
"""Levels that a prediction states as numbers."""
MANY = ("levels", "bands")
"""Largest errors of many: of levels of F[P(H)], and of those of H up to a constant, at the k-points
up to the lowest empty one."""


def crystal_sample(found: CrystalPrediction) -> Sample:
    """What one refined crystal says of a model's errors.

    Args:
        found: Refined, and with a coupled certificate.

    Returns:
        The sample; energies per atom.

    Raises:
        InputError: If it is not refined, or its certificate is not coupled.
    """
    certificate, done = found.certificate, found.refined
    if certificate is None or not certificate.coupled or done is None or not done.converged:
        raise InputError(
            "expected a converged refinement and a coupled certificate to calibrate with, got "
            f"one without; give {argument('refine', 1e-7)}"
        )
    natm, end = found.molecule.natm, CrystalState.of_result(done)
    return Sample(
        errors={
            "energy": (done.free_energy - _energy(certificate)) / natm,
            **_level_errors(found, end),
        },
        energy_error=certificate.energy_error_estimate / natm,
        gradient=certificate.orbital_gradient_rms,
        state=_state(found.molecule),
        atoms=natm,
    )


def crystal_covered(
    found: CrystalPrediction, exact: CrystalState, spare: Mapping[str, float]
) -> dict[str, bool]:
    """Whether converged values lie in the intervals of a prediction.

    Args:
        found: With intervals.
        exact: The converged state.
        spare: How well it is known, Eh: "energy", and "levels" for all others.

    Returns:
        By quantity; true also where there is nothing to cover, as an energy that is not known.
    """
    ends = found.intervals or {}
    values = {**_values(exact), **dict.fromkeys(("energy", "free_energy"), exact.free_energy)}
    errors = _level_errors(found, exact)
    out = {}
    for name, interval in ends.items():
        value = errors[name] if name in MANY else values[name]
        room = spare["energy" if "energy" in name else "levels"]
        if interval is None or value is None:
            out[name] = True
        else:
            out[name] = interval[0] - room <= value <= interval[1] + room
    return out


def crystal_intervals(
    found: CrystalPrediction, calibration: Calibration
) -> dict[str, list[float] | None] | None:
    """Intervals of the converged values.

    Args:
        found: With a coupled certificate.
        calibration: The calibration of the model that made it.

    Returns:
        [low, high], Eh: "energy" per cell ("free_energy" with smearing; never above the prediction,
        which is an upper bound), "homo", "lumo", "gap" and "fermi" (None where there is none), and
        of differences of many: "levels", from those stated up to the lowest empty one, and "bands",
        from those of H, up to a constant. None without a coupled certificate.
    """
    certificate = found.certificate
    if certificate is None or not certificate.coupled:
        return None
    natm = found.molecule.natm
    scale = certificate.energy_error_estimate / natm
    reach = {name: reach_of(name, scale, calibration) for name in calibration.quantiles}
    (down, up), widths = reach["energy"], {name: ends[1] for name, ends in reach.items()}
    centre = _energy(certificate)
    name = "free_energy" if found.method.smearing else "energy"
    out: dict[str, list[float] | None]
    out = {name: [centre - natm * down, min(centre + natm * up, certificate.free_energy)]}
    for name, value in _values(_stated(found)).items():
        out[name] = None if value is None else [value - widths[name], value + widths[name]]
    gap = out["gap"]
    if gap is not None:
        gap[0] = max(gap[0], 0.0)
    return out | {name: [-widths[name], widths[name]] for name in MANY}


def crystal_outside(
    found: CrystalPrediction, calibration: Calibration, smearing: float
) -> list[str]:
    """Reasons why the intervals guarantee nothing for this crystal; empty when there are none.

    Args:
        found: With a certificate.
        calibration: The calibration of the model that made it.
        smearing: The width that the model's crystals are smeared by, Eh.

    Returns:
        One phrase per reason.
    """
    certificate, molecule = found.certificate, found.molecule
    reasons = []
    if _state(molecule) not in calibration.states:
        text = f"charge {molecule.charge} and spin {molecule.spin} of {molecule.natm} atoms were"
        reasons.append(f"{text} not calibrated")
    if calibration.atoms is not None and molecule.natm > calibration.atoms:
        reasons.append(f"{molecule.natm} atoms in the cell, {calibration.atoms} in the calibration")
    if found.method.smearing != smearing:
        reasons.append(f"smeared by {found.method.smearing:g} Eh, {smearing:g} in the calibration")
    if certificate is None:
        return reasons
    reasons += far_from_calibration(certificate.orbital_gradient_rms, calibration)
    if certificate.doubts:
        reasons.append("its error estimate is in doubt")
    return reasons


def with_crystal_intervals(
    found: CrystalPrediction, calibration: Calibration | None, smearing: float
) -> CrystalPrediction:
    """A prediction with its intervals, and with the reasons not to trust them.

    Args:
        found: As its model made it.
        calibration: That model's calibration; None makes no intervals.
        smearing: The width that the model's crystals are smeared by, Eh.

    Returns:
        A copy; ``intervals`` is None without a coupled certificate.
    """
    if calibration is None:
        return found
    return dataclasses.replace(
        found,
        intervals=crystal_intervals(found, calibration),
        out_of_distribution=tuple(crystal_outside(found, calibration, smearing)),
    )


def _stated(found: CrystalPrediction) -> CrystalState:
    """The state at the network's own density."""
    return CrystalState.of_prediction(dataclasses.replace(found, refined=None))


def _values(state: CrystalState) -> dict[str, float | None]:
    values = (*state.frontier, state.gap, state.fermi_level)
    return dict(zip(STATED, values, strict=True))


def _level_errors(found: CrystalPrediction, exact: CrystalState) -> dict[str, float]:
    """How far what a prediction says of levels is from a converged state; energies are none."""
    own = _stated(found)
    mine = _values(own)
    pairs = {name: (mine[name], value) for name, value in _values(exact).items()}
    errors = {name: 0.0 if a is None or b is None else abs(a - b) for name, (a, b) in pairs.items()}
    count = int((exact.mo_occ > 0.01).any(0).any(0).sum()) + 1
    errors["levels"] = _largest((own.mo_energy - exact.mo_energy)[..., :count])
    bands = (found.ks.bands(found.fock).mo_energy - exact.mo_energy)[..., :count]
    middle = (bands * found.ks.data.weights[:, None]).sum(1).mean()
    return errors | {"bands": _largest(bands - middle)}


def _energy(certificate: CrystalCertificate) -> float:
    """The estimate of the converged (free) energy, Eh per cell."""
    return certificate.free_energy - certificate.energy_error_estimate


def _state(molecule: Molecule) -> tuple[int, int]:
    """Charge and spin of the smallest part of a cell that they are whole numbers of."""
    parts = math.gcd(molecule.natm, molecule.charge, molecule.spin)
    return molecule.charge // parts, molecule.spin // parts


def _largest(differences: Tensor) -> float:
    """Largest size; levels that were taken out of a basis have none."""
    return float(torch.nan_to_num(differences.abs(), posinf=0.0).max())
