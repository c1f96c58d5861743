"""Which libxc names have a torch implementation, and how to combine them into one functional."""

from collections.abc import Iterable

from deeph_zero.errors import InputError
from deeph_zero.ks.xc import (
    gga_c_lyp,
    gga_c_pbe,
    gga_x_b88,
    gga_x_pbe,
    lda_c_pw,
    lda_c_vwn,
    lda_x,
    mgga_c_tpss,
    mgga_x_tpss,
)
from deeph_zero.ks.xc.component import Component
from deeph_zero.ks.xc.functional import SemilocalFunctional

_MODULES = (
    lda_x,
    lda_c_vwn,
    lda_c_pw,
    gga_x_pbe,
    gga_c_pbe,
    gga_x_b88,
    gga_c_lyp,
    mgga_x_tpss,
    mgga_c_tpss,
)

COMPONENTS: dict[str, Component] = {c.name: c for m in _MODULES for c in m.COMPONENTS}
"""Elementary functionals by libxc name."""

COMPOSITES: dict[str, tuple[tuple[str, float], ...]] = {
    # A. D. Becke, J. Chem. Phys. 98, 5648 (1993); P. J. Stephens et al., J. Phys. Chem. 98,
    # 11623 (1994): a0 = 0.20, ax = 0.72, ac = 0.81. 402 has VWN's RPA fit, 475 VWN5.
    "HYB_GGA_XC_B3LYP": (
        ("LDA_X", 0.08),
        ("GGA_X_B88", 0.72),
        ("LDA_C_VWN_RPA", 0.19),
        ("GGA_C_LYP", 0.81),
    ),
    "HYB_GGA_XC_B3LYP5": (
        ("LDA_X", 0.08),
        ("GGA_X_B88", 0.72),
        ("LDA_C_VWN", 0.19),
        ("GGA_C_LYP", 0.81),
    ),
    # C. Adamo, V. Barone, J. Chem. Phys. 110, 6158 (1999), doi:10.1063/1.478522.
    "HYB_GGA_XC_PBEH": (("GGA_X_PBE", 0.75), ("GGA_C_PBE", 1.0)),
    # V. N. Staroverov et al., J. Chem. Phys. 119, 12129 (2003), doi:10.1063/1.1626543.
    "HYB_MGGA_XC_TPSSH": (("MGGA_X_TPSS", 0.90), ("MGGA_C_TPSS", 1.0)),
}
"""Semilocal parts of libxc's composite functionals, in terms of elementary ones."""


def is_implemented(names: Iterable[str]) -> bool:
    """Whether every libxc name in ``names`` has a torch implementation."""
    return all(name in COMPONENTS or name in COMPOSITES for name in names)


def combine(components: Iterable[tuple[str, float]], *, unrestricted: bool) -> SemilocalFunctional:
    """One functional from libxc names and coefficients.

    Args:
        components: (libxc name, coefficient) pairs, elementary or composite.
        unrestricted: Spin densities as arguments instead of the total density.

    Returns:
        Their weighted sum. Exact exchange is not part of it.

    Raises:
        InputError: If a name has no torch implementation.
    """
    total: dict[str, float] = {}
    for name, coefficient in components:
        if name in COMPOSITES:
            parts = COMPOSITES[name]
        elif name in COMPONENTS:
            parts = ((name, 1.0),)
        else:
            known = ", ".join([*COMPONENTS, *COMPOSITES])
            raise InputError(f"xc component expected one of {known}, got {name!r}; use libxc")
        for part, weight in parts:
            total[part] = total.get(part, 0.0) + coefficient * weight
    return SemilocalFunctional(
        [(COMPONENTS[name], coefficient) for name, coefficient in total.items()],
        unrestricted=unrestricted,
    )
