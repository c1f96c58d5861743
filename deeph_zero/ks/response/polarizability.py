"""Static polarisability: how the dipole moment of a converged density follows an electric field.

α_xy = dμ_x/dε_y = -tr(r_x dP/dε_y), by the coupled-perturbed equations with F¹ = r_y. A field is
-μ·ε in the energy; the second derivative of the energy is -α.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.ks.response.coupled import CoupledPerturbed, Perturbations

TOLERANCE = 1e-8
"""Relative residual of the equations: the error of a diagonal element goes with its square."""


def polarizability(equations: CoupledPerturbed, tol: float = TOLERANCE) -> Float[Tensor, "3 3"]:
    """The static polarisability tensor.

    Args:
        equations: About the converged density.
        tol: Relative residual of the equations.

    Returns:
        α, symmetric, bohr³ (atomic units).

    Raises:
        ComputationError: If the equations do not converge.
    """
    found = equations.in_fields(tol)
    alpha = -_dipoles(equations.rotations.layer.data.dipole, found.dm)
    return 0.5 * (alpha + alpha.mT)


def _dipoles(position: Float[Tensor, "3 nao nao"], dms: Perturbations) -> Float[Tensor, "3 n"]:
    """tr(r P) of some changes."""
    return torch.einsum("xmn,ksmn->xk", position, dms)
