"""Calibrated intervals: how far converged values lay from the certificate's, on known structures.

Split conformal prediction with the certificate's own estimate as the scale: a bad prediction gets a
wide interval, and under exchangeability the coverage is guaranteed without any model of the errors.

All begin at the certificate's estimates of the converged values. What is left of the energy error
is a share of it and is scaled by its estimate; what is left of errors of levels and dipole is of
first order in the distance from self-consistency, so their scale is the root of that estimate.
Most of it is where the coarse SCF of the estimate ended, at 3e-4 of the gradient it began at.
(The size of the correction itself would be another, but it vanishes by chance.)
What is left of energies has a sign: the coarse grid is softer than the target one, so converged
energies lie above their estimates, of nearly every molecule. Their interval is one of signed
errors, with half of what may be missed at either end; that of levels and dipole is symmetric.
"""

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deeph_zero.errors import InputError, argument
from deeph_zero.ks.certificate import Certificate
from deeph_zero.ks.scf.result import SCFResult
from deeph_zero.model_files.card import Card
from deeph_zero.molecule import Molecule
from deeph_zero.predict.single import Prediction

COVERAGE = 0.95

ROUNDING = 1e-11
"""Added to every half-width (Eh, debye): the score that sets it lies exactly on the bound."""

ENERGY_TOLERANCE = 1e-10
"""Added at both ends of an energy's interval, Eh: what an SCF leaves of a total energy."""

REFINE_TOL = 1e-7
"""Orbital gradient of the references, Eh. At 1e-6 an SCF that begins at a good certificate ends
where that ended, and tells nothing of its errors."""

LEVEL_TOLERANCE = 1e-7
"""Added to half-widths of levels, Eh: references are not known better, though estimates may be."""

SMALLEST_ENERGY = 1e-9
"""Scales are at least that of this energy error, Eh: below it the SCF tolerance decides."""

FLOOR_SHARES = {"energy": 0.5, "dipole": 0.1}
"""... and at least this share of the median scale, so that a lucky small estimate cannot make an
interval arbitrarily narrow; of levels all of it. Small estimates of energies are less than
proportional to what is left, and errors of levels follow theirs loosely (109 molecules: rank
correlation 0.26 to 0.35): of unbound LUMOs they are 2e-7 to 3e-7 Eh whatever the estimate."""

RULE = 6
"""Version of the rule for scales and centres, without which a calibration means nothing."""

SYMMETRIC = 5
"""The rule before, which models may still have: the energy's interval reached as far down from its
estimate as up."""

ONE_SIDED = 4
"""The rule before that, likewise: the energy's interval reached from the prediction down by all of
its error, and levels had the tolerance of references of 1e-6 Eh."""

_TOLERANCES = {RULE: LEVEL_TOLERANCE, SYMMETRIC: LEVEL_TOLERANCE, ONE_SIDED: 1e-6}

FAR_GRADIENT = 3.0
"""An orbital gradient this many times the largest one of the calibration is out of distribution."""

LEVELS, NOT_LEVELS = ("homo", "lumo", "gap"), ("energy", "dipole")

FRONTIER = ("homo", "lumo")
"""Levels with one factor where molecules differ and few calibrate: which of the two is known worse
depends on the molecule (LUMOs of saturated ones, HOMOs of others), and a few are some of them."""

MANY = 150
"""From so many structures on a calibration has molecules of either kind: each level has a factor of
its own. With 189 of rules, hot ones and acids among them, HOMOs of hot aspirins are held in 92 of
100 cases; with 109 smaller ones it was 14 of 20."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """What the intervals are made from; part of ``model.json``.

    Attributes:
        n: Structures it was made from.
        coverage: Asked for.
        quantiles: Per quantity the factor on the certificate's scale: for the energy a number, for
            levels in Eh^½, for the dipole in debye Eh^-½.
        below: The energy's factor downwards; None where it is that upwards.
        floors: Per quantity the smallest scale: Eh for the energy, Eh^½ for the others.
        gradient: Largest ``orbital_gradient_rms`` among the structures, Eh.
        states: (charge, spin) pairs that occurred.
        rule: How factors become intervals.
        atoms: The most atoms of a crystal's cell; None for molecules.
    """

    n: int
    coverage: float
    quantiles: dict[str, float]
    floors: dict[str, float]
    gradient: float
    states: tuple[tuple[int, int], ...]
    rule: int = RULE
    atoms: int | None = None
    below: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, with the coverage that ``n`` structures can guarantee."""
        values = dataclasses.asdict(self)
        for name in ("atoms", "below"):
            if values[name] is None:
                del values[name]
        ends = 1 if self.below is None else 2
        upper = min(self.coverage + ends / (self.n + 1), 1.0)
        return values | {"guaranteed_coverage": [self.coverage, upper]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration | None":
        """Inverse of :meth:`to_dict`.

        Args:
            values: What JSON made of it.

        Returns:
            The calibration; None, with a line in the log, if it was made by another rule.

        Raises:
            InputError: If something is missing or not a number.
        """
        try:
            if values["n"] and values.get("rule") not in _TOLERANCES:
                logging.getLogger("deeph_zero").warning(
                    "the model was calibrated by another version, so predictions have no "
                    "intervals; train it again, e.g. `deeph-zero fit ... --init MODEL`"
                )
                return None
            return cls(
                n=int(values["n"]),
                coverage=float(values["coverage"]),
                quantiles={str(k): float(v) for k, v in values["quantiles"].items()},
                floors={str(k): float(v) for k, v in values["floors"].items()},
                gradient=float(values["gradient"]),
                states=tuple((int(charge), int(spin)) for charge, spin in values["states"]),
                rule=int(values.get("rule", RULE)),
                atoms=None if values.get("atoms") is None else int(values["atoms"]),
                below=None if values.get("below") is None else float(values["below"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            lacks = isinstance(error, KeyError)
            text = f"it has no {error.args[0]}" if lacks else "a value is no number"
            raise InputError(
                f"expected a calibration in model.json, got something else ({text}); copy "
                "model.json again from its run"
            ) from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """What one refined structure says of a model's errors.

    Attributes:
        errors: Distances of the converged values from the certificate's estimates: Eh, the dipole's
            length in debye; of several spins the largest. The energy's has a sign, positive where
            the converged one lies above, and is per atom for crystals.
        energy_error: The certificate's estimate, Eh; per atom for crystals.
        gradient: Its ``orbital_gradient_rms``, Eh.
        state: Charge and spin.
        atoms: Those of a crystal's cell; None for molecules.
    """

    errors: dict[str, float]
    energy_error: float
    gradient: float
    state: tuple[int, int]
    atoms: int | None = None

    @classmethod
    def of(cls, prediction: Prediction) -> "Sample":
        """From a prediction.

        Args:
            prediction: Refined, and with a coupled certificate.

        Returns:
            The sample.

        Raises:
            InputError: If it is not refined, or its certificate is not coupled.
        """
        certificate = _coupled(prediction)
        return cls(
            errors=_errors(prediction),
            energy_error=certificate.energy_error_estimate,
            gradient=certificate.orbital_gradient_rms,
            state=(prediction.molecule.charge, prediction.molecule.spin),
        )


def calibrate(predictions: Sequence[Prediction], coverage: float = COVERAGE) -> Calibration:
    """Calibration from refined predictions of structures that were not trained on.

    Args:
        predictions: Each refined to :data:`REFINE_TOL` and with a certificate; at least
            :data:`deeph_zero.settings.config.FEWEST_CALIBRATION` for 95 %.
        coverage: Wanted share of structures inside their interval.

    Returns:
        The calibration. Over structures exchangeable with these, an interval covers with a
        probability from ``coverage`` to ``coverage`` + 1/(n + 1); that of the energy, which has two
        ends of its own where there are structures enough, to ``coverage`` + 2/(n + 1) or more.

    Raises:
        InputError: If there are too few.

    References:
        J. Lei et al., J. Am. Stat. Assoc. 113, 1094 (2018), sec. 2.2 and 5.2 (locally weighted
        split conformal prediction).
    """
    unlike = are_unlike([p.molecule for p in predictions])
    return calibrated([Sample.of(p) for p in predictions], coverage, unlike=unlike)


def are_unlike(molecules: Sequence[Molecule]) -> bool:
    """Whether structures are of several compositions.

    Args:
        molecules: What a calibration is made from.

    Returns:
        False for frames of one.
    """
    return len({tuple(sorted(m.numbers.tolist())) for m in molecules}) > 1


def calibrated(
    samples: Sequence[Sample], coverage: float = COVERAGE, *, unlike: bool = True
) -> Calibration:
    """:func:`calibrate` from what was kept of the predictions.

    Args:
        samples: One per structure.
        coverage: Wanted share of structures inside their interval.
        unlike: They are of several molecules, see :data:`FRONTIER` and :data:`MANY`.

    Returns:
        The calibration.

    Raises:
        InputError: If there are too few.
    """
    n = len(samples)
    rank = math.ceil((n + 1) * coverage)
    if rank > n:
        raise InputError(
            f"expected at least {math.ceil(coverage / (1 - coverage) - 1e-9)} structures to "
            f"calibrate {100 * coverage:g} % intervals, got {n}; give more"
        )
    floors, quantiles = {}, {}
    for name in samples[0].errors:
        known = [scale_of(name, s.energy_error) for s in samples]
        least = FLOOR_SHARES.get(name, 1.0) * float(np.median(known))
        floor = max(scale_of(name, SMALLEST_ENERGY), least)
        known_to = 0.0 if name in NOT_LEVELS else LEVEL_TOLERANCE
        names = FRONTIER if unlike and n < MANY and name in FRONTIER else (name,)
        left = [max(0.0, *(abs(s.errors[k]) - known_to for k in names)) for s in samples]
        scores = sorted(e / max(s, floor) for e, s in zip(left, known, strict=True))
        floors[name], quantiles[name] = floor, scores[rank - 1]
    below, above = _energy_ends(samples, floors["energy"], (1 + coverage) / 2)
    if above is not None:
        quantiles["energy"] = above
    return Calibration(
        n=n,
        coverage=coverage,
        quantiles=quantiles,
        floors=floors,
        gradient=max(s.gradient for s in samples),
        states=tuple(sorted({s.state for s in samples})),
        atoms=max((s.atoms for s in samples if s.atoms is not None), default=None),
        below=below,
    )


def _energy_ends(samples: Sequence[Sample], floor: float, one_end: float) -> tuple[Any, Any]:
    """The energy's factors downwards and upwards, >= 0; None where there are too few for both."""
    rank = math.ceil((len(samples) + 1) * one_end)
    if rank > len(samples):
        return None, None
    scores = sorted(s.errors["energy"] / max(s.energy_error, floor) for s in samples)
    return max(0.0, -scores[-rank]), max(0.0, scores[rank - 1])


def scale_of(name: str, energy_error: float) -> float:
    """The certificate's own idea of an error.

    Args:
        name: What is wrong: the energy, or what follows the density in first order.
        energy_error: The certificate's estimate, Eh.

    Returns:
        Eh for the energy, Eh^½ for the others.
    """
    return energy_error if name == "energy" else math.sqrt(energy_error)


def reach_of(name: str, energy_error: float, calibration: Calibration) -> tuple[float, float]:
    """How far an interval reaches from the certificate's estimate.

    Args:
        name: A quantity of the calibration.
        energy_error: The certificate's estimate, Eh.
        calibration: The model's calibration.

    Returns:
        Downwards and upwards, both >= 0: Eh; debye for the dipole.
    """
    scale = max(scale_of(name, energy_error), calibration.floors[name])
    spare = ROUNDING if name in NOT_LEVELS else _TOLERANCES[calibration.rule]
    if name == "energy" and calibration.rule == RULE:
        spare = ENERGY_TOLERANCE
    up = down = calibration.quantiles[name]
    if name == "energy" and calibration.below is not None:
        down = calibration.below
    return scale * down + spare, scale * up + spare


def intervals(prediction: Prediction, calibration: Calibration) -> dict[str, Any] | None:
    """Intervals of the converged values.

    Args:
        prediction: With a coupled certificate.
        calibration: Calibration of the model that made it.

    Returns:
        [low, high] for "energy" (Eh; never above the prediction, which is an upper bound), "homo",
        "lumo", "gap" (Eh; a pair of intervals for UKS, None where there is no such level) and
        "dipole" (debye, of its length); None without a coupled certificate.
    """
    certificate = prediction.certificate
    if certificate is None or certificate.dipole_change is None:
        return None
    reach = {
        name: reach_of(name, certificate.energy_error_estimate, calibration)
        for name in calibration.quantiles
    }
    (down, up), widths = reach["energy"], {name: ends[1] for name, ends in reach.items()}
    energy, estimate = certificate.energy, certificate.energy_estimate
    out: dict[str, Any] = {"energy": [estimate - down, min(estimate + up, energy)]}
    if calibration.rule == ONE_SIDED:
        out["energy"] = [energy - down, energy]
    for name in LEVELS:
        centre = getattr(certificate, f"{name}_estimate")
        if isinstance(centre, list):
            out[name] = [_around(c, widths[name]) for c in centre]
        else:
            out[name] = _around(centre, widths[name])
    length = _estimated_length(prediction)
    out["dipole"] = [max(length - widths["dipole"], 0.0), length + widths["dipole"]]
    return out


def far_from_calibration(gradient: float, calibration: Calibration) -> list[str]:
    """What an orbital gradient says against intervals.

    Args:
        gradient: That of a prediction, Eh.
        calibration: That of its model.

    Returns:
        One phrase, or none.
    """
    if gradient <= FAR_GRADIENT * calibration.gradient:
        return []
    times = gradient / calibration.gradient
    return [f"orbital gradient {gradient:.1e} Eh, {times:.0f} times the largest of the calibration"]


def out_of_distribution(
    prediction: Prediction, calibration: Calibration, *, states: bool = True
) -> list[str]:
    """Reasons why the intervals guarantee nothing for this structure; empty when there are none.

    Args:
        prediction: With a certificate.
        calibration: Calibration of the model that made it.
        states: Whether to look at charge and spin, which a card speaks of as well.

    Returns:
        One phrase per reason.
    """
    certificate, molecule = prediction.certificate, prediction.molecule
    reasons = []
    if states and (molecule.charge, molecule.spin) not in calibration.states:
        reasons.append(f"charge {molecule.charge} and spin {molecule.spin} were not calibrated")
    if certificate is None:
        return reasons
    reasons += far_from_calibration(certificate.orbital_gradient_rms, calibration)
    if not certificate.stable:
        reasons.append("the energy curves downwards: the occupied orbitals may be the wrong ones")
    elif not certificate.aufbau:
        reasons.append("an empty level lies below an occupied one: they may be the wrong orbitals")
    highest = _values(certificate.homo)
    if molecule.charge < 0 and highest.size and float(highest.max()) > 0:
        reasons.append("an anion with an occupied level above zero is not bound in this basis")
    return reasons


def with_intervals(
    prediction: Prediction, calibration: Calibration | None, card: Card | None = None
) -> Prediction:
    """A prediction with its intervals, and with the reasons not to trust them.

    Args:
        prediction: As its model made it.
        calibration: Calibration of that model; None makes no intervals.
        card: Card of that model, where it comes with the package.

    Returns:
        A copy; ``intervals`` is None without a coupled certificate.
    """
    reasons = [] if card is None else card.outside(prediction.molecule)
    if calibration is None:
        return dataclasses.replace(prediction, out_of_distribution=tuple(reasons))
    reasons += out_of_distribution(prediction, calibration, states=card is None)
    return dataclasses.replace(
        prediction,
        intervals=intervals(prediction, calibration),
        out_of_distribution=tuple(reasons),
    )


def _around(centre: float | None, width: float) -> list[float] | None:
    return None if centre is None else [centre - width, centre + width]


def _values(level: float | Sequence[float | None] | None) -> np.ndarray:
    """Levels as numbers; NaN where there is none."""
    many = level if isinstance(level, list | tuple) else [level]
    return np.array([np.nan if v is None else v for v in many], dtype=float)


def _largest(values: object) -> float:
    """Largest number; 0 if there is none (no such level in any spin)."""
    given = np.atleast_1d(np.asarray(values, dtype=float))
    given = given[~np.isnan(given)]
    return float(given.max()) if given.size else 0.0


def _coupled(prediction: Prediction) -> Certificate:
    """The certificate, which has to have an estimate of the converged values."""
    c = prediction.certificate
    if c is None or c.dipole_change is None:
        raise InputError(
            "expected predictions with a coupled certificate, got one without; leave "
            f"{argument('coupled', False, option='--cheap-estimate')} and "
            f"{argument('certificate', False)} out"
        )
    return c


def _estimated_length(prediction: Prediction) -> float:
    """Length of the estimated dipole, debye."""
    assert prediction.certificate is not None
    return float(
        np.linalg.norm(prediction.dipole + np.asarray(prediction.certificate.dipole_change))
    )


def _errors(prediction: Prediction) -> dict[str, float]:
    """True errors of what the intervals are centred on; of several spins the largest."""
    c, done = prediction.certificate, prediction.refined
    if c is None or done is None or not done.converged:
        raise InputError("expected converged refinements to calibrate with, got one that is not")
    reference = _reference_levels(done)
    length = float(np.linalg.norm(prediction.refined_dipole))
    out = {
        "energy": done.energy - c.energy_estimate,
        "dipole": abs(_estimated_length(prediction) - length),
    }
    for name in LEVELS:
        out[name] = _largest(np.abs(_values(getattr(c, f"{name}_estimate")) - reference[name]))
    return out


def _reference_levels(done: SCFResult) -> dict[str, np.ndarray]:
    """HOMO, LUMO and gap per spin; NaN where there is none."""
    energies = done.mo_energy.reshape(-1, done.mo_energy.shape[-1]).numpy()
    filled = done.mo_occ.reshape(energies.shape).numpy() > 0
    pairs = list(zip(energies, filled, strict=True))
    homo = np.array([e[f].max(initial=-np.inf) for e, f in pairs])
    lumo = np.array([e[~f].min(initial=np.inf) for e, f in pairs])
    homo[~np.isfinite(homo)] = lumo[~np.isfinite(lumo)] = np.nan
    return {"homo": homo, "lumo": lumo, "gap": lumo - homo}
