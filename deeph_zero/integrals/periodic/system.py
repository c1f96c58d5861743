"""Everything of one crystal as ``CrystalData``: the entrance from PySCF."""

import functools
import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pyscf.pbc import tools
from pyscf.pbc.gto import Cell
from pyscf.pbc.scf import hf
from torch import Tensor

from deeph_zero.errors import InputError, argument
from deeph_zero.integrals.libxc import describe, make_functional
from deeph_zero.integrals.one_electron import lindep_threshold
from deeph_zero.integrals.periodic.bloch_values import BlochValues
from deeph_zero.integrals.periodic.calculation import CrystalCalculation
from deeph_zero.integrals.periodic.exchange import (
    PairMaker,
    fractions,
    has_exchange,
    mirror_mesh,
    probe_charge,
    whole_mesh,
)
from deeph_zero.integrals.periodic.fitted import (
    FittedExchange,
    Fitting,
    fitted_coulomb,
    fixed_by_fitting,
    points_of,
)
from deeph_zero.integrals.periodic.guess import atomic_matrices, superposed_density
from deeph_zero.integrals.periodic.kpoints import KPoints
from deeph_zero.integrals.periodic.pseudopotential import local_potential, nonlocal_potential
from deeph_zero.integrals.periodic.superposition import possible_kinetic
from deeph_zero.integrals.two_electron import available_memory_mb
from deeph_zero.ks.periodic.data import CrystalData, Elsewhere
from deeph_zero.ks.periodic.exchange import Exchange, FourierExchange, WithProbeCharge
from deeph_zero.ks.periodic.grid import BlochGrid
from deeph_zero.ks.periodic.mesh import Mesh, half_spectrum
from deeph_zero.ks.periodic.orthogonalise import check_overlap
from deeph_zero.ks.periodic.step_coulomb import CoulombOnMesh
from deeph_zero.ks.periodic.terms.constant import Constant
from deeph_zero.ks.periodic.terms.exchange import ExchangeTerm
from deeph_zero.ks.periodic.terms.fitted_coulomb import FittedCoulomb
from deeph_zero.ks.periodic.terms.fixed_operator import FixedOperator
from deeph_zero.ks.periodic.terms.hartree import Hartree
from deeph_zero.ks.periodic.terms.local import LocalPotential
from deeph_zero.ks.periodic.terms.on_mesh import MeshTerm
from deeph_zero.ks.periodic.terms.potential import Potential
from deeph_zero.ks.periodic.terms.semilocal import Semilocal
from deeph_zero.ks.periodic.types import BlochMatrix, BlochOperator, MeshRows
from deeph_zero.ks.terms.term import Term

AO_MEMORY_MB = 2000.0
"""AO values kept, unless the caller says otherwise."""
_MOST_POINTS = 40_000
"""PySCF's lattice sums end the process with a hundred thousand."""
_MATRICES = 8
"""Matrices of every k-point that an SCF has at a time, at least."""

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
        engine: Engine of the functional, see :func:`deeph_zero.integrals.libxc.make_functional`.

    Returns:
        The data.

    Raises:
        InputError: If S(k) is singular somewhere.
    """
    maker = _Maker(settings, device, ao_memory_mb, engine)
    return maker.data() if settings.fitting is None else maker.fitted(settings.fitting)


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
        self.functional = make_functional(spec, unrestricted=two, engine=engine)  # pyright: ignore
        self.hybrid = has_exchange(spec)
        self.weights = torch.from_numpy(settings.kpoints.weights).to(device)
        self.coarse_mesh = coarse_shape(settings.mesh)
        self.origins, self.whole = whole_mesh(settings.kpoints)
        real = torch.from_numpy(settings.kpoints.self_conjugate).to(device)
        self.real = None if settings.kpoints.partners is None else real
        self._coarse: tuple[MeshTerm, Mesh] | None = None

    def common(self) -> dict[str, Any]:
        """Fields of the data that depend on no grid."""
        settings = self.settings
        return {
            "ovlp": checked_overlap(settings.cell, settings.kpoints, self.device),
            "weights": self.weights,
            "constant": Constant("ewald", float(settings.cell.enuc)),
            "nelec": settings.nelec,
            "unrestricted": settings.unrestricted,
            "lindep_threshold": lindep_threshold(),
            "exxdiv": settings.exxdiv if self.hybrid else None,
        }

    def data(self) -> CrystalData:
        """On the mesh asked for."""
        points, mesh = self.settings.kpoints, self.settings.mesh
        common = self.common()  # first: it refuses a singular basis
        fixed = FixedOperator("kinetic_nonlocal", self.fixed(points), self.weights)
        fine, coarse = math.prod(mesh), math.prod(self.coarse_mesh)
        share = self.ao_memory_mb * fine / (fine + coarse)  # both meshes together
        fields = common | {
            "fixed": fixed,
            "step_coulomb": self.step_coulomb,
            "coarse_mesh": self.coarse_mesh,
            "at": self.at,
        }
        fields["coarse"] = functools.partial(self._on_coarse_mesh, fields)  # no lambda: pickled
        return CrystalData(**fields, **self.on_mesh(*self.mesh_term(mesh, points, share)))

    def _on_coarse_mesh(self, fields: dict[str, Any]) -> CrystalData:
        """The data with the coarse mesh in place of the other."""
        return CrystalData(**fields, **self.on_mesh(*self.coarse_term()))

    def fitted(self, fitting: Fitting) -> CrystalData:
        """By Gaussian density fitting, exchange and correlation on atom-centred points."""
        points = self.settings.kpoints
        common = self.common()
        core = _matrices(fixed_by_fitting(fitting, points), points, self.device)
        pairs = any(omega == 0 for omega, _ in fractions(self.settings.spec))
        coulomb = fitted_coulomb(fitting, points, self.weights, real=points.real, pairs=pairs)
        where, weight = points_of(fitting)
        weight = weight.to(self.device)
        values = self.values(points, where, self.ao_memory_mb)
        own: list[Potential] = []
        if self.functional is not None:
            own.append(Semilocal(weight, self.functional))
        further: list[Term] = [coulomb]
        if self.hybrid:
            made = FittedExchange(fitting, self.settings.spec, self.settings.exxdiv, points)
            further.append(ExchangeTerm(made, self.weights, self.real))
        return CrystalData(
            **common,
            mesh=None,
            mesh_term=MeshTerm(values, self.weights, weight, own),
            fixed=FixedOperator("core", core, self.weights),
            rho_guess=None,
            dm_guess=functools.partial(self._atomic_density, points),
            step_coulomb=functools.partial(_same, coulomb),
            coarse=None,
            coarse_mesh=self.coarse_mesh,
            at=None,
            further=tuple(further),
        )

    def _atomic_density(self, points: KPoints) -> BlochMatrix:
        """Superposed atoms."""
        found = atomic_matrices(self.settings.cell, self.settings.spin_shares(), points.scaled)
        return _matrices(found, points, self.device)

    def values(self, points: KPoints, where: np.ndarray, ao_memory_mb: float) -> BlochValues:
        """AO values, with gradients where the functional, or the start, wants them."""
        plain = self.functional is None or self.functional.kind == "LDA"
        return BlochValues(
            self.settings.cell,
            points,
            where,
            deriv=0 if plain else 1,
            memory_mb=ao_memory_mb,
            device=self.device,
        )

    def mesh_term(
        self, shape: tuple[int, int, int], points: KPoints, ao_memory_mb: float
    ) -> tuple[MeshTerm, Mesh]:
        """Energies on a mesh."""
        cell = self.settings.cell
        mesh = make_mesh(cell, shape, self.device)
        local = torch.from_numpy(local_potential(cell, shape)).to(self.device)
        values = self.values(points, cell.get_uniform_grids(shape), ao_memory_mb)
        weights = torch.from_numpy(points.weights).to(self.device)
        potentials: list[Potential] = [LocalPotential("local", mesh, local), Hartree(mesh)]
        if self.functional is not None:
            potentials.append(Semilocal(mesh.weight, self.functional))
        return MeshTerm(values, weights, mesh.weight, potentials), mesh

    def coarse_term(self) -> tuple[MeshTerm, Mesh]:
        """Energies on the coarse mesh; its AO values are made once."""
        if self._coarse is None:
            points = self.settings.kpoints
            self._coarse = self.mesh_term(self.coarse_mesh, points, self.ao_memory_mb)
        return self._coarse

    def on_mesh(self, term: MeshTerm, mesh: Mesh) -> dict[str, Any]:
        """Fields of the data that depend on the mesh."""
        fields: dict[str, Any] = {
            "mesh": mesh,
            "mesh_term": term,
            "rho_guess": functools.partial(starting_rows, self.settings, mesh, term.nvar),
        }
        if not self.hybrid:
            return fields
        exchange = self.exchange(term.grid, mesh, self.settings.kpoints.scaled)
        return fields | {"further": (exchange,), "start_term": self.start_term(term, mesh)}

    def start_term(self, term: MeshTerm, mesh: Mesh) -> MeshTerm:
        """What superposed atoms are seen with in place of exact exchange, which has no density."""
        spec = describe("lda,vwn" if self.functional is None or term.nvar == 1 else "pbe")
        functional = make_functional(spec, unrestricted=self.settings.unrestricted)
        assert functional is not None
        own = [p for p in term.potentials if not isinstance(p, Semilocal)]
        potentials = [*own, Semilocal(mesh.weight, functional)]
        return MeshTerm(term.grid, self.weights, mesh.weight, potentials)

    def exchange(
        self, target: BlochGrid, mesh: Mesh, scaled: np.ndarray, source: BlochGrid | None = None
    ) -> ExchangeTerm:
        """Exact exchange at k-points, those of the density matrices or others."""
        settings = self.settings
        apart = settings.probe_apart and source is None
        partners, mirror = settings.kpoints.partners, mirror_mesh(settings.kpoints)
        both = None
        if source is None and partners is not None and mirror is not None:
            both = partners, mirror
        pair = PairMaker(
            settings.cell,
            (settings.spec, settings.exxdiv, apart),
            mesh.shape,
            targets=scaled,
            whole=self.whole,
            device=self.device,
            mirrored=both,
        )
        own = target if source is None else source
        made: Exchange = FourierExchange(target, own, self.origins, pair, mesh.weight)
        if apart:
            plain = _integral(settings.cell, "int1e_ovlp", settings.kpoints)  # PySCF's, not tight
            ovlp = _matrices(plain, settings.kpoints, self.device)
            constant = probe_charge(settings.cell, settings.spec, self.whole)
            made = WithProbeCharge(made, constant, ovlp)
        return ExchangeTerm(made, self.weights, self.real)

    def fixed(self, points: KPoints) -> BlochOperator:
        """Kinetic energy and non-local pseudopotentials."""
        return fixed_operator(self.settings.cell, self.settings.mesh, points, self.device)

    def step_coulomb(self) -> CoulombOnMesh:
        """Coulomb matrices on the coarse mesh."""
        term, mesh = self.coarse_term()
        rho_guess = functools.partial(starting_rows, self.settings, mesh, 1)
        return CoulombOnMesh(term.grid, self.weights, mesh, rho_guess)

    def at(self, scaled: Sequence[Sequence[float]]) -> Elsewhere:
        """Matrices at other k-points."""
        fractions = np.asarray(scaled, dtype=float).reshape(-1, 3)
        points = KPoints(scaled=fractions, weights=np.full(len(fractions), 1 / len(fractions)))
        term, mesh = self.mesh_term(self.settings.mesh, points, 0.0)
        exchange = None
        if self.hybrid:
            where = self.settings.cell.get_uniform_grids(self.settings.mesh)
            own = self.values(self.settings.kpoints, where, 0.0)
            exchange = self.exchange(term.grid, mesh, fractions, own)
        return Elsewhere(
            ovlp=overlap(self.settings.cell, points, self.device).to(torch.complex128),
            fixed=self.fixed(points).to(torch.complex128),
            mesh_term=term,
            exchange=exchange,
        )


def _same(term: FittedCoulomb) -> FittedCoulomb:
    return term


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


_REMEMBERED = 2**26
"""Bytes of S(k) that checks before a batch keep for its layers."""
_checked: dict[bytes, BlochOperator] = {}


def checked_overlap(
    cell: Cell, kpoints: KPoints, device: torch.device | str, *, remember: bool = False
) -> BlochOperator:
    """S(k), refused where the basis is linearly dependent.

    Args:
        cell: The crystal.
        kpoints: Where.
        device: Where the tensors live.
        remember: Keep it for the next call, which is that of the crystal's layer.

    Returns:
        The matrices.

    Raises:
        InputError: If an eigenvalue is too small; the line names it and its k. Or if there is no
            memory for matrices at so many points.
    """
    _check_room(int(cell.nao_nr()), kpoints)
    key = _key(cell, kpoints)
    found = _checked.pop(key, None)
    if found is None:
        found = check_overlap(overlap(cell, kpoints, device), kpoints.scaled.tolist())
    if remember and found.nbytes + sum(x.nbytes for x in _checked.values()) <= _REMEMBERED:
        _checked[key] = found
    return found.to(device)


def _key(cell: Cell, kpoints: KPoints) -> bytes:
    """What an overlap depends on."""
    found = hashlib.sha256()
    points = [kpoints.scaled, kpoints.real]
    parts: list[Any] = [*points, cell.lattice_vectors(), cell.dimension]
    parts += [cell.precision, cell.cart]
    for k in range(cell.nbas):
        parts += [cell.bas_angular(k), cell.bas_coord(k), cell.bas_exp(k), cell.bas_ctr_coeff(k)]
    for part in parts:
        found.update(np.ascontiguousarray(part, dtype=float).tobytes())
    return found.digest()


def _check_room(nao: int, kpoints: KPoints) -> None:
    """Refuse points whose matrices alone are more than the memory."""
    nk = len(kpoints.scaled)
    needed = _MATRICES * nk * nao**2 * (8 if kpoints.real else 16) / 1e6
    free = available_memory_mb()
    if nk > _MOST_POINTS:
        raise InputError(
            f"expected at most {_MOST_POINTS} k-points (one of k and -k) for an SCF, got {nk}; use "
            f"a coarser {argument('kmesh')}"
        )
    if needed > free:
        raise InputError(
            f"expected matrices of {nk} k-points and {nao} functions within {free:.0f} MB, they "
            f"take {needed:.0f} MB; use a coarser {argument('kmesh')} or fewer functions"
        )


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
    shares, device = settings.spin_shares(), mesh.kernel.device
    rho = torch.from_numpy(superposed_density(settings.cell, mesh.shape, shares)).to(device)
    total = rho.sum() * mesh.weight
    rho = rho * (sum(settings.nelec) / total)
    if nvar == 1:
        return rho.unsqueeze(1)
    gradient = mesh.gradient(rho)
    rows = torch.cat([rho.unsqueeze(1), gradient], 1)
    if nvar == 4:
        return rows
    kinetic = superposed_density(settings.cell, mesh.shape, shares, "kinetic")
    tau = torch.from_numpy(kinetic).to(device) * (sum(settings.nelec) / total)
    return torch.cat([rows, possible_kinetic(rows, tau)], 1)


def _integral(cell: Cell, name: str, kpoints: KPoints) -> np.ndarray:
    return np.asarray(cell.pbc_intor(name, hermi=1, kpts=kpoints.absolute(cell)))


def _matrices(array: Any, kpoints: KPoints, device: torch.device | str) -> Tensor:
    """Complex matrices [..., nk, nao, nao]; real ones where all points are like Γ."""
    array = np.asarray(array)
    array = array.real if kpoints.real else array.astype(complex)
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
