"""ASE calculator: energy, forces, dipole and charges of a trained model, refined by default."""

from typing import Any, ClassVar

import ase
import torch
from ase import units
from ase.calculators.calculator import Calculator, all_changes

from deeph_zero.config import FORCE_TOL
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.ks.scf import SCFResult
from deeph_zero.model import Model
from deeph_zero.predict.single import Prediction
from deeph_zero.structures import from_atoms
from deeph_zero.units import DEBYE_PER_AU

_HARTREE = units.Hartree
_DEBYE = units.Bohr / DEBYE_PER_AU  # e Å; through bohr, so that the units of both packages agree


class DeepHZero(Calculator):
    """Kohn-Sham energies and forces that start from a model's prediction.

    By default every geometry is refined with SCF from the predicted density until the norm of the
    orbital gradient passes ``refine``: energy and forces are then ordinary converged ones that
    belong together, and the model saves iterations. With ``refine=None`` the energy is E[P̂] of the
    network's own density, and there are no forces, because they would not be its derivative.

    ``results`` holds, in ASE's units: ``energy`` and ``free_energy`` (eV), ``forces`` (eV/Å),
    ``dipole`` (e Å, about the nuclear-charge centre), ``charges`` (Mulliken), ``magmom`` and
    ``magmoms`` (Mulliken) where unrestricted; ``energy_error_estimate`` (eV) of that energy; and
    of the way there ``network_energy`` and ``network_energy_error_estimate`` (eV),
    ``orbital_gradient_rms`` (Eh, at the network's density), ``scf_iterations``, ``fock_builds``.

    Charge and spin (2S) are read from ``atoms.info``, else they are the model's.

    Examples:
        >>> atoms.calc = dz.ase.DeepHZero(dz.load("run/"))
        >>> atoms.get_potential_energy()
    """

    # a class attribute, as in ASE's own calculators
    implemented_properties: ClassVar[list[str]] = [  # pyright: ignore[reportIncompatibleVariableOverride]
        "energy", "free_energy", "forces", "dipole", "charges", "magmom", "magmoms",
    ]  # fmt: skip

    def __init__(self, model: Any, *, refine: float | None = FORCE_TOL, **settings: Any) -> None:
        """Bind a model.

        Args:
            model: From :func:`deeph_zero.load`.
            refine: Norm of the orbital gradient to converge to, Eh; None takes the network's own
                density and offers no forces.
            **settings: Passed on to ASE's ``Calculator`` (``directory``, ``label``, ``atoms``).

        Raises:
            InputError: If ``model`` is not a loaded model, or ``refine`` not a positive number.
        """
        if not isinstance(model, Model):
            raise InputError(
                f"expected a model from deeph_zero.load, got {type(model).__name__}; "
                "use DeepHZero(dz.load('run/'))"
            )
        if refine is not None and not refine > 0:
            raise InputError(f"refine: expected a positive tolerance or None, got {refine}")
        super().__init__(**settings)
        self.model: Model = model
        self.refine = refine

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
            InputError: If the structure is impossible, unknown to the model or periodic, or forces
                were asked for without refinement.
            ComputationError: If the refinement did not converge.
        """
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        wants_forces = "forces" in (properties or ())
        if wants_forces and self.refine is None:
            raise InputError(
                "forces: expected a refined energy, this calculator was made with refine=None; "
                "use DeepHZero(model)"
            )
        method = self.model.method
        molecule = from_atoms(self.atoms, charge=method.charge, spin=method.spin)
        result = self.model.predict(
            molecule, refine=self.refine, coupled=self.refine is None, forces=wants_forces
        )
        if result.refined is not None and not result.refined.converged:
            raise ComputationError(
                f"expected SCF to converge to {self.refine:g}, it stopped at a gradient norm of "
                f"{result.refined.gradient_norm:.1e} Eh; give a looser refine"
            )
        self.results = _results(result)

    def check_state(self, atoms: ase.Atoms, tol: float = 1e-15) -> list[str]:
        """What differs from the last calculation; charge and spin in ``atoms.info`` count too.

        Args:
            atoms: The structure.
            tol: Largest difference that counts as none.

        Returns:
            Names of what changed.
        """
        changes = super().check_state(atoms, tol)
        previous = {} if self.atoms is None else self.atoms.info
        same = all(previous.get(key) == atoms.info.get(key) for key in ("charge", "spin"))
        return changes if same else [*changes, "info"]


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
    if populations.spin_populations is not None:
        out["magmoms"] = populations.spin_populations.numpy()
        out["magmom"] = float(populations.spin_populations.sum())
    if result.forces is not None:
        out["forces"] = result.forces * (_HARTREE / units.Bohr)
    return out


def _energy_left(done: SCFResult) -> float:
    """Bound of the uncoupled estimate of E - E_SCF from the gradient norm and the gap, Eh.

    The estimate is 2 Σ F_ia² / (e_a - e_i) (closed shell; half of it per spin for UKS), and the
    norm that of 2 F_ia (F_ia), PySCF's orbital gradient.
    """
    energies = done.mo_energy.reshape(-1, done.mo_energy.shape[-1])
    occupations = done.mo_occ.reshape(energies.shape)
    gap = float("inf")
    for e, n in zip(energies, occupations, strict=True):
        filled, empty = e[n > 0], e[n == 0]
        if len(filled) and len(empty):
            gap = min(gap, float(empty.min() - filled.max()))
    factor = 0.5 if done.mo_energy.ndim == 1 else 1.0
    return factor * done.gradient_norm**2 / max(gap, float(torch.finfo().eps))
