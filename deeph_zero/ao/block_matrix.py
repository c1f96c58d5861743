"""AO matrices of molecules and crystals as blocks (i, j, R): atom i at home, atom j in cell R.

A block holds ⟨μ i, 0| A |ν j, R⟩. Where the whole matrix is Hermitian, A(i, j, R) and A(j, i, -R)
are adjoints of each other. Bloch sums have PySCF's phase: A(k) = Σ_R exp(ik·R) A(R), the lattice
gauge, in which the position of an atom inside its cell does not appear.
"""

import dataclasses
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from deeph_zero.ao.block_pattern import BlockPattern
from deeph_zero.ao.rotation import shell_rotation
from deeph_zero.ao.shells import BasisLayout
from deeph_zero.types import Brief

_CHUNK = 2**24
"""Matrix elements times k-points that are summed at once."""
_SPARSE = 8
"""Elements of all cells' dense matrices for one that is there, from which on the zeros cost more
than a multiplication of matrices saves."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class BlockMatrix(Brief):
    """The elements of the blocks of a :class:`BlockPattern`.

    Attributes:
        pattern: Which blocks there are.
        values: All elements, [..., nel]; leading axes (spin) are shared by all blocks.
    """

    pattern: BlockPattern
    values: Num[Tensor, "*batch nel"]

    def __post_init__(self) -> None:
        """Check that the pieces fit.

        Raises:
            ValueError: If they do not.
        """
        if self.values.shape[-1] != self.pattern.nel:
            raise ValueError(
                f"expected {self.pattern.nel} elements for these blocks, got "
                f"{self.values.shape[-1]}"
            )

    @classmethod
    def packed(
        cls,
        pairs: Int[Tensor, "nb 2"],
        cells: Int[Tensor, "nb 3"],
        values: Num[Tensor, "*batch nel"],
        sizes: Sequence[int],
    ) -> "BlockMatrix":
        """From the parts of a pattern and elements in its order."""
        return cls(BlockPattern(pairs, cells, tuple(sizes)), values)

    # ---- pieces

    @property
    def pairs(self) -> Int[Tensor, "nb 2"]:
        """Atoms (i, j) of each block."""
        return self.pattern.pairs

    @property
    def cells(self) -> Int[Tensor, "nb 3"]:
        """Lattice vector R of j's cell in units of the cell's vectors; zeros in a molecule."""
        return self.pattern.cells

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of AOs of each atom."""
        return self.pattern.sizes

    @property
    def nao(self) -> int:
        """AOs of one cell."""
        return self.pattern.nao

    @property
    def offsets(self) -> Int[Tensor, " nb_plus_1"]:
        """Where each block begins in ``values``, and the end of the last."""
        return self.pattern.offsets

    @property
    def partners(self) -> Int[Tensor, " nb"]:
        """Position of (j, i, -R) for each block (i, j, R), -1 where it is not there."""
        return self.pattern.partners

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self.pairs)

    def block(self, index: int) -> Num[Tensor, "*batch ni nj"]:
        """One block, a view.

        Args:
            index: Its position.

        Returns:
            Rows are the AOs of atom i, columns those of j.
        """
        i, j = self.pairs[index].tolist()
        start, end = self.offsets[index : index + 2].tolist()
        return self.values[..., start:end].unflatten(-1, (self.sizes[i], self.sizes[j]))

    def blocks(self) -> list[Tensor]:
        """All blocks in order, views."""
        return [self.block(k) for k in range(len(self))]

    def with_values(self, values: Num[Tensor, "*batch nel"]) -> "BlockMatrix":
        """Other elements in the same blocks."""
        return dataclasses.replace(self, values=values)

    @classmethod
    def from_blocks(
        cls,
        pairs: Int[Tensor, "nb 2"],
        cells: Int[Tensor, "nb 3"],
        blocks: Sequence[Tensor],
        sizes: Sequence[int],
    ) -> "BlockMatrix":
        """Pack blocks [..., ni, nj]."""
        for (i, j), block in zip(pairs.tolist(), blocks, strict=True):
            if tuple(block.shape[-2:]) != (sizes[i], sizes[j]):
                raise ValueError(
                    f"expected a block of {sizes[i]} x {sizes[j]} for atoms {i} and {j}, got "
                    f"{tuple(block.shape[-2:])}"
                )
        values = torch.cat([b.flatten(-2) for b in blocks], -1) if blocks else torch.zeros(0)
        return cls.packed(pairs, cells, values, sizes)

    @classmethod
    def from_entries(
        cls,
        rows: Int[Tensor, " nel"],
        columns: Int[Tensor, " nel"],
        cells: Int[Tensor, "nel 3"],
        values: Num[Tensor, "*batch nel"],
        sizes: Sequence[int],
    ) -> "BlockMatrix":
        """Blocks of a sparse matrix ⟨μ, 0| A |ν, R⟩; elements that are not given are zero.

        Args:
            rows: AO μ of the home cell.
            columns: AO ν.
            cells: R.
            values: Elements; those of one place are added up.
            sizes: AOs of each atom.

        Returns:
            The blocks that have an element, sorted by (R, i, j).
        """
        lengths = torch.tensor(list(sizes), dtype=torch.long)
        atoms = torch.arange(len(lengths)).repeat_interleave(lengths)
        starts = lengths.cumsum(0) - lengths
        i, j = atoms[rows], atoms[columns]
        keys, block = torch.cat([cells, i[:, None], j[:, None]], 1).unique(
            dim=0, return_inverse=True
        )
        pairs = keys[:, 3:]
        areas = lengths[pairs].prod(1) if len(pairs) else lengths[:0]
        first = areas.cumsum(0) - areas
        place = first[block] + (rows - starts[i]) * lengths[j] + columns - starts[j]
        flat = values.new_zeros(*values.shape[:-1], int(areas.sum()))
        return cls.packed(pairs, keys[:, :3], flat.index_add(-1, place, values), sizes)

    def select(self, keep: Tensor) -> "BlockMatrix":
        """The blocks of a mask or of a list of positions.

        Args:
            keep: Mask [nb] or positions.

        Returns:
            A matrix of these blocks, in the order of ``keep``.
        """
        chosen = keep.nonzero()[:, 0] if keep.dtype == torch.bool else keep
        index = self.pattern.elements_in(chosen)
        return BlockMatrix.packed(
            self.pairs[chosen], self.cells[chosen], self.values[..., index], self.sizes
        )

    def plus(self, other: "BlockMatrix") -> "BlockMatrix":
        """The sum, with every block that either matrix has, sorted by (R, i, j).

        Args:
            other: A matrix of the same atoms, with the same leading axes.

        Returns:
            A new matrix.
        """
        both = (self, other)
        keys, place = torch.cat([torch.cat([m.cells, m.pairs], 1) for m in both]).unique(
            dim=0, return_inverse=True
        )
        sizes = torch.tensor(self.sizes, dtype=torch.long, device=keys.device)
        areas = sizes[keys[:, 3:]].prod(1) if len(keys) else sizes[:0]
        first = areas.cumsum(0) - areas
        flat = self.values.new_zeros(*self.values.shape[:-1], int(areas.sum()))
        for m, where in zip(both, place.split([len(self), len(other)]), strict=True):
            shift = (first[where] - m.offsets[:-1]).repeat_interleave(m.offsets.diff())
            inside = torch.arange(m.pattern.nel, device=keys.device) + shift
            flat = flat.index_add(-1, inside, m.values.to(flat))
        return BlockMatrix.packed(keys[:, 3:], keys[:, :3], flat, self.sizes)

    # ---- dense matrices

    @classmethod
    def from_dense(
        cls, matrix: Num[Tensor, "*batch nao nao"], sizes: Sequence[int]
    ) -> "BlockMatrix":
        """A molecule's matrix: every pair of atoms, R = 0."""
        return cls.gathered(BlockPattern.of_molecule(sizes, matrix.device), matrix)

    @classmethod
    def gathered(
        cls, pattern: BlockPattern, matrix: Num[Tensor, "*batch nao nao"]
    ) -> "BlockMatrix":
        """The blocks of a pattern from a molecule's matrix; what has no block is left out."""
        return cls(pattern, matrix.flatten(-2)[..., pattern.dense_places])

    def to_dense(self, cell: Sequence[int] = (0, 0, 0)) -> Num[Tensor, "*batch nao nao"]:
        """The matrix of one R; blocks that are not there are zero.

        Args:
            cell: R in units of the lattice vectors; 0 is a molecule's whole matrix.

        Returns:
            A(R), a copy.
        """
        part = self
        if any(cell) or not self.pattern.is_home:
            home = torch.as_tensor(cell, device=self.cells.device)
            part = self.select((self.cells == home).all(1))
        flat = part.values.new_zeros(*part.values.shape[:-1], self.nao**2)
        flat = flat.index_add(-1, part.pattern.dense_places, part.values)
        return flat.unflatten(-1, (self.nao, self.nao))

    # ---- k-space

    def at_k(self, kpts: Float[Tensor, "nk 3"]) -> Num[Tensor, "*batch nk nao nao"]:
        """Bloch sums A(k) = Σ_R exp(2πi k·R) A(R).

        Args:
            kpts: In units of the reciprocal lattice vectors.

        Returns:
            Complex matrices; Hermitian where the blocks are.
        """
        cells, places = self.pattern.by_cell
        if not len(cells) or len(cells) * self.nao**2 > _SPARSE * self.values.shape[-1]:
            return self._at_k_sparse(kpts)
        lead = self.values.shape[:-1]
        dense = self.values.new_zeros(*lead, len(cells) * self.nao**2)
        dense = dense.index_add(-1, places, self.values).unflatten(-1, (len(cells), -1))
        angles = 2 * math.pi * (kpts @ cells.to(kpts).mT)
        if dense.is_complex():
            found = torch.polar(torch.ones_like(angles), angles).to(dense) @ dense
        else:
            found = torch.complex(angles.cos().to(dense) @ dense, angles.sin().to(dense) @ dense)
        return found.unflatten(-1, (self.nao, self.nao))

    def _at_k_sparse(self, kpts: Float[Tensor, "nk 3"]) -> Num[Tensor, "*batch nk nao nao"]:
        """Where most blocks of a cell are not there: one of them after another."""
        values = self.values.to(torch.promote_types(self.values.dtype, torch.complex64))
        phases = torch.polar(
            torch.ones((), dtype=kpts.dtype, device=kpts.device),
            2 * math.pi * (kpts @ self.cells.to(kpts).mT),
        ).to(values)
        block, targets = self.pattern.block_of, self.pattern.dense_places
        lead = values.shape[:-1]
        step = max(1, _CHUNK // max(1, values.numel()))
        parts = []
        for some in phases.split(step):
            flat = values.new_zeros(*lead, len(some), self.nao**2)
            terms = values[..., None, :] * some[:, block]
            parts.append(flat.index_add(-1, targets, terms))
        if not parts:
            return values.new_zeros(*lead, 0, self.nao, self.nao)
        return torch.cat(parts, -2).unflatten(-1, (self.nao, self.nao))

    # ---- Hermiticity

    @property
    def adjoint(self) -> "BlockMatrix":
        """The adjoint operator: block k becomes (j, i, -R), conjugate transposed."""
        values = torch.empty_like(self.values)
        flipped = self.values.conj().resolve_conj()
        values = values.index_copy(-1, self.pattern.adjoint_places(), flipped)
        return BlockMatrix.packed(self.pairs.flip(1), -self.cells, values, self.sizes)

    def asymmetry(self) -> float:
        """Largest |A(i, j, R) - A(j, i, -R)†|; a block without a partner counts in full."""
        if not self.values.numel():
            return 0.0
        there = self.partners >= 0
        values = self.with_values(self.values.detach())
        alone = values.select(~there).values.abs()
        paired = values.select(there).values
        turned = values.adjoint.select(self.partners[there])
        worst = max(float(alone.max()) if alone.numel() else 0.0, 0.0)
        if paired.numel():
            worst = max(worst, float((paired - turned.values).abs().max()))
        return worst

    def completed(self) -> "BlockMatrix":
        """With the adjoints of blocks whose partner (j, i, -R) is not there, behind the others."""
        missing = self.adjoint.select(self.partners < 0)
        return BlockMatrix.packed(
            torch.cat([self.pairs, missing.pairs]),
            torch.cat([self.cells, missing.cells]),
            torch.cat([self.values, missing.values], -1),
            self.sizes,
        )

    def hermitian(self) -> "BlockMatrix":
        """The nearest Hermitian matrix; a block without a partner gets its adjoint as one.

        Returns:
            The mean of A(i, j, R) and A(j, i, -R)† where both are there, in the same order; new
            partners are behind.
        """
        whole = self.completed()
        other = whole.adjoint.select(whole.partners)
        return whole.with_values(0.5 * (whole.values + other.values))

    # ---- orders and rotations

    def reordered(self, places: Sequence[Tensor], signs: Sequence[Tensor]) -> "BlockMatrix":
        """This matrix in functions of another order and sign.

        Args:
            places: For each atom where its new functions are among its old ones, [size].
            signs: For each atom the factor of each new function, +1 or -1, [size].

        Returns:
            new[μ, ν] = sign_μ sign_ν old[place_μ, place_ν], block by block.
        """
        factor = torch.cat(list(signs)).to(self.values)
        rows, columns = self.pattern.aos()
        index = self.pattern.reordered_places(torch.cat(list(places)).to(rows))
        return self.with_values(self.values[..., index] * factor[rows] * factor[columns])

    def transformed(self, matrices: Sequence[Tensor]) -> "BlockMatrix":
        """U_i A(i, j, R) U_j† with a square matrix for each atom."""
        us = [m.to(self.values) for m in matrices]
        blocks = [us[i] @ self.block(k) @ us[j].mH for k, (i, j) in enumerate(self.pairs.tolist())]
        return BlockMatrix.from_blocks(self.pairs, self.cells, blocks, self.sizes)

    def rotated(
        self, shells: Sequence[Sequence[int]], rotation: Float[Tensor, "3 3"]
    ) -> "BlockMatrix":
        """The matrix of the rotated system, atoms and lattice vectors included.

        Args:
            shells: Angular momentum of every shell of every atom; functions in PySCF's order.
            rotation: Rotation or reflection in PySCF's axes: coordinates become
                coords @ rotation.T.

        Returns:
            Blocks of the same pairs and cells.
        """
        known = {tuple(ls): shell_rotation(ls, rotation) for ls in shells}
        return self.transformed([known[tuple(ls)] for ls in shells])

    # ---- padded slots, and through them irreps (ao/blocks.py)

    def to_slots(
        self, layout: BasisLayout, numbers: Sequence[int]
    ) -> Num[Tensor, "*batch nb dim dim"]:
        """Blocks of one shape in the layout's slots, zero where a slot is empty.

        Args:
            layout: Shells of the elements; functions are in PySCF's order.
            numbers: Atomic numbers.

        Returns:
            What ``irrep_basis(layout).to_irreps`` takes.
        """
        flat = self.values.new_zeros(*self.values.shape[:-1], len(self) * layout.dim**2)
        flat = flat.index_copy(-1, self.pattern.slots(layout, numbers), self.values)
        return flat.unflatten(-1, (len(self), layout.dim, layout.dim))

    def from_slots(
        self,
        slots: Num[Tensor, "*batch nb dim dim"],
        layout: BasisLayout,
        numbers: Sequence[int],
    ) -> "BlockMatrix":
        """Inverse of :meth:`to_slots`, for the blocks of this matrix."""
        return self.with_values(slots.flatten(-3)[..., self.pattern.slots(layout, numbers)])
