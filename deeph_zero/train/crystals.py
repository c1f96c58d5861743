"""What a crystal teaches a network without labels, the closed-form fit to it, and its errors.

Every crystal is solved by its own layer, whose AO values it needs anyway; the potential that it
ends with gives the correction to learn as exact blocks.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.errors import ComputationError
from deeph_zero.ks.periodic.result import CrystalSCFResult
from deeph_zero.ks.periodic.types import (
    BandEnergies,
    BlochMatrix,
    BlochOperator,
    without_potential,
)
from deeph_zero.ks.smearing import NO_ORBITAL
from deeph_zero.nn.inputs import NetworkInputs
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.readout import solve_readout
from deeph_zero.prepared.constant import LevelConstant
from deeph_zero.prepared.crystal import PreparedCrystal
from deeph_zero.prepared.sparse import shift_of, without_shift

RIDGE = 1e-6
"""Ridge parameter of the closed-form readout. Trained on twelve cells of graphene, errors of unseen
ones are least from 1e-6 to 1e-5."""
LEAST = 0.1
"""Weight in the loss of orbitals far above the Fermi level; filled ones count 1."""
ABOVE, SOFT = 0.3, 0.1
"""Where above the Fermi level weights fall, and over which width, Eh."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaughtCrystal:
    """A crystal and what its own SCF says of it.

    Attributes:
        prepared: The crystal.
        correction: What leads from H₀ to F, Eh.
        fock: F at self-consistency at the layer's k-points, Eh.
        fock_builds: Builds it took.
        coarse_builds: Those on the coarse mesh.
    """

    prepared: PreparedCrystal
    correction: BlockMatrix
    fock: BlochMatrix
    fock_builds: int
    coarse_builds: int = 0

    @classmethod
    def of_result(cls, prepared: PreparedCrystal, result: CrystalSCFResult) -> "TaughtCrystal":
        """Take over where an SCF ended.

        Args:
            prepared: The crystal.
            result: Its SCF.

        Returns:
            The crystal with what the SCF says of it.
        """
        return cls(
            prepared=prepared,
            correction=prepared.correction(result.build.rows),
            fock=result.fock,
            fock_builds=result.fock_builds,
            coarse_builds=result.coarse_builds,
        )

    @property
    def inputs(self) -> NetworkInputs:
        """What the network reads of it."""
        return self.prepared.inputs

    @functools.cached_property
    def constant(self) -> float:
        """The multiple of S in the correction, Eh."""
        return shift_of(self.correction, self.prepared.ovlp)

    @functools.cached_property
    def target(self) -> BlockMatrix:
        """ΔH for a network to reproduce: the correction without its multiple of S, Eh."""
        return without_shift(self.correction, self.prepared.ovlp)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lesson:
    """What training needs of a taught crystal, without its integrals.

    Attributes:
        inputs: What the network reads.
        target: ΔH to reproduce, without a multiple of S, Eh.
        constant: That multiple, Eh.
        volume: Volume of the cell, bohr³; infinite for a layer.
        fock0: H₀ at the k-points, Eh.
        fock: F at self-consistency there.
        orbitals: Those of ``fock``, as columns.
        levels: Their energies, Eh.
        weight: Weight of each orbital in the loss, [nspin, nk, nmo].
        kpts: Fractions of the reciprocal vectors, [nk, 3].
        kweights: [nk].
        ovlp: S at the k-points.
        filled: Levels that are filled somewhere.
    """

    inputs: NetworkInputs
    target: BlockMatrix
    constant: float
    volume: float
    fock0: BlochMatrix
    fock: BlochMatrix
    orbitals: Tensor
    levels: BandEnergies
    weight: Tensor
    kpts: Tensor
    kweights: Tensor
    ovlp: BlochOperator
    filled: int

    @classmethod
    def of(cls, taught: TaughtCrystal) -> "Lesson":
        """The lesson of a taught crystal."""
        ks = taught.prepared.ks
        bands = ks.bands(taught.fock)
        fermi = max(bands.filling.fermi)
        weight = LEAST + (1 - LEAST) * torch.sigmoid((fermi + ABOVE - bands.mo_energy) / SOFT)
        return cls(
            inputs=taught.inputs,
            target=taught.target,
            constant=taught.constant,
            volume=taught.prepared.volume,
            fock0=taught.prepared.fock0,
            fock=taught.fock,
            orbitals=bands.mo_coeff,
            levels=bands.mo_energy,
            weight=torch.where(bands.mo_energy < NO_ORBITAL, weight, 0.0),
            kpts=torch.from_numpy(ks.info.kpts),
            kweights=ks.data.weights,
            ovlp=ks.data.ovlp,
            filled=int((bands.filling.occ > 0.01).any(0).any(0).sum()),
        )

    @property
    def numbers(self) -> list[int]:
        """Atomic numbers."""
        return self.inputs.numbers.tolist()

    def _change(self, correction: BlockMatrix) -> Tensor:
        """H - F at the k-points."""
        change = correction.at_k(self.kpts).reshape(self.fock0.shape)
        return self.fock0 + (change if self.fock0.is_complex() else change.real) - self.fock

    @torch.no_grad()
    def errors(self, correction: BlockMatrix, constant: float = 0.0) -> "CrystalErrors":
        """Errors of a prediction, as :func:`crystal_errors` measures them.

        Args:
            correction: The network's ΔH, Eh.
            constant: The multiple of S beside it, Eh.

        Returns:
            The errors.
        """
        change, c = self._change(correction) + constant * self.ovlp, self.orbitals
        rest = without_potential(self.kweights, change, self.ovlp)
        found = torch.linalg.eigvalsh(c.mH @ change @ c + torch.diag_embed(self.levels).to(c))
        levels = (found - self.levels)[..., : self.filled + 1]
        return _measured(rest, levels, self.kweights)

    def loss(self, correction: BlockMatrix) -> Tensor:
        """Mean square of H - F between the orbitals of F, up to a constant potential.

        Args:
            correction: The network's ΔH, Eh; differentiable.

        Returns:
            Eh². Filled orbitals and the lowest empty ones count most.
        """
        c = self.orbitals
        error = c.mH @ self._change(correction) @ c
        share = self.weight * self.kweights[:, None]
        diagonal = error.diagonal(dim1=-2, dim2=-1)
        diagonal = diagonal.real if diagonal.is_complex() else diagonal
        shift = (share * diagonal).sum() / share.sum()
        error = error - shift * torch.eye(error.shape[-1]).to(error)
        pairs = share.unsqueeze(-1) * self.weight.unsqueeze(-2)
        return (pairs * error.abs().square()).sum() / pairs.sum()


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
    return TaughtCrystal.of_result(prepared, result)


def teach_density(prepared: PreparedCrystal, dm: BlochMatrix) -> TaughtCrystal:
    """Take a density from elsewhere, a label's, in place of an SCF; one Fock build.

    Args:
        prepared: The crystal.
        dm: Converged density matrix at the layer's k-points.

    Returns:
        It, with the correction to learn.

    Raises:
        InputError: If ``dm`` is not a matrix of this crystal.
    """
    before = prepared.ks.fock_builds
    built = prepared.ks.build(dm)
    return TaughtCrystal(
        prepared=prepared,
        correction=prepared.correction(built.rows),
        fock=built.fock,
        fock_builds=prepared.ks.fock_builds - before,
    )


def fit_crystals(
    network: FockNetwork, crystals: "Sequence[TaughtCrystal | Lesson]", *, ridge: float = RIDGE
) -> None:
    """Set the network's scales, and its readout in closed form.

    Args:
        network: Features stay as they are, random ones included.
        crystals: What to learn; cells of unlike size may be mixed.
        ridge: Relative to the mean diagonal of the normal matrix; larger is smoother.

    Raises:
        InputError: If there is no crystal, or their inputs have other cutoffs or elements.
    """
    inputs = [c.inputs for c in crystals]
    wanted = [c.target for c in crystals]
    network.calibrate(inputs, wanted)
    solve_readout(network, inputs, wanted, ridge=ridge)


def fit_constant(crystals: Sequence[Lesson]) -> LevelConstant:
    """The constant potential of crystals like these.

    Args:
        crystals: What to learn; one at least.

    Returns:
        Its model.
    """
    return LevelConstant.fitted([(c.numbers, c.volume, c.constant) for c in crystals])


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrystalErrors:
    """How far a matrix is from F, up to a constant potential and in that constant.

    Attributes:
        fock: Mean absolute element of H - F - μ S over the k-points, Eh.
        bands: Largest error of a level that is filled somewhere, or the next higher one, Eh.
        constant: Mean error of these levels, which ``bands`` leaves out, Eh.
    """

    fock: float
    bands: float
    constant: float


@torch.no_grad()
def crystal_errors(taught: TaughtCrystal, hamiltonian: BlochMatrix) -> CrystalErrors:
    """Errors at the layer's k-points.

    Args:
        taught: A crystal with its Fock matrix.
        hamiltonian: H, for example ``prepared.hamiltonian(network(prepared.inputs)[0])``, Eh.

    Returns:
        The errors.
    """
    ks, fock = taught.prepared.ks, taught.fock
    weights = ks.data.weights
    rest = without_potential(weights, hamiltonian - fock, ks.data.ovlp)
    found, exact = ks.bands(hamiltonian), ks.bands(fock)
    filled = int((exact.filling.occ > 0.01).any(0).any(0).sum())
    levels = (found.mo_energy - exact.mo_energy)[..., : filled + 1]
    return _measured(rest, levels, weights)


def _measured(rest: Tensor, levels: Tensor, weights: Tensor) -> CrystalErrors:
    """Errors from H - F - μ S and the differences of levels."""
    middle = (levels * weights[:, None]).sum(1).mean()
    return CrystalErrors(
        fock=float(rest.abs().mean()),
        bands=float((levels - middle).abs().max()),
        constant=float(middle),
    )
