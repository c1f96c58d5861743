"""Fit a network to crystals without labels, in closed form, and measure it; from Python.

Every crystal is solved by its own layer, whose AO values it needs anyway; the potential that it
ends with gives the correction to learn as exact blocks.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.errors import ComputationError
from deeph_zero.ks.periodic.result import CrystalSCFResult
from deeph_zero.ks.periodic.types import BlochMatrix, weighted_trace
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.readout import solve_readout
from deeph_zero.prepared.crystal import PreparedCrystal

RIDGE = 1e-6
"""Of the closed-form readout; twelve cells of graphene: errors of unseen ones are least from 1e-6
to 1e-5."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaughtCrystal:
    """A crystal and what its own SCF says of it.

    Attributes:
        prepared: The crystal.
        correction: ΔH to reproduce, without a multiple of S, Eh.
        fock: F at self-consistency at the layer's k-points, Eh.
        fock_builds: Builds it took.
    """

    prepared: PreparedCrystal
    correction: BlockMatrix
    fock: BlochMatrix
    fock_builds: int


def teach(prepared: PreparedCrystal, **settings: Any) -> TaughtCrystal:
    """Solve a crystal; no label is needed.

    Args:
        prepared: The crystal.
        **settings: See :class:`~deeph_zero.ks.periodic.result.CrystalSCFSettings`.

    Returns:
        It, with the correction to learn.

    Raises:
        ComputationError: If the SCF does not converge.
    """
    result: CrystalSCFResult = prepared.ks.scf(**settings)
    if not result.converged:
        raise ComputationError(
            f"expected a converged SCF to learn from, got an orbital gradient of "
            f"{result.gradient_norm:.1e} Eh after {result.iterations} cycles; use smearing, or "
            "leave the crystal out"
        )
    return TaughtCrystal(
        prepared=prepared,
        correction=prepared.correction(result.build.rows),
        fock=result.fock,
        fock_builds=result.fock_builds,
    )


def fit_crystals(
    network: FockNetwork, crystals: Sequence[TaughtCrystal], *, ridge: float = RIDGE
) -> None:
    """Set the network's scales, and its readout in closed form.

    Args:
        network: Features stay as they are, random ones included.
        crystals: What to learn; cells of unlike size may be mixed.
        ridge: Relative to the mean diagonal of the normal matrix; larger is smoother.

    Raises:
        InputError: If there is no crystal, or their inputs have other cutoffs or elements.
    """
    inputs = [c.prepared.inputs for c in crystals]
    wanted = [c.correction for c in crystals]
    network.calibrate(inputs, wanted)
    solve_readout(network, inputs, wanted, ridge=ridge)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrystalErrors:
    """How far a matrix is from F, both up to a constant potential.

    Attributes:
        fock: Mean absolute element of H - F - μ S over the k-points, Eh.
        bands: Largest error of a level that is filled somewhere, or the next higher one, Eh.
    """

    fock: float
    bands: float


@torch.no_grad()
def crystal_errors(taught: TaughtCrystal, hamiltonian: BlochMatrix) -> CrystalErrors:
    """Errors at the layer's k-points.

    Args:
        taught: A crystal with its Fock matrix.
        hamiltonian: H, for example ``prepared.hamiltonian(network(prepared.inputs)[0])``, Eh.

    Returns:
        The errors.
    """
    ks = taught.prepared.ks
    ovlp, weights = ks.data.ovlp, ks.data.weights
    change = hamiltonian - taught.fock
    shift = weighted_trace(weights, change, ovlp) / weighted_trace(weights, ovlp, ovlp)
    rest = change - shift / len(change) * ovlp
    found, exact = ks.bands(hamiltonian), ks.bands(taught.fock)
    filled = int((exact.filling.occ > 0.01).any(0).any(0).sum())
    levels = (found.mo_energy - exact.mo_energy)[..., : filled + 1]
    middle = (levels * weights[:, None]).mean((0, 2)).sum()
    return CrystalErrors(fock=float(rest.abs().mean()), bands=float((levels - middle).abs().max()))
