"""What takes long to compute of a molecule, free of PySCF: it can be made in another process."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from deeph_zero.integrals.grids import GridPoints
from deeph_zero.integrals.one_electron import OneElectron
from deeph_zero.integrals.two_electron import TwoElectronPart
from deeph_zero.ks.parallel.uploads import Move, sent
from deeph_zero.ks.protocol import TwoElectron
from deeph_zero.ks.terms.two_electron import FittedTensor, FourCentre
from deeph_zero.types import AOMatrix


@dataclasses.dataclass(frozen=True, kw_only=True)
class Portable:
    """Integrals, grid and starting density of one molecule.

    Attributes:
        one: One-electron part.
        two: Two-electron operators.
        points: Grid of the semilocal functional, None where there is none.
        dm_guess: Starting density.
        auxbasis: Resolved name of the fitting set, None for exact integrals.
    """

    one: OneElectron
    two: TwoElectronPart
    points: GridPoints | None
    dm_guess: AOMatrix
    auxbasis: str | None

    @property
    def memory_bytes(self) -> int:
        """Size of all tensors and of the grid."""
        one = sum(v.nbytes for v in vars(self.one).values() if isinstance(v, Tensor))
        grid = self.points
        points = 0 if grid is None else grid.coords.nbytes + grid.weights.nbytes
        return self.two.memory_bytes + one + points + self.dm_guess.nbytes

    def to(self, device: torch.device | str) -> "Portable":
        """Move every tensor to a device; the grid stays where it is."""
        if torch.device(device) == self.one.ovlp.device:
            return self
        return self.moved(lambda tensor: sent(tensor, device))

    def moved(self, move: Move) -> "Portable":
        """Every tensor moved, in the way that is given; the grid stays where it is."""
        one: dict[str, Any] = dict(vars(self.one))
        one |= {k: move(v) for k, v in vars(self.one).items() if isinstance(v, Tensor)}
        coefficients = [c for c, _ in self.two.exchange]
        coulomb, *exchange = _all_moved(
            [self.two.coulomb, *(operator for _, operator in self.two.exchange)], move
        )
        two = dataclasses.replace(
            self.two, coulomb=coulomb, exchange=tuple(zip(coefficients, exchange, strict=True))
        )
        dm_guess = move(self.dm_guess)
        return dataclasses.replace(self, one=OneElectron(**one), two=two, dm_guess=dm_guess)


def _all_moved(operators: Sequence[TwoElectron], move: Move) -> list[TwoElectron]:
    """Each operator moved; one that is there twice is moved once and stays shared."""
    moved: list[TwoElectron] = []
    for k, operator in enumerate(operators):
        first = next(i for i, other in enumerate(operators) if other is operator)
        moved.append(moved[first] if first < k else _moved(operator, move))
    return moved


def _moved(operator: TwoElectron, move: Move) -> TwoElectron:
    if isinstance(operator, FittedTensor):
        return FittedTensor(move(operator.cderi), operator.nao)
    assert isinstance(operator, FourCentre)
    return FourCentre(move(operator.eri), operator.nao)
