"""Derivatives of the superposed atoms and their clouds (:mod:`.atomic_clouds`) along the atoms.

Every cloud sits on an atom, so that two derivatives of a three-centre integral, those of its
orbitals, give the third: nothing changes where all three move together.
"""

import functools

import numpy as np
import torch
from jaxtyping import Float
from pyscf import df, gto, scf
from pyscf.scf import hf
from torch import Tensor

from deeph_zero.integrals.atomic_clouds import (
    SPLIT,
    atoms_of,
    gaussians,
    screening_clouds,
    units_of,
)
from deeph_zero.integrals.atomic_potentials import screening_functions
from deeph_zero.integrals.free_atoms import background_potential
from deeph_zero.integrals.one_electron import as_tensor
from deeph_zero.ks.multipoles import AtomicClouds


class MovingOrbitals:
    """The overlap and the core Hamiltonian as one atom moves."""

    def __init__(self, mol: gto.Mole) -> None:
        """Compute what all atoms share.

        Args:
            mol: Built molecule.
        """
        self._mol = mol
        self._slices = [slice(*one[2:]) for one in mol.aoslice_by_atom()]
        self._core = scf.RHF(mol).nuc_grad_method().hcore_generator(mol)
        self._overlap = mol.intor("int1e_ipovlp", comp=3)

    def ovlp(self, atom: int) -> Float[Tensor, "3 nao nao"]:
        """dS, 1/bohr."""
        return self._along(self._overlap, atom)

    def hcore(self, atom: int) -> Float[Tensor, "3 nao nao"]:
        """d(T + V), core potentials included, Eh/bohr."""
        return as_tensor(self._core(atom))

    def _along(self, nabla: np.ndarray, atom: int, *, centre: bool = False) -> Tensor:
        """From <∇m|o|n>; ``centre``: whether the operator sits on the atom and goes along."""
        own = self._slices[atom]
        out = np.array(nabla) if centre else np.zeros_like(nabla)
        out[..., own, :] -= nabla[..., own, :]
        return as_tensor(out + out.swapaxes(-1, -2))


class MovingScreenedCore(MovingOrbitals):
    """The base of ``geometry`` models of version 0.1, see :mod:`.atomic_potentials`."""

    def __init__(self, mol: gto.Mole) -> None:
        """Compute what all atoms share.

        Args:
            mol: Built molecule.
        """
        super().__init__(mol)
        self._potentials = {
            k: _nabla(mol, gto.fakemol_for_cgtf_charge(mol.atom_coord(k)[None], *functions))[..., 0]
            for k, functions in screening_functions(mol).items()
        }
        self._sum = sum(self._potentials.values(), np.zeros_like(self._overlap))

    def bare(self, atom: int) -> Float[Tensor, "3 nao nao"]:
        """Derivative of :func:`~deeph_zero.integrals.atomic_potentials.screened_core`, Eh/bohr."""
        moved = self.hcore(atom) + self._along(self._sum, atom)
        if atom in self._potentials:
            nabla = self._potentials[atom]
            moved = moved + as_tensor(nabla + nabla.swapaxes(-1, -2))
        return moved


class MovingClouds(MovingOrbitals):
    """Superposed atoms, and the clouds of their charges and dipoles."""

    def __init__(self, mol: gto.Mole) -> None:
        """Compute what all atoms share.

        Args:
            mol: Built molecule.

        Raises:
            InputError: If an element has no natural atomic orbitals.
        """
        super().__init__(mol)
        atoms = atoms_of(mol)
        self._free = {
            k: _nabla(mol, cloud)[..., 0] for k, cloud in screening_clouds(mol, atoms).items()
        }
        self._sum = sum(self._free.values(), np.zeros_like(self._overlap))
        charges = gaussians(mol, atoms, dipoles=False)
        unit = units_of(charges)
        with mol.with_range_coulomb(-SPLIT), charges.with_range_coulomb(-SPLIT):
            self._three = np.moveaxis(_nabla(mol, charges) / unit, -1, 0)
            self._near = charges.intor("int2c2e_ip1", comp=3) / unit / unit[:, None]
            self._of_free = _of_free(mol, charges) / unit[:, None]
        clouds = gaussians(mol, atoms, dipoles=True)
        unit = units_of(clouds)
        with mol.with_range_coulomb(SPLIT), clouds.with_range_coulomb(SPLIT):
            self._far = clouds.intor("int2c2e_ip1", comp=3) / unit / unit[:, None]
            self._of_far = np.moveaxis(_nabla(mol, clouds) / unit, -1, 0)
        with mol.with_common_orig((0.0, 0.0, 0.0)):
            # <∇m| r |n> by ∇, then r: the transposed of <m| r ∇ |n>
            position = mol.intor("int1e_irp", comp=9)
        nao = position.shape[-1]
        self._position = position.reshape(3, 3, nao, nao).transpose(1, 0, 3, 2)
        self._owner = np.repeat(np.arange(mol.natm), [own.stop - own.start for own in self._slices])
        self._nuclei = mol.atom_charges() > 0

    def bare(self, atom: int) -> Float[Tensor, "3 nao nao"]:
        """Derivative of :func:`~deeph_zero.integrals.atomic_clouds.superposed_atoms`, Eh/bohr."""
        moved = self.hcore(atom) + background_potential() * self.ovlp(atom)
        moved = moved + self._along(self._sum, atom)
        if atom in self._free:
            nabla = self._free[atom]
            moved = moved + as_tensor(nabla + nabla.swapaxes(-1, -2))
        return moved

    def clouds(self, atom: int) -> list[AtomicClouds]:
        """Derivatives of :func:`~deeph_zero.integrals.atomic_clouds.atomic_clouds`.

        Args:
            atom: The one that moves.

        Returns:
            For x, y and z what :class:`~deeph_zero.ks.moving_multipoles.MovingScreened` takes.
        """
        ovlp = self.ovlp(atom)
        three = torch.stack(
            [self._along(nabla, atom, centre=k == atom) for k, nabla in enumerate(self._three)], 1
        )
        near = _between(self._near, np.arange(len(self._three)) == atom)
        far = _between(self._far, np.arange(self._far.shape[-1]) // 4 == atom)
        free = np.zeros(self._of_free.shape[:2])
        free[:, atom] -= self._of_free[:, atom].sum(-1)
        free += self._of_free[:, :, atom]
        dipole = self._dipole(atom, ovlp)
        return [
            AtomicClouds(
                three_centre=three[x],
                near=near[x],
                far=far[x],
                ovlp=ovlp[x],
                dipole=dipole[x],
                ao_atoms=torch.from_numpy(self._owner),
                electrons=torch.zeros(len(self._three), dtype=torch.float64),
                free=as_tensor(free[x]),
                far_field=functools.partial(self._far_field, atom, x),
            )
            for x in range(3)
        ]

    def _dipole(self, atom: int, ovlp: Tensor) -> Float[Tensor, "3 3 nao nao"]:
        """Derivatives of dipoles about the middle of two orbitals, by motion and component."""
        moved = torch.stack([self._along(part, atom) for part in self._position])
        places = self._mol.atom_coords()[self._owner]
        middle = as_tensor(0.5 * (places[:, None] + places[None]).transpose(2, 0, 1))
        own = as_tensor(0.5 * (self._owner == atom))
        shift = as_tensor(hf.get_ovlp(self._mol)) * (own[:, None] + own)
        moved = moved - ovlp.unsqueeze(1) * middle
        for x in range(3):
            moved[x, x] -= shift
        return moved

    def _far_field(self, atom: int, x: int, moments: Tensor) -> Tensor:
        """The far field of fixed charges and dipoles as an atom with its clouds moves along x."""
        weights = moments.numpy()
        own = slice(4 * atom, 4 * atom + 4)
        everything = np.tensordot(weights, self._of_far[:, x], 1)
        mine = np.tensordot(weights[own], self._of_far[own, x], 1)
        return self._along(everything, atom) + as_tensor(mine + mine.T)


def _nabla(mol: gto.Mole, clouds: gto.Mole) -> Float[np.ndarray, "3 nao nao ncloud"]:
    """(∇m n| cloud)."""
    found = df.incore.aux_e2(mol, clouds, intor="int3c2e_ip1", aosym="s1", comp=3)
    return np.asarray(found)


def _of_free(mol: gto.Mole, charges: gto.Mole) -> Float[np.ndarray, "3 natm natm"]:
    """(∇ cloud| density of a free atom), with the operator set in ``charges``."""
    out = np.zeros((3, mol.natm, mol.natm))
    for k, atom in enumerate(atoms_of(mol)):
        if mol.atom_charge(k) > 0:
            one = gto.fakemol_for_cgtf_charge(
                mol.atom_coord(k)[None], atom.exponents, atom.electrons
            )
            out[:, :, k] = gto.intor_cross("int2c2e_ip1", charges, one, comp=3)[..., 0]
    return out


def _between(nabla: np.ndarray, own: np.ndarray) -> Float[Tensor, "3 n n"]:
    """Derivatives of (cloud|cloud) from (∇ cloud|cloud), which depend on differences alone."""
    moved = -nabla * own[:, None]
    return as_tensor(moved + moved.swapaxes(-1, -2))
