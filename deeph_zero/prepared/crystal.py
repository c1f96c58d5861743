"""One crystal made ready for the network: its layer, the matrix that is corrected, inputs.

A semilocal Fock matrix is kinetic energy and non-local pseudopotentials, which the geometry fixes,
and the matrix of a local potential. Everything that the network reads and corrects follows from
local functions on the grid, whose blocks (i, j, R) are exact for any R; matrices at k-points are
never folded. The average potential of a crystal is a convention, zero where a transform without
G = 0 has it: the multiple of S that it makes is taken out of what networks read and learn, and has
a model of its own (``constant``).
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.ao.shells import BasisLayout
from deeph_zero.errors import InputError
from deeph_zero.integrals.mole import shell_ls
from deeph_zero.integrals.periodic.calculation import (
    CrystalCalculation,
    crystal_calculation,
    crystal_calculation_of,
)
from deeph_zero.integrals.periodic.cell import build_cell
from deeph_zero.integrals.periodic.info import crystal_info
from deeph_zero.integrals.periodic.real_space import RealSpaceMatrices
from deeph_zero.integrals.periodic.system import crystal_data
from deeph_zero.kohnsham.crystal import CrystalKohnSham
from deeph_zero.kohnsham.crystal_result import KPoints
from deeph_zero.ks.periodic.types import BlochMatrix, MeshRows
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.nn.inputs import NetworkInputs, spin_channels
from deeph_zero.nn.neighbours import neighbours
from deeph_zero.prepared.sparse import (
    atomic_numbers,
    crystal_inputs,
    superposed_rows,
    volume_of,
)

if TYPE_CHECKING:
    from pyscf.pbc import gto


@dataclasses.dataclass(eq=False, kw_only=True)
class PreparedCrystal:
    """A crystal, its Kohn-Sham layer and what the network sees of it.

    Attributes:
        ks: Kohn-Sham layer; counts its Fock builds.
        potential: That of H₀ on the grid: superposed free atoms after a dielectric step, no build.
        fock0: H₀ at the layer's k-points, what the network corrects, Eh.
        blocks: Makes matrices of any R.
        ovlp: S.
        inputs: Network inputs.
    """

    ks: CrystalKohnSham
    potential: MeshRows
    fock0: BlochMatrix
    blocks: RealSpaceMatrices
    ovlp: BlockMatrix
    inputs: NetworkInputs

    @property
    def volume(self) -> float:
        """Volume of the cell, bohr³; infinite for a layer."""
        return volume_of(self.ks.cell)

    def with_constant(self, constant: float) -> "PreparedCrystal":
        """This crystal with an H₀ that is moved by a constant potential.

        Args:
            constant: Eh.

        Returns:
            The crystal, of the same layer; what the network reads stays.
        """
        rows = self.potential.clone()
        rows[:, 0] += constant
        fock0 = self.fock0 + constant * self.ks.data.ovlp
        return dataclasses.replace(self, potential=rows, fock0=fock0)

    def hamiltonian(self, correction: BlockMatrix) -> BlochMatrix:
        """H = H₀ + the network's correction at the layer's k-points.

        Args:
            correction: Blocks of ΔH, Eh; differentiable.

        Returns:
            [nspin, nk, nao, nao], Eh.
        """
        kpts = torch.from_numpy(self.ks.info.kpts).to(self.fock0.device)
        change = correction.at_k(kpts).reshape(self.fock0.shape)
        return self.fock0 + (change if self.fock0.is_complex() else change.real)

    def hamiltonian_at(self, kpts: KPoints, correction: BlockMatrix) -> BlochMatrix:
        """H at any k-points.

        Args:
            kpts: Fractions of the reciprocal lattice vectors, [nk, 3].
            correction: Blocks of ΔH, Eh.

        Returns:
            Complex, [nspin, nk, nao, nao], Eh.

        Raises:
            InputError: If ``kpts`` has another shape.
        """
        base = self.ks.fock_at(kpts, potential=self.potential)
        where = torch.tensor([[float(x) for x in k] for k in kpts], dtype=torch.float64)
        return base + correction.at_k(where.to(base.device)).reshape(base.shape)

    def correction(self, potential: MeshRows) -> BlockMatrix:
        """ΔH that leads from H₀ to the matrix of another potential.

        Args:
            potential: On the grid, such as ``scf().build.rows``.

        Returns:
            Blocks [nel], or [2, nel] for two spins, Eh.
        """
        found = self.blocks.potential(potential - self.potential)
        return found if self.ks.unrestricted else found.with_values(found.values[0])


def crystal_layout(*cells: "gto.Cell") -> BasisLayout:
    """The shells of every element that occurs.

    Args:
        *cells: Built cells of one basis set.

    Returns:
        Layout that holds all of them.
    """
    shells: dict[int, tuple[int, ...]] = {}
    for cell in cells:
        shells.update(zip(atomic_numbers(cell), shell_ls(cell.to_mol()), strict=True))
    return BasisLayout.from_shells(shells)


def prepare_crystal(
    cell: "gto.Cell",
    layout: BasisLayout,
    *,
    cutoff: float,
    dtype: torch.dtype = torch.float32,
    potential: MeshRows | None = None,
    features: Literal["physics", "geometry"] = "physics",
    **settings: Any,
) -> PreparedCrystal:
    """Prepare a crystal; spends no Fock build.

    Args:
        cell: A built cell.
        layout: Shells of the network's elements.
        cutoff: The network's, bohr.
        dtype: The network's.
        potential: That of H₀ on the grid; None: superposed free atoms after a dielectric step.
        features: "geometry": H₀ and inputs are those of superposed free atoms, which
            :func:`~deeph_zero.prepared.sparse.prepare_sparse` has for large cells too.
        **settings: ``xc``, ``kmesh`` and the like, see
            :func:`~deeph_zero.integrals.periodic.calculation.crystal_calculation`.

    Returns:
        The prepared crystal.

    Raises:
        InputError: If something is not supported, an element is not in the layout, or two atoms
            are at one position.
    """
    found = crystal_calculation(cell, **settings)
    return _prepared(
        found, layout, cutoff=cutoff, dtype=dtype, potential=potential, features=features
    )


def _prepared(
    found: CrystalCalculation,
    layout: BasisLayout,
    *,
    cutoff: float,
    dtype: torch.dtype,
    potential: MeshRows | None = None,
    features: Literal["physics", "geometry"],
) -> PreparedCrystal:
    data = crystal_data(found)
    if data.mesh is None or data.further:
        kind = "density fitting" if data.mesh is None else "exact exchange"
        raise InputError(
            f"expected a semilocal functional on a uniform grid for a network, got {kind}; choose "
            'for example xc="pbe"'
        )
    info = crystal_info(found)
    ks = CrystalKohnSham.of_calculation(found, data)
    numbers = atomic_numbers(found.cell)
    coords = torch.from_numpy(found.cell.atom_coords())
    near = neighbours(coords, cutoff, torch.from_numpy(info.lattice))
    blocks = RealSpaceMatrices(found.cell, found.mesh, near.pattern(layout.sizes(numbers)))
    guess = None
    if features == "geometry":
        guess, rows = (x.to(ks.data.weights.device) for x in superposed_rows(found, blocks))
    else:
        rows = ks.base_potential() if potential is None else potential
    fock0, ovlp = ks.fock_of(rows), blocks.overlap()
    channels = _channels(ks, blocks, ovlp, rows, guess=guess, fock0=fock0)
    inputs = crystal_inputs(
        layout, numbers, near, channels, nelec=info.nelec, cutoff=cutoff, dtype=dtype
    )
    return PreparedCrystal(
        ks=ks, potential=rows, fock0=fock0, blocks=blocks, ovlp=ovlp, inputs=inputs
    )


def prepare_structure(
    molecule: Molecule,
    method: Method,
    layout: BasisLayout,
    *,
    cutoff: float,
    dtype: torch.dtype = torch.float32,
    features: Literal["physics", "geometry"] = "physics",
    say: Callable[[str], None] | None = None,
) -> PreparedCrystal:
    """Prepare a crystal that was read from a file; spends no Fock build.

    Args:
        molecule: The structure.
        method: What is solved.
        layout: Shells of the network's elements.
        cutoff: The network's, bohr.
        dtype: The network's.
        features: As for :func:`prepare_crystal`.
        say: Takes a warning of one line.

    Returns:
        The prepared crystal.

    Raises:
        InputError: As :func:`prepare_crystal`.
    """
    cell = build_cell(molecule, method, say)
    found = crystal_calculation_of(cell, method, molecule.moments)
    return _prepared(found, layout, cutoff=cutoff, dtype=dtype, features=features)


def _channels(
    ks: CrystalKohnSham,
    blocks: RealSpaceMatrices,
    ovlp: BlockMatrix,
    rows: MeshRows,
    *,
    fock0: BlochMatrix,
    guess: Tensor | None,
) -> BlockMatrix:
    """S; T + V_nl; and of each spin the free atoms' density, H₀, and what H₀ makes of the density.

    Densities enter as the matrices of the local functions that they are; with a given one
    there is no change.
    """
    fixed = blocks.fixed_operator().values
    change = None
    if guess is None:
        assert ks.data.rho_guess is not None
        guess = ks.data.rho_guess()[:, :1]
        change = ks.data.mesh_term.density(ks.density(fock0))[:, :1] - guess
    per_spin = 1.0 if ks.unrestricted else 0.5
    densities = [guess] if change is None else [guess, change]
    # densities have no gradient terms, which cost more than the values
    local = [x.detach().cpu() for x in (rows, *(per_spin * density for density in densities))]
    found = blocks.local(lambda box: [x[:, :, box.points] for x in local], int(rows.shape[1] > 1))
    base, density, *changed = found.values.unflatten(0, (len(local), len(rows)))
    own = torch.stack([density, base + fixed, *(changed or [torch.zeros_like(base)])], 1)
    return ovlp.with_values(spin_channels(torch.stack([ovlp.values, fixed]), own))
