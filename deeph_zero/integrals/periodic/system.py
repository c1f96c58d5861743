"""Everything of one crystal as ``CrystalData``: the entrance from PySCF."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pyscf.pbc import tools
from pyscf.pbc.gto import Cell
from pyscf.pbc.scf import hf
from torch import Tensor

from deeph_zero.integrals.libxc import make_functional
from deeph_zero.integrals.one_electron import lindep_threshold
from deeph_zero.integrals.periodic.bloch_values import BlochValues
from deeph_zero.integrals.periodic.calculation import CrystalCalculation
from deeph_zero.integrals.periodic.guess import superposed_density
from deeph_zero.integrals.periodic.kpoints import KPoints
from deeph_zero.integrals.periodic.pseudopotential import local_potential, nonlocal_potential
from deeph_zero.ks.periodic.data import CrystalData, Elsewhere
from deeph_zero.ks.periodic.mesh import Mesh, half_spectrum
from deeph_zero.ks.periodic.potentials import Hartree, LocalPotential, Potential, Semilocal
from deeph_zero.ks.periodic.terms import Constant, CoulombOnMesh, FixedOperator, MeshTerm
from deeph_zero.ks.periodic.types import BlochOperator, MeshRows

AO_MEMORY_MB = 2000.0
"""AO values kept, unless the caller says otherwise."""

COARSE_PART = 0.55
"""Points per axis of the coarse mesh. Diamond, Si, LiH, h-BN, graphene, Al slabs and MoS2: the step
with it saves as many builds as with the mesh of the energy, at a fourth to a ninth of the cost."""


def crystal_data(
    settings: CrystalCalculation,
    *,
    device: torch.device | str = "cpu",
    ao_memory_mb: float = AO_MEMORY_MB,
    engine: str = "auto",
) -> CrystalData:
    """Integrals, grid and functional of a crystal.

    Args:
        settings: What is computed.
        device: Where the tensors live.
        ao_memory_mb: Keep AO values up to so much; beyond it they are made again in every pass.
        engine: Of the functional, see :func:`deeph_zero.integrals.libxc.make_functional`.

    Returns:
        The data.

    Raises:
        InputError: If S(k) is singular somewhere.
    """
    maker = _Maker(settings, device, ao_memory_mb, engine)
    cell, kpoints = settings.cell, settings.kpoints
    term = maker.mesh_term(kpoints)
    return CrystalData(
        ovlp=overlap(cell, kpoints, device),
        weights=term.weights,
        fixed=FixedOperator("kinetic_nonlocal", maker.fixed(kpoints), term.weights),
        constant=Constant("ewald", float(cell.energy_nuc())),
        mesh=maker.mesh,
        mesh_term=term,
        nelec=settings.nelec,
        unrestricted=settings.unrestricted,
        lindep_threshold=lindep_threshold(),
        rho_guess=lambda: starting_rows(settings, maker.mesh, term.nvar),
        step_coulomb=maker.step_coulomb,
        at=maker.at,
    )


class _Maker:
    """What can be made of a crystal at any k-points."""

    def __init__(
        self,
        settings: CrystalCalculation,
        device: torch.device | str,
        ao_memory_mb: float,
        engine: str,
    ) -> None:
        self.settings = settings
        self.device = device
        self.ao_memory_mb = ao_memory_mb
        spec, two = settings.spec, settings.unrestricted
        functional = make_functional(spec, unrestricted=two, engine=engine)  # pyright: ignore
        assert functional is not None
        self.deriv = 0 if functional.kind == "LDA" else 1
        self.mesh = make_mesh(settings.cell, settings.mesh, device)
        local = torch.from_numpy(local_potential(settings.cell, settings.mesh)).to(device)
        self.potentials: list[Potential] = [
            LocalPotential("local", self.mesh, local),
            Hartree(self.mesh),
            Semilocal(self.mesh, functional),
        ]

    def values(
        self, points: KPoints, shape: tuple[int, int, int], deriv: int, *, keep: bool = True
    ) -> BlochValues:
        """AO values."""
        return BlochValues(
            self.settings.cell,
            points,
            shape,
            deriv=deriv,
            memory_mb=self.ao_memory_mb if keep else 0.0,
            device=self.device,
        )

    def mesh_term(self, points: KPoints, *, keep: bool = True) -> MeshTerm:
        """Energies on the grid."""
        weights = torch.from_numpy(points.weights).to(self.device)
        values = self.values(points, self.settings.mesh, self.deriv, keep=keep)
        return MeshTerm(values, weights, self.mesh.weight, self.potentials)

    def fixed(self, points: KPoints) -> BlochOperator:
        """Kinetic energy and non-local pseudopotentials."""
        return fixed_operator(self.settings.cell, self.settings.mesh, points, self.device)

    def step_coulomb(self) -> CoulombOnMesh:
        """Coulomb matrices on the coarse mesh."""
        points, shape = self.settings.kpoints, coarse_shape(self.settings.mesh)
        weights = torch.from_numpy(points.weights).to(self.device)
        mesh = make_mesh(self.settings.cell, shape, self.device)
        settings = dataclasses.replace(self.settings, mesh=shape)
        values = self.values(points, shape, 0)
        return CoulombOnMesh(values, weights, mesh, lambda: starting_rows(settings, mesh, 1))

    def at(self, scaled: Sequence[Sequence[float]]) -> Elsewhere:
        """Matrices at other k-points."""
        fractions = np.asarray(scaled, dtype=float).reshape(-1, 3)
        points = KPoints(scaled=fractions, weights=np.full(len(fractions), 1 / len(fractions)))
        return Elsewhere(
            ovlp=overlap(self.settings.cell, points, self.device).to(torch.complex128),
            fixed=self.fixed(points).to(torch.complex128),
            mesh_term=self.mesh_term(points, keep=False),
        )


def coarse_shape(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """A mesh with about a sixth of the points, for potentials that only guide.

    Args:
        shape: The mesh of the energy.

    Returns:
        Odd numbers, at least 5 where there are as many.
    """
    n1, n2, n3 = (min(n, max(5, int(COARSE_PART * n) // 2 * 2 + 1)) for n in shape)
    return n1, n2, n3


def make_mesh(cell: Cell, shape: tuple[int, int, int], device: torch.device | str) -> Mesh:
    """The uniform grid with PySCF's Coulomb kernel for the cell's dimension.

    Args:
        cell: The crystal.
        shape: Points along the lattice vectors.
        device: Where the tensors live.

    Returns:
        The mesh.
    """
    kernel = torch.from_numpy(tools.get_coulG(cell, mesh=shape).reshape(shape))
    return Mesh(
        shape=shape,
        volume=float(cell.vol),
        reciprocal=torch.from_numpy(np.asarray(cell.reciprocal_vectors())).to(device),
        kernel=half_spectrum(kernel).to(device),
    )


def overlap(cell: Cell, kpoints: KPoints, device: torch.device | str) -> BlochOperator:
    """S(k), with the tight cutoff that PySCF's mean-field objects give it."""
    found = np.asarray(hf.get_ovlp(cell, kpoints.absolute(cell)))
    return _matrices(0.5 * (found + found.conj().swapaxes(-1, -2)), kpoints, device)


def fixed_operator(
    cell: Cell, mesh: tuple[int, int, int], kpoints: KPoints, device: torch.device | str
) -> BlochOperator:
    """Kinetic energy and non-local pseudopotentials at every k, Eh.

    Args:
        cell: The crystal.
        mesh: The grid whose reciprocal vectors the projectors are summed over.
        kpoints: Where.
        device: Where the tensors live.

    Returns:
        The matrices.
    """
    kinetic = _integral(cell, "int1e_kin", kpoints)
    apart = nonlocal_potential(cell, mesh, kpoints)
    return _matrices(kinetic + apart, kpoints, device)


def starting_rows(settings: CrystalCalculation, mesh: Mesh, nvar: int) -> MeshRows:
    """Density variables of superposed free atoms.

    Args:
        settings: What is computed; its initial moments and electrons divide the spins.
        mesh: The grid.
        nvar: Rows that the functional needs.

    Returns:
        The rows; the electrons are those of the cell.
    """
    density = superposed_density(settings.cell, settings.mesh, settings.spin_shares())
    rho = torch.from_numpy(density).to(mesh.kernel.device)
    total = rho.sum() * mesh.weight
    rho = rho * (sum(settings.nelec) / total)
    if nvar == 1:
        return rho.unsqueeze(1)
    gradient = mesh.gradient(rho)
    rows = torch.cat([rho.unsqueeze(1), gradient], 1)
    return rows if nvar == 4 else torch.cat([rows, _kinetic_density(rows)], 1)


def _kinetic_density(rows: MeshRows) -> Tensor:
    """τ as of a slowly varying gas: von Weizsäcker's and Thomas and Fermi's, added."""
    rho = rows[:, :1].clamp_min(1e-12)
    spins = rows.shape[0]
    gas = 0.3 * (3 * torch.pi**2) ** (2 / 3) * spins ** (2 / 3) * rho ** (5 / 3)
    return gas + rows[:, 1:4].square().sum(1, keepdim=True) / (8 * rho)


def _integral(cell: Cell, name: str, kpoints: KPoints) -> np.ndarray:
    return np.asarray(cell.pbc_intor(name, hermi=1, kpts=kpoints.absolute(cell)))


def _matrices(array: Any, kpoints: KPoints, device: torch.device | str) -> BlochOperator:
    """Complex matrices; real ones where all points are like Γ."""
    array = np.asarray(array)
    array = array.real if kpoints.real else array.astype(complex)
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
