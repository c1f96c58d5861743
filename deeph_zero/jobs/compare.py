"""A prediction against reference values: every number of the error table, for one structure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from deeph_zero.data.labels import Label
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.given import by_spin
from deeph_zero.ks.occupation import filled_levels, frontier
from deeph_zero.ks.scf.iteration import gradient_norm
from deeph_zero.predict.orbital_blocks import orbital_blocks
from deeph_zero.predict.single import Prediction
from deeph_zero.types import AOMatrix

_SHELLS = "spdfghiklm"


def compare(
    prediction: Prediction, label: Label, ks: KohnSham, shells: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """Errors of one prediction.

    Args:
        prediction: With its Fock build.
        label: Reference of the same structure and method.
        ks: The Kohn-Sham layer of the structure.
        shells: Angular momenta of each atom's shells, in AO order.

    Returns:
        JSON values: hartree, debye for the dipole; signed where it says ``error``, mean absolute
        where it says ``mae``. ``fock`` is the network's H, ``rebuilt`` is H̃ = F[P(H)],
        ``estimates`` what the certificate makes of the converged values; ``covered`` says of each
        calibrated interval whether the reference lies in it, as far as it is known.
    """
    assert prediction.fock_rebuilt is not None
    assert prediction.energy is not None
    assert prediction.certificate is not None
    device = ks.data.ovlp.device
    fock = label.fock.to(device)
    reference = ks.orbitals(fock)
    symbols = [_symbol(z) for z in prediction.molecule.numbers]
    dm = prediction.dm.to(device)
    dipole = ks.dipole(dm) - ks.dipole(label.dm.to(device))
    record: dict[str, Any] = {
        "energy_error": prediction.energy - label.energy,
        "dipole_error": float(dipole.norm()),
        "subspace_distance": subspace_distance(dm, label.dm.to(device), ks.data.ovlp),
    }
    both = {"fock": prediction.fock, "rebuilt": prediction.fock_rebuilt}
    for name, matrix in ((name, m.to(device)) for name, m in both.items()):
        delta = matrix - fock
        orbitals = ks.orbitals(matrix)
        record[name] = {
            "mae": float(delta.abs().mean()),
            "blocks": orbital_blocks(delta, reference.mo_coeff, reference.mo_occ),
            **orbital_energies(orbitals.mo_energy, reference.mo_energy, reference.mo_occ),
        }
        if name == "fock":
            record[name] |= ao_blocks(delta.cpu().numpy(), symbols, shells)
    known = {"energy": label.energy} | levels(reference.mo_energy, reference.mo_occ)
    record["estimates"] = {
        f"{name}_error": _difference(getattr(prediction.certificate, f"{name}_estimate"), value)
        for name, value in known.items()
    }
    if prediction.intervals is not None:
        found, dm = prediction.intervals, label.dm.to(device)
        of_level = LEFT_OF_LEVELS * gradient_norm(ks.commutator(fock, dm))
        spare = {name: max(ROUNDING, of_level) for name in known} | {"energy": ROUNDING}
        record["covered"] = {n: covers(found[n], value, spare[n]) for n, value in known.items()}
    return record


def levels(energy: Tensor, mo_occ: Tensor) -> dict[str, float | list[float | None] | None]:
    """HOMO, LUMO and gap, as certificates have them.

    Args:
        energy: [*spin, nmo], Eh, ascending.
        mo_occ: Occupations.

    Returns:
        Eh, None where there is no such level; a list for two spins.
    """
    found = frontier(by_spin(energy, 1), filled_levels(by_spin(mo_occ, 1)))
    parts = {name: [getattr(f, name) for f in found] for name in ("homo", "lumo", "gap")}
    return {name: v if len(v) == 2 else v[0] for name, v in parts.items()}


def _difference(value: Any, reference: Any) -> float | None:
    """Difference from a reference, of two spins the larger; None where there is no such level."""
    if isinstance(reference, list) and value is not None:
        parts = [_difference(v, r) for v, r in zip(value, reference, strict=True)]
        return max((p for p in parts if p is not None), key=abs, default=None)
    return None if value is None or reference is None else value - reference


ROUNDING = 1e-9
"""Rounding of reference values that stopped at their tolerance, Eh."""

LEFT_OF_LEVELS = 0.1
"""How far off a reference's levels are, as a part of its orbital gradient: 0.03 to 0.08 for HOMOs
of ethanols that `label` converged to 5e-6 Eh. Intervals can be narrower than that."""


def covers(interval: Any, value: Any, spare: float = ROUNDING) -> bool:
    """Whether a reference lies in its interval; of two spins both.

    Args:
        interval: [low, high], Eh, a pair of them for two spins; None where there is no level.
        value: The reference, or a pair.
        spare: How well it is known, Eh.

    Returns:
        True also where there is nothing to cover.
    """
    if isinstance(value, list) and interval is not None:
        return all(covers(i, v, spare) for i, v in zip(interval, value, strict=True))
    if interval is None or value is None:
        return True
    return interval[0] - spare <= value <= interval[1] + spare


def orbital_energies(energy: Tensor, reference: Tensor, mo_occ: Tensor) -> dict[str, float | None]:
    """Errors of orbital energies, level by level in ascending order; spins are pooled.

    Args:
        energy: Predicted, [*spin, nmo], Eh.
        reference: Converged ones.
        mo_occ: Occupations of the reference.

    Returns:
        ``mo_energy_mae``, ``occupied_energy_mae``, and ``homo_mae``, ``lumo_mae``, ``gap_mae``
        (mean over spins that have both), Eh.
    """
    error, occupied = by_spin(energy - reference, 1), by_spin(mo_occ, 1) > 0
    at = frontier(error, filled_levels(by_spin(mo_occ, 1)))  # errors of the frontier levels
    found: dict[str, float | None] = {
        "mo_energy_mae": float(error.abs().mean()),
        "occupied_energy_mae": float(error.abs()[occupied].mean()) if occupied.any() else None,
    }
    for name in ("homo", "lumo", "gap"):
        values = [getattr(f, name) for f in at]
        found[f"{name}_mae"] = _mean([abs(v) for v in values if v is not None])
    return found


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def ao_blocks(
    delta: Float[np.ndarray, "*spin nao nao"],
    symbols: Sequence[str],
    shells: Sequence[Sequence[int]],
) -> dict[str, dict[str, float]]:
    """Mean absolute elements by element and by kind of orbital.

    Args:
        delta: Difference of two Fock matrices, Eh.
        symbols: Element of each atom.
        shells: Angular momenta of each atom's shells, in AO order.

    Returns:
        ``elements``: "O" for blocks of an oxygen with itself, "H-O" for blocks between atoms;
        ``shells``: "s-s", "s-p", ... over all atoms.
    """
    atom = np.array([k for k, ls in enumerate(shells) for l in ls for _ in range(2 * l + 1)])
    momentum = np.array([l for ls in shells for l in ls for _ in range(2 * l + 1)])
    size = np.abs(delta).reshape(-1, len(atom), len(atom)).mean(axis=0)
    elements: dict[str, list[float]] = {}
    kinds: dict[str, list[float]] = {}
    natm = len(symbols)
    for i in range(natm):
        for j in range(natm):
            key = symbols[i] if i == j else "-".join(sorted((symbols[i], symbols[j])))
            block = size[np.ix_(atom == i, atom == j)]
            _add(elements, key, block)
    present = sorted(set(momentum.tolist()))
    for a in present:
        for b in present:
            key = f"{_SHELLS[min(a, b)]}-{_SHELLS[max(a, b)]}"
            _add(kinds, key, size[np.ix_(momentum == a, momentum == b)])
    return {
        "elements": {key: total / count for key, (total, count) in elements.items()},
        "shells": {key: total / count for key, (total, count) in kinds.items()},
    }


def _add(totals: dict[str, list[float]], key: str, block: Float[np.ndarray, "a b"]) -> None:
    entry = totals.setdefault(key, [0.0, 0.0])
    entry[0] += float(block.sum())
    entry[1] += block.size


def subspace_distance(dm: AOMatrix, reference: AOMatrix, ovlp: Float[Tensor, "nao nao"]) -> float:
    """Distance of two occupied spaces: root mean square sine of their principal angles.

    With projectors D = P/2 (P_σ per spin) it is sqrt(tr((D - D')S(D - D')S) / (2 nocc)), 0 for
    the same space and 1 for orthogonal ones; spins are pooled.

    Args:
        dm: Density matrix, occupations included.
        reference: The converged one.
        ovlp: S.

    Returns:
        The distance.

    References:
        G. H. Golub, C. F. Van Loon, Matrix Computations (2013), section 6.4.3.
    """
    scale = 0.5 * len(by_spin(dm, 2))
    delta = scale * (dm - reference) @ ovlp
    square = float((delta * delta.mT).sum())
    nocc = scale * float((reference * ovlp).sum())
    return (max(square, 0.0) / (2.0 * nocc)) ** 0.5


def _symbol(z: int | np.integer) -> str:
    from pyscf.data.elements import ELEMENTS

    return ELEMENTS[int(z)]
