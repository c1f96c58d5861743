"""Builds of several molecules as products of padded stacks: few large kernels for a GPU.

Matrices are padded with orbitals that do nothing: no overlap with the others, no integrals, no
values on the grid, levels far above all others. Blocks of grid points of all molecules form stacks
of equal shape. Every number of a molecule is what it would be alone, to rounding.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from deeph_zero.ks.density import density_matrix
from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.ks.linalg.eigen import projector, symmetric_eigen
from deeph_zero.ks.occupation import occupations
from deeph_zero.ks.terms.build import FockBuild
from deeph_zero.ks.terms.padding import Padding, padded
from deeph_zero.ks.terms.term import Density, trace
from deeph_zero.ks.terms.terms import change, stacked_terms, terms_of, total
from deeph_zero.types import MoleculeMatrix


class PaddedBucket:
    """Molecules alike in functional, spin treatment, gap floor and device, padded to one size."""

    def __init__(self, layers: Sequence[KohnShamLayer]) -> None:
        """Pad and stack what does not change.

        Args:
            layers: The molecules; none of them smeared.
        """
        self.layers = list(layers)
        self._padding = Padding([layer.nao for layer in layers])
        self._nmos = [layer.nmo for layer in layers]
        self._x = padded([layer.x for layer in layers], self._padding.nao, max(self._nmos))
        self._ovlp = self._padding.stack([layer.data.ovlp for layer in layers])
        each = [terms_of(layer.data) for layer in layers]
        self._terms = stacked_terms(each, self._padding)
        self._names = [[term.name for term in terms] for terms in each]

    def _density(self, dms: Sequence[MoleculeMatrix]) -> Density:
        return Density(self._padding.stack(dms), factored=False)

    def fock_builds(self, dms: Sequence[MoleculeMatrix]) -> list[FockBuild]:
        """Energy and Fock matrix of every molecule, without autograd.

        Args:
            dms: Symmetric density matrices.

        Returns:
            The builds, in order.
        """
        at = self._density(dms)
        found = total(self._terms, at)
        electrons = found.electrons
        count = trace(at.total, self._ovlp) if electrons is None else electrons
        return [
            FockBuild(
                parts={name: found.parts[name][k] for name in self._names[k]},
                fock=fock,
                n_electrons=count[k],
            )
            for k, fock in enumerate(self._padding.split(found.fock))
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
        return self._padding.split(
            change(self._terms, self._density(dms), self._density(directions))
        )

    def _orthogonal(self, focks: Sequence[MoleculeMatrix]) -> Tensor:
        """X† F X, [n_mol, nspin, nmo, nmo], padding levels above all others."""
        fock = self._padding.stack(focks)
        x = self._x.unsqueeze(1)
        out = x.mH @ (0.5 * (fock + fock.mH)) @ x
        nmo = out.shape[-1]
        # by Gershgorin no level is higher; a needlessly huge one would cost digits of the others
        ceiling = out.detach().abs().sum(-1).amax(-1) + 1.0
        levels = torch.arange(nmo, device=out.device)
        inert = levels >= torch.tensor(self._nmos, device=out.device).unsqueeze(1)
        return out + torch.diag_embed(ceiling.unsqueeze(-1) * inert.unsqueeze(1).to(out.dtype))

    def densities(self, focks: Sequence[MoleculeMatrix]) -> list[MoleculeMatrix]:
        """Density matrix of every Fock matrix, differentiable as the layer's own.

        Args:
            focks: Fock matrices, Eh.

        Returns:
            P of each.

        Raises:
            ComputationError: If a matrix is not finite.
        """
        orthogonal = self._orthogonal(focks)
        with torch.no_grad():
            energy, vectors = symmetric_eigen(orthogonal)
            occ = torch.zeros_like(energy)
            for k, layer in enumerate(self.layers):
                own = energy[k, :, : layer.nmo]
                filled, _ = occupations(own, layer.nelec, layer.degeneracy_tol)
                occ[k, :, : layer.nmo] = filled
        p = density_matrix(orthogonal, energy, vectors, occ, self.layers[0].gap_floor)
        x = self._x.unsqueeze(1)
        return self._padding.split(x @ p @ x.mH)

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
            orthogonal = self._orthogonal(focks)
            nspin, nmo = orthogonal.shape[1], orthogonal.shape[2]
            counts = [layer.nelec[s] for layer in self.layers for s in range(nspin)]
            nocc = torch.tensor(counts, device=orthogonal.device)
            p = projector(orthogonal.reshape(-1, nmo, nmo), nocc).reshape(orthogonal.shape)
            x = self._x.unsqueeze(1)
            return self._padding.split(self.layers[0].per_orbital * (x @ p @ x.mH))
