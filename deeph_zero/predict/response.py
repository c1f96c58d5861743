"""Derivatives of a prediction: polarisability, dipole derivatives, infrared spectrum.

Those of the refined state are exact to its convergence. Without a refinement they are estimates,
about the density where the coarse SCF of the certificate ends; their error is how far they are from
those about the network's own density, which lies further away from self-consistency.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from deeph_zero.errors import ComputationError, InputError, argument
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.ks.response.coupled import CoupledPerturbed
from deeph_zero.ks.response.nuclear import dipole_derivatives
from deeph_zero.ks.response.orbital_rotation import is_idempotent
from deeph_zero.ks.response.polarizability import polarizability
from deeph_zero.ks.response.quadratic import QuadraticModel
from deeph_zero.ks.scf.result import SCFResult
from deeph_zero.ks.scf.solve import coarse_solution
from deeph_zero.method import Method
from deeph_zero.predict.derivatives import Response
from deeph_zero.predict.meanfield import mean_field
from deeph_zero.predict.single import Prediction
from deeph_zero.predict.vibrations import vibrations
from deeph_zero.types import AOMatrix, SpinMatrix

ESTIMATE_TOL = 1e-6
"""Relative residual of the equations of an estimate."""


def with_response(
    result: Prediction, ks: KohnSham, own: tuple[AOMatrix, AOMatrix], method: Method
) -> Prediction:
    """A prediction with its responses.

    Args:
        result: Refined or not.
        ks: The layer it was made with.
        own: The network's density P̂ and F[P̂].
        method: What the model was trained on.

    Returns:
        With ``response`` and the builds spent on it.

    Raises:
        InputError: If the integrals have no derivatives, or occupations are fractional.
        ComputationError: If something did not converge.
    """
    where = result.molecule.where
    try:
        if result.refined is None:
            found = of_prediction(ks, *own)
        else:
            mf = mean_field(result.molecule, method, unrestricted=ks.unrestricted)
            found = of_refined(ks, result.refined, mf)
    except (InputError, ComputationError) as error:
        raise type(error)(f"{where}{error}") from error
    return dataclasses.replace(
        result, response=found, fock_builds=ks.fock_builds, coarse_builds=ks.coarse_builds
    )


def of_refined(ks: KohnSham, refined: SCFResult, mf: Any) -> Response:
    """Derivatives of a converged state.

    Args:
        ks: The layer.
        refined: Its SCF, on the CPU.
        mf: PySCF's object of the same problem, not run.

    Returns:
        With vibrations.

    Raises:
        InputError: If the integrals have no derivatives, or occupations are fractional.
        ComputationError: If the refinement or the equations did not converge.
    """
    if not refined.converged:
        raise ComputationError(
            "expected a converged density to differentiate, the refinement did not get there; "
            f"loosen {argument('refine')} or leave {argument('response', True)} out"
        )
    state = ks.tightened(_on_device(refined, ks))
    at = ks.to_layer(state.dm), ks.to_layer(state.fock)
    equations = CoupledPerturbed(ks.layer, *at)
    # in this order fields are solved once, as tightly as the slopes need
    slopes = dipole_derivatives(equations, ks.moving_integrals()).cpu().numpy()
    alpha = polarizability(equations).cpu().numpy()
    return Response(
        polarizability=alpha,
        dipole_derivatives=slopes,
        vibrations=vibrations(mf, ks, state, slopes),
    )


def of_prediction(ks: KohnSham, dm: AOMatrix, fock: AOMatrix) -> Response:
    """Estimates from one Fock build.

    Args:
        ks: The layer.
        dm: The network's density P̂.
        fock: F[P̂], Eh.

    Returns:
        With errors, without vibrations.

    Raises:
        InputError: If the integrals have no derivatives, or occupations are fractional.
        ComputationError: If the equations do not converge.
    """
    at = ks.to_layer(dm), ks.to_layer(fock)
    if not is_idempotent(ks.layer, at[0]):
        raise InputError(
            "expected integer occupations for an estimate of the response, the frontier level of "
            f"the prediction is degenerate and filled evenly; give {argument('refine', 1e-6)}"
        )
    coarse = ks.layer.coarse or ks.layer  # a difference hardly knows the grid
    moving = ks.moving_integrals()
    found: list[tuple[Tensor, Tensor]] = []
    nearer = _nearer(ks.layer, *at)
    for layer, state in ((ks.layer, nearer), (coarse, nearer), (coarse, at)):
        equations = CoupledPerturbed(layer, *state)
        alpha = polarizability(equations, ESTIMATE_TOL)
        found.append((alpha, dipole_derivatives(equations, moving, ESTIMATE_TOL)))
    errors = [float((a - b).abs().max()) for a, b in zip(*found[1:], strict=True)]
    return Response(
        polarizability=found[0][0].cpu().numpy(),
        dipole_derivatives=found[0][1].cpu().numpy(),
        polarizability_error=errors[0],
        dipole_derivatives_error=errors[1],
    )


def _nearer(
    layer: KohnShamLayer, dm: SpinMatrix, fock: SpinMatrix
) -> tuple[SpinMatrix, SpinMatrix]:
    """Density and Fock matrix of the certificate's estimate; those given where it has none."""
    with torch.no_grad():
        solved = coarse_solution(layer, dm, fock)
        if solved is not None:
            return solved.dm, solved.fock
        step = QuadraticModel(layer, dm, fock).step()
        if step is None:
            return dm, fock
        moved = fock + step.dfock
        orbitals = layer.orbitals(moved, degeneracy_tol=0.0)
        c, occ = orbitals.mo_coeff, orbitals.mo_occ
        return (c * occ.unsqueeze(-2)) @ c.mH, moved


def _on_device(refined: SCFResult, ks: KohnSham) -> SCFResult:
    matrices = ("fock", "dm", "mo_energy", "mo_coeff", "mo_occ")
    moved = {name: getattr(refined, name).to(ks.x) for name in matrices}
    return dataclasses.replace(refined, **moved)
