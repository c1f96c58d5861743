"""New geometries around given ones: random displacements, or thermal ones along normal modes."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from deeph_zero.molecule import Molecule
from deeph_zero.settings.config import TrainingConfig
from deeph_zero.units import BOHR_IN_ANGSTROM

KELVIN_IN_HARTREE = 3.1668115634555572e-06
"""k_B, CODATA 2018."""
DALTON = 1822.888486209
"""Electron masses per dalton, CODATA 2018."""
SOFTEST = 100.0 / 219474.63
"""Modes below 100 cm⁻¹ (Eh) are sampled as if they had it: a model Hessian says little of them."""

_STRETCH, _BEND, _TORSION = 0.45, 0.15, 0.005
_DECAY = ((1.0, 0.3949, 0.3949), (0.3949, 0.28, 0.28), (0.3949, 0.28, 0.28))
_REFERENCE = ((1.35, 2.10, 2.53), (2.10, 2.87, 3.40), (2.53, 3.40, 3.40))
_NEGLIGIBLE = 1e-4
"""Products of the distance factors below it are left out; Cartesian zero modes have none."""
_LINEAR = 0.1
"""Sine of an angle below which it is bent along two perpendicular directions."""


def displaced(
    molecules: Iterable[Molecule], config: TrainingConfig, seed: Sequence[int]
) -> list[Molecule]:
    """Copies with random displacements; charge and spin stay.

    Args:
        molecules: Where to start.
        config: ``samples`` per structure, ``sampling``, and ``displace`` in angstrom or
            ``temperature`` in kelvin.
        seed: Seed of the random numbers; several numbers for a series of draws.

    Returns:
        ``samples`` copies of each structure, without the originals.
    """
    rng = np.random.default_rng(list(seed))
    copies = []
    for m in molecules if config.samples else ():
        shape = (config.samples, *m.coords.shape)
        if config.sampling == "normal-modes":
            modes = thermal_modes(m, config.temperature)
            shifts = rng.normal(size=(config.samples, len(modes))) @ modes
        else:
            shifts = rng.normal(0.0, config.displace / BOHR_IN_ANGSTROM, shape)
        copies += [dataclasses.replace(m, coords=m.coords + s.reshape(shape[1:])) for s in shifts]
    return copies


def thermal_modes(molecule: Molecule, temperature: float) -> Float[np.ndarray, "modes coordinates"]:
    """Vibrations, each scaled to its root-mean-square displacement in the harmonic ensemble.

    A mode of frequency w has ⟨Q²⟩ = coth(w / 2 k_B T) / 2 w in mass-weighted coordinates (quantum,
    zero-point motion included); Cartesian displacements are those divided by √m.

    Args:
        molecule: The structure; its model Hessian is taken there.
        temperature: Kelvin.

    Returns:
        Cartesian displacements, bohr, one row per vibration, [modes, 3 natm].
    """
    root_mass = np.repeat(np.sqrt(_masses(molecule.numbers)), 3)
    hessian = lindh_hessian(molecule.numbers, torch.from_numpy(molecule.coords)).numpy()
    weighted = hessian / np.outer(root_mass, root_mass)
    vibrations = _vibrations(molecule.coords, root_mass)
    squares, vectors = np.linalg.eigh(vibrations.T @ weighted @ vibrations)
    frequency = np.sqrt(np.clip(squares, SOFTEST**2, None))
    thermal = max(KELVIN_IN_HARTREE * temperature, 1e-300)
    amplitude = np.sqrt(0.5 / (frequency * np.tanh(frequency / (2 * thermal))))
    return (amplitude * (vibrations @ vectors) / root_mass[:, None]).T


def _masses(numbers: Int[np.ndarray, " natm"]) -> Float[np.ndarray, " natm"]:
    """Standard atomic masses, electron masses."""
    from pyscf.data.elements import MASSES

    return DALTON * np.array([MASSES[int(z)] for z in numbers])


def _vibrations(
    coords: Float[np.ndarray, "natm 3"], root_mass: Float[np.ndarray, " coordinates"]
) -> Float[np.ndarray, "coordinates modes"]:
    """Orthonormal mass-weighted directions without translations and rotations."""
    mass = root_mass[::3] ** 2
    centred = coords - mass @ coords / mass.sum()
    moves = [np.tile(axis, (len(coords), 1)) for axis in np.eye(3)]
    moves += [np.cross(axis, centred) for axis in np.eye(3)]
    rigid = np.stack([m.reshape(-1) for m in moves], 1) * root_mass[:, None]
    u, s, _ = np.linalg.svd(rigid, full_matrices=True)
    rank = int((s > 1e-6 * s[0]).sum())  # five for a linear molecule, three for an atom
    return u[:, rank:]


def lindh_hessian(
    numbers: Int[np.ndarray, " natm"], coords: Float[Tensor, "natm 3"]
) -> Float[Tensor, "coordinates coordinates"]:
    """Model Hessian from geometry alone, for any element.

    Σ k (dq/dx)(dq/dx)ᵀ over stretches, bends and torsions with k = 0.45 ρ_ij, 0.15 ρ_ij ρ_jk and
    0.005 ρ_ij ρ_jk ρ_kl Eh/(bohr or radian)², ρ_ij = exp[α_ij (r²_ref,ij - r²_ij)]. Rows of the
    periodic table after the third have the third's parameters.

    Args:
        numbers: Atomic numbers.
        coords: Positions, bohr.

    Returns:
        Positive semidefinite Hessian, Eh/bohr², [3 natm, 3 natm].

    References:
        R. Lindh, A. Bernhardsson, G. Karlström, P.-Å. Malmqvist, Chem. Phys. Lett. 241, 423
        (1995), eqs. 1-5 and table 1.
    """
    coords = coords.double()
    factor = _distance_factors(numbers, coords)
    n = len(numbers)
    hessian = coords.new_zeros(3 * n, 3 * n)
    for stiffness, chains, value in _internals(factor, coords):
        if len(chains):
            atoms = torch.tensor(chains)
            k = torch.tensor(stiffness, dtype=torch.float64)
            slopes = torch.func.vmap(torch.func.jacrev(value))(coords[atoms])
            _add(hessian, atoms, k, slopes.reshape(len(chains), -1, 3 * atoms.shape[1]))
    return hessian


def _add(hessian: Tensor, atoms: Tensor, k: Tensor, slopes: Tensor) -> None:
    """Σ k s sᵀ of internal coordinates, each depending on a few atoms."""
    local = torch.einsum("c,cqa,cqb->cab", k, slopes, slopes)
    index = (3 * atoms.unsqueeze(-1) + torch.arange(3)).flatten(1)
    rows = index.unsqueeze(2).expand_as(local)
    columns = index.unsqueeze(1).expand_as(local)
    hessian.index_put_((rows, columns), local, accumulate=True)


def _distance_factors(
    numbers: Int[np.ndarray, " natm"], coords: Tensor
) -> Float[np.ndarray, "natm natm"]:
    """ρ_ij, zero on the diagonal."""
    row = np.digitize(numbers, [3, 11])  # H, He; Li to Ne; the rest
    decay, reference = (np.array(t)[row[:, None], row] for t in (_DECAY, _REFERENCE))
    distance = torch.cdist(coords, coords).numpy()
    factor = np.exp(decay * (reference**2 - distance**2))
    np.fill_diagonal(factor, 0.0)
    return np.where(factor > _NEGLIGIBLE, factor, 0.0)


_Internals = tuple[list[float], list[tuple[int, ...]], Callable[[Tensor], Tensor]]


def _internals(factor: Float[np.ndarray, "natm natm"], coords: Tensor) -> list[_Internals]:
    """Stiffness, atoms and value of the stretches, bends, linear bends and torsions."""
    near = [np.flatnonzero(f).tolist() for f in factor]
    pairs = [(i, j) for i, row in enumerate(near) for j in row if i < j]
    triples = [(i, j, k) for j, row in enumerate(near) for i in row for k in row if i < k]
    triples = [t for t in triples if factor[t[0], t[1]] * factor[t[1], t[2]] > _NEGLIGIBLE]
    straight = {t: _is_linear(coords, t) for t in triples}
    fours = [
        (i, j, k, l)
        for j, k in pairs
        for i in near[j]
        for l in near[k]
        if len({i, j, k, l}) == 4
        and factor[i, j] * factor[j, k] * factor[k, l] > _NEGLIGIBLE
        and not _is_linear(coords, (i, j, k))
        and not _is_linear(coords, (j, k, l))
    ]

    def strength(constant: float, chains: list[tuple[int, ...]]) -> list[float]:
        links = (itertools.pairwise(chain) for chain in chains)
        return [constant * math.prod(float(factor[a, b]) for a, b in link) for link in links]

    bent = [t for t in triples if not straight[t]]
    linear = [t for t in triples if straight[t]]
    return [
        (strength(_STRETCH, pairs), pairs, _stretch),
        (strength(_BEND, bent), bent, _bend),
        (strength(_BEND, linear), linear, _linear_bend),
        (strength(_TORSION, fours), fours, _torsion),
    ]


def _is_linear(coords: Tensor, triple: tuple[int, ...]) -> bool:
    i, j, k = coords[list(triple)]
    u, v = (x / x.norm() for x in (i - j, k - j))
    return float(torch.linalg.cross(u, v).norm()) < _LINEAR


def _stretch(x: Float[Tensor, "2 3"]) -> Float[Tensor, " 1"]:
    return (x[0] - x[1]).norm().reshape(1)


def _bend(x: Float[Tensor, "3 3"]) -> Float[Tensor, " 1"]:
    u, v = x[0] - x[1], x[2] - x[1]
    return torch.atan2(torch.linalg.cross(u, v).norm(), u @ v).reshape(1)


def _linear_bend(x: Float[Tensor, "3 3"]) -> Float[Tensor, " 3"]:
    """Sum (difference, if both point one way) of the two unit vectors, across their axis."""
    u, v = (d / d.norm() for d in (x[0] - x[1], x[2] - x[1]))
    turn = torch.where(u @ v < 0, 1.0, -1.0).detach()
    axis = (u - turn * v).detach()
    axis = axis / axis.norm()
    bent = u + turn * v
    return bent - axis * (axis @ bent)


def _torsion(x: Float[Tensor, "4 3"]) -> Float[Tensor, " 1"]:
    b1, b2, b3 = x[1] - x[0], x[2] - x[1], x[3] - x[2]
    n1, n2 = torch.linalg.cross(b1, b2), torch.linalg.cross(b2, b3)
    return torch.atan2((b1 @ n2) * b2.norm(), n1 @ n2).reshape(1)
