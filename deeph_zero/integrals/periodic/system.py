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
    return _Maker(settings, device, ao_memory_mb, engine).data()


class _Maker:
    """What can be made of a crystal, on the mesh asked for and on the coarse one."""

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
        self.functional = functional
        self.weights = torch.from_numpy(settings.kpoints.weights).to(device)
        self.coarse_mesh = coarse_shape(settings.mesh)
        self._coarse: MeshTerm | None = None

    def data(self) -> CrystalData:
        """On the mesh asked for."""
        settings = self.settings
        fixed = FixedOperator("kinetic_nonlocal", self.fixed(settings.kpoints), self.weights)
        data = CrystalData(
            ovlp=overlap(settings.cell, settings.kpoints, self.device),
            weights=self.weights,
            fixed=fixed,
            constant=Constant("ewald", float(settings.cell.energy_nuc())),
            nelec=settings.nelec,
            unrestricted=settings.unrestricted,
            lindep_threshold=lindep_threshold(),
            step_coulomb=self.step_coulomb,
            coarse=lambda: dataclasses.replace(data, **self.on_mesh(self.coarse_term())),
            coarse_mesh=self.coarse_mesh,
            at=self.at,
            **self.on_mesh(self.mesh_term(settings.mesh, settings.kpoints, self.ao_memory_mb)),
        )
        return data

    def mesh_term(
        self, shape: tuple[int, int, int], points: KPoints, ao_memory_mb: float
    ) -> MeshTerm:
        """Energies on a mesh."""
        cell = self.settings.cell
        mesh = make_mesh(cell, shape, self.device)
        local = torch.from_numpy(local_potential(cell, shape)).to(self.device)
        values = BlochValues(
            cell,
            points,
            shape,
            deriv=0 if self.functional.kind == "LDA" else 1,
            memory_mb=ao_memory_mb,
            device=self.device,
        )
        weights = torch.from_numpy(points.weights).to(self.device)
        potentials: list[Potential] = [
            LocalPotential("local", mesh, local),
            Hartree(mesh),
            Semilocal(mesh, self.functional),
        ]
        return MeshTerm(values, weights, mesh, potentials)

    def coarse_term(self) -> MeshTerm:
        """Energies on the coarse mesh; its AO values are made once."""
        if self._coarse is None:
            points = self.settings.kpoints
            self._coarse = self.mesh_term(self.coarse_mesh, points, self.ao_memory_mb)
        return self._coarse

    def on_mesh(self, term: MeshTerm) -> dict[str, Any]:
        """Fields of the data that depend on the mesh."""
        return {
            "mesh": term.mesh,
            "mesh_term": term,
            "rho_guess": lambda: starting_rows(self.settings, term.mesh, term.nvar),
        }

    def fixed(self, points: KPoints) -> BlochOperator:
        """Kinetic energy and non-local pseudopotentials."""
        return fixed_operator(self.settings.cell, self.settings.mesh, points, self.device)

    def step_coulomb(self) -> CoulombOnMesh:
        """Coulomb matrices on the coarse mesh."""
        term = self.coarse_term()
        rho_guess = lambda: starting_rows(self.settings, term.mesh, 1)  # noqa: E731
        return CoulombOnMesh(term.grid, self.weights, term.mesh, rho_guess)

    def at(self, scaled: Sequence[Sequence[float]]) -> Elsewhere:
        """Matrices at other k-points."""
        fractions = np.asarray(scaled, dtype=float).reshape(-1, 3)
        points = KPoints(scaled=fractions, weights=np.full(len(fractions), 1 / len(fractions)))
        return Elsewhere(
            ovlp=overlap(self.settings.cell, points, self.device).to(torch.complex128),
            fixed=self.fixed(points).to(torch.complex128),
            mesh_term=self.mesh_term(self.settings.mesh, points, 0.0),
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
    density = superposed_density(settings.cell, mesh.shape, settings.spin_shares())
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
