"""Find atoms that are nearer to each other, or to images, than atoms are in any molecule."""

import ase
import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.neighborlist import neighbor_list
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from deeph_zero.errors import InputError, argument

ON_ONE_POINT = 0.1
"""Two nuclei nearer than this (angstrom) are one typing mistake, not a molecule."""

CLOSEST = 0.55
"""Atoms nearer than this part of the sum of their covalent radii (Cordero et al., Dalton Trans.
2008, 2832) are in no molecule. The shortest contacts of G2, S22, the first 2000 molecules of QM9
and trajectories of rMD17 at 500 K have 0.77 to 0.90 of it, the uranyl ion 0.65, H2 squeezed to
0.5 Å 0.81; organic molecules in angstrom that were read as bohr have 0.40 to 0.54."""


def check_contacts(
    numbers: Int[np.ndarray, " natm"],
    positions: Float[np.ndarray, "natm 3"],
    *,
    lattice: Float[np.ndarray, "3 3"] | None = None,
    pbc: tuple[bool, bool, bool] = (False, False, False),
    insist: bool = False,
    where: str = "",
) -> None:
    """Refuse a geometry that no molecule has.

    Args:
        numbers: Atomic numbers.
        positions: Angstrom, finite.
        lattice: Lattice vectors of a crystal in rows, angstrom; images of atoms count then.
        pbc: Its periodic directions.
        insist: Only nuclei on one point are refused.
        where: Start of the message (file and frame).

    Raises:
        InputError: If two nuclei are on one point, or nearer than :data:`CLOSEST` of the sum of
            their covalent radii.
    """
    radii = covalent_radii[np.minimum(numbers, len(covalent_radii) - 1)]
    reach = ON_ONE_POINT if insist else max(ON_ONE_POINT, CLOSEST * 2 * float(radii.max()))
    i, j, distance = _near(positions, lattice, pbc, reach)
    if not len(i):
        return
    _refuse_one_point(numbers, i, j, distance, where)
    least = CLOSEST * (radii[i] + radii[j])
    ratio = distance / least
    if insist or ratio.min() >= 1:
        return
    k = int(ratio.argmin())
    pair = _pair(numbers, int(i[k]), int(j[k]))
    count = int((ratio < 1).sum())
    more = f" (and {count - 1} more pairs)" if count > 1 else ""
    raise InputError(
        f"{where}{pair} are {distance[k]:.2f} angstrom apart{more}; "
        f"expected at least {least[k]:.2f}, no molecule has less: correct the coordinates or their "
        f"unit, or insist with {argument('allow_close_contacts', True)}"
    )


def _near(
    positions: np.ndarray,
    lattice: np.ndarray | None,
    pbc: tuple[bool, bool, bool],
    reach: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of atoms within ``reach``, and their distances."""
    if lattice is None:
        i, j = np.array(sorted(KDTree(positions).query_pairs(reach)), dtype=int).reshape(-1, 2).T
        return i, j, np.linalg.norm(positions[i] - positions[j], axis=1)
    atoms = ase.Atoms(positions=positions, numbers=np.ones(len(positions)), cell=lattice, pbc=pbc)
    i, j, distance = neighbor_list("ijd", atoms, reach)
    once = i <= j
    return i[once], j[once], distance[once]


def _refuse_one_point(
    numbers: np.ndarray, i: np.ndarray, j: np.ndarray, distance: np.ndarray, where: str
) -> None:
    k = int(distance.argmin())
    if distance[k] < ON_ONE_POINT:
        pair = _pair(numbers, int(i[k]), int(j[k]))
        raise InputError(
            f"{where}{pair} are on one point (nearer than {ON_ONE_POINT} angstrom); correct the "
            "coordinates"
        )


def _pair(numbers: np.ndarray, i: int, j: int) -> str:
    first, second = (chemical_symbols[numbers[k]] for k in (i, j))
    if i == j:
        return f"atom {i + 1} ({first}) and its image in another cell"
    return f"atoms {i + 1} and {j + 1} ({first}, {second})"
