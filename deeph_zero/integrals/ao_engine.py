"""AO values of chosen shells on grid points: libcint on the CPU, or torch on the grid's device."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pyscf import gto, lib
from pyscf.dft import numint
from torch import Tensor

from deeph_zero.ao.extent import reaching_shells, shell_extents
from deeph_zero.ao.values import N_COMPONENTS, AOBasis, Shell, ao_rows
from deeph_zero.integrals.ao_shells import ao_shells
from deeph_zero.ks.parallel.sharing import working_alone

# ruff: noqa: SLF001  a molecule with fewer shells is one with fewer rows of PySCF's _bas

AOEngineName = Literal["auto", "libcint", "torch"]
Shells = Bool[np.ndarray, " nshell"]


@runtime_checkable
class AOEngine(Protocol):
    """Evaluates AOs on the points of one grid."""

    def rows(self, points: slice, shells: Shells) -> Float[Tensor, "ncomp nao npoints"]:
        """Values (and derivatives) of the AOs of some shells, in AO order, on the grid's device."""
        ...


class LibcintAO:
    """PySCF's libcint on the CPU; the faster one there."""

    def __init__(
        self, mol: gto.Mole, coords: np.ndarray, deriv: int, device: torch.device | str
    ) -> None:
        """Nothing is evaluated yet.

        Args:
            mol: Built molecule.
            coords: Grid points, bohr, [ngrids, 3].
            deriv: Highest derivative.
            device: Where values are copied to.
        """
        self._mol = mol
        self._coords = coords
        self._deriv = deriv
        self._device = torch.device(device)

    def rows(self, points: slice, shells: Shells) -> Float[Tensor, "ncomp nao npoints"]:
        """See :class:`AOEngine`."""
        coords = self._coords[points]
        ncomp = N_COMPONENTS[self._deriv]
        if not shells.any():
            return torch.zeros(ncomp, 0, len(coords), dtype=torch.float64, device=self._device)
        mol = self._mol
        if not shells.all():
            mol = mol.copy(deep=False)
            mol._bas = mol._bas[shells]
        with lib.with_omp_threads(1 if working_alone() else None):
            ao = numint.eval_ao(mol, coords, deriv=self._deriv).reshape(ncomp, len(coords), -1)
        return torch.from_numpy(ao.transpose(0, 2, 1)).to(self._device)


class TorchAO:
    """The package's own evaluation: coordinates go to the device once, values never leave it.

    Stacks of blocks are made by :mod:`.ao_stacks`; then nothing is copied here.
    """

    def __init__(
        self,
        basis: AOBasis,
        centres: np.ndarray,
        coords: np.ndarray,
        deriv: int,
        device: torch.device | str,
    ) -> None:
        """Nothing is copied or evaluated yet.

        Args:
            basis: All shells.
            centres: Their centres, bohr, [natm, 3].
            coords: Grid points, bohr, [ngrids, 3].
            deriv: Highest derivative.
            device: Where values are made.
        """
        self._basis = basis
        self._given = centres, coords
        self._device = device
        self._deriv = deriv
        self._parts: dict[bytes, AOBasis] = {}

    @functools.cached_property
    def _centres(self) -> Tensor:
        return torch.as_tensor(self._given[0], dtype=torch.float64).to(self._device)

    @functools.cached_property
    def _points(self) -> Tensor:
        return torch.as_tensor(self._given[1], dtype=torch.float64).to(self._device)

    def rows(self, points: slice, shells: Shells) -> Float[Tensor, "ncomp nao npoints"]:
        """See :class:`AOEngine`."""
        key = np.packbits(shells).tobytes()
        if key not in self._parts:  # shells of a block go to the device once
            part = self._basis.select(torch.from_numpy(shells))
            self._parts[key] = part.to(self._points.device)
        return ao_rows(self._parts[key], self._centres, self._points[points], self._deriv)


def make_engine(
    name: AOEngineName,
    mol: gto.Mole,
    basis: AOBasis,
    coords: np.ndarray,
    *,
    deriv: int,
    device: torch.device | str,
) -> AOEngine:
    """The engine of this name.

    Args:
        name: "libcint", "torch", or "auto": libcint for the CPU, torch for any other device.
        mol: Built molecule.
        basis: Its shells.
        coords: Grid points, bohr.
        deriv: Highest derivative.
        device: Where values go.

    Returns:
        An engine for these points.
    """
    if name == "libcint" or (name == "auto" and torch.device(device).type == "cpu"):
        return LibcintAO(mol, coords, deriv, device)
    return TorchAO(basis, mol.atom_coords(), coords, deriv, device)


@functools.lru_cache(maxsize=64)
def _extents(
    key: tuple[tuple[int, tuple[float, ...], tuple[tuple[float, ...], ...]], ...],
    cart: bool,
    cutoff: float,
    deriv: int,
) -> Float[Tensor, " nshell"]:
    """Reach of shells given by l, exponents and coefficients: the same for every geometry."""
    shells = [Shell(atom=0, l=l, exponents=e, coefficients=c) for l, e, c in key]
    return shell_extents(AOBasis.from_shells(shells, cart=cart), cutoff, deriv)


@dataclasses.dataclass(frozen=True)
class ShellReach:
    """Which shells may reach a block of grid points.

    Attributes:
        basis: All shells, on the CPU.
        sizes: AOs of each shell, by shell number.
        extents: Distance beyond which a shell is below the cutoff, bohr.
        centres: Atoms, bohr.
    """

    basis: AOBasis
    sizes: Int[np.ndarray, " nshell"]
    extents: Float[Tensor, " nshell"]
    centres: Float[np.ndarray, "natm 3"]

    @classmethod
    def of(cls, mol: gto.Mole, cutoff: float, deriv: int) -> "ShellReach":
        """For the shells of a molecule.

        Args:
            mol: Built molecule.
            cutoff: What a shell's values and derivatives have to exceed somewhere.
            deriv: Highest derivative, 0, 1 or 2.

        Returns:
            The reach of every shell.
        """
        shells = ao_shells(mol)
        basis = AOBasis.from_shells(shells, cart=bool(mol.cart))
        key = tuple((s.l, tuple(s.exponents), tuple(map(tuple, s.coefficients))) for s in shells)
        extents = _extents(key, bool(mol.cart), cutoff, deriv)
        return cls(basis, np.diff(mol.ao_loc_nr()), extents, mol.atom_coords())

    def shells(
        self, coords: np.ndarray, bounds: Sequence[int]
    ) -> Bool[np.ndarray, "nblocks nshell"]:
        """One row per block; block k holds the points ``bounds[k]`` to ``bounds[k + 1]``."""
        atoms, points = torch.from_numpy(self.centres), torch.from_numpy(coords)
        return reaching_shells(self.basis, self.extents, atoms, points, bounds).numpy()

    def cost(self, coords: np.ndarray, bounds: Sequence[int]) -> float:
        """Sum over blocks of the squared number of AOs: what a Fock build takes per point."""
        return float(np.square(self.shells(coords, bounds) @ self.sizes).sum())
