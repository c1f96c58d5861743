"""Which libxc names have a torch implementation, and how to combine them into one functional."""

import copyreg
from collections.abc import Iterable
from typing import Any

from deeph_zero.errors import InputError
from deeph_zero.ks.xc import (
    gga_c_lyp,
    gga_c_p86,
    gga_c_pbe,
    gga_x_b88,
    gga_x_ityh,
    gga_x_pbe,
    gga_x_rpbe,
    gga_x_wpbeh,
    gga_xc_b97,
    lda_c_pw,
    lda_c_pz,
    lda_c_vwn,
    lda_x,
    mgga_c_m06l,
    mgga_c_r2scan,
    mgga_c_scan,
    mgga_c_tpss,
    mgga_x_m06l,
    mgga_x_r2scan,
    mgga_x_scan,
    mgga_x_tpss,
)
from deeph_zero.ks.xc.component import Component
from deeph_zero.ks.xc.composites import COMPOSITES
from deeph_zero.ks.xc.functional import SemilocalFunctional

_MODULES = (
    lda_x,
    lda_c_vwn,
    lda_c_pw,
    lda_c_pz,
    gga_x_pbe,
    gga_x_rpbe,
    gga_c_pbe,
    gga_x_b88,
    gga_c_lyp,
    gga_c_p86,
    gga_x_ityh,
    gga_x_wpbeh,
    gga_xc_b97,
    mgga_x_tpss,
    mgga_c_tpss,
    mgga_x_scan,
    mgga_c_scan,
    mgga_x_r2scan,
    mgga_c_r2scan,
    mgga_x_m06l,
    mgga_c_m06l,
)

COMPONENTS: dict[str, Component] = {c.name: c for m in _MODULES for c in m.COMPONENTS}
"""Elementary functionals by libxc name."""
_PARTS: dict[str, Component] = {**COMPONENTS, **gga_x_ityh.VARIANTS, **gga_x_wpbeh.VARIANTS}
"""What a composite may name: the elementary ones, and some with other parameters."""
_NAMES = {component: name for name, component in _PARTS.items()}


def part(name: str) -> Component:
    """A component by the name that composites have for it."""
    return _PARTS[name]


def _reduced(component: Component) -> Any:
    """How a component is pickled: by its name, as functions made in functions cannot be."""
    name = _NAMES.get(component)
    return component.__reduce_ex__(4) if name is None else (part, (name,))


copyreg.pickle(Component, _reduced)


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
        [(_PARTS[name], coefficient) for name, coefficient in total.items()],
        unrestricted=unrestricted,
    )
