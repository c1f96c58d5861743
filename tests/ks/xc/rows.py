"""Densities whose energies are known: the uniform gas, one and two electrons in a 1s orbital."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from deeph_zero.ks.protocol import NVAR
from deeph_zero.ks.xc.registry import combine

K_F = (3 * math.pi**2) ** (2 / 3)
"""Square of the Fermi momentum of density 1."""

MONTE_CARLO = {1.0: -0.0600, 2.0: -0.0451, 5.0: -0.02815, 10.0: -0.01861, 20.0: -0.0115}
"""Correlation energy per electron by rs: D. M. Ceperley, B. J. Alder, Phys. Rev. Lett. 45, 566
(1980), halved from rydberg."""


def density_of(rs: Tensor | float) -> Tensor:
    """Electrons per volume at a Wigner-Seitz radius, [n]."""
    return 3 / (4 * math.pi * torch.as_tensor(rs, dtype=torch.float64).reshape(-1) ** 3)


def uniform_gas(density: Tensor, zeta: float | None = None) -> Tensor:
    """All five rows of the gas: [1, 5, n], or of two spins where ``zeta`` says how they share."""
    shares = [1.0] if zeta is None else [(1 + zeta) / 2, (1 - zeta) / 2]
    rows = torch.zeros(len(shares), 5, len(density), dtype=torch.float64)
    for row, share in zip(rows, shares, strict=True):
        row[0] = share * density
        # a spin of density n has half the kinetic energy of a closed shell of 2 n
        scale = 1.0 if zeta is None else 2 ** (2 / 3)
        row[4] = 0.3 * K_F * scale * row[0] ** (5 / 3)
    return rows


def one_s(charge: float = 1.0, electrons: int = 1, points: int = 160) -> tuple[Tensor, Tensor]:
    """Rows [2, 5, n] and weights of electrons in the 1s orbital about a charge, alpha first."""
    t, w = np.polynomial.legendre.leggauss(points)
    t, w = (t + 1) / 2, w / 2
    r = t / (1 - t) / charge
    weights = torch.from_numpy(4 * np.pi * r**2 * w / (1 - t) ** 2 / charge)
    n = torch.from_numpy(charge**3 / np.pi * np.exp(-2 * charge * r))
    rows = torch.zeros(2, 5, points, dtype=torch.float64)
    for row in rows[:electrons]:
        row[0], row[1], row[4] = n, -2 * charge * n, 0.5 * charge**2 * n
    return rows, weights


def energy_density(name: str, rows: Tensor) -> Tensor:
    """Energy per volume by one functional, of as many spins as there are."""
    functional = combine([(name, 1.0)], unrestricted=len(rows) == 2)
    return functional.gradient(rows[:, : NVAR[functional.kind]].contiguous())[0]


def energy(name: str, rows: Tensor, weights: Tensor) -> float:
    """Integral of the energy, Eh."""
    return float(energy_density(name, rows) @ weights)


def per_electron(name: str, rows: Tensor) -> Tensor:
    """Energy per electron, Eh."""
    return energy_density(name, rows) / rows[:, 0].sum(0)


def enhancement(name: str, s: Tensor, density: float = 0.7) -> Tensor:
    """Exchange energy of a closed shell over that of the uniform gas, at reduced gradients s."""
    rows = uniform_gas(torch.full_like(s, density))
    rows[0, 1] = 2 * math.sqrt(K_F) * density ** (4 / 3) * s
    rows[0, 4] += rows[0, 1] ** 2 / (8 * density)
    return energy_density(name, rows) / energy_density("LDA_X", rows)


def slope_of(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Derivative of a pointwise function, by autograd."""
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(function(leaf).sum(), leaf)[0]
