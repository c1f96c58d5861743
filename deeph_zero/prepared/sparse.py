"""A crystal of any size made ready for the network: base and inputs from the geometry alone.

No k-point, no density matrix and no Fock build: overlaps, kinetic energy and pseudopotentials are
Gaussian integrals, and the potential of superposed free atoms is made where orbitals are, box by
box. Everything is blocks (i, j, R); time and memory are linear in atoms.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.ao.block_pattern import BlockPattern
from deeph_zero.ao.shells import BasisLayout
from deeph_zero.errors import InputError
from deeph_zero.integrals.libxc import make_functional
from deeph_zero.integrals.periodic.calculation import (
    CrystalCalculation,
    crystal_calculation,
    crystal_calculation_of,
)
from deeph_zero.integrals.periodic.cell import MOST_POINTS_IN_BOXES, build_cell
from deeph_zero.integrals.periodic.exchange import has_exchange
from deeph_zero.integrals.periodic.image_atoms import Images
from deeph_zero.integrals.periodic.real_space import Box, RealSpaceMatrices
from deeph_zero.integrals.periodic.superposition import SuperposedAtoms
from deeph_zero.ks.periodic.types import MeshRows
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.nn.inputs import NetworkInputs, block_inputs, spin_channels
from deeph_zero.nn.neighbours import Neighbours, neighbours

if TYPE_CHECKING:
    from pyscf.pbc import gto

ACCURACY = 1e-6
"""Orbitals below it (atomic units) are left out where potentials are integrated. Elements are then
right to a few 1e-6 Eh."""
BLOCKS = 1e-7
"""Pairs of atoms whose overlaps are all smaller have no block. Bands of graphene are then right to
0.5 meV."""


@dataclasses.dataclass(eq=False, kw_only=True)
class SparseCrystal:
    """A crystal's base matrix and what the network sees of it.

    Attributes:
        cell: The crystal.
        nelec: Electrons (alpha, beta) of a cell.
        ovlp: S, all blocks that count.
        base: H₀ = T + V_nl + potential of superposed free atoms, in the same blocks, [nel], or
            [2, nel] for two spins, Eh.
        inputs: Network inputs.
    """

    cell: "gto.Cell"
    nelec: tuple[float, float]
    ovlp: BlockMatrix
    base: BlockMatrix
    inputs: NetworkInputs

    def hamiltonian(self, correction: BlockMatrix) -> BlockMatrix:
        """H = H₀ + the network's correction.

        Args:
            correction: Blocks of ΔH, Eh.

        Returns:
            In the blocks of S.
        """
        places = self.ovlp.pattern.elements_of(correction.pairs, correction.cells)
        values = self.base.values.index_add(-1, places, correction.values.to(self.base.values))
        return self.base.with_values(values)

    @property
    def volume(self) -> float:
        """Volume of the cell, bohr³; infinite for a layer."""
        return volume_of(self.cell)

    def with_constant(self, constant: float) -> "SparseCrystal":
        """This crystal with a base that is moved by a constant potential.

        Args:
            constant: Eh.

        Returns:
            The crystal; what the network reads stays.
        """
        values = self.base.values + constant * self.ovlp.values
        return dataclasses.replace(self, base=self.base.with_values(values))


def prepare_sparse(
    cell: "gto.Cell",
    layout: BasisLayout,
    *,
    cutoff: float,
    dtype: torch.dtype = torch.float32,
    **settings: Any,
) -> SparseCrystal:
    """Base and inputs of a crystal.

    Args:
        cell: A built cell, neutral, with GTH pseudopotentials.
        layout: Shells of the network's elements.
        cutoff: The network's, bohr.
        dtype: The network's.
        **settings: ``xc``, ``unrestricted``, ``moments`` and the like, see
            :func:`~deeph_zero.integrals.periodic.calculation.crystal_calculation`; k-points do not
            matter.

    Returns:
        The crystal.

    Raises:
        InputError: If something is not supported, an element is not in the layout, or two atoms
            are at one position.
    """
    found = crystal_calculation(cell, **settings)
    return _prepared(found, layout, cutoff=cutoff, dtype=dtype)


def _prepared(
    found: CrystalCalculation, layout: BasisLayout, *, cutoff: float, dtype: torch.dtype
) -> SparseCrystal:
    numbers = atomic_numbers(found.cell)
    coords = torch.from_numpy(found.cell.atom_coords())
    lattice = torch.from_numpy(np.asarray(found.cell.lattice_vectors()))
    sizes = layout.sizes(numbers)
    near = neighbours(coords, cutoff, lattice)
    blocks = RealSpaceMatrices(
        found.cell, found.mesh, _pattern(found.cell, coords, lattice, near, sizes), ACCURACY
    )
    ovlp, fixed = blocks.overlap(), blocks.fixed_operator()
    density, local = _superposed(found, blocks)
    nspin = len(local)
    base = fixed.values + local
    own = torch.stack([density, base, torch.zeros_like(base)], 1)
    wide = ovlp.with_values(spin_channels(torch.stack([ovlp.values, fixed.values]), own))
    return SparseCrystal(
        cell=found.cell,
        nelec=found.nelec,
        ovlp=ovlp,
        base=ovlp.with_values(base[0] if nspin == 1 else base),
        inputs=crystal_inputs(
            layout, numbers, near, wide, nelec=found.nelec, cutoff=cutoff, dtype=dtype
        ),
    )


def prepare_sparse_structure(
    molecule: Molecule,
    method: Method,
    layout: BasisLayout,
    *,
    cutoff: float,
    dtype: torch.dtype = torch.float32,
    say: Callable[[str], None] | None = None,
) -> SparseCrystal:
    """Base and inputs of a crystal that was read from a file.

    Args:
        molecule: The structure.
        method: What is solved.
        layout: Shells of the network's elements.
        cutoff: The network's, bohr.
        dtype: The network's.
        say: Takes a warning of one line.

    Returns:
        The crystal.

    Raises:
        InputError: As :func:`prepare_sparse`.
    """
    cell = build_cell(molecule, method, say, most_points=MOST_POINTS_IN_BOXES)
    found = crystal_calculation_of(cell, method, molecule.moments)
    return _prepared(found, layout, cutoff=cutoff, dtype=dtype)


def superposed_rows(
    found: CrystalCalculation, blocks: RealSpaceMatrices
) -> tuple[Float[Tensor, "nspin 1 ngrids"], MeshRows]:
    """Superposed free atoms at the points of the grid, without a transform.

    Args:
        found: What is computed.
        blocks: Has the grid and finds atoms.

    Returns:
        The density, [nspin, 1, ngrids]; its potentials, one row for each density variable,
        [nspin, nvar, ngrids], Eh.
    """
    atoms = _atoms(found, blocks.images)
    shape = len(found.spin_shares()), math.prod(found.mesh)
    density = torch.zeros(shape[0], 1, shape[1], dtype=torch.float64)
    rows = torch.zeros(shape[0], atoms.nvar, shape[1], dtype=torch.float64)
    for box in blocks.boxes():
        points = torch.from_numpy(box.points)
        density[..., points], rows[..., points] = atoms.rows(box.coords, box.centre, box.radius)
    return density, rows


def crystal_inputs(
    layout: BasisLayout,
    numbers: list[int],
    near: Neighbours,
    channels: BlockMatrix,
    *,
    nelec: tuple[float, float],
    cutoff: float,
    dtype: torch.dtype,
) -> NetworkInputs:
    """The network's inputs, H₀ without its multiple of S.

    Args:
        layout: Shells of the network's elements.
        numbers: Atomic numbers.
        near: Pairs within the cutoff.
        channels: Matrices of every spin, on these pairs' blocks or more, H₀ as it is.
        nelec: Electrons (alpha, beta) of a cell.
        cutoff: That of ``near``, bohr.
        dtype: The network's.

    Returns:
        The inputs.
    """
    pattern = near.pattern(layout.sizes(numbers))
    places = channels.pattern.elements_of(pattern.pairs, pattern.cells)
    values = channels.values[..., places]
    ovlp = BlockMatrix(pattern, values[0, 0])
    values[:, 3] = without_shift(ovlp.with_values(values[:, 3]), ovlp).values
    unpaired = (nelec[0] - nelec[1]) / len(numbers)
    spins = [[0.0, m, m / 2] for m in ((unpaired, -unpaired) if len(values) == 2 else (0.0,))]
    return block_inputs(
        layout,
        numbers,
        near,
        BlockMatrix(pattern, values),
        torch.tensor(spins, dtype=torch.float64),
        cutoff=cutoff,
        dtype=dtype,
    )


def without_shift(matrix: BlockMatrix, ovlp: BlockMatrix) -> BlockMatrix:
    """A - μ S with the μ that leaves least, one for both spins.

    Args:
        matrix: A, [.., nel].
        ovlp: S on the same blocks.

    Returns:
        The rest. It is the same for a cell and its supercells.
    """
    return matrix.with_values(matrix.values - shift_of(matrix, ovlp) * ovlp.values)


def shift_of(matrix: BlockMatrix, ovlp: BlockMatrix) -> float:
    """The μ of :func:`without_shift`.

    Args:
        matrix: A, [.., nel].
        ovlp: S on the same blocks.

    Returns:
        In units of A.
    """
    s = ovlp.values.to(matrix.values)
    return float(((matrix.values * s).sum(-1) / s.square().sum()).mean())


def volume_of(cell: "gto.Cell") -> float:
    """Volume of a crystal's cell.

    Args:
        cell: The crystal.

    Returns:
        bohr³; infinite for a layer, whose third vector says nothing.
    """
    return float(cell.vol) if cell.dimension == 3 else math.inf


def atomic_numbers(cell: "gto.Cell") -> list[int]:
    """Atomic numbers of a cell's atoms, cores included.

    Args:
        cell: The crystal.

    Returns:
        The numbers.
    """
    from pyscf.data.elements import charge

    return [charge(cell.atom_pure_symbol(k)) for k in range(cell.natm)]


def _superposed(found: CrystalCalculation, blocks: RealSpaceMatrices) -> tuple[Tensor, Tensor]:
    """Matrices of the free atoms' density (of one spin) and of their potential, [nspin, nel]."""
    atoms = _atoms(found, blocks.images)
    per_spin = 1.0 if found.unrestricted else 0.5

    def functions(box: Box) -> list[Tensor]:
        rho, rows = atoms.rows(box.coords, box.centre, box.radius)
        return [per_spin * rho, rows]

    made = blocks.local(functions, deriv=int(atoms.nvar > 1)).values
    return made[: len(made) // 2], made[len(made) // 2 :]


def _atoms(found: CrystalCalculation, images: Images) -> SuperposedAtoms:
    if has_exchange(found.spec):
        raise InputError(
            f"expected a semilocal functional for superposed potentials, got {found.spec.name}, "
            'which has exact exchange; choose for example xc="pbe"'
        )
    functional = make_functional(found.spec, unrestricted=found.unrestricted)
    if functional is None:
        raise InputError('expected a density functional, got Hartree-Fock; choose xc="pbe"')
    return SuperposedAtoms(found.cell, images, found.spin_shares(), functional)


def _pattern(
    cell: "gto.Cell", coords: Tensor, lattice: Tensor, near: Neighbours, sizes: tuple[int, ...]
) -> BlockPattern:
    """Every atom by itself, then the pairs that overlap or are the network's."""
    images = Images(cell, ACCURACY)
    reach = torch.from_numpy(images.overlap_reach(BLOCKS))
    wide = neighbours(coords, max(float(reach.max()), 1e-3), lattice)
    kinds = torch.from_numpy(images.kinds)[wide.pairs]
    distance = wide.vectors.norm(dim=-1)
    own = wide.pattern(sizes).find(near.pairs.T.contiguous(), near.cells)
    keep = torch.cat([torch.ones(len(sizes)).bool(), distance < reach[kinds[0], kinds[1]]])
    keep[own[own >= 0]] = True
    everything = wide.pattern(sizes)
    pairs, cells = everything.pairs[keep], everything.cells[keep]
    beyond = own < 0  # where the network looks farther than any overlap
    pairs = torch.cat([pairs, near.pairs.T[beyond]])
    return BlockPattern(pairs, torch.cat([cells, near.cells[beyond]]), tuple(sizes))
