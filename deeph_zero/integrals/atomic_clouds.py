"""Integrals of one s and one p Gaussian per atom: what carries charge transfer in a molecule."""

import functools

import numpy as np
import torch
from jaxtyping import Float
from pyscf import df, gto, lib
from pyscf.scf import hf
from torch import Tensor

from deeph_zero.integrals.free_atoms import FreeAtom, background_potential, free_atom_clouds
from deeph_zero.integrals.one_electron import as_tensor
from deeph_zero.ks.multipoles import AtomicClouds

DIPOLE_WIDTH = 0.6
"""Exponent of an atom's p Gaussian for one of its s Gaussian; 0.35 to 1 serve alike."""

_NUMBERS_AT_ONCE = 2**25
"""Integrals in memory together."""

SPLIT = 0.2
"""ω (1/bohr) of the two parts of the Coulomb operator: beyond 10 bohr all of it is far field."""


def superposed_atoms(mol: gto.Mole, hcore: Tensor | None = None) -> Float[Tensor, "nao nao"]:
    """T + V (+ ECP) plus the potentials of the electrons of neutral free atoms.

    Coulomb potentials of spherical atoms add up exactly; exchange is what each atom adds to a
    uniform background (:mod:`.free_atoms`), whose own potential is included. It is a fixed
    one-electron operator: no grid, exact under rotation.

    Args:
        mol: Built molecule.
        hcore: T + V (+ ECP) where it exists already, Eh.

    Returns:
        The matrix in PySCF's AO order, Eh, float64 on the CPU.

    Raises:
        InputError: If an element has no natural atomic orbitals.
    """
    matrix = as_tensor(hf.get_hcore(mol)) if hcore is None else hcore.cpu()
    atoms = atoms_of(mol)
    # the exchange potential of the uniform background
    matrix = matrix + background_potential() * as_tensor(hf.get_ovlp(mol))
    shells = list(screening_clouds(mol, atoms).values())
    if not shells:
        return matrix
    potential = np.zeros(int(mol.nao_nr()) * (int(mol.nao_nr()) + 1) // 2)
    at_once = max(1, _NUMBERS_AT_ONCE // len(potential))
    for k in range(0, len(shells), at_once):
        some = functools.reduce(gto.conc_mol, shells[k : k + at_once])
        potential += df.incore.aux_e2(mol, some, intor="int3c2e", aosym="s2ij").sum(-1)
    return matrix + as_tensor(lib.unpack_tril(potential))


def atomic_clouds(mol: gto.Mole, *, dipoles: bool = True) -> AtomicClouds:
    """One charge cloud per atom, and three dipole clouds, with their integrals.

    Args:
        mol: Built molecule.
        dipoles: Whether there are p Gaussians.

    Returns:
        Everything :func:`~deeph_zero.ks.multipoles.screened` needs; ghost atoms have clouds, but
        no electrons of their own.

    Raises:
        InputError: If an element has no natural atomic orbitals.
    """
    atoms = atoms_of(mol)
    charges = gaussians(mol, atoms, dipoles=False)
    unit = units_of(charges)
    with mol.with_range_coulomb(-SPLIT), charges.with_range_coulomb(-SPLIT):
        three = df.incore.aux_e2(mol, charges, intor="int3c2e", aosym="s2ij") / unit
        near = charges.intor("int2c2e") / unit / unit[:, None]
        free = _free(mol, atoms, charges) / unit
    multipoles = gaussians(mol, atoms, dipoles=dipoles)
    unit = units_of(multipoles)
    with multipoles.with_range_coulomb(SPLIT):
        far = multipoles.intor("int2c2e") / unit / unit[:, None]
    own = np.concatenate([[k] * (b - a) for k, (_, _, a, b) in enumerate(mol.aoslice_by_atom())])
    places = mol.atom_coords()[own.astype(int)]
    middle = 0.5 * (places[:, None] + places[None]).transpose(2, 0, 1)
    ovlp = np.asarray(hf.get_ovlp(mol))
    return AtomicClouds(
        three_centre=as_tensor(lib.unpack_tril(np.ascontiguousarray(three.T))),
        near=as_tensor(near),
        far=as_tensor(far),
        ovlp=as_tensor(ovlp),
        # dipoles of products of orbitals about the middle of their centres
        dipole=as_tensor(mol.intor_symmetric("int1e_r", comp=3) - ovlp * middle),
        ao_atoms=torch.from_numpy(own.astype(np.int64)),
        electrons=as_tensor(_electrons(mol, atoms)),
        free=as_tensor(free),
        far_field=functools.partial(_far_field, mol, multipoles, unit),
    )


def _far_field(
    mol: gto.Mole, clouds: gto.Mole, unit: Float[np.ndarray, " ncloud"], moments: Tensor
) -> Tensor:
    """Potential of charges and dipoles with erf(ωr)/r, a part of the integrals at a time."""
    weights = moments.cpu().numpy() / unit
    nao = int(mol.nao_nr())
    potential = np.zeros(nao * (nao + 1) // 2)
    at_once = max(1, _NUMBERS_AT_ONCE // (3 * len(potential)))
    first = clouds.ao_loc_nr()
    with mol.with_range_coulomb(SPLIT), clouds.with_range_coulomb(SPLIT):
        for k in range(0, clouds.nbas, at_once):
            end = min(k + at_once, clouds.nbas)
            part = (0, mol.nbas, 0, mol.nbas, k, end)
            three = df.incore.aux_e2(mol, clouds, intor="int3c2e", aosym="s2ij", shls_slice=part)
            potential += three @ weights[first[k] : first[end]]
    return as_tensor(lib.unpack_tril(potential))


def atoms_of(mol: gto.Mole) -> list[FreeAtom]:
    """The free atom of every atom; of a ghost its element's.

    Args:
        mol: Built molecule.

    Returns:
        One for each.

    Raises:
        InputError: If an element has no natural atomic orbitals.
    """
    element = gto.mole._std_symbol_without_ghost  # noqa: SLF001
    return [
        free_atom_clouds(element(mol.atom_symbol(k)), int(mol.atom_nelec_core(k)))
        for k in range(mol.natm)
    ]


def screening_clouds(mol: gto.Mole, atoms: list[FreeAtom]) -> dict[int, gto.Mole]:
    """What the electrons of the neutral atoms act as, one contracted s function for each.

    Args:
        mol: Built molecule.
        atoms: From :func:`atoms_of`.

    Returns:
        By atom; a ghost atom has functions but no electrons.
    """
    return {
        k: gto.fakemol_for_cgtf_charge(mol.atom_coord(k)[None], atom.exponents, atom.screening)
        for k, atom in enumerate(atoms)
        if mol.atom_charge(k) > 0
    }


def _electrons(mol: gto.Mole, atoms: list[FreeAtom]) -> Float[np.ndarray, " natm"]:
    """Electrons of the neutral atoms; 0 for a ghost."""
    return np.array(
        [atom.electrons.sum() * (mol.atom_charge(k) > 0) for k, atom in enumerate(atoms)]
    )


def gaussians(mol: gto.Mole, atoms: list[FreeAtom], *, dipoles: bool) -> gto.Mole:
    """The clouds as basis functions, atom by atom: s, then x, y, z.

    Args:
        mol: Built molecule.
        atoms: From :func:`atoms_of`.
        dipoles: Whether there are p Gaussians.

    Returns:
        Normalised functions.
    """
    shells = {}
    for k, atom in enumerate(atoms):
        shells[f"{mol.atom_pure_symbol(k)}{k + 1}"] = [
            [0, [atom.width, 1.0]],
            *([[1, [DIPOLE_WIDTH * atom.width, 1.0]]] if dipoles else []),
        ]
    where = [[name, tuple(r)] for name, r in zip(shells, mol.atom_coords(), strict=True)]
    clouds = gto.Mole()
    made = clouds.make_env(where, shells, np.zeros(20))
    clouds._atm, clouds._bas, clouds._env = made  # noqa: SLF001
    clouds._built = True  # noqa: SLF001
    return clouds


def units_of(clouds: gto.Mole) -> Float[np.ndarray, " ncloud"]:
    """Charge of each normalised s function and dipole moment of each p function.

    Args:
        clouds: From :func:`gaussians`.

    Returns:
        Electrons, and electrons times bohr.
    """
    sizes: list[float] = []
    for shell in range(clouds.nbas):
        a = float(clouds.bas_exp(shell)[0])
        if clouds.bas_angular(shell) == 0:
            sizes.append((2 * a / np.pi) ** 0.75 * (np.pi / a) ** 1.5)
        else:
            normed = (128 * a**5 / np.pi**3) ** 0.25
            sizes += [normed * np.pi**1.5 / (2 * a**2.5)] * 3
    return np.array(sizes)


def _free(mol: gto.Mole, atoms: list[FreeAtom], clouds: gto.Mole) -> Float[np.ndarray, " ncloud"]:
    """(cloud function | density of the free atoms), with the operator set in ``clouds``."""
    total = np.zeros(clouds.nao_nr())
    for k, atom in enumerate(atoms):
        if mol.atom_charge(k) > 0:
            one = gto.fakemol_for_cgtf_charge(
                mol.atom_coord(k)[None], atom.exponents, atom.electrons
            )
            total += gto.intor_cross("int2c2e", clouds, one)[:, 0]
    return total
