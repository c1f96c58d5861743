"""Entries of ``summary.json``: one per structure, and what surrounds them."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from deeph_zero.ao.basis_text import for_elements, label_of
from deeph_zero.errors import argument
from deeph_zero.host.reporting import Reporter
from deeph_zero.host.runtime import Runtime
from deeph_zero.host.version import __version__
from deeph_zero.integrals.info import KSInfo
from deeph_zero.integrals.mole import symbols_of
from deeph_zero.ks.certificate import Certificate
from deeph_zero.ks.counts import Builds
from deeph_zero.ks.occupation import filled_levels, frontier
from deeph_zero.ks.populations import Populations
from deeph_zero.ks.scf.result import SCFResult
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule, State
from deeph_zero.predict.derivatives import Response
from deeph_zero.predict.single import Prediction

FORMAT_VERSION = 1
"""Version of ``summary.json`` and of the JSON beside HDF5 files."""


def structure_record(
    molecule: Molecule,
    *,
    certificate: Certificate | None,
    dipole: np.ndarray | None,
    n_electrons: float | None,
    spin_square: float | None,
    residual_mae: float | None,
    converged: bool | None,
) -> dict[str, Any]:
    """One entry of ``structures``. A value that was not computed is None (null in JSON).

    Args:
        molecule: The structure.
        certificate: Certificate of the density the entry is about.
        dipole: Debye, about the nuclear-charge centre, [3].
        n_electrons: Density integrated on the grid.
        spin_square: ⟨S²⟩; None leaves the key out (closed shell).
        residual_mae: Mean absolute element of H - F[P(H)], Eh.
        converged: Whether what was asked for was reached; None if no convergence was asked for.

    Returns:
        JSON values, hartree unless stated.
    """
    c = certificate
    record: dict[str, Any] = {
        "file": molecule.file,
        "frame": molecule.frame,
        "charge": molecule.charge,
        "spin": molecule.spin,
        "energy": c.energy if c else None,
        "energy_error_estimate": c.energy_error_estimate if c else None,
        "energy_estimate": c.energy_estimate if c else None,
        "orbital_gradient_rms": c.orbital_gradient_rms if c else None,
        "residual_mae": residual_mae,
        "homo": c.homo if c else None,
        "lumo": c.lumo if c else None,
        "gap": c.gap if c else None,
    }
    if spin_square is not None:
        record["spin_square"] = spin_square
    record["dipole"] = None if dipole is None else [float(x) for x in dipole]
    record["n_electrons"] = n_electrons
    record["converged"] = converged
    return record


def bare_record(molecule: Molecule, *, converged: bool | None) -> dict[str, Any]:
    """The entry of a structure of which nothing was built.

    Args:
        molecule: The structure.
        converged: False where that was wanted, None where it was not.

    Returns:
        JSON values, None for all that a build would give.
    """
    return structure_record(
        molecule,
        certificate=None,
        dipole=None,
        n_electrons=None,
        spin_square=None,
        residual_mae=None,
        converged=converged,
    )


def prediction_record(prediction: Prediction) -> dict[str, Any]:
    """Entry of a prediction: the network's own density, and beside it the refined energy.

    Every value is at the network's own density but those named ``refine...``, ``converged``
    (whether the refinement converged; None without one) and ``forces`` (Eh/bohr, of the refined
    energy). ``standard_start_iterations`` are the SCF cycles from superposed atoms,
    ``residual_blocks`` the root mean squares of H - F[P(H)] between orbitals of H. Responses
    (``polarizability``, bohr³, ``dipole_derivatives``, e, ``frequencies``, cm⁻¹, imaginary ones
    negative, ``ir_intensities``, km/mol) are those of the refined state, or, where
    ``response_estimated``, estimates of them with ``..._error_estimate``. Without a certificate
    ``network_homo``, ``network_lumo`` and ``network_gap`` are the levels of the network's H; those
    of F[P̂] are not known then.
    """
    done = prediction.refined
    record = structure_record(
        prediction.molecule,
        certificate=prediction.certificate,
        dipole=prediction.dipole,
        n_electrons=prediction.n_electrons,
        spin_square=prediction.spin_square,
        residual_mae=prediction.residual_mae,
        converged=None if done is None else done.converged,
    )
    if prediction.certificate is None:
        record |= _network_levels(prediction)
    record |= _charges(prediction.populations(refined=False))
    record["residual_blocks"] = prediction.residual_blocks
    if done is not None:
        record["refined_energy"] = done.energy
        record["refine_fock_builds"] = done.fock_builds
        record["refine_coarse_builds"] = done.coarse_builds
        record["refine_iterations"] = done.iterations
        record["refine_start"] = "standard" if prediction.standard_start else "prediction"
        record["refined_dipole"] = prediction.refined_dipole.tolist()
        if prediction.refined_spin_square is not None:
            record["refined_spin_square"] = prediction.refined_spin_square
        found = _charges(prediction.populations())
        record |= {f"refined_{name}": values for name, values in found.items()}
    if prediction.standard_iterations is not None:
        record["standard_start_iterations"] = prediction.standard_iterations
    if prediction.intervals is not None:
        record["intervals"] = prediction.intervals
    if prediction.out_of_distribution:
        record["out_of_distribution"] = list(prediction.out_of_distribution)
    if prediction.doubts:
        record["doubts"] = list(prediction.doubts)
    if prediction.forces is not None:
        record["forces"] = prediction.forces.tolist()
    record |= _response_entry(prediction.response)
    if prediction.degenerate:
        record["degenerate"] = True
    record |= hint_entry(prediction.instability)
    return record | dispersion_entry(prediction.info)


def _network_levels(prediction: Prediction) -> dict[str, Any]:
    """HOMO, LUMO and gap of H, Eh: a pair each for two spins, as those of F[P̂] are."""
    nmo = prediction.mo_energy.shape[-1]
    levels, occ = prediction.mo_energy.reshape(-1, nmo), prediction.mo_occ.reshape(-1, nmo)
    found = frontier(levels, filled_levels(occ))
    single = prediction.mo_energy.ndim == 1
    return {
        f"network_{name}": getattr(found[0], name) if single else [getattr(f, name) for f in found]
        for name in ("homo", "lumo", "gap")
    }


def _response_entry(response: Response | None) -> dict[str, Any]:
    """Responses that were asked for; ``response_estimated`` tells those of a refined state."""
    if response is None:
        return {}
    entry: dict[str, Any] = {
        "response_estimated": response.estimated,
        "polarizability": response.polarizability.tolist(),
        "dipole_derivatives": response.dipole_derivatives.tolist(),
    }
    if response.estimated:
        entry["polarizability_error_estimate"] = response.polarizability_error
        entry["dipole_derivatives_error_estimate"] = response.dipole_derivatives_error
    if response.vibrations is not None:
        entry["frequencies"] = response.vibrations.frequencies.tolist()
        entry["ir_intensities"] = response.vibrations.intensities.tolist()
    return entry


def _response_arrays(response: Response | None) -> dict[str, Any]:
    if response is None:
        return {}
    arrays: dict[str, Any] = {
        "polarizability": response.polarizability,
        "dipole_derivatives": response.dipole_derivatives,
    }
    if response.vibrations is not None:
        arrays["frequencies"] = response.vibrations.frequencies
        arrays["ir_intensities"] = response.vibrations.intensities
        arrays["normal_modes"] = response.vibrations.modes
    return arrays


def hint_entry(instability: float | None) -> dict[str, str]:
    """``hint`` where an open shell lies below a closed one; nothing otherwise.

    Args:
        instability: Eigenvalue of the RKS -> UKS Hessian, Eh, or None.

    Returns:
        The entry.
    """
    if instability is None:
        return {}
    return {
        "hint": "an unrestricted solution lies below this closed shell (stability eigenvalue "
        f"{instability:.3f} Eh): try {argument('break_symmetry', True)} of fit and label, or "
        f"{argument('spin', 2)}"
    }


def warn_hints(structures: Sequence[dict[str, Any]], reporter: Reporter) -> None:
    """One line for all structures with a ``hint``, one for those with ``doubts`` and no refinement.

    Args:
        structures: Entries.
        reporter: Where people read.
    """
    hinted = [(entry, entry["hint"]) for entry in structures if "hint" in entry]
    finish = f"do not trust it; {argument('refine', 1e-5)} finishes it as an SCF"
    doubtful = [
        (entry, f"{'; '.join(entry['doubts'])}: {finish}")
        for entry in structures
        if "doubts" in entry and "refined_energy" not in entry
    ]
    for found in (hinted, doubtful):
        if found:
            first, text = found[0]
            count = f" ({len(found)} of {len(structures)} structures)"
            where = f"{first['file']} frame {first['frame']}"
            reporter.warning(f"{where}{count * (len(structures) > 1)}: {text}")


_REASONS = 3
"""Said in a line; all are in the entries."""


def warn_outside(structures: Sequence[dict[str, Any]], reporter: Reporter) -> None:
    """One line for all structures with ``out_of_distribution``.

    Args:
        structures: Entries.
        reporter: Where people read.
    """
    found = [entry for entry in structures if entry.get("out_of_distribution")]
    if found:
        first = found[0]
        count = f" ({len(found)} of {len(structures)} structures)" if len(structures) > 1 else ""
        reasons = list(dict.fromkeys(r for entry in found for r in entry["out_of_distribution"]))
        more = f"; and {len(reasons) - _REASONS} more" if len(reasons) > _REASONS else ""
        reporter.warning(
            f"{first['file']} frame {first['frame']}{count}: outside what the model was checked "
            f"on, its intervals guarantee nothing there: {'; '.join(reasons[:_REASONS])}{more}"
        )


def dispersion_entry(info: KSInfo) -> dict[str, Any]:
    """``dispersion_energy`` (Eh, part of every energy beside it); nothing where there is none."""
    return {} if info.dispersion is None else {"dispersion_energy": info.e_disp}


def _charges(found: Populations) -> dict[str, list[float]]:
    values = {
        "mulliken_charges": found.mulliken_charges.tolist(),
        "lowdin_charges": found.lowdin_charges.tolist(),
    }
    if found.spin_populations is not None:
        values["spin_populations"] = found.spin_populations.tolist()
    return values


def prediction_arrays(prediction: Prediction) -> tuple[dict[str, Any], dict[str, Any]]:
    """Datasets and attributes of a prediction's HDF5 group.

    ``density``, ``fock_rebuilt`` (= F[``density``]), ``mo_energy``, ``mo_occ``, the charges, bond
    orders, ``forces`` and the attribute ``energy`` belong together: they are the network's, or the
    converged ones after a refinement (attribute ``refined``). ``fock`` is the network's H either
    way.

    Args:
        prediction: What to store.

    Returns:
        Arrays (atomic units, PySCF's AO order) and attributes.
    """
    done = prediction.refined
    matrices = {
        "overlap": prediction.overlap,
        "fock": prediction.fock,
        "fock_rebuilt": prediction.fock_rebuilt if done is None else done.fock,
        "density": prediction.dm if done is None else done.dm,
        "mo_energy": prediction.mo_energy if done is None else done.mo_energy,
        "mo_occ": prediction.mo_occ if done is None else done.mo_occ,
    }
    populations = prediction.populations()
    matrices |= {
        "mulliken_charges": populations.mulliken_charges,
        "lowdin_charges": populations.lowdin_charges,
        "spin_populations": populations.spin_populations,
        "bond_orders": populations.bond_orders,
    }
    arrays = _group(prediction.molecule, matrices) | {"forces": prediction.forces}
    arrays |= _response_arrays(prediction.response)
    attributes = {
        "energy": prediction.energy if done is None else done.energy,
        "refined": done is not None,
        "converged": None if done is None else done.converged,
    }
    return arrays, attributes


def label_arrays(
    molecule: Molecule,
    result: SCFResult,
    overlap: Float[Tensor, "nao nao"],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Datasets and attributes of a label's HDF5 group.

    Args:
        molecule: The structure.
        result: Its SCF; ``fock`` is F[``density``], so there is no separate ``fock_rebuilt``.
        overlap: S, [nao, nao].

    Returns:
        Arrays (atomic units, PySCF's AO order) and attributes.
    """
    matrices = {
        "overlap": overlap,
        "fock": result.fock,
        "density": result.dm,
        "mo_energy": result.mo_energy,
        "mo_occ": result.mo_occ,
    }
    return _group(molecule, matrices), {"energy": result.energy, "converged": result.converged}


def _group(molecule: Molecule, matrices: dict[str, Any]) -> dict[str, Any]:
    arrays = {k: None if v is None else np.asarray(v.cpu()) for k, v in matrices.items()}
    return {"numbers": molecule.numbers, "positions": molecule.coords, **arrays}


def method_attributes(molecule: Molecule, method: Method) -> dict[str, Any]:
    """Attributes of every HDF5 group: what was solved (resolved), and for which structure."""
    return {
        "file": molecule.file,
        "frame": molecule.frame,
        "charge": molecule.charge,
        "spin": molecule.spin,
        "xc": method.xc,
        "basis": for_elements(method.basis, symbols_of(molecule)),
        "auxbasis": method.fitting_set,
        "density_fit": method.density_fit,
        "grid_level": method.grid_level,
    }


def summary(
    *,
    command: str,
    method: Method,
    state: State,
    runtime: Runtime,
    started: float,
    structures: Sequence[dict[str, Any]],
    failed: Sequence[dict[str, Any]],
    stopped_by: str | None,
    builds: Builds,
) -> dict[str, Any]:
    """The contents of ``summary.json``.

    Args:
        command: Command line.
        method: The problem; its fitting set resolved, or None where nothing was computed.
        state: Charge and spin of frames that state none.
        runtime: Device, threads, seed.
        started: ``time.monotonic()`` at the start.
        structures: Entries in input order.
        failed: Frames without one.
        stopped_by: "max_time" or "interrupt" when not everything was done.
        builds: All Fock builds.

    Returns:
        JSON values. ``converged`` says that all that was asked for was reached.
    """
    missed = any(entry["converged"] is False for entry in structures)
    return {
        "version": __version__,
        "format_version": FORMAT_VERSION,
        "command": command,
        "xc": method.xc,
        "basis": label_of(method.basis),
        "auxbasis": method.auxbasis,
        "grid_level": method.grid_level,
        "density_fit": method.density_fit,
        "charge": state.charge,
        "spin": state.spin,
        "seed": runtime.seed,
        "threads": runtime.threads,
        "device": str(runtime.device),
        "n_structures": len(structures),
        "converged": not (missed or failed or stopped_by),
        "stopped_by": stopped_by,
        "wall_time_s": time.monotonic() - started,
        "fock_builds": builds.fine,
        "coarse_builds": builds.coarse,
        "structures": list(structures),
        "failed": list(failed),
    }


def failure(molecule: Molecule, error: BaseException) -> dict[str, Any]:
    """One entry of ``failed``: the first line of what went wrong, without the place again."""
    lines = (str(error) or type(error).__name__).splitlines()
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        cure = f"use a smaller {argument('basis')}, fewer {argument('workers')} or a machine"
        cure += " with more memory"
        lines = [f"out of memory ({lines[0][:120]}); {cure}"]
    text = lines[0].removeprefix(molecule.where)
    return {"file": molecule.file, "frame": molecule.frame, "error": text}
