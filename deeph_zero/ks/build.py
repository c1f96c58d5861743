"""One Fock build: energy and Fock matrix of a density matrix, and the linear response of the Fock.

E[P] = tr(hP) + ½ tr(J[P]P) - ½ Σ_σ tr((c_x K)[P_σ] P_σ) + E_xc + E_nlc + E_disp + E_nn for spin
orbitals; a closed shell has P_σ = P/2, hence the factors ¼ and ½ below. F is the derivative of E.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from deeph_zero.ks.coulomb import FittedTensor
from deeph_zero.ks.grid.maps import (
    density_features,
    orbital_features,
    potential_matrix,
    restrict,
    total_density,
)
from deeph_zero.ks.linalg.factor import Factor, occupied_columns, spectral_factors
from deeph_zero.ks.nonlocal_terms import (
    nonlocal_build,
    nonlocal_response,
    nonlocal_second_response,
)
from deeph_zero.ks.parallel.sharing import available_threads, one_thread_each, share
from deeph_zero.ks.protocol import AOBlock, Grid, KSData, XCKind
from deeph_zero.types import AOMatrix

R = TypeVar("R")

GROUP_POINTS = 32768
GROUP_MEMORY_MB = 64.0
"""Bounds of the points and AO values that one call of the functional covers."""

SHARED_VALUES = 600_000
"""AO values (points times orbitals) from which threads share a grid: the work of milliseconds."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FockBuild:
    """Energy parts (Eh), Fock matrix and electron count of one density matrix.

    Attributes:
        e_core: tr(h P).
        e_coul: Classical repulsion ½ tr(J P).
        e_exx: Exact-exchange energy (with its coefficient), zero for pure functionals.
        e_xc: Semilocal exchange-correlation energy on the grid.
        e_nuc: Nuclear repulsion.
        e_nlc: Non-local correlation, zero without.
        e_disp: Dispersion energy of the geometry, zero without.
        fock: dE/dP, Eh; spin axis as in the density.
        n_electrons: Density integrated on the grid (tr(PS) without a grid).
        v_xc: What the grids add to ``fock``, Eh; None where that was not kept.
        e_shift: Energy of a constant added to every Fock matrix, zero without.
    """

    e_core: Tensor
    e_coul: Tensor
    e_exx: Tensor
    e_xc: Tensor
    e_nuc: float
    e_nlc: Tensor
    e_disp: float
    fock: AOMatrix
    n_electrons: Tensor
    v_xc: AOMatrix | None = None
    e_shift: Tensor | float = 0.0

    @property
    def energy(self) -> Tensor:
        """Total energy, Eh."""
        electronic = self.e_core + self.e_coul + self.e_exx + self.e_xc + self.e_nlc
        return electronic + self.e_nuc + self.e_disp + self.e_shift


def _contract(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum()


def _scatter_add_(matrix: AOMatrix, local: Tensor, block: AOBlock) -> None:
    if block.index is None:
        matrix += local
    else:
        nao, lead = matrix.shape[-1], matrix.shape[:-2].numel()
        flat = (block.index.unsqueeze(1) * nao + block.index).reshape(-1)
        matrix.view(lead, -1).index_add_(1, flat, local.reshape(lead, -1))


def exchange_matrix(
    data: KSData, dm: AOMatrix, factors: Sequence[Factor] | None = None
) -> AOMatrix:
    """-(c_x K)[P_σ]: the exact-exchange part of F, ½ of it for a closed-shell total density.

    Args:
        data: Integrals.
        dm: Density matrix.
        factors: Its ``spectral_factors``, where they are known already.

    Returns:
        Shape of ``dm``, Eh.
    """
    vk = torch.zeros_like(dm)
    for coef, op in data.exchange:
        if factors is not None and isinstance(op, FittedTensor):
            one = op.factored_exchange(factors).reshape(dm.shape)
        else:
            one = op.exchange(dm)
        vk.add_(one, alpha=coef)
    return vk.mul_(-1.0 if dm.ndim == 3 else -0.5)


@one_thread_each()
def fock_build(data: KSData, dm: AOMatrix, factors: Sequence[Factor] | None = None) -> FockBuild:
    """Energy and Fock matrix at a symmetric density matrix.

    Args:
        data: Integrals, grid and functional.
        dm: Density matrix with occupations, [nao, nao] or [2, nao, nao].
        factors: Its ``spectral_factors``, where they are known already.

    Returns:
        Energies and F = dE/dP, exact to rounding.
    """
    total = total_density(dm)
    vj = data.coulomb.coulomb(total)
    fock = (data.hcore + vj).expand_as(dm).clone()
    e_exx = dm.new_zeros(())
    if factors is None and (data.exchange or data.grid is not None):
        factors = spectral_factors(dm)
    if data.exchange:
        vk = exchange_matrix(data, dm, factors)
        e_exx = 0.5 * _contract(vk, dm)
        fock += vk
    v_xc, on_grids = _on_grids(data, dm, factors)
    return FockBuild(
        e_core=_contract(data.hcore, total),
        e_coul=0.5 * _contract(vj, total),
        e_exx=e_exx,
        e_nuc=data.e_nuc,
        e_disp=data.e_disp,
        fock=fock + v_xc,
        v_xc=v_xc,
        **on_grids,
    )


@one_thread_each()
def rebuild_on_grids(data: KSData, dm: AOMatrix, built: FockBuild) -> FockBuild:
    """A build from one of the same density on another grid: J and K are taken over.

    Args:
        data: Integrals, grid and functional.
        dm: The density matrix.
        built: :func:`fock_build` of the same molecule with another grid, nothing added to it.

    Returns:
        The same as ``fock_build(data, dm)``, to rounding.
    """
    assert built.v_xc is not None
    factors = None if data.grid is None else spectral_factors(dm)
    v_xc, on_grids = _on_grids(data, dm, factors)
    fock = built.fock - built.v_xc + v_xc
    return dataclasses.replace(built, fock=fock, v_xc=v_xc, **on_grids)


def _on_grids(
    data: KSData, dm: AOMatrix, factors: Sequence[Factor] | None
) -> tuple[AOMatrix, dict[str, Tensor]]:
    """What the grids add to F, and the energies and electron number they give."""
    v_xc = torch.zeros_like(dm)
    zero = dm.new_zeros(())
    found = {"e_xc": zero, "e_nlc": zero, "n_electrons": _contract(total_density(dm), data.ovlp)}
    if data.functional is not None and data.grid is not None:
        found["e_xc"], found["n_electrons"] = _add_semilocal_(v_xc, data, dm, factors)
    if data.nlc is not None:
        found["e_nlc"], potential = nonlocal_build(data.nlc, dm)
        v_xc += potential
    return v_xc, found


def _add_semilocal_(
    fock: AOMatrix, data: KSData, dm: AOMatrix, factors: Sequence[Factor] | None
) -> tuple[Tensor, Tensor]:
    """Add v_xc to ``fock``; return E_xc and the integrated electron number."""
    functional = data.functional
    assert functional is not None
    assert data.grid is not None
    density = DensityOnGrid(dm, functional.kind, factors)

    def work(blocks: list[AOBlock], out: AOMatrix) -> tuple[Tensor, Tensor]:
        weights = torch.cat([block.weights for block in blocks])
        rho = torch.cat([density.features(block) for block in blocks], dim=-1)
        energy, potential = functional.gradient(rho)
        add_potential_(out, blocks, potential * weights, functional.kind)
        return weights @ energy, (rho[..., 0, :] @ weights).sum()

    parts = sum_over_groups_(fock, data.grid, work)
    return sum((e for e, _ in parts), dm.new_zeros(())), sum(
        (n for _, n in parts), dm.new_zeros(())
    )


def sum_over_groups_(
    out: AOMatrix, grid: Grid, work: Callable[[list[AOBlock], AOMatrix], R]
) -> list[R]:
    """Let threads share the grid, each with blocks of its own.

    Args:
        out: Matrix to which every call of ``work`` adds a part; summed in the order of the blocks,
            so that the result depends on the number of threads but not on their timing.
        grid: The grid.
        work: Gets some blocks and the matrix to add to.

    Returns:
        What the calls returned, in order.
    """
    threads = available_threads() if out.device.type == "cpu" else 1
    if threads == 1 or grid.ngrids * grid.nao < SHARED_VALUES:
        return [work(blocks, out) for blocks in block_groups(grid)]
    found: list[R] = []

    def with_matrix(blocks: list[AOBlock]) -> tuple[R, AOMatrix]:
        matrix = torch.zeros_like(out)
        return work(blocks, matrix), matrix

    def use(result: tuple[R, AOMatrix]) -> None:
        found.append(result[0])
        out.add_(result[1])

    share(with_matrix, block_groups(grid, threads), use)
    return found


def add_potential_(
    out: AOMatrix, blocks: Sequence[AOBlock], potential: Tensor, kind: XCKind
) -> None:
    """Add the matrix of a weighted potential on the points of several blocks."""
    sizes = [len(block.weights) for block in blocks]
    for block, part in zip(blocks, potential.split(sizes, dim=-1), strict=True):
        _scatter_add_(out, potential_matrix(block, part, kind), block)


def block_groups(grid: Grid, threads: int = 1) -> Iterator[list[AOBlock]]:
    """All blocks of a grid, in groups that one call of the functional takes.

    Small blocks leave out more AOs and stay in the cache; a functional wants many points at once.

    Args:
        grid: The grid.
        threads: How many share the groups; several get about as many points each.

    Yields:
        Blocks with at most ``GROUP_POINTS`` points and ``GROUP_MEMORY_MB`` of AO values in all
        (but at least one block).
    """
    limit = GROUP_POINTS
    if threads > 1:
        rounds = -(-grid.ngrids // (threads * GROUP_POINTS))
        # half a block more: a group ends at the block nearest to its share
        half = grid.ngrids / max(grid.n_blocks, 1) / 2
        limit = grid.ngrids / max(threads * rounds, 1) + half
    group: list[AOBlock] = []
    points = nbytes = 0
    for k in range(grid.n_blocks):
        block = grid.block(k)
        new_points, new_bytes = len(block.weights), block.ao.numel() * block.ao.element_size()
        full = points + new_points > limit or nbytes + new_bytes > GROUP_MEMORY_MB * 1e6
        if group and full:
            yield group
            group, points, nbytes = [], 0, 0
        group.append(block)
        points += new_points
        nbytes += new_bytes
    if group:
        yield group


class DensityOnGrid:
    """Density variables of one density matrix, through its orbitals where they are few."""

    def __init__(self, dm: AOMatrix, kind: XCKind, factors: Sequence[Factor] | None) -> None:
        """Keep what makes the variables.

        Args:
            dm: Symmetric density matrix.
            kind: Which variables to make.
            factors: Its ``spectral_factors``, or None to go through the matrix.
        """
        self._dm = dm
        self._kind: XCKind = kind
        channels = [occupied_columns(one) for one in factors or ()]
        self._orbitals = [one for one in channels if one is not None]
        self._factored = factors is not None and len(self._orbitals) == len(channels)

    def features(self, block: AOBlock) -> Tensor:
        """[*spin, nvar, npoints]."""
        if not self._factored:
            return density_features(block, restrict(self._dm, block), self._kind)
        index = block.index
        rows = [c if index is None else c[index] for c in self._orbitals]
        out = torch.stack([orbital_features(block, c, self._kind) for c in rows])
        return out.reshape(*self._dm.shape[:-2], *out.shape[-2:])


@one_thread_each()
def response(data: KSData, dm: AOMatrix, direction: AOMatrix) -> AOMatrix:
    """Derivative of F along a symmetric direction G: J[G] - c_x K[G] + f_xc · rho[G].

    Linear and self-adjoint in G. For a closed shell G is a change of the total density.

    Args:
        data: Integrals, grid and functional.
        dm: Density matrix at which F is differentiated.
        direction: G, same shape as ``dm``.

    Returns:
        dF, same shape, Eh.
    """
    out = data.coulomb.coulomb(total_density(direction)).expand_as(dm).clone()
    if data.exchange:
        out += exchange_matrix(data, direction)
    functional, grid = data.functional, data.grid
    if functional is not None and grid is not None:
        kind = functional.kind
        density = DensityOnGrid(dm, kind, spectral_factors(dm))

        def work(blocks: list[AOBlock], part: AOMatrix) -> None:
            weights = torch.cat([block.weights for block in blocks])
            rho = torch.cat([density.features(block) for block in blocks], dim=-1)
            change = torch.cat(
                [density_features(b, restrict(direction, b), kind) for b in blocks], dim=-1
            )
            add_potential_(part, blocks, functional.second(rho, change) * weights, kind)

        sum_over_groups_(out, grid, work)
    if data.nlc is not None:
        out += nonlocal_response(data.nlc, dm, direction)
    return out


@one_thread_each()
def second_response(data: KSData, dm: AOMatrix, d1: AOMatrix, d2: AOMatrix) -> AOMatrix:
    """Second derivative of F along two directions (density functionals only; J, K are linear).

    Args:
        data: Integrals, grid and functional.
        dm: Density matrix at which F is differentiated.
        d1: First direction.
        d2: Second direction.

    Returns:
        d²F, same shape as ``dm``, symmetric in (d1, d2).
    """
    out = torch.zeros_like(dm)
    functional, grid = data.functional, data.grid
    if functional is not None and grid is not None:
        kind = functional.kind
        density = DensityOnGrid(dm, kind, spectral_factors(dm))

        def work(blocks: list[AOBlock], part: AOMatrix) -> None:
            weights = torch.cat([block.weights for block in blocks])
            rho = torch.cat([density.features(block) for block in blocks], dim=-1)
            c1, c2 = (
                torch.cat([density_features(b, restrict(d, b), kind) for b in blocks], dim=-1)
                for d in (d1, d2)
            )
            add_potential_(part, blocks, functional.third(rho, c1, c2) * weights, kind)

        sum_over_groups_(out, grid, work)
    if data.nlc is not None:
        out += nonlocal_second_response(data.nlc, dm, d1, d2)
    return out
