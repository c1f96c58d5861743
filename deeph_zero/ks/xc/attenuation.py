"""Short-range share of uniform-gas exchange under the operator erfc(omega r) / r.

References:
    Y. Tawada et al., J. Chem. Phys. 120, 8425 (2004), eq. (15), doi:10.1063/1.1688752;
    J. Toulouse, A. Savin, H.-J. Flad, Int. J. Quantum Chem. 100, 1047 (2004),
    doi:10.1002/qua.20259.
"""

import math

import torch
from torch import Tensor

SERIES_START = 1.35
"""Argument from which the closed form, a difference of numbers near 1, gives way to its series."""
# c_n of (1 / (2 a))^(2 n), n >= 1
_SERIES = tuple(
    -(4 / 3)
    * (-1) ** n
    * (
        2 / (math.factorial(n) * (2 * n + 1))
        - 1 / math.factorial(n + 1)
        - 0.5 / math.factorial(n + 2)
    )
    for n in range(1, 11)
)


def erf_attenuation(a: Tensor) -> Tensor:
    """F(a), from 1 at a = 0 to 1 / (36 a^2) for large a.

    Args:
        a: omega / (2 k_F) of the spin channel, positive, [ngrids].

    Returns:
        [ngrids].
    """
    large = a >= SERIES_START
    near = torch.where(large, 1.0, a)
    gauss = torch.expm1(-0.25 / (near * near))
    inner = math.sqrt(math.pi) * torch.erf(0.5 / near)
    inner = inner + 2 * near * (gauss * (1 - 2 * near * near) - 0.5)
    w2 = 0.25 / torch.where(large, a, SERIES_START) ** 2
    series = torch.full_like(w2, _SERIES[-1])
    for coefficient in reversed(_SERIES[:-1]):
        series = series * w2 + coefficient
    return torch.where(large, series * w2, 1 - 8 / 3 * near * inner)
