"""Builds of several molecules as products of padded stacks: few large kernels for a GPU.

Matrices are padded with orbitals that do nothing: no overlap with the others, no integrals, no
values on the grid, levels far above all others. Blocks of grid points of all molecules form stacks
of equal shape. Every number of a molecule is what it would be alone, to rounding.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from deeph_zero.ks.density import density_matrix
from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.ks.linalg.eigen import check_finite, projector, symmetric_eigen
from deeph_zero.ks.occupation import evenly_filled
from deeph_zero.ks.parallel.uploads import sent
from deeph_zero.ks.terms.build import FockBuild
from deeph_zero.ks.terms.padding import Padding, padded
from deeph_zero.ks.terms.term import Density, trace
from deeph_zero.ks.terms.terms import Total, change, stacked_terms, terms_of, total
from deeph_zero.ks.terms.two_electron_stacked import stacked_operator
from deeph_zero.types import MoleculeMatrix, SpinMatrix


class PaddedOrbitals:
    """Molecules alike in spin treatment: what is done with matrices alone, without integrals.

    Attributes:
        padding: Sizes of the molecules, and of the padded matrices.
        ovlp: Overlap matrices, [nmol, 1, nao, nao].
        per_orbital: Electrons in a filled orbital.
    """

    def __init__(
        self,
        layers: Sequence[KohnShamLayer],
        padding: Padding | None = None,
        nmo: int = 0,
        ovlps: Sequence[Tensor] | None = None,
    ) -> None:
        """Pad and stack overlap and orthogonalisation.

        Args:
            layers: The molecules; none of them smeared.
            padding: Their sizes, where others of theirs share large tensors in it.
            nmo: Orbitals of the padded matrices at least.
            ovlps: Their overlap matrices, where they were looked up.
        """
        self.layers = list(layers)
        self.padding = Padding([layer.nao for layer in layers]) if padding is None else padding
        self.per_orbital = layers[0].per_orbital
        nmos = [layer.nmo for layer in layers]
        self._x = padded([layer.x for layer in layers], self.padding.nao, max(nmo, *nmos))
        self._x = self._x.unsqueeze(1)
        own = [layer.data.ovlp for layer in layers] if ovlps is None else ovlps
        self.ovlp = self.padding.stack(own)
        device = self.ovlp.device
        levels = torch.arange(self._x.shape[-1], device=device)
        sizes = [[layer.nmo, *layer.nelec[: layer.nspin]] for layer in layers]
        counts = sent(torch.tensor(sizes), device)  # one copy
        self._nmo, self._nocc = counts[:, :1], counts[:, 1:]
        self._inert = levels >= self._nmo.unsqueeze(2)
        self._occupied = self.per_orbital * (levels < self._nocc.unsqueeze(-1)).to(self._x.dtype)

    def orthogonal(self, fock: SpinMatrix) -> Tensor:
        """X† F X of a stack, [nmol, nspin, nmo, nmo], padding levels above all others."""
        return self.above(self.orthonormal(0.5 * (fock + fock.mH)))

    def orthonormal(self, matrix: SpinMatrix) -> Tensor:
        """X† M X of a stack, [nmol, nspin, nmo, nmo], zero for padding levels."""
        return self._x.mH @ matrix @ self._x

    def above(self, out: Tensor) -> Tensor:
        """X† F X of symmetric F with padding levels above all others."""
        # by Gershgorin no level is higher; a needlessly huge one would cost digits of the others
        ceiling = out.detach().abs().sum(-1).amax(-1) + 1.0
        return out + torch.diag_embed(ceiling.unsqueeze(-1) * self._inert)

    def commutator(self, fock: SpinMatrix, dm: SpinMatrix) -> Tensor:
        """X† (F P S - S P F) X of a stack, [..., nmol, nspin, nmo, nmo]."""
        fps = fock @ dm @ self.ovlp
        return self._x.mH @ (fps - fps.mH) @ self._x

    def gaps(self, energy: Tensor) -> Tensor:
        """Smallest gap between filled and empty levels of each molecule, see ``smallest_gap``.

        Args:
            energy: Levels of a stack, Eh, [nmol, nspin, nmo].

        Returns:
            [nmol], Eh; infinite where no channel has both.
        """
        n = self._nocc.unsqueeze(-1)
        homo = energy.gather(-1, (n - 1).clamp_min(0))
        gap = energy.gather(-1, n.clamp_max(energy.shape[-1] - 1)) - homo
        one_kind = (n == 0) | (n == self._nmo.unsqueeze(-1))
        return gap.masked_fill(one_kind, torch.inf).amin((-2, -1))

    def orbitals(
        self, fock: SpinMatrix, degeneracy_tol: float = 0.0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Levels (Eh), orbitals and occupations of a stack, without a gradient.

        Args:
            fock: Fock matrices; whether they are finite is not looked at.
            degeneracy_tol: Frontier levels closer than this (Eh) are filled evenly.

        Returns:
            [nmol, nspin, nmo], [nmol, nspin, nao, nmo], [nmol, nspin, nmo].

        Raises:
            ComputationError: If the eigen-solver fails.
        """
        energy, vectors = symmetric_eigen(self.orthogonal(fock), checked=True)
        return energy, self._x @ vectors, self._filled(energy, degeneracy_tol)

    def aufbau(self, fock: SpinMatrix, degeneracy_tol: float = 0.0) -> SpinMatrix:
        """Densities of a stack; of integer occupations as the device's policy makes them.

        Args:
            fock: Fock matrices, Eh; whether they are finite is not looked at.
            degeneracy_tol: Frontier levels closer than this (Eh) are filled evenly.

        Returns:
            P of each, no gradient.

        Raises:
            ComputationError: If the eigen-solver fails.
        """
        if degeneracy_tol > 0:
            _, c, occ = self.orbitals(fock, degeneracy_tol)
            return (c * occ.unsqueeze(-2)) @ c.mH
        orthogonal = self.orthogonal(fock)
        nmo = orthogonal.shape[-1]
        flat = orthogonal.reshape(-1, nmo, nmo)
        p = projector(flat, self._nocc.reshape(-1), checked=True).reshape(orthogonal.shape)
        return self.per_orbital * (self._x @ p @ self._x.mH)

    def _filled(self, energy: Tensor, tol: float | Tensor) -> Tensor:
        """Occupations of levels."""
        if isinstance(tol, float) and tol <= 0:
            return self._occupied
        return self.per_orbital * evenly_filled(energy, self._nocc, tol)


class Occupied(NamedTuple):
    """Densities of a stack of Fock matrices.

    Attributes:
        dm: P, [nmol, nspin, nao, nao].
        orthonormal: The same in the orthonormal basis, [nmol, nspin, nmo, nmo].
        energy: Levels, Eh, no gradient.
        vectors: Orbitals in the orthonormal basis, no gradient.
        occ: Occupations, no gradient.
    """

    dm: SpinMatrix
    orthonormal: Tensor
    energy: Tensor
    vectors: Tensor
    occ: Tensor


class PaddedBucket(PaddedOrbitals):
    """Molecules alike in functional, spin treatment, gap floor and device, padded to one size.

    Attributes:
        gap_floor: That of the layers, Eh.
        coulomb: 1/r12 of all of them.
    """

    def __init__(
        self, layers: Sequence[KohnShamLayer], padding: Padding | None = None, nmo: int = 0
    ) -> None:
        """Pad and stack what does not change.

        Args:
            layers: The molecules; none of them smeared.
            padding: Their sizes, where others of theirs share large tensors in it.
            nmo: Orbitals of the padded matrices at least.
        """
        datas = [layer.data.plain() for layer in layers]  # a store unpacks at every look
        super().__init__(layers, padding, nmo, [data.ovlp for data in datas])
        each = [terms_of(data) for data in datas]
        self._terms = stacked_terms(each, self.padding)
        self._names = [[term.name for term in terms] for terms in each]
        self.gap_floor = layers[0].gap_floor
        self.coulomb = stacked_operator([data.coulomb for data in datas], self.padding)

    def _density(self, dms: Sequence[MoleculeMatrix]) -> Density:
        return Density(self.padding.stack(dms), factored=False)

    def total(self, at: Density) -> tuple[Total, Tensor]:
        """Energies, Fock matrices and numbers of electrons of a stack.

        Args:
            at: Density matrices.

        Returns:
            The sum of the terms, and the electrons of each molecule.
        """
        found = total(self._terms, at)
        if found.electrons is not None:
            return found, found.electrons
        return found, trace(at.total, self.ovlp)

    def fock_builds(self, dms: Sequence[MoleculeMatrix]) -> list[FockBuild]:
        """Energy and Fock matrix of every molecule, without autograd.

        Args:
            dms: Symmetric density matrices.

        Returns:
            The builds, in order.
        """
        found, count = self.total(self._density(dms))
        return [
            FockBuild(
                parts={name: found.parts[name][k] for name in self._names[k]},
                fock=fock,
                n_electrons=count[k],
            )
            for k, fock in enumerate(self.padding.split(found.fock))
        ]

    def responses(
        self, dms: Sequence[MoleculeMatrix], directions: Sequence[MoleculeMatrix]
    ) -> list[MoleculeMatrix]:
        """Derivative of every Fock matrix along a symmetric direction, without autograd.

        Args:
            dms: Density matrices at which F is differentiated.
            directions: Symmetric directions.

        Returns:
            dF of each, Eh.
        """
        return self.padding.split(
            change(self._terms, self._density(dms), self._density(directions))
        )

    def response(self, dm: SpinMatrix, direction: SpinMatrix) -> SpinMatrix:
        """Derivative of the Fock matrices of a stack along symmetric directions.

        Args:
            dm: Density matrices at which F is differentiated.
            direction: Changes of them.

        Returns:
            dF, Eh.
        """
        return change(self._terms, Density(dm, factored=False), Density(direction, factored=False))

    def densities(self, focks: Sequence[MoleculeMatrix]) -> list[MoleculeMatrix]:
        """Density matrix of every Fock matrix, differentiable as the layer's own.

        Args:
            focks: Fock matrices, Eh.

        Returns:
            P of each.

        Raises:
            ComputationError: If a matrix is not finite.
        """
        orthogonal = self.orthogonal(self.padding.stack(focks))
        check_finite(orthogonal)
        return self.padding.split(self.density(orthogonal).dm)

    def density(self, orthogonal: Tensor) -> "Occupied":
        """Densities of a stack, differentiable as the layer's own.

        Args:
            orthogonal: What :meth:`orthogonal` gives; whether it is finite is not looked at.

        Returns:
            The densities and the orbitals that make them.

        Raises:
            ComputationError: If the eigen-solver fails.
        """
        with torch.no_grad():
            energy, vectors = symmetric_eigen(orthogonal, checked=True)
            occ = self._occupations(energy)
        p = density_matrix(orthogonal, energy, vectors, occ, self.gap_floor)
        return Occupied(self._x @ p @ self._x.mH, p, energy, vectors, occ)

    def filled_orbitals(self, fock: SpinMatrix) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`orbitals` with occupations by each molecule's own tolerance of degeneracy."""
        energy, c, _ = self.orbitals(fock)
        return energy, c, self._occupations(energy)

    def _occupations(self, energy: Tensor) -> Tensor:
        """Occupations, each molecule by its own tolerance."""
        tols = [layer.degeneracy_tol for layer in self.layers]
        if len(set(tols)) == 1:
            return self._filled(energy, float(tols[0]))
        given = torch.tensor(tols, dtype=energy.dtype, device=energy.device)
        return self._filled(energy, given.reshape(-1, 1, 1))

    def filled(self, focks: Sequence[MoleculeMatrix]) -> list[MoleculeMatrix]:
        """Densities of integer occupations without a gradient, as the device's policy makes them.

        Args:
            focks: Fock matrices, Eh.

        Returns:
            P of each.

        Raises:
            ComputationError: If a matrix is not finite.
        """
        with torch.no_grad():
            fock = self.padding.stack(focks)
            check_finite(fock)
            return self.padding.split(self.aufbau(fock))
