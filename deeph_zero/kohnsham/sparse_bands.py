"""Levels of large crystals from their blocks (i, j, R): some near an energy, or how many lie below.

The factorisation H - E S = L D L† of a sparse matrix gives both: its inverse finds the levels
nearest to E, and D has as many negative numbers as there are levels below E (Sylvester's law of
inertia). So the Fermi level and the density of states need no level far from where they are asked.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import scipy.linalg
import scipy.sparse
import torch
from jaxtyping import Float, Int
from scipy.sparse import linalg

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.ks.periodic.orthogonalise import SINGULAR
from deeph_zero.types import Brief

KPoint: TypeAlias = Sequence[int | float]

NEGLIGIBLE = 1e-7
"""Elements of H (Eh) and S that are smaller at a k-point are left out."""
MOST_STEPS = 40
"""Factorisations at each k-point until the Fermi level is between two known levels."""
FEW = 400
"""Orbitals up to which a dense solver is used: it is faster there, and finds all levels."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LevelsNear(Brief):
    """Consecutive levels of one spin at one k-point.

    Attributes:
        energies: Ascending, Eh.
        first: How many levels lie below the first of them.
    """

    energies: Float[np.ndarray, " n"]
    first: int


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Frontier(Brief):
    """Where the filled levels end.

    Attributes:
        fermi: Chemical potential, or the middle between the last filled and the first empty level,
            Eh.
        homo: Highest level that is at least half filled, Eh.
        lumo: Lowest level that is not, Eh.
        levels: Those that were found, [spin][k].
    """

    fermi: float
    homo: float
    lumo: float
    levels: tuple[tuple[LevelsNear, ...], ...]


class SparseLevels:
    """Levels of one crystal, at any k-point."""

    def __init__(self, hamiltonian: BlockMatrix, overlap: BlockMatrix) -> None:
        """Keep the blocks.

        Args:
            hamiltonian: H, [nel], or [2, nel] for two spins, Eh.
            overlap: S, in blocks of its own or the same.

        Raises:
            InputError: If the two belong to unlike atoms.
        """
        if hamiltonian.sizes != overlap.sizes:
            raise InputError(
                f"expected H and S of the same orbitals, got {hamiltonian.nao} and {overlap.nao}"
            )
        self._overlap = overlap
        values = hamiltonian.values
        self._spins = [hamiltonian] if values.ndim == 1 else [
            hamiltonian.with_values(v) for v in values
        ]  # fmt: skip
        self.nao = hamiltonian.nao
        self.nspin = len(self._spins)
        self._known: dict[tuple[int, tuple[float, ...]], _Problem] = {}

    def at(self, kpt: KPoint, count: int, around: float) -> tuple[LevelsNear, ...]:
        """The levels nearest to an energy.

        Args:
            kpt: Fractions of the reciprocal vectors.
            count: How many.
            around: Eh.

        Returns:
            The levels of every spin.

        Raises:
            ComputationError: If they are not found.
        """
        return tuple(self._problem(s, kpt).near(around, count) for s in range(self.nspin))

    def count(self, kpt: KPoint, energies: Sequence[int | float]) -> Int[np.ndarray, "nspin n"]:
        """How many levels lie below energies, exactly.

        Args:
            kpt: Fractions of the reciprocal vectors.
            energies: Eh.

        Returns:
            Numbers of levels.
        """
        return np.array(
            [[self._problem(s, kpt).below(e) for e in energies] for s in range(self.nspin)]
        )

    def density_of_states(
        self,
        kpts: Sequence[KPoint],
        weights: Sequence[int | float],
        edges: Sequence[int | float],
    ) -> Float[np.ndarray, "nspin n_minus_1"]:
        """States per energy between edges: exact means over every interval.

        Args:
            kpts: Fractions of the reciprocal vectors.
            weights: Weights of the k-points, sum 1.
            edges: Ascending energies, Eh.

        Returns:
            States per Eh and cell, of one spin.
        """
        total = sum(w * self.count(k, edges) for k, w in zip(kpts, weights, strict=True))
        return np.diff(np.asarray(total, dtype=float), axis=1) / np.diff(np.asarray(edges))

    def frontier(
        self,
        kpts: Sequence[KPoint],
        weights: Sequence[int | float],
        electrons: float,
        *,
        smearing: float = 0.0,
        count: int = 40,
        start: float = 0.0,
    ) -> Frontier:
        """The Fermi level, the levels around it, and the gap.

        Args:
            kpts: Fractions of the reciprocal vectors.
            weights: Weights of the k-points, sum 1.
            electrons: Per cell, of both spins together; spins share one level.
            smearing: Width of Fermi occupations, Eh.
            count: Levels around it at every k-point.
            start: Where it is looked for first, Eh.

        Returns:
            What was found.

        Raises:
            ComputationError: If it is not between the levels that were found: more of them are
                needed.
        """
        full = 2.0 / self.nspin
        wanted = electrons / full
        energy = self._between(kpts, weights, wanted, start, 0.25 * count * self.nspin)
        levels = [self.at(k, min(count, self.nao), energy) for k in kpts]
        by_spin = tuple(zip(*levels, strict=True))
        return _solved(by_spin, np.asarray(weights, dtype=float), wanted, smearing, self.nao)

    def _between(
        self,
        kpts: Sequence[KPoint],
        weights: Sequence[int | float],
        wanted: float,
        start: float,
        close: float,
    ) -> float:
        """An energy that has nearly the right number of levels below it."""
        low: tuple[float, float] | None = None
        high: tuple[float, float] | None = None
        energy, step = start, 0.25
        for _ in range(MOST_STEPS):
            found = sum(
                w * float(self.count(k, [energy]).sum()) for k, w in zip(kpts, weights, strict=True)
            )
            if abs(found - wanted) <= close:
                return energy
            if found < wanted:
                low = energy, found
            else:
                high = energy, found
            if low is None or high is None:
                energy += step if found < wanted else -step
                step *= 2
                continue
            share = (wanted - low[1]) / (high[1] - low[1])
            energy = low[0] + min(0.9, max(0.1, share)) * (high[0] - low[0])
        raise ComputationError(
            f"expected {wanted:g} levels below some energy, got none after {MOST_STEPS} steps; "
            "look at H and S"
        )

    def _problem(self, spin: int, kpt: KPoint) -> "_Problem":
        key = spin, tuple(float(x) for x in kpt)
        if key not in self._known:
            h, s = _matrix(self._spins[spin], kpt), _matrix(self._overlap, kpt)
            if spin == 0:
                _check_overlap(s)
            self._known = {key: _Problem(h, s)}
        return self._known[key]


class _Problem:
    """H C = S C E of one spin at one k-point."""

    def __init__(self, h: scipy.sparse.csc_array, s: scipy.sparse.csc_array) -> None:
        self.h, self.s = h, s
        self.n = h.shape[0]

    def below(self, energy: float) -> int:
        if self.n <= FEW:
            return int((self._all < energy).sum())
        return _negative(self._factor(energy))

    def near(self, energy: float, count: int) -> LevelsNear:
        if self.n <= FEW or count > self.n // 2:
            nearest = np.sort(np.argsort(np.abs(self._all - energy), kind="stable")[:count])
            first = int(nearest[0])
            return LevelsNear(self._all[first : first + count], first)
        factor = self._factor(energy)
        inverse = linalg.LinearOperator(self.h.shape, factor.solve, dtype=self.h.dtype)
        try:
            found = linalg.eigsh(
                self.h, count, self.s, sigma=energy, OPinv=inverse, return_eigenvectors=False,
                v0=np.ones(self.n, dtype=self.h.dtype), ncv=min(self.n - 1, 2 * count + 20),
            )  # fmt: skip
        except linalg.ArpackError as error:
            raise ComputationError(
                f"expected {count} levels near {energy:.4f} Eh, got none ({error}); ask for more"
            ) from None
        levels = np.sort(found.real)
        return LevelsNear(levels, _negative(factor) - int((levels < energy).sum()))

    def _factor(self, energy: float) -> linalg.SuperLU:
        return _factorised(self.h - energy * self.s)

    @functools.cached_property
    def _all(self) -> np.ndarray:
        return scipy.linalg.eigvalsh(self.h.toarray(), self.s.toarray())


def _factorised(matrix: scipy.sparse.csc_array) -> linalg.SuperLU:
    """Factors of a Hermitian matrix: without exchange of rows they are L D L†."""
    return linalg.splu(
        matrix.tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )


def _check_overlap(s: scipy.sparse.csc_array) -> None:
    """Refuse a basis that is linearly dependent; what blocks leave out shows here too."""
    small = _negative(_factorised(s - SINGULAR * scipy.sparse.eye_array(s.shape[0])))
    if small:
        raise InputError(
            f"expected an overlap with eigenvalues above {SINGULAR:g}, got {small} below; use a "
            "basis without diffuse functions, such as gth-dzvp-molopt-sr"
        )


def _negative(factor: linalg.SuperLU) -> int:
    """Negative eigenvalues of the matrix that was factorised."""
    if not np.array_equal(factor.perm_r, factor.perm_c):
        raise ComputationError(
            "expected a factorisation without exchange of rows, got one with; shift the energy"
        )
    return int((factor.U.diagonal().real < 0).sum())


def _matrix(blocks: BlockMatrix, kpt: KPoint) -> scipy.sparse.csc_array:
    """The Bloch sum at k; real where k and -k are alike."""
    k = torch.tensor([float(x) for x in kpt], dtype=torch.float64)
    angle = 2 * math.pi * (blocks.cells.to(k) @ k)
    real = bool((torch.sin(angle).abs() < 1e-9).all())
    phase = torch.cos(angle) if real else torch.polar(torch.ones_like(angle), angle)
    rows, columns = blocks.pattern.aos()
    data = blocks.values.detach().cpu() * phase[blocks.pattern.block_of]
    made = scipy.sparse.coo_array(
        (data.numpy(), (rows.numpy(), columns.numpy())), shape=(blocks.nao, blocks.nao)
    ).tocsc()
    made.data[np.abs(made.data) < NEGLIGIBLE] = 0
    made.eliminate_zeros()
    return made


def _solved(
    levels: tuple[tuple[LevelsNear, ...], ...],
    weights: np.ndarray,
    wanted: float,
    smearing: float,
    nao: int,
) -> Frontier:
    """The chemical potential that fills as many levels as there are electrons of a spin."""
    energies = np.stack([[k.energies for k in spin] for spin in levels])
    below = float(sum((weights * [k.first for k in spin]).sum() for spin in levels))
    each = np.broadcast_to(weights[None, :, None], energies.shape)
    order = np.argsort(energies, axis=None)
    ladder, filled = energies.ravel()[order], below + np.cumsum(each.ravel()[order])
    margin = 30 * smearing
    everyone = [k for spin in levels for k in spin]
    bottom = max((float(k.energies[0]) for k in everyone if k.first), default=-math.inf)
    above = [k for k in everyone if k.first + len(k.energies) < nao]
    top = min((float(k.energies[-1]) for k in above), default=math.inf)
    place = int(np.searchsorted(filled, wanted - 1e-9))
    if place >= len(ladder) - 1 or wanted < below - 1e-9:
        raise _too_few(len(energies[0, 0]))
    homo, lumo = float(ladder[place]), float(ladder[place + 1])
    if filled[place] > wanted + 1e-9:  # a level is partly filled
        lumo = homo
    fermi = 0.5 * (homo + lumo)
    if smearing > 0:
        fermi = _filled_to(ladder, each.ravel()[order], wanted - below, smearing, fermi)
        homo = float(ladder[ladder <= fermi].max(initial=-math.inf))
        lumo = float(ladder[ladder > fermi].min(initial=math.inf))
    if fermi - margin < bottom or fermi + margin > top or not math.isfinite(homo + lumo):
        raise _too_few(len(energies[0, 0]))
    return Frontier(fermi, homo, lumo, levels)


def _filled_to(
    energies: np.ndarray, weights: np.ndarray, wanted: float, width: float, start: float
) -> float:
    low, high = start - 50 * width - 1, start + 50 * width + 1
    for _ in range(100):
        middle = 0.5 * (low + high)
        x = np.clip((energies - middle) / width, -500, 500)
        if float((weights / (1 + np.exp(x))).sum()) < wanted:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def _too_few(count: int) -> ComputationError:
    return ComputationError(
        f"expected the Fermi level between the {count} levels that were found at every k-point, "
        "got it outside; ask for more levels"
    )
