"""Charge transfer in a molecule by self-consistent charges and dipoles of its atoms.

Superposed atoms know no charge transfer, and a few numbers per atom say most of what it does to a
Kohn-Sham matrix. The change of the density against the free atoms is described by one charge and
one dipole cloud per atom; their potential moves the levels, which move the density. No density
functional is evaluated.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deeph_zero.ks.linalg.eigen import symmetric_eigen
from deeph_zero.ks.smearing import chemical_potential, fermi, first_difference

WIDTH = 0.01
"""Fermi width (Eh) of the occupations: near-degenerate levels share electrons, smoothly."""

TOLERANCE = 1e-6
"""Residual at which charges count as self-consistent: root of its Coulomb energy, Eh."""

MAX_STEPS = 40
"""Molecules take four or five; ions whose electrons could be elsewhere up to twenty."""

EMPTY = 1e-9
"""Occupations (and holes) below it do not take part in the response."""

_ENOUGH = 0.5
"""Part of the residual's energy that a step may leave before the response is made anew."""

_SHORTEST = 1 / 256
"""Shortest part of a Newton step that is tried."""

_AT_ONCE = 16
"""Clouds whose matrices are transformed together."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AtomicClouds:
    """Gaussians of unit charge (s) and unit dipole moment (x, y, z), atom by atom.

    Attributes:
        three_centre: (charge cloud | μν) with erfc(ωr)/r, [natm, nao, nao], Eh.
        near: (charge cloud | charge cloud) with erfc(ωr)/r, Eh.
        far: (cloud | cloud) with erf(ωr)/r, Eh; charges alone, or charge, x, y, z of each atom.
        ovlp: S.
        dipole: <μ| r |ν> about the middle between the two orbitals' centres, bohr.
        ao_atoms: Atom of each AO.
        electrons: Number of electrons of each neutral atom.
        free: (charge cloud | density of the free atoms) with erfc(ωr)/r, Eh.
        far_field: Σ moment · (μν | cloud) with erf(ωr)/r, Eh, of the far clouds' moments.
    """

    three_centre: Float[Tensor, "natm nao nao"]
    near: Float[Tensor, "natm natm"]
    far: Float[Tensor, "nmoment nmoment"]
    ovlp: Float[Tensor, "nao nao"]
    dipole: Float[Tensor, "3 nao nao"]
    ao_atoms: Int[Tensor, " nao"]
    electrons: Float[Tensor, " natm"]
    free: Float[Tensor, " natm"]
    far_field: Callable[[Float[Tensor, " nmoment"]], Float[Tensor, "nao nao"]]

    @property
    def per_atom(self) -> int:
        """1, or 4 with dipoles."""
        return len(self.far) // len(self.electrons)

    def seen(self, dm: Float[Tensor, "nao nao"]) -> Float[Tensor, " nseen"]:
        """What the field depends on: near potentials at the clouds, then the atoms' multipoles.

        A product of orbitals gives half of its charge and of its dipole moment (about the middle
        between the orbitals) to either atom, so that the multipoles of atoms far from others add
        up to the charge and the dipole of the density itself.

        Args:
            dm: Density matrix of all electrons, symmetric.

        Returns:
            (cloud | ρ - free atoms) with erfc(ωr)/r, Eh; electrons beyond the free atoms' and
            electrons times bohr.

        References:
            Sokalski, Poirier, Chem. Phys. Lett. 98, 86 (1983), eqs. 4-5.
        """
        rows = torch.stack([(dm * one).sum(-1) for one in self._products()], -1)
        multipoles = rows.new_zeros(len(self.electrons), self.per_atom)
        multipoles.index_add_(0, self.ao_atoms, rows)
        multipoles[:, 0] -= self.electrons
        near = self.three_centre.flatten(1) @ dm.flatten() - self.free
        return torch.cat([near, multipoles.flatten()])

    def kernel(self) -> Float[Tensor, "nseen nseen"]:
        """Second derivative of the clouds' energy ½ sᵀ K s in what is :meth:`seen`.

        At short range the clouds are a Coulomb fit of the density (Dunlap, Connolly, Sabin,
        J. Chem. Phys. 71, 3396 (1979), eq. 2.7), at long range they have its multipoles.
        """
        return torch.block_diag(torch.linalg.inv(self.near), self.far)

    def potential(self, weights: Float[Tensor, " nseen"]) -> Float[Tensor, "nao nao"]:
        """Σ weight · derivative of :meth:`seen` in the density matrix.

        Args:
            weights: K times what is seen.

        Returns:
            The clouds' potential, Eh.
        """
        near, far = weights.split([len(self.near), len(self.far)])
        matrix = self._near_field(near)
        of_ao = far.view(-1, self.per_atom)[self.ao_atoms]
        for k, one in enumerate(self._products()):
            matrix = matrix + 0.5 * one * (of_ao[:, k] + of_ao[:, k, None])
        return matrix

    def field(self, seen: Float[Tensor, " nseen"]) -> Float[Tensor, "nao nao"]:
        """The clouds' potential at every place.

        :meth:`potential` takes the far field at the atoms, for all products of orbitals alike.
        That is no function of place: between orbitals that nearly cancel, where a product has
        hardly any charge, it is off by as much as their overlap is small, by hartrees.

        Args:
            seen: What the clouds see of a density.

        Returns:
            Its matrix, Eh: between orthonormal orbitals never above the potential itself.
        """
        near, moments = seen.split([len(self.near), len(self.far)])
        return self._near_field(torch.linalg.solve(self.near, near)) + self.far_field(moments)

    def _near_field(self, weights: Float[Tensor, " natm"]) -> Float[Tensor, "nao nao"]:
        return (weights @ self.three_centre.flatten(1)).view_as(self.ovlp)

    def between(
        self, left: Float[Tensor, "nao p"], right: Float[Tensor, "nao q"]
    ) -> Float[Tensor, "nseen p q"]:
        """What is seen of the products of orbitals, left and right."""
        near = torch.cat([left.mT @ (some @ right) for some in self.three_centre.split(_AT_ONCE)])
        far = left.new_zeros(len(self.electrons), self.per_atom, left.shape[1], right.shape[1])
        own = self.ao_atoms.bincount(minlength=len(self.electrons)).tolist()
        of_left, of_right = left.split(own), right.split(own)
        for k, one in enumerate(self._products()):
            other = (one @ left).split(own), (one @ right).split(own)
            for atom, (a, b) in enumerate(zip(of_left, of_right, strict=True)):
                far[atom, k] = 0.5 * (a.mT @ other[1][atom] + other[0][atom].mT @ b)
        return torch.cat([near, far.flatten(0, 1)])

    def _products(self) -> list[Tensor]:
        """Charge, and dipoles where there are any, of the products of orbitals."""
        return [self.ovlp, *(self.dipole if self.per_atom > 1 else ())]


class Screened(NamedTuple):
    """A matrix and what its electrons do.

    Attributes:
        fock: h + V, Eh.
        dm: Densities of both spins in it.
        dm_free: Density matrix in h.
        seen: What the clouds see of the electrons whose field V is.
    """

    fock: Float[Tensor, "nao nao"]
    dm: Float[Tensor, "2 nao nao"]
    dm_free: Float[Tensor, "2 nao nao"]
    seen: Float[Tensor, " nseen"]


def screened(
    h: Float[Tensor, "nao nao"],
    x: Float[Tensor, "nao nmo"],
    nelec: tuple[int, int],
    clouds: AtomicClouds,
    tolerance: float = TOLERANCE,
) -> Screened:
    """A one-electron matrix with the field of the charges and dipoles its electrons have.

    With s what the clouds see of a density, s = s[P(h + V[K s])] is solved by Newton's method. The
    free energy tr(h P) + ½ sᵀ K s - T S is convex in P: there is one solution, which changes
    smoothly with the geometry, and a step along Newton's direction always lowers the residual. In
    the end the field of the charges and dipoles found is taken as the integrals it has.

    Args:
        h: Matrix of the superposed atoms, Eh.
        x: X with Xᵀ S X = 1.
        nelec: (n_alpha, n_beta); both spins feel the same matrix.
        clouds: The molecule's.
        tolerance: Residual to reach, Eh.

    Returns:
        h + V and the densities in it and in h.

    References:
        Self-consistent charges: Elstner et al., Phys. Rev. B 58, 7260 (1998), eqs. 17-19; with
        dipoles: Bannwarth, Ehlert, Grimme, J. Chem. Theory Comput. 15, 1652 (2019), section 2.
    """
    kernel = clouds.kernel()

    def point(seen: Tensor) -> _Point:
        matrix = h + clouds.potential(kernel @ seen)
        spectrum = Spectrum.of(matrix, x, nelec)
        left = clouds.seen(spectrum.densities().sum(0)) - seen
        return _Point(seen, matrix, spectrum, left, float(left @ kernel @ left))

    now = start = point(h.new_zeros(len(kernel)))
    inverse = inverse_slope(now.spectrum, clouds, kernel)
    fresh = True
    for _ in range(MAX_STEPS):
        if now.energy < tolerance**2:
            break
        step = inverse @ now.left
        length = 1.0
        new = point(now.seen + step)
        while fresh and new.energy > (1 - 0.5 * length) * now.energy and length > _SHORTEST:
            length /= 2
            new = point(now.seen + length * step)
        better = new.energy < _ENOUGH * now.energy
        change = now.left - new.left
        if fresh or better:
            now = new
        fresh = not better
        inverse = (
            _updated(inverse, length * step, change)
            if better
            else inverse_slope(now.spectrum, clouds, kernel)
        )
    matrix = h + clouds.field(now.seen)
    dm = Spectrum.of(matrix, x, nelec).densities()
    return Screened(matrix, dm, start.spectrum.densities(), now.seen)


def inverse_slope(
    spectrum: "Spectrum", clouds: AtomicClouds, kernel: Float[Tensor, "nseen nseen"]
) -> Float[Tensor, "nseen nseen"]:
    """(1 - χ K)⁻¹: the error of what was guessed from what is left.

    Args:
        spectrum: Levels and orbitals of the matrix with the guess's field.
        clouds: The molecule's.
        kernel: K.

    Returns:
        A matrix.
    """
    slope = torch.eye(len(kernel)).to(kernel) - _response(spectrum, clouds) @ kernel
    return torch.linalg.inv(slope)


def _updated(inverse: Tensor, step: Tensor, change: Tensor) -> Tensor:
    """Broyden's good update of an inverse: it maps the change on the step afterwards."""
    mapped = inverse @ change
    return inverse + torch.outer(step - mapped, step @ inverse) / (step @ mapped)


@dataclasses.dataclass(frozen=True)
class _Point:
    """A guess of what is seen, and what its field makes of it."""

    seen: Tensor
    matrix: Tensor
    spectrum: "Spectrum"
    left: Tensor
    energy: float


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """Orbitals of a matrix and their occupations.

    Attributes:
        levels: Eh.
        orbitals: C.
        mu: Chemical potential of each spin, Eh; None where nothing can move.
        occ: Occupation of each spin's orbitals.
        width: Fermi width, Eh.
    """

    levels: Float[Tensor, " nmo"]
    orbitals: Float[Tensor, "nao nmo"]
    mu: tuple[float | None, ...]
    occ: Float[Tensor, "spin nmo"]
    width: float = WIDTH

    @classmethod
    def of(
        cls,
        h: Float[Tensor, "nao nao"],
        x: Float[Tensor, "nao nmo"],
        nelec: tuple[int, int],
        width: float = WIDTH,
    ) -> "Spectrum":
        """Diagonalise a matrix and fill its levels.

        Args:
            h: Eh.
            x: X with Xᵀ S X = 1.
            nelec: (n_alpha, n_beta).
            width: Fermi width, Eh.

        Returns:
            Its orbitals and their occupations.
        """
        levels, vectors = symmetric_eigen(x.mH @ h @ x)
        found = {
            n: chemical_potential(levels, n, width) if 0 < n < len(levels) else None
            for n in set(nelec)
        }
        mu = tuple(found[n] for n in nelec)
        occ = [
            torch.full_like(levels, float(n > 0)) if m is None else fermi(levels - m, width)
            for m, n in zip(mu, nelec, strict=True)
        ]
        return cls(levels, x @ vectors, mu, torch.stack(occ), width)

    def slopes(self) -> Float[Tensor, "spin nmo nmo"]:
        """(f_p - f_q) / (e_p - e_q) of each spin."""
        zero = self.levels.new_zeros(len(self.levels), len(self.levels))
        found = {
            m: zero if m is None else first_difference(self.levels - m, self.width)
            for m in set(self.mu)
        }
        return torch.stack([found[m] for m in self.mu])

    def densities(self) -> Float[Tensor, "spin nao nao"]:
        """Density matrix of each spin."""
        return (self.orbitals * self.occ.unsqueeze(-2)) @ self.orbitals.mH


def _response(s: Spectrum, clouds: AtomicClouds) -> Float[Tensor, "nseen nseen"]:
    """Change of what is seen with the weights of the potential, at a fixed electron number."""
    filled, empty = s.occ.amax(0) > EMPTY, s.occ.amin(0) < 1 - EMPTY
    both = filled & empty
    pairs = clouds.between(s.orbitals[:, filled], s.orbitals[:, empty]).flatten(1)
    # a pair stands for (p, q) and (q, p) unless both orders are there
    orders = 2.0 - (both[filled].unsqueeze(-1) & both[empty]).to(pairs.dtype)
    slopes = s.slopes()
    weights = slopes.sum(0)[filled][:, empty] * orders
    response = (pairs * weights.flatten()) @ pairs.mT
    shared = both.nonzero().flatten()
    own = torch.zeros_like(response[:, :1]).expand(-1, len(shared))
    if len(shared):
        whole = clouds.between(s.orbitals[:, shared], s.orbitals[:, shared])
        own = whole.diagonal(dim1=-2, dim2=-1)
    for slope in slopes:  # the chemical potential moves with the levels at it
        per_level = slope.diagonal()[shared]
        along = own @ per_level
        response = response - torch.outer(along, along) / per_level.sum().clamp_max(-1e-30)
    return response
