"""Perdew-Zunger 1981 correlation: libxc LDA_C_PZ (9).

References:
    J. P. Perdew, A. Zunger, Phys. Rev. B 23, 5048 (1981), eqs. (C3), (C5), (C10) and table XII,
    doi:10.1103/PhysRevB.23.5048. Constants as printed: the two branches do not quite meet.
"""

import dataclasses

import torch
from torch import Tensor

from deeph_zero.ks.xc.component import Component
from deeph_zero.ks.xc.density_variables import ClosedShell, Polarised


@dataclasses.dataclass(frozen=True)
class TwoBranchFit:
    """Constants of one spin polarisation: Pade form for rs >= 1, high-density series below."""

    gamma: float
    beta1: float
    beta2: float
    a: float
    b: float
    c: float
    d: float

    def energy(self, rs: Tensor, rs_sqrt: Tensor) -> Tensor:
        """Correlation energy per electron, [ngrids], Eh."""
        low = self.gamma / (1 + self.beta1 * rs_sqrt + self.beta2 * rs)
        log_rs = torch.log(rs)
        high = self.a * log_rs + self.b + self.c * rs * log_rs + self.d * rs
        return torch.where(rs >= 1, low, high)


PARAMAGNETIC = TwoBranchFit(-0.1423, 1.0529, 0.3334, 0.0311, -0.048, 0.0020, -0.0116)
FERROMAGNETIC = TwoBranchFit(-0.0843, 1.3981, 0.2611, 0.01555, -0.0269, 0.0007, -0.0048)


def pz_unpolarised(d: ClosedShell) -> Tensor:
    """Correlation energy per electron at zeta = 0, [ngrids], Eh."""
    return PARAMAGNETIC.energy(d.rs, d.rs_sqrt)


def pz_polarised(d: Polarised) -> Tensor:
    """Correlation energy per electron, [ngrids], Eh."""
    para = PARAMAGNETIC.energy(d.rs, d.rs_sqrt)
    return para + d.f_zeta * (FERROMAGNETIC.energy(d.rs, d.rs_sqrt) - para)


COMPONENTS = (
    Component(
        name="LDA_C_PZ",
        libxc_id=9,
        kind="LDA",
        threshold=1e-15,
        closed_shell=lambda d: d.rho * pz_unpolarised(d),
        polarised=lambda d: d.rho * pz_polarised(d),
    ),
)
