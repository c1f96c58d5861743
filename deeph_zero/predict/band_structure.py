"""Band structures and densities of states of real-space blocks."""

import dataclasses
import math
from typing import Any

import numpy as np
import torch

from deeph_zero.data.formats.protocol import Record, Structure, required_overlap
from deeph_zero.data.formats.spins import to_spinor
from deeph_zero.errors import ComputationError, InputError, argument
from deeph_zero.integrals.one_electron import lindep_threshold
from deeph_zero.integrals.periodic.kpoints import MOST, make_kpoints
from deeph_zero.kohnsham.k_path import KPath, k_path
from deeph_zero.kohnsham.sparse_bands import SparseLevels
from deeph_zero.ks.periodic.orthogonalise import BlochOrthogonaliser
from deeph_zero.predict.crystal_sparse import LARGE
from deeph_zero.predict.density_of_states import density_of_states
from deeph_zero.settings.crystal_method import mesh_of

NEAR = 40
"""Levels of a large crystal at a k-point, about half of them filled."""
_SAME = 1e-6
"""Levels this near to the Fermi level (Eh) are filled."""
_ELEMENTS = 2_000_000
"""Matrix elements that are diagonalised at once, those of all k-points together."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrystalBands:
    """What was found for one crystal.

    Attributes:
        entry: For the summary.
        path: The k-points.
        energies: [nspin, nk, n], Eh.
        structure: The atoms.
        dos: Energies (Eh) and states per Eh and cell, [n] and [nspin, n]; None where not asked.
    """

    entry: dict[str, Any]
    path: KPath
    energies: torch.Tensor
    structure: Structure
    dos: tuple[np.ndarray, np.ndarray] | None = None


def band_structure(
    record: Record,
    path: str | None,
    points: int,
    *,
    dos_spacing: float | None = None,
    width: float = 0.005,
) -> CrystalBands:
    """Bands of a crystal along a path, and its density of states.

    Args:
        record: A crystal with real-space blocks and an overlap.
        path: Names of special points; None: ASE's path for the lattice.
        points: k-points.
        dos_spacing: Widest spacing of the k-points of the density of states, 1/bohr; None: none.
        width: Standard deviation of its Gaussians, Eh.

    Returns:
        The bands; ``entry`` says nothing of a file.

    Raises:
        InputError: If the path names a point that the zone does not have, S is singular, or a
            large crystal's density of states is asked for.
        ComputationError: If a large crystal's levels near the Fermi level are not found.
    """
    structure = record.structure
    assert structure.lattice is not None
    pbc = (True, True, bool(structure.pbc[2]))
    line = k_path(structure.lattice, pbc, path, points)
    fermi = record.matrices.facts.get("fermi")
    levels_of_spins = _fermi_of_spins(record)
    if (large := _is_large(record)) and dos_spacing is not None:
        raise InputError(
            f"expected at most {LARGE} orbitals for a density of states, got "
            f"{record.matrices.fock.nao}; leave {argument('dos')} out"
        )
    energies = _levels_near(record, line.kpts, fermi or 0.0) if large else levels(record, line.kpts)
    entry: dict[str, Any] = {
        "path": line.path,
        "labels": [[name, float(x)] for name, x in zip(line.labels, line.ticks, strict=True)],
        "fermi": fermi,
        **_edges(energies, line, levels_of_spins),
    }
    dos = None
    if dos_spacing is not None:
        mesh = mesh_of(structure.lattice, pbc, dos_spacing)
        if math.prod(mesh) > MOST:
            raise InputError(
                f"{argument('dos_spacing', dos_spacing)}: expected at most {MOST} k-points, got "
                f"{' x '.join(map(str, mesh))}; give a wider spacing"
            )
        spinor = record.matrices.spinor
        kpoints = make_kpoints(mesh, time_reversal=not spinor)
        everywhere = levels(record, kpoints.scaled).numpy()
        per_level = 2.0 if len(everywhere) == 1 and not spinor else 1.0
        dos = density_of_states(kpoints, everywhere, width, fermi=fermi, per_level=per_level)
        entry["dos_kmesh"] = list(mesh)
    return CrystalBands(entry=entry, path=line, energies=energies, structure=structure, dos=dos)


def _is_large(record: Record) -> bool:
    """Whether levels near a known Fermi level have to do."""
    matrices = record.matrices
    known = matrices.facts.get("fermi") is not None
    return known and not matrices.spinor and matrices.fock.nao > LARGE


def _levels_near(record: Record, kpts: np.ndarray, fermi: float) -> torch.Tensor:
    """Levels around the Fermi level, the same ones at every k-point: [nspin, nk, n], Eh."""
    found = SparseLevels(record.matrices.fock, required_overlap(record.matrices))
    near = [found.at(k.tolist(), NEAR, fermi) for k in kpts]
    everyone = [one for spins in near for one in spins]
    first = max(one.first for one in everyone)
    last = min(one.first + len(one.energies) for one in everyone)
    if last <= first:
        raise ComputationError(
            f"expected bands among the {NEAR} levels nearest to the Fermi level at every k-point, "
            "got none that are there at all of them; choose a shorter path"
        )
    rows = [[one.energies[first - one.first : last - one.first] for one in s] for s in near]
    return torch.from_numpy(np.array(rows)).transpose(0, 1)


def levels(record: Record, kpts: np.ndarray) -> torch.Tensor:
    """Levels of real-space blocks.

    Args:
        record: With an overlap.
        kpts: Fractions of the reciprocal vectors, [nk, 3].

    Returns:
        [nspin, nk, n], Eh, ascending; one spin axis where spins mix.

    Raises:
        InputError: If S is singular, or there is none.
    """
    matrices = record.matrices
    overlap = required_overlap(matrices)
    if matrices.spinor:
        overlap = to_spinor(overlap, matrices.sizes)
    points = torch.from_numpy(np.ascontiguousarray(kpts, dtype=np.float64))
    step = max(1, _ELEMENTS // max(1, matrices.fock.nao**2))
    parts = []
    for some in points.split(step):
        orthogonal = BlochOrthogonaliser(overlap.at_k(some), lindep_threshold())
        fock = matrices.fock.at_k(some)
        fock = fock if matrices.spin_polarised else fock[None]
        parts.append(orthogonal.levels(fock))
    return torch.cat(parts, 1)


def _fermi_of_spins(record: Record) -> np.ndarray | None:
    """The level up to which each spin is filled, Eh, [nspin or 1, 1, 1].

    Spins whose numbers of electrons are fixed have one each, and a filled level of one may lie
    above an empty one of the other.
    """
    facts = record.matrices.facts
    found = facts.get("fermi")
    if record.matrices.spin_polarised:
        found = facts.get("fermi_of_spins", found)
    return None if found is None else np.reshape(found, (-1, 1, 1))


def _edges(energies: torch.Tensor, path: KPath, fermi: np.ndarray | None) -> dict[str, Any]:
    """Edges of the bands, and the gap between them: 0 where a band crosses the Fermi level.

    It is 0 too, and the edges stand the wrong way round, where filled levels of one spin lie above
    empty ones of the other. Without a gap the levels of two spins, where they differ, are said.
    """
    names: list[str] = ["vbm", "cbm", "gap", "vbm_k", "cbm_k", "direct", "metal"]
    nothing: dict[str, Any] = dict.fromkeys(names)
    if fermi is None:
        return nothing
    filled = energies <= torch.from_numpy(fermi + _SAME)
    counts = filled.sum(-1)
    own: dict[str, Any] = {}
    if len(fermi) > 1:  # that of a full or an empty spin is its own edge
        rows = [e[torch.isfinite(e)].numpy() for e in energies]
        ends = zip(fermi.ravel(), rows, strict=True)
        own["fermi_of_spins"] = [float(np.clip(x, e.min(), e.max())) for x, e in ends]
    if bool((counts != counts[:, :1]).any()):
        return nothing | {"gap": 0.0, "metal": True} | own
    below = torch.where(filled, energies, -torch.inf).amax((0, 2))
    above = torch.where(filled, torch.inf, energies).amin((0, 2))
    top, bottom = int(below.argmax()), int(above.argmin())
    vbm, cbm = float(below[top]), float(above[bottom])
    if not (math.isfinite(vbm) and math.isfinite(cbm)):
        return nothing | {"metal": False}
    return {
        "vbm": vbm,
        "cbm": cbm,
        "gap": max(0.0, cbm - vbm),
        "vbm_k": path.kpts[top].tolist(),
        "cbm_k": path.kpts[bottom].tolist(),
        "direct": None if cbm <= vbm else float((above - below).min()) <= cbm - vbm + _SAME,
        "metal": False,
    } | (own if cbm <= vbm else {})
