"""Kohn-Sham theory of one crystal as differentiable functions of matrices at k-points."""

import dataclasses
import math

import torch
from jaxtyping import Inexact
from torch import Tensor

from deeph_zero.errors import InputError
from deeph_zero.ks.density import GAP_FLOOR, density_matrix
from deeph_zero.ks.differentiable import energy_and_fock, hermitian
from deeph_zero.ks.given import check_tensor
from deeph_zero.ks.linalg.eigen import symmetric_eigen
from deeph_zero.ks.occupation import DEGENERACY_TOL
from deeph_zero.ks.periodic.data import CrystalData
from deeph_zero.ks.periodic.occupation import Filling, channels, fill
from deeph_zero.ks.periodic.orthogonalise import BlochOrthogonaliser
from deeph_zero.ks.periodic.terms.fixed_operator import FixedOperator
from deeph_zero.ks.periodic.terms.on_mesh import MeshTerm
from deeph_zero.ks.periodic.types import BandEnergies, BlochMatrix, MeshRows
from deeph_zero.ks.smearing import smeared_density
from deeph_zero.ks.terms.term import Density, Term
from deeph_zero.ks.terms.terms import change, second_change, total
from deeph_zero.types import Brief, GivenMatrix, Scalar


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CrystalBuild(Brief):
    """One Fock build.

    Attributes:
        parts: Energies by the terms' names, Eh per cell: kinetic_nonlocal, local, coulomb, xc,
            exchange, ewald; those that the crystal has.
        fock: F, with dE = Σ_k w_k Re tr(F_k dP_k), Eh.
        rho: Density variables on the grid.
        dm: The density matrix.
        rows: Sum of the potentials on the grid, one for each density variable.
        n_electrons: Density integrated on the grid, per cell.
    """

    parts: dict[str, Tensor]
    fock: BlochMatrix
    dm: BlochMatrix
    rho: MeshRows
    rows: MeshRows
    n_electrons: float

    @property
    def energy(self) -> Scalar:
        """Total energy, Eh per cell."""
        return torch.stack(list(self.parts.values())).sum()


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Bands(Brief):
    """Eigenstates of a Fock matrix.

    Attributes:
        mo_energy: Eh, ascending at every k; far above all others (``NO_ORBITAL``) for combinations
            that were left out.
        mo_coeff: Columns are orbitals.
        filling: Occupations, Fermi level, gap, entropy.
    """

    mo_energy: BandEnergies
    mo_coeff: Inexact[Tensor, "nspin nk nao nmo"]
    filling: Filling


class CrystalLayer:
    """Kohn-Sham theory of one crystal.

    Matrices are [nspin, nk, nao, nao]: complex128, or float64 where every k is like Γ. Input that
    is not Hermitian is made so. Energies are per cell. Gradients follow torch's convention for
    complex numbers: dL = Re Σ conj(gradient) dP, so that that of the energy is w_k F_k.
    """

    def __init__(
        self,
        data: CrystalData,
        *,
        smearing: float = 0.0,
        fix_spin: bool = False,
        degeneracy_tol: float = DEGENERACY_TOL,
        gap_floor: float = GAP_FLOOR,
    ) -> None:
        """Bind the layer to one crystal.

        Args:
            data: Integrals, grid and functional.
            smearing: Width (Eh, k_B T) of Fermi occupations; 0 fills levels in order, over all k.
                What is stationary with smearing is the free energy E - :meth:`entropy_energy`.
            fix_spin: With smearing and two spins, a chemical potential for each.
            degeneracy_tol: Frontier levels closer than this (Eh) are filled evenly by
                :meth:`density`; 0 fills them one after the other.
            gap_floor: Smallest denominator (Eh) between unequal occupations in derivatives.

        Raises:
            InputError: If S(k) is singular, or there are more electrons than orbitals.
        """
        self.data = data
        self.smearing = smearing
        self.fix_spin = fix_spin
        self.degeneracy_tol = degeneracy_tol
        self.gap_floor = gap_floor
        self.fock_builds = 0
        self.shift: BlochMatrix | None = None
        self.orthogonal = BlochOrthogonaliser(data.ovlp, data.lindep_threshold)
        self.channels = channels(
            data.nelec, unrestricted=data.unrestricted, smearing=smearing, fix_spin=fix_spin
        )
        self._check_electrons()

    @property
    def unrestricted(self) -> bool:
        """Whether matrices have two spins."""
        return self.data.unrestricted

    @property
    def nspin(self) -> int:
        """1 for a closed shell, else 2."""
        return 2 if self.unrestricted else 1

    @property
    def nao(self) -> int:
        """Number of atomic orbitals per cell."""
        return self.data.ovlp.shape[-1]

    @property
    def nk(self) -> int:
        """Number of k-points."""
        return self.data.ovlp.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the numbers in matrices: float64 or complex128."""
        return self.data.ovlp.dtype

    @property
    def terms(self) -> tuple[Term, ...]:
        """All terms of the energy, ``shift`` included."""
        if self.shift is None:
            return self.data.terms
        return (*self.data.terms, FixedOperator("shift", self.shift, self.data.weights))

    @property
    def coarse_ratio(self) -> float:
        """Points of the grid for one of the coarse grid's; 0 where there is none."""
        if self.data.mesh is None or self.data.coarse is None:
            return 0.0
        return self.data.mesh.ngrids / math.prod(self.data.coarse_mesh)

    def coarse(self) -> "CrystalLayer":
        """A new layer of the same crystal on the coarse mesh, with its own count of builds.

        Its ``shift``, a constant added to every Fock matrix that it builds, is free to use.
        """
        assert self.data.coarse is not None
        return CrystalLayer(
            self.data.coarse(),
            smearing=self.smearing,
            fix_spin=self.fix_spin,
            degeneracy_tol=self.degeneracy_tol,
            gap_floor=self.gap_floor,
        )

    @property
    def matrix_weights(self) -> Tensor:
        """w_k, shaped to multiply matrices."""
        return self.data.weights.reshape(-1, 1, 1)

    def __call__(self, dm: GivenMatrix) -> tuple[Scalar, BlochMatrix]:
        """Energy and Fock matrix at a density matrix; both differentiable in ``dm``.

        Args:
            dm: Density matrix at every k, occupations included, [nspin, nk, nao, nao].

        Returns:
            E (Eh per cell) and F.

        Raises:
            InputError: If ``dm`` is not a matrix of this crystal.
        """
        return energy_and_fock(self, self.checked(dm))

    def checked(self, dm: GivenMatrix) -> BlochMatrix:
        """A matrix with the layer's shape and number type.

        Args:
            dm: [nspin, nk, nao, nao].

        Returns:
            [nspin, nk, nao, nao].

        Raises:
            InputError: If type, precision, device or shape are others, or real matrices are given
                imaginary parts.
        """
        check_tensor(dm, self.data.ovlp, (self.dtype, torch.float64, torch.complex128))
        shape = (self.nspin, self.nk, self.nao, self.nao)
        if tuple(dm.shape) != shape:
            raise InputError(
                f"expected matrices of shape {list(shape)} (spin, k, AO, AO), got "
                f"{list(dm.shape)}; give those of the same crystal, basis, k-points and spin "
                "treatment"
            )
        if dm.is_complex() and not self.dtype.is_complex:
            if float(dm.detach().imag.abs().max()) > 1e-6:
                raise InputError(
                    "expected real matrices (every k is like Γ), got imaginary parts; give .real"
                )
            return dm.real
        return dm.to(self.dtype)

    def build(self, dm: GivenMatrix) -> CrystalBuild:
        """Energies and Fock matrix, without autograd. Counts as one Fock build.

        Args:
            dm: Hermitian density matrix.

        Returns:
            The build.

        Raises:
            InputError: If ``dm`` is not a matrix of this crystal.
        """
        dm = self.checked(dm)
        self.fock_builds += 1
        with torch.no_grad():
            on_mesh = self.data.mesh_term.build(dm)
            known = {MeshTerm.name: on_mesh.contribution}
            found = total(self.terms, Density.at_k_points(dm), known)
            assert found.electrons is not None  # the mesh counts them
            return CrystalBuild(
                parts=found.parts,
                fock=found.fock,
                dm=dm,
                rho=on_mesh.rho,
                rows=on_mesh.rows,
                n_electrons=float(found.electrons),
            )

    def response(self, dm: GivenMatrix, direction: GivenMatrix) -> BlochMatrix:
        """dF along a Hermitian ``direction``, without autograd. Counts as one Fock build.

        Args:
            dm: Hermitian density matrix.
            direction: Change of it.

        Returns:
            dF, Eh.

        Raises:
            InputError: If one of them is not a matrix of this crystal.
        """
        dm, direction = self.checked(dm), self.checked(direction)
        self.fock_builds += 1
        with torch.no_grad():
            return change(self.terms, Density.at_k_points(dm), Density.at_k_points(direction))

    def second_response(self, dm: BlochMatrix, d1: BlochMatrix, d2: BlochMatrix) -> BlochMatrix:
        """d²F along two Hermitian directions, without autograd."""
        at, one, other = (Density.at_k_points(some) for some in (dm, d1, d2))
        with torch.no_grad():
            return second_change(self.terms, at, one, other)

    def starting_potential(self) -> MeshRows:
        """Potentials on the grid of superposed free atoms, one for each density variable, Eh.

        Where the layer's functional has exact exchange, a semilocal one stands for it.

        Returns:
            The rows.

        Raises:
            InputError: If the points are not those of a uniform grid.
        """
        if self.data.rho_guess is None:
            raise InputError("expected a uniform grid, got density fitting; give a density matrix")
        term = self.data.start_term or self.data.mesh_term
        with torch.no_grad():
            return term.potential_of(self.data.rho_guess()[:, : term.nvar])[1]

    def fock_of(self, rows: MeshRows) -> BlochMatrix:
        """F of given potentials on the grid; no build.

        Args:
            rows: One for each density variable.

        Returns:
            Eh.
        """
        with torch.no_grad():
            return self.data.mesh_term.matrix(rows, self.dtype) + self.data.fixed.operator

    def starting_fock(self) -> BlochMatrix:
        """F of superposed free atoms: only matrices of potentials, no build.

        Returns:
            Eh.
        """
        return self.fock_of(self.starting_potential())

    def bands(self, fock: GivenMatrix, degeneracy_tol: float | None = None) -> Bands:
        """Orbitals and occupations (F C = S C e at every k), without autograd.

        Args:
            fock: Hermitian Fock matrix, Eh.
            degeneracy_tol: Overrides the layer's.

        Returns:
            The states.

        Raises:
            InputError: If ``fock`` is not a matrix of this crystal.
            ComputationError: If ``fock`` is not finite.
        """
        fock = self.checked(fock)
        tol = self.degeneracy_tol if degeneracy_tol is None else degeneracy_tol
        with torch.no_grad():
            energy, vectors = symmetric_eigen(self.orthogonal.transform(fock))
            filling = fill(
                energy, self.data.weights, self.channels, smearing=self.smearing, degeneracy_tol=tol
            )
            return Bands(mo_energy=energy, mo_coeff=self.orthogonal.x @ vectors, filling=filling)

    def density(self, fock: GivenMatrix, degeneracy_tol: float | None = None) -> BlochMatrix:
        """Density matrix of a Fock matrix, twice differentiable and safe under degeneracy.

        Args:
            fock: Fock matrix, Eh.
            degeneracy_tol: Overrides the layer's.

        Returns:
            P with Σ_k w_k tr(P_k S_k) = number of electrons.

        Raises:
            InputError: If ``fock`` is not a matrix of this crystal.
            ComputationError: If ``fock`` is not finite.
        """
        fock = self.checked(fock)
        if self.smearing > 0:
            return self._smeared(fock)[0]
        tol = self.degeneracy_tol if degeneracy_tol is None else degeneracy_tol
        orthogonal = self.orthogonal.transform(hermitian(fock))
        with torch.no_grad():
            energy, vectors = symmetric_eigen(orthogonal)
            filling = fill(
                energy, self.data.weights, self.channels, smearing=0.0, degeneracy_tol=tol
            )
        p = density_matrix(orthogonal, energy, vectors, filling.occ, self.gap_floor)
        return self.orthogonal.back(p)

    def entropy_energy(self, fock: GivenMatrix) -> Scalar:
        """T S of the Fermi occupations of ``fock``, Eh per cell, twice differentiable.

        0 without smearing. E[P] minus it is the free energy, which is stationary at
        self-consistency.

        Args:
            fock: Fock matrix, Eh.

        Returns:
            T S.

        Raises:
            InputError: If ``fock`` is not a matrix of this crystal.
        """
        fock = self.checked(fock)
        if self.smearing > 0:
            return self._smeared(fock)[1]
        return torch.zeros((), dtype=torch.float64, device=fock.device)

    def _smeared(self, fock: BlochMatrix) -> tuple[BlochMatrix, Scalar]:
        orthogonal = self.orthogonal.transform(hermitian(fock))
        per_orbital = 2.0 / self.nspin
        parts = [
            smeared_density(
                orthogonal[spins],
                electrons,
                self.smearing,
                self.data.weights.expand(orthogonal[spins].shape[:2]),
            )
            for spins, electrons in self.channels
        ]
        p = per_orbital * torch.cat([dm for dm, _ in parts])
        ts = per_orbital * torch.stack([ts for _, ts in parts]).sum()
        return self.orthogonal.back(p), ts

    def commutator(self, fock: BlochMatrix, dm: BlochMatrix) -> Tensor:
        """X† (F P S - S P F) X at every k, times √w_k: real and flat, for inner products."""
        fps = fock @ dm @ self.data.ovlp
        c = self.orthogonal.x.mH @ (fps - fps.mH) @ self.orthogonal.x
        c = c * self.matrix_weights.sqrt()
        return torch.view_as_real(c).reshape(-1) if c.is_complex() else c.reshape(-1)

    def n_electrons(self, dm: BlochMatrix) -> tuple[float, ...]:
        """Σ_k w_k tr(P_k S_k) of each spin."""
        traces = (dm * self.data.ovlp.mT).sum((-2, -1))
        traces = traces.real if traces.is_complex() else traces
        return tuple((traces * self.data.weights).sum(-1).tolist())

    def grid_error(self, built: CrystalBuild) -> float:
        """How well the grid resolves a density: E_xc from two routes to its gradient.

        The gradient of the density by FFT in place of that of the AOs changes nothing on a grid
        that is fine enough.

        Args:
            built: A build.

        Returns:
            The difference, Eh per cell; 0 without density gradients.
        """
        mesh = self.data.mesh
        if built.rho.shape[1] == 1 or mesh is None:
            return 0.0
        with torch.no_grad():
            other = built.rho.clone()
            other[:, 1:4] = mesh.gradient(built.rho[:, 0])
            parts, _ = self.data.mesh_term.potential_of(other)
        return float(parts["xc"] - built.parts["xc"])

    def _check_electrons(self) -> None:
        levels = self.orthogonal.transform(torch.zeros_like(self.data.ovlp)).real
        levels = levels.diagonal(dim1=-2, dim2=-1).expand(self.nspin, -1, -1)
        fill(
            levels.contiguous(), self.data.weights, self.channels, smearing=0.0, degeneracy_tol=0.0
        )
