"""The dielectric step of crystals: what is left of a self-consistency step, without a build.

The equations are those of :mod:`deeph_zero.ks.response.dielectric`, over all k-points at once. In
metals the chemical potential moves with them: -χ is diagonal in pairs of orbitals but for that, and
pairs whose density would change the number of electrons are projected out.
"""

import torch
from torch import Tensor

from deeph_zero.ks.density import divided_difference
from deeph_zero.ks.linalg.conjugate_gradients import steps
from deeph_zero.ks.periodic.layer import Bands, CrystalLayer
from deeph_zero.ks.periodic.step_coulomb import CoulombOnMesh, StepCoulomb
from deeph_zero.ks.periodic.types import BlochMatrix, MeshRows
from deeph_zero.ks.response.dielectric import COULOMB_PART, MAX_PRODUCTS, SPIN_PART, TOLERANCE
from deeph_zero.ks.smearing import first_difference


@torch.no_grad()
def dielectric_step(
    layer: CrystalLayer,
    coulomb: StepCoulomb,
    fock: BlochMatrix,
    dm: BlochMatrix | None,
    degeneracy_tol: float | None = None,
) -> BlochMatrix:
    """Change of a Fock matrix on the way to self-consistency, from the Coulomb response alone.

    Args:
        layer: The crystal.
        coulomb: Coulomb potentials, on a coarse mesh as well.
        fock: F of ``dm``, or the same linear combination of such matrices, Eh.
        dm: The density matrix; None: ``fock`` is that of superposed free atoms.
        degeneracy_tol: Overrides the layer's.

    Returns:
        The change, Eh.

    Raises:
        ComputationError: If ``fock`` is not finite.

    References:
        K.-M. Ho, J. Ihm, J. D. Joannopoulos, Phys. Rev. B 25, 4260 (1982), eqs. 4-8.

    Cost:
        Three or four Coulomb matrices of each spin, and one diagonalisation; not a Fock build.
    """
    rows = dielectric_potential(layer, coulomb, fock, dm, degeneracy_tol)
    return coulomb.matrices(rows, fock.dtype)


@torch.no_grad()
def dielectric_potential(
    layer: CrystalLayer,
    coulomb: StepCoulomb,
    fock: BlochMatrix,
    dm: BlochMatrix | None,
    degeneracy_tol: float | None = None,
) -> MeshRows:
    """The local potential whose matrix :func:`dielectric_step` gives; the arguments are its.

    Args:
        layer: The crystal.
        coulomb: Coulomb potentials.
        fock: F of ``dm``, Eh.
        dm: The density matrix, or None.
        degeneracy_tol: Overrides the layer's.

    Returns:
        [nspin, 1, ngrids] on the mesh of ``coulomb``, Eh.

    Raises:
        ComputationError: If ``fock`` is not finite.
    """
    bands = layer.bands(fock, degeneracy_tol)
    occ = bands.filling.occ.to(bands.mo_coeff.dtype)
    new = (bands.mo_coeff * occ.unsqueeze(-2)) @ bands.mo_coeff.mH
    if dm is None:
        assert isinstance(coulomb, CoulombOnMesh)
        first = coulomb.beside_guess(new)
    else:
        first = coulomb(new - dm)
    pairs = Pairs(layer, bands)
    for spin_part in (SPIN_PART, 0.0):
        start = _kernel(first, spin_part)
        more = _response(pairs, coulomb, start, spin_part)
        if more is not None:
            return start + more
    return torch.zeros_like(first)


def _kernel(v: MeshRows, spin_part: float) -> MeshRows:
    """Potentials that the electrostatic potentials of the spins stand for."""
    if len(v) == 1:
        return COULOMB_PART * v
    up, down = v.unbind(0)
    total, spin = COULOMB_PART * (up + down), spin_part * (up - down)
    return torch.stack([total - spin, total + spin])


class Pairs:
    """√(-χ) in pairs of orbitals, and back."""

    def __init__(self, layer: CrystalLayer, bands: Bands) -> None:
        """Take orbitals and occupations; nothing is computed with the grid.

        Args:
            layer: The crystal.
            bands: Its orbitals.
        """
        self.c = bands.mo_coeff
        self.weights = layer.matrix_weights
        self.channels = layer.channels if layer.smearing > 0 else []
        energy, occ = bands.mo_energy, bands.filling.occ
        if layer.smearing > 0:
            mu = energy.new_tensor(bands.filling.fermi).reshape(-1, 1, 1)
            per_orbital = 2.0 / layer.nspin
            w = per_orbital * first_difference(energy - mu, layer.smearing)
        else:
            w = divided_difference(energy, occ, layer.gap_floor)
        self.root = (-w).clamp_min(0.0).sqrt()
        self.slopes = self.root.diagonal(dim1=-2, dim2=-1)

    def density(self, pairs: Tensor) -> BlochMatrix:
        """Change of the density matrix."""
        return self.c @ (self.root * pairs) @ self.c.mH

    def of(self, potential: BlochMatrix) -> Tensor:
        """Scaled pairs of a potential, without a change of the number of electrons."""
        pairs = self.root * (self.c.mH @ potential @ self.c)
        weights = self.weights.squeeze(-1)
        for spins, _ in self.channels:
            slopes = self.slopes[spins]
            norm = (weights * slopes.square()).sum()
            if not bool(norm > 0):
                continue
            diagonal = pairs[spins].diagonal(dim1=-2, dim2=-1)
            along = (weights * slopes * diagonal.real).sum() / norm
            diagonal -= along * slopes
        return pairs

    def packed(self, pairs: Tensor) -> Tensor:
        """As a real vector whose products are inner products over all k."""
        scaled = self.weights.sqrt() * pairs
        return (torch.view_as_real(scaled) if scaled.is_complex() else scaled).flatten()

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        """Inner product over all k."""
        return self.packed(a) @ self.packed(b)

    def unpacked(self, vector: Tensor) -> Tensor:
        """Inverse of :meth:`packed`."""
        shape = self.c.shape
        if self.c.is_complex():
            pairs = torch.view_as_complex(vector.reshape(*shape, 2))
        else:
            pairs = vector.reshape(shape)
        return pairs / self.weights.sqrt()


def _response(
    pairs: Pairs, coulomb: StepCoulomb, start: MeshRows, spin_part: float
) -> MeshRows | None:
    """K of the solution y of (1 + √w K √w) y = -√w ``start``, by conjugate gradients.

    Args:
        pairs: The orbitals' pairs.
        coulomb: Coulomb potentials.
        start: K of what is left of the step.
        spin_part: Spin part of the kernel.

    Returns:
        The potential, Eh; None if the equations are not definite.
    """
    dtype = pairs.c.dtype
    moved = torch.zeros_like(start)

    def product(vectors: Tensor) -> Tensor:
        nonlocal moved
        direction = pairs.unpacked(vectors[0])
        moved = _kernel(coulomb(pairs.density(direction)), spin_part)
        return pairs.packed(direction + pairs.of(coulomb.matrices(moved, dtype)))[None]

    rhs = pairs.packed(-pairs.of(coulomb.matrices(start, dtype)))[None]
    total = torch.zeros_like(start)
    iteration = steps(product, rhs, TOLERANCE * rhs.norm(dim=-1))
    for _, step in zip(range(MAX_PRODUCTS), iteration, strict=False):
        if bool(step.curvature[0] <= 0):
            return None
        total = total + step.length[0] * moved
    return total
