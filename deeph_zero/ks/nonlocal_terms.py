"""The VV10 part of a Fock build: from density matrices to the grid, and potentials back."""

import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.ks import vv10
from deeph_zero.ks.grid.maps import density_features, potential_matrix, restrict, total_density
from deeph_zero.ks.protocol import NonlocalCorrelation
from deeph_zero.types import AOMatrix, Scalar

TotalMatrix = Float[Tensor, "nao nao"]


def nonlocal_build(nlc: NonlocalCorrelation, dm: AOMatrix) -> tuple[Scalar, TotalMatrix]:
    """Energy and potential matrix; the potential is the same for both spins.

    Args:
        nlc: Terms and grid.
        dm: Density matrix.

    Returns:
        E_nlc (Eh) and its derivative with respect to the total density matrix.
    """
    energy, potential = vv10.potential(_rows(nlc, dm), nlc.points, nlc.terms)
    return nlc.points.weights @ energy, _matrix(nlc, potential)


def nonlocal_response(nlc: NonlocalCorrelation, dm: AOMatrix, direction: AOMatrix) -> TotalMatrix:
    """Derivative of the potential matrix along a direction.

    Args:
        nlc: Terms and grid.
        dm: Density matrix.
        direction: Change of it.

    Returns:
        The same for both spins; zero at no cost where the total density does not change.
    """
    change = total_density(direction)
    if not bool(change.any()):
        return torch.zeros_like(change)
    rows = _rows(nlc, dm), _rows(nlc, change)
    return _matrix(nlc, vv10.response(*rows, nlc.points, nlc.terms))


def nonlocal_second_response(
    nlc: NonlocalCorrelation, dm: AOMatrix, d1: AOMatrix, d2: AOMatrix
) -> TotalMatrix:
    """Second derivative of the potential matrix along two directions.

    Args:
        nlc: Terms and grid.
        dm: Density matrix.
        d1: First direction.
        d2: Second direction.

    Returns:
        The same for both spins, symmetric in (d1, d2).
    """
    rows = _rows(nlc, dm), _rows(nlc, d1), _rows(nlc, d2)
    return _matrix(nlc, vv10.second_response(*rows, nlc.points, nlc.terms))


def _rows(nlc: NonlocalCorrelation, dm: AOMatrix) -> Tensor:
    """Total density and its gradient on all points, [4, ngrids]."""
    total = total_density(dm)
    blocks = (nlc.grid.block(k) for k in range(nlc.grid.n_blocks))
    return torch.cat([density_features(b, restrict(total, b), "GGA") for b in blocks], dim=-1)


def _matrix(nlc: NonlocalCorrelation, potential: Tensor) -> Tensor:
    """Matrix of a potential [4, ngrids]."""
    out = potential.new_zeros(nlc.grid.nao, nlc.grid.nao)
    weighted, start = potential * nlc.points.weights, 0
    for k in range(nlc.grid.n_blocks):
        block = nlc.grid.block(k)
        stop = start + len(block.weights)
        local = potential_matrix(block, weighted[:, start:stop], "GGA")
        if block.index is None:
            out += local
        else:
            out[block.index.unsqueeze(1), block.index] += local
        start = stop
    return out
