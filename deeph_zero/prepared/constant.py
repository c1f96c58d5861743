"""The constant potential between a crystal's base and its converged Fock matrix.

The average potential of a crystal is a convention, zero where a transform without G = 0 has it.
What charges do within atoms then moves all levels by their second moments per volume, wherever the
atoms are: no network that looks at neighbours sees that. A few numbers for each element do.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

RIDGE = 1e-3
"""Pull towards the mean of training, on shares and densities relative to the mean one: a spread of
a few percent teaches little of other densities."""


@dataclasses.dataclass(frozen=True)
class LevelConstant:
    """μ = offset + Σ_z (a_z n_z / n + b_z n_z / volume), Eh.

    Attributes:
        offset: Eh.
        elements: Atomic number, a (Eh) and b (Eh bohr³) of every element.
    """

    offset: float = 0.0
    elements: tuple[tuple[int, float, float], ...] = ()

    def of(self, numbers: Sequence[int], volume: float) -> float:
        """μ of a crystal.

        Args:
            numbers: Atomic numbers.
            volume: Volume of the cell, bohr³; infinite for a layer.

        Returns:
            Eh.
        """
        total = self.offset
        for z, share, density in self.elements:
            count = sum(int(n) == z for n in numbers)
            total += share * count / len(numbers) + density * count / volume
        return total

    @classmethod
    def fitted(cls, crystals: Sequence[tuple[Sequence[int], float, float]]) -> "LevelConstant":
        """The one that is nearest to what crystals have.

        Args:
            crystals: Atomic numbers, volume (bohr³, infinite for a layer) and μ (Eh) of each.

        Returns:
            It; the mean of the crystals where they are all alike.
        """
        found = sorted({int(z) for numbers, _, _ in crystals for z in numbers})
        spaces = [v / len(n) for n, v, _ in crystals if math.isfinite(v)]
        space = float(np.mean(spaces)) if spaces else 1.0
        rows = []
        for numbers, volume, _ in crystals:
            counts = np.array([sum(int(n) == z for n in numbers) for z in found])
            rows.append(np.concatenate([counts / len(numbers), counts * space / volume]))
        features, wanted = np.array(rows), np.array([mu for _, _, mu in crystals])
        middle, mean = features.mean(0), float(wanted.mean())
        apart = features - middle
        normal = apart.T @ apart / len(rows) + RIDGE * np.eye(len(middle))
        slopes = np.linalg.solve(normal, apart.T @ (wanted - mean) / len(rows))
        shares, densities = np.split(slopes, 2)
        return cls(
            offset=mean - float(middle @ slopes),
            elements=tuple(
                (z, float(a), float(b) * space)
                for z, a, b in zip(found, shares, densities, strict=True)
            ),
        )
