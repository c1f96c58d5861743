"""ASE calculator: energy, forces, dipole and charges of a trained model, refined by default."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import ase
import numpy as np
import torch
from ase import units
from ase.calculators.calculator import (
    Calculator,
    PropertyNotImplementedError,
    all_changes,
)

from deeph_zero.data.reading.state import log_warning, stated_state, whole_number
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.ks.given import by_spin
from deeph_zero.ks.occupation import filled_levels, smallest_gap
from deeph_zero.ks.scf.result import SCFResult
from deeph_zero.method import Method
from deeph_zero.model import Model
from deeph_zero.predict.answer import check_reachable
from deeph_zero.predict.given import atoms_in_state
from deeph_zero.predict.single import Prediction
from deeph_zero.settings.config import FORCE_TOL
from deeph_zero.units import DEBYE_PER_AU

_HARTREE = units.Hartree
_DEBYE = units.Bohr / DEBYE_PER_AU  # e Å; through bohr, so that the units of both packages agree


class NotGivenError(InputError, PropertyNotImplementedError):
    """A property that the calculator cannot give; ASE knows it as one that is not implemented."""


class DeepHZero(Calculator):
    """Kohn-Sham energies and forces that start from a model's prediction.

    By default every geometry is refined with SCF from the predicted density until the norm of the
    orbital gradient passes ``refine``: energy and forces are then ordinary converged ones that
    belong together, and the model saves iterations. With ``refine=None`` the energy is E[P̂] of the
    network's own density, and there are no forces, because they would not be its derivative.

    ``results`` holds, in ASE's units: ``energy`` and ``free_energy`` (eV), ``forces`` (eV/Å),
    ``dipole`` (e Å, about the nuclear-charge centre), ``charges``, ``magmom`` and ``magmoms``
    (Mulliken); ``energy_error_estimate`` (eV) of that energy; and
    of the way there ``network_energy`` and ``network_energy_error_estimate`` (eV),
    ``orbital_gradient_rms`` (Eh, at the network's density), ``scf_iterations``, ``fock_builds``.

    Charge and spin (2S) are those the atoms state (``info``, ``initial_charges``,
    ``initial_magmoms``), else those given here, else the model's.

    Examples:
        >>> atoms.calc = dz.ase.DeepHZero(dz.load("run/"))
        >>> atoms.get_potential_energy()
    """

    # class attributes, as in ASE's own calculators
    implemented_properties: ClassVar[list[str]] = [  # pyright: ignore[reportIncompatibleVariableOverride]
        "energy", "free_energy", "forces", "dipole", "charges", "magmom", "magmoms",
    ]  # fmt: skip
    default_parameters: ClassVar[dict[str, Any]] = {  # pyright: ignore[reportIncompatibleVariableOverride]
        "refine": FORCE_TOL, "charge": None, "spin": None, "allow_close_contacts": False,
    }  # fmt: skip

    def __init__(
        self,
        model: Any,
        *,
        refine: float | None = FORCE_TOL,
        atoms: ase.Atoms | None = None,
        **settings: Any,
    ) -> None:
        """Bind a model.

        Args:
            model: From :func:`deeph_zero.load`.
            refine: Norm of the orbital gradient to converge to, Eh; None takes the network's own
                density and offers no forces.
            atoms: A structure that the calculator is given to.
            **settings: ``charge`` and ``spin`` (2S) of atoms that state none, and
                ``allow_close_contacts``; any other is refused, also by :meth:`set`.

        Raises:
            InputError: If ``model`` is not a loaded model, or a setting is unknown or wrong.
        """
        if not isinstance(model, Model):
            raise InputError(
                f"expected a model of molecules from deeph_zero.load, got {type(model).__name__}; "
                "use DeepHZero(dz.load('run/'))"
            )
        self.model: Model = model
        self._computed_with: dict[str, Any] = {}
        self._told = False
        check_settings({"refine": refine} | settings, model)
        super().__init__(atoms=atoms, refine=refine, **settings)

    @property
    def refine(self) -> float | None:
        """Norm of the orbital gradient to converge to, Eh; None does not refine."""
        return self._settings()["refine"]

    @refine.setter
    def refine(self, value: float | None) -> None:
        self.set(refine=value)

    def _settings(self) -> dict[str, Any]:
        """The calculator's settings as they stand; the dictionary is open to everyone."""
        assert self.parameters is not None
        return dict(self.parameters)

    def set(self, **settings: Any) -> dict[str, Any]:
        """Change settings; results of the old ones are dropped.

        Args:
            **settings: ``refine``, ``charge``, ``spin``, ``allow_close_contacts``.

        Returns:
            Those that changed.

        Raises:
            InputError: If a setting is unknown or wrong.
        """
        check_settings(settings, self.model)
        changed = super().set(**settings)
        if changed:
            self.reset()
        return changed

    def get_property(
        self, name: str, atoms: ase.Atoms | None = None, allow_calculation: bool = True
    ) -> Any:
        """A property of the atoms, computed where it is not known yet.

        Args:
            name: ASE's name of it.
            atoms: The structure; None is the last one.
            allow_calculation: Compute it where it is not known.

        Returns:
            The value, in ASE's units; None where it is not known and must not be computed.

        Raises:
            NotGivenError: If it is none of :attr:`implemented_properties`.
            InputError: As :meth:`calculate`.
            ComputationError: As :meth:`calculate`.
        """
        self._check_properties([name])
        return super().get_property(name, atoms, allow_calculation)

    def _check_properties(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.implemented_properties:
                known = ", ".join(self.implemented_properties)
                raise NotGivenError(f"{name}: expected one of {known}; others are not computed")
            if name == "forces" and self.refine is None:
                raise NotGivenError(
                    "forces: expected a refined energy, this calculator was made with refine=None; "
                    "use DeepHZero(model)"
                )

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Fill ``results``; ASE calls this when the geometry changed.

        Args:
            atoms: The structure.
            properties: What was asked for; forces are computed only then.
            system_changes: What changed, as ASE found it.

        Raises:
            NotGivenError: If a property cannot be given, as forces without refinement.
            InputError: If the structure is impossible, unknown to the model or periodic, or its
                charge or spin contradicts the calculator's.
            ComputationError: If the refinement did not converge.
        """
        self._check_properties(properties or ())
        settings = self._settings()
        check_settings(settings, self.model)
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        self._computed_with = settings
        asked = {name: settings[name] for name in ("charge", "spin")}
        molecule = atoms_in_state(
            self.atoms,
            self.model.state,
            **{name: None if value is None else int(value) for name, value in asked.items()},
        )
        wants_forces = "forces" in (properties or ())
        result = self.model.predict(
            molecule,
            refine=self.refine,
            coupled=self.refine is None,
            forces=wants_forces,
            allow_close_contacts=settings["allow_close_contacts"],
        )
        if result.refined is not None and not result.refined.converged:
            raise ComputationError(
                f"expected SCF to converge to {self.refine:g}, it stopped at a gradient norm of "
                f"{result.refined.gradient_norm:.1e} Eh; give a looser refine"
            )
        if self.model.card is not None and result.out_of_distribution and not self._told:
            self._told = True  # of a trajectory once
            log_warning(
                f"outside what {self.model.card.name} was checked on: "
                f"{'; '.join(result.out_of_distribution)}"
            )
        self.results = _results(result)

    def check_state(self, atoms: ase.Atoms, tol: float = 1e-15) -> list[str]:
        """What differs from the last calculation; charge, spin and settings count too.

        Args:
            atoms: The structure.
            tol: Largest difference that counts as none.

        Returns:
            Names of what changed.
        """
        changes = super().check_state(atoms, tol)
        if self.atoms is not None and _state(self.atoms) != _state(atoms):
            changes = [*changes, "info"]
        return changes if self._computed_with == self._settings() else [*changes, "parameters"]


def _state(atoms: ase.Atoms) -> tuple[int | None, int | None] | str:
    """What the atoms state, or why that cannot be used."""
    try:
        return stated_state(atoms, lambda _: None)
    except InputError as error:
        return str(error)


def _results(result: Prediction) -> dict[str, Any]:
    """ASE's dictionary, in its units."""
    certificate = result.certificate
    assert certificate is not None
    done = result.refined
    energy = certificate.energy if done is None else done.energy
    error = certificate.energy_error_estimate if done is None else _energy_left(done)
    populations = result.populations()
    out: dict[str, Any] = {
        "energy": energy * _HARTREE,
        "free_energy": energy * _HARTREE,
        "energy_error_estimate": error * _HARTREE,
        "network_energy": certificate.energy * _HARTREE,
        "network_energy_error_estimate": certificate.energy_error_estimate * _HARTREE,
        "orbital_gradient_rms": certificate.orbital_gradient_rms,
        "dipole": result.refined_dipole * _DEBYE,
        "charges": populations.mulliken_charges.numpy(),
        "fock_builds": result.fock_builds,
        "scf_iterations": 0 if done is None else done.iterations,
    }
    moments = populations.spin_populations
    out["magmoms"] = np.zeros(len(out["charges"])) if moments is None else moments.numpy()
    out["magmom"] = 0.0 if moments is None else float(moments.sum())
    if result.forces is not None:
        out["forces"] = result.forces * (_HARTREE / units.Bohr)
    return out


def _energy_left(done: SCFResult) -> float:
    """Bound of the uncoupled estimate of E - E_SCF from the gradient norm and the gap, Eh.

    The estimate is 2 Σ F_ia² / (e_a - e_i) (closed shell; half of it per spin for UKS), and the
    norm that of 2 F_ia (F_ia), PySCF's orbital gradient.
    """
    energies = by_spin(done.mo_energy, 1)
    gap = smallest_gap(energies, filled_levels(by_spin(done.mo_occ, 1)))
    factor = 0.5 * len(energies)
    return factor * done.gradient_norm**2 / max(gap, float(torch.finfo().eps))


def check_settings(settings: Mapping[str, Any], model: Model) -> None:
    """Refuse settings that would have no effect.

    Args:
        settings: Names and values.
        model: The calculator's.

    Raises:
        InputError: If one is unknown or wrong; the line names it.
    """
    known = DeepHZero.default_parameters
    for name, value in settings.items():
        if name in known:
            _check_value(name, value)
        elif name in {field.name for field in dataclasses.fields(Method)}:
            own = getattr(model.method, name)
            raise InputError(
                f"{name}: expected no such setting beside a model, whose own is {own!r}, got "
                f"{value!r}; leave it out, or load a model that was trained with it"
            )
        else:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "leave it out"
            raise InputError(
                f"{name}: expected one of {', '.join(known)} (charge and spin = 2S of atoms that "
                f"state none), a setting of this name has no effect; {hint}"
            )


def _check_value(name: str, value: Any) -> None:
    if name == "allow_close_contacts":
        if not isinstance(value, bool):
            raise InputError(f"{name}: expected True or False, got {value!r}; correct it")
    elif value is None:
        return
    elif name == "refine":
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise InputError(
                f"refine: expected a positive tolerance or None, got {value!r}; use e.g. 1e-6"
            )
        check_reachable(float(value))
    elif whole_number(name, value) < 0 and name == "spin":
        raise InputError(f"spin: expected 2S of 0 or more, got {value}; correct it")
