"""From a network's Fock matrix to everything that was asked of a prediction."""

import dataclasses
from collections.abc import Mapping
from numbers import Real
from typing import Any

from torch import Tensor

from deeph_zero.errors import InputError, argument
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.certificate import Certificate
from deeph_zero.ks.scf.result import SCFResult
from deeph_zero.ks.terms.build import FockBuild
from deeph_zero.method import Method
from deeph_zero.model_files.card import Card
from deeph_zero.predict import meanfield, single
from deeph_zero.predict.doubts import with_base
from deeph_zero.predict.intervals import Calibration, with_intervals
from deeph_zero.predict.response import with_response
from deeph_zero.predict.single import Prediction
from deeph_zero.prepared.molecule import Prepared
from deeph_zero.settings.config import FORCE_TOL, LEAST_GRADIENT


def check_reachable(tol: float) -> None:
    """See whether an SCF can be refined to a tolerance.

    Args:
        tol: Orbital gradient, Eh.

    Raises:
        InputError: If rounding does not let it.
    """
    if tol < LEAST_GRADIENT:
        raise InputError(
            f"{argument('refine')}: expected {LEAST_GRADIENT:g} Eh or more, got {tol:g}, which "
            "rounding does not let an SCF reach; use e.g. 1e-7"
        )


def check_refine(tol: float | None) -> None:
    """Look at a tolerance that Python users give.

    Args:
        tol: Orbital gradient to refine to, Eh; None refines nothing.

    Raises:
        InputError: If it is no positive number, or rounding does not let it be reached.
    """
    if tol is None:
        return
    if isinstance(tol, bool) or not (isinstance(tol, Real) and tol > 0):
        raise InputError(f"expected a positive tolerance to refine to, got {tol!r}; use e.g. 1e-5")
    check_reachable(float(tol))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked for; as in :meth:`~deeph_zero.model.Model.predict`.

    Attributes:
        refine: Norm of the orbital gradient to refine to, Eh.
        certificate: Energy, orbital gradient and error estimate.
        coupled: The better estimate.
        forces: Forces of the refined energy.
        compare_start: Also converge from the superposed atoms.
        response: Polarisability and dipole derivatives.
    """

    refine: float | None = None
    certificate: bool = True
    coupled: bool = True
    forces: bool = False
    compare_start: bool = False
    response: bool = False

    def __post_init__(self) -> None:
        """Look at what Python users give.

        Raises:
            InputError: If a switch is neither on nor off, ``refine`` no positive number, or a
                comparison is asked for of nothing.
        """
        for field in dataclasses.fields(self):
            given = getattr(self, field.name)
            if field.name != "refine" and given not in (True, False):
                raise InputError(f"{field.name}: expected True or False, got {given!r}")
        check_refine(self.refine)
        if self.compare_start and self.tol is None:
            raise InputError(
                f"{argument('compare_start')}: expected {argument('refine', 1e-5)} with it; add it"
            )

    @property
    def tol(self) -> float | None:
        """Where to refine to: forces need a refined energy."""
        return FORCE_TOL if self.forces and self.refine is None else self.refine

    @property
    def builds(self) -> bool:
        """Whether a build at the predicted density is needed."""
        return self.certificate or self.response or self.tol is not None

    @property
    def once(self) -> bool:
        """Whether that build is the only one on the target grid."""
        return self.tol is None and not self.response


@dataclasses.dataclass(frozen=True)
class At:
    """A layer, the predicted density there, and the build at it.

    Attributes:
        ks: The layer; it counts its builds.
        dm: P̂.
        built: The build; None where none was asked for.
    """

    ks: KohnSham
    dm: Tensor
    built: FockBuild | None


@dataclasses.dataclass(frozen=True)
class Made:
    """What was made of several molecules in one go.

    Attributes:
        refined: The refinement; None if not asked for.
        facts: What goes with it.
        certified: The certificate with the coupled estimate; None if not asked for.
    """

    refined: SCFResult | None = None
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    certified: Certificate | None = None


def answer(
    prepared: Prepared,
    fock: Tensor,
    at: At,
    asked: Asked,
    *,
    method: Method,
    known: tuple[Calibration | None, Card | None],
    light: At | None = None,
    made: Made | None = None,
) -> Prediction:
    """Everything that follows.

    Args:
        prepared: The molecule.
        fock: H, the network's Fock matrix, where ``light`` is.
        at: Where further builds are made.
        asked: What is asked for.
        method: What is solved.
        known: The model's calibration and card.
        light: The layer on the processor, for what needs no builds; None: ``at``.
        made: Refinement and coupled estimate, where they exist; None: they are made here.

    Returns:
        The prediction, on the CPU.

    Raises:
        ComputationError: If forces or responses were asked for and the refinement did not converge.
        InputError: If the integrals have no derivatives, or a tolerance is not positive.
    """
    ks, dm, built = at.ks, at.dm, at.built
    refined = certified = None
    facts: dict[str, Any] = {}
    if made is not None:
        refined, facts, certified = made.refined, dict(made.facts), made.certified
    elif asked.tol is not None:
        assert built is not None
        refined, facts = single.refine_best(
            ks, (dm, built), prepared.start, tol=asked.tol, compare_start=asked.compare_start
        )
    near = at if light is None else light
    if light is not None:
        near.ks.fock_builds, near.ks.coarse_builds = ks.fock_builds, ks.coarse_builds
    result = single.assemble(
        prepared.molecule,
        near.ks,
        fock,
        near.dm,
        refined,
        certificate=asked.certificate,
        coupled=asked.coupled,
        built=near.built,
        certified=certified,
    )
    facts |= with_base(near.ks, fock, prepared.fock0)
    result = with_intervals(dataclasses.replace(result, **facts), *known)
    if asked.forces:
        result = dataclasses.replace(result, forces=meanfield.forces(result, method))
    if asked.response:
        assert built is not None
        result = with_response(result, ks, (dm, built.fock), method)
    return result
