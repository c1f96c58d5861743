"""Builds of several molecules as products of padded stacks: few large kernels for a GPU.

Matrices are padded with orbitals that do nothing: no overlap with the others, no integrals, no
values on the grid, levels far above all others. Blocks of grid points of all molecules form stacks
of equal shape. Every number of a molecule is what it would be alone, to rounding.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from deeph_zero.ks.build import FockBuild
from deeph_zero.ks.coulomb import FittedTensor, pack_density, pair_index
from deeph_zero.ks.density import density_matrix
from deeph_zero.ks.grid.padded import PaddedGrid
from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.ks.linalg.eigen import projector, symmetric_eigen
from deeph_zero.ks.nonlocal_terms import nonlocal_build, nonlocal_response
from deeph_zero.ks.occupation import occupations
from deeph_zero.ks.protocol import Functional, TwoElectron
from deeph_zero.types import MoleculeMatrix

CHUNK_MB = 256.0
"""Half-transformed integrals of one step of K."""


def padded(matrices: Sequence[Tensor], rows: int, columns: int) -> Tensor:
    """Stack of matrices, zeros below and to the right; differentiable."""
    return torch.stack(
        [pad(m, (0, columns - m.shape[-1], 0, rows - m.shape[-2])) for m in matrices]
    )


class _Operator:
    """J and K of one operator for all molecules."""

    def __init__(self, parts: Sequence[TwoElectron], naos: Sequence[int], nao: int) -> None:
        self._parts = parts
        self._naos = naos
        self._nao = nao
        fitted = [p for p in parts if isinstance(p, FittedTensor)]
        self._packed: Tensor | None = None
        self._chunks: list[Tensor] | None = None
        if len(fitted) == len(parts):
            naux = max(p.cderi.shape[0] for p in fitted)
            # the pairs of fewer orbitals are the first ones of the packed triangle of more
            self._packed = padded([p.cderi.double() for p in fitted], naux, nao * (nao + 1) // 2)

    def coulomb(self, dm: Tensor) -> Tensor:
        """J of [n_mol, nao, nao]."""
        if self._packed is None:
            return self._one_by_one("coulomb", dm)
        weights = pack_density(dm).unsqueeze(-1)
        vj = (self._packed.mT @ (self._packed @ weights)).squeeze(-1)
        return vj[:, pair_index(self._nao, dm.device)]

    def exchange(self, dm: Tensor) -> Tensor:
        """K = Σ_L B_L P B_L of [n_mol, nspin, nao, nao], any symmetric P."""
        if self._packed is None:
            return torch.stack(
                [self._one_by_one("exchange", dm[:, s]) for s in range(dm.shape[1])], dim=1
            )
        n_mol, nspin, nao = dm.shape[:3]
        vk = torch.zeros_like(dm)
        for part in self._unpacked(dm.device):
            flat = part.reshape(n_mol, -1, nao)  # [(m, L), n]
            wide = part.reshape(n_mol, nao, -1)  # [m, (L, n)]
            for s in range(nspin):
                half = (flat @ dm[:, s]).reshape(wide.shape)
                vk[:, s].baddbmm_(half, wide.mT)
        return vk

    def _unpacked(self, device: torch.device) -> list[Tensor]:
        """B as [n_mol, m, L, n], in pieces of L."""
        if self._chunks is None:
            assert self._packed is not None
            index = pair_index(self._nao, device)
            per_row = self._packed.shape[0] * self._nao**2 * 8 / 1e6
            step = max(1, int(CHUNK_MB / per_row))
            self._chunks = [
                part[:, :, index].transpose(1, 2).contiguous()
                for part in self._packed.split(step, dim=1)
            ]
        return self._chunks

    def _one_by_one(self, name: str, dm: Tensor) -> Tensor:
        """Operators without a fitted tensor."""
        out = torch.zeros_like(dm)
        for k, (part, n) in enumerate(zip(self._parts, self._naos, strict=True)):
            out[k, :n, :n] = getattr(part, name)(dm[k, :n, :n])
        return out


class PaddedBucket:
    """Molecules alike in functional, spin treatment, gap floor and device, padded to one size."""

    def __init__(self, layers: Sequence[KohnShamLayer], functional: Functional | None) -> None:
        """Pad and stack what does not change.

        Args:
            layers: The molecules; none of them smeared.
            functional: Their functional.

        """
        self.layers = list(layers)
        self.functional = functional
        self.unrestricted = layers[0].unrestricted
        self._naos = [layer.nao for layer in layers]
        self._nmos = [layer.nmo for layer in layers]
        nao, nmo = max(self._naos), max(self._nmos)
        self._shape = (nao, nmo)
        self._x = padded([layer.x for layer in layers], nao, nmo)
        self._hcore = padded([layer.data.hcore for layer in layers], nao, nao)
        self._ovlp = padded([layer.data.ovlp for layer in layers], nao, nao)
        datas = [layer.data for layer in layers]
        self._coulomb = _Operator([data.coulomb for data in datas], self._naos, nao)
        self._exchange = self._operators()
        self._grid = None
        if functional is not None:
            grids = [data.grid for data in datas if data.grid is not None]
            self._grid = PaddedGrid(grids, nao)

    def _operators(self) -> list[tuple[Tensor, _Operator]]:
        """Coefficient of each molecule and operator, for every term of c_x K."""
        datas = [layer.data for layer in self.layers]
        terms = []
        for one in zip(*(data.exchange for data in datas), strict=True):
            parts = [operator for _, operator in one]
            same = all(p is d.coulomb for p, d in zip(parts, datas, strict=True))
            operator = self._coulomb if same else _Operator(parts, self._naos, self._shape[0])
            terms.append((self._x.new_tensor([c for c, _ in one]), operator))
        return terms

    def _stack(self, matrices: Sequence[MoleculeMatrix]) -> Tensor:
        """[n_mol, nspin, nao, nao]."""
        nao = self._shape[0]
        return padded(matrices, nao, nao).reshape(len(self.layers), -1, nao, nao)

    def _split(self, stacked: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        """Each molecule's own part, with or without the spin axis."""
        parts = [one[:, :n, :n] for one, n in zip(stacked, sizes, strict=True)]
        return parts if self.unrestricted else [part[0] for part in parts]

    def fock_builds(self, dms: Sequence[MoleculeMatrix]) -> list[FockBuild]:
        """Energy and Fock matrix of every molecule, without autograd.

        Args:
            dms: Symmetric density matrices.

        Returns:
            The builds, in order.
        """
        dm = self._stack(dms)
        total = dm.sum(1)
        vj = self._coulomb.coulomb(total)
        fock = (self._hcore + vj).unsqueeze(1).expand_as(dm).clone()
        e_exx = dm.new_zeros(len(dms))
        if self._exchange:
            vk = self._exchange_matrix(dm)
            fock += vk
            e_exx = 0.5 * (vk * dm).sum((1, 2, 3))
        e_xc, count = dm.new_zeros(len(dms)), (total * self._ovlp).sum((1, 2))
        if self._grid is not None and self.functional is not None:
            vxc, e_xc, count = self._grid.potential(self.functional, dm)
            fock += vxc
        focks = self._split(fock, self._naos)
        e_nlc = dm.new_zeros(len(dms))
        for k, layer in enumerate(self.layers):
            if layer.data.nlc is not None:
                e_nlc[k], potential = nonlocal_build(layer.data.nlc, dms[k])
                focks[k] = focks[k] + potential
        e_core = (self._hcore * total).sum((1, 2))
        e_coul = 0.5 * (vj * total).sum((1, 2))
        return [
            FockBuild(
                e_core=e_core[k],
                e_coul=e_coul[k],
                e_exx=e_exx[k],
                e_xc=e_xc[k],
                e_nuc=layer.data.e_nuc,
                e_nlc=e_nlc[k],
                e_disp=layer.data.e_disp,
                fock=one,
                n_electrons=count[k],
            )
            for k, (layer, one) in enumerate(zip(self.layers, focks, strict=True))
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
        dm, along = self._stack(dms), self._stack(directions)
        out = self._coulomb.coulomb(along.sum(1)).unsqueeze(1).expand_as(dm).clone()
        if self._exchange:
            out += self._exchange_matrix(along)
        if self._grid is not None and self.functional is not None:
            out += self._grid.response(self.functional, dm, along)
        changes = self._split(out, self._naos)
        for k, layer in enumerate(self.layers):
            if layer.data.nlc is not None:
                changes[k] = changes[k] + nonlocal_response(layer.data.nlc, dms[k], directions[k])
        return changes

    def _exchange_matrix(self, dm: Tensor) -> Tensor:
        scale = -1.0 if self.unrestricted else -0.5
        terms = [c[:, None, None, None] * op.exchange(dm) for c, op in self._exchange]
        return scale * torch.stack(terms).sum(0)

    def _orthogonal(self, focks: Sequence[MoleculeMatrix]) -> Tensor:
        """Xᵀ F X, [n_mol, nspin, nmo, nmo], padding levels above all others."""
        fock = self._stack(focks)
        x = self._x.unsqueeze(1)
        out = x.mT @ (0.5 * (fock + fock.mT)) @ x
        nmo = self._shape[1]
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
                own = energy[k, :, : layer.nmo] if self.unrestricted else energy[k, 0, : layer.nmo]
                filled, _ = occupations(own, layer.nelec, layer.degeneracy_tol)
                occ[k, :, : layer.nmo] = filled
        p = density_matrix(orthogonal, energy, vectors, occ, self.layers[0].gap_floor)
        x = self._x.unsqueeze(1)
        return self._split(x @ p @ x.mT, self._naos)

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
            return self._split((1.0 if self.unrestricted else 2.0) * (x @ p @ x.mT), self._naos)
