"""A weighted sum of functionals and its derivatives with respect to the density rows.

The energy per volume is a pointwise function f(u) of u = (rho, sigma, tau) (or their spin-resolved
versions), so reverse-mode differentiation of sum(f) gives every pointwise derivative at once. Only
f(u) is differentiated automatically; the step from u to the rows, where sigma is quadratic in the
gradient components, is done by hand:

    du(d) = J(rho) d,      J linear in rho, d2u(d1, d2) = J(d1) d2 on the sigma entries,
    gradient = J(rho)^T f_u,
    second   = J(rho)^T H du1 + J(d1)^T f_u,
    third    = J(rho)^T (T du1 du2 + H d2u) + J(d1)^T H du2 + J(d2)^T H du1.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import TypeVar, final

import torch
from torch import Tensor

from deeph_zero.errors import InputError
from deeph_zero.ks.parallel.graphs import GRAPHS_HERE
from deeph_zero.ks.parallel.recording import Operations, recorded
from deeph_zero.ks.protocol import NVAR, XCKind
from deeph_zero.ks.xc.component import Component
from deeph_zero.ks.xc.density_variables import (
    ClosedShell,
    Polarised,
    sanitise_closed_shell,
    sanitise_polarised,
)
from deeph_zero.types import Features, GridScalar

T = TypeVar("T")
Variables = tuple[Tensor, ...]
Group = tuple[float, tuple[tuple[Component, float], ...]]
"""A density threshold and the (functional, coefficient) pairs that share it."""
GRADIENT_CEILING = 1e40
"""Largest gradient component; the ceiling of sigma is 1e73."""
N_VARIABLES: dict[XCKind, tuple[int, int]] = {"LDA": (1, 2), "GGA": (2, 5), "MGGA": (3, 7)}
"""Density variables of a closed shell, and of two spins."""
_ORDER: tuple[XCKind, ...] = ("LDA", "GGA", "MGGA")


def _highest(kinds: Sequence[XCKind]) -> XCKind:
    return max(kinds, key=_ORDER.index)


@final
class SemilocalFunctional:
    """Weighted sum of torch functionals; implements :class:`~deeph_zero.ks.protocol.Functional`."""

    def __init__(
        self, components: Sequence[tuple[Component, float]], *, unrestricted: bool
    ) -> None:
        """Group the components by density threshold, within which they share intermediates.

        Args:
            components: (functional, coefficient) pairs, at least one.
            unrestricted: Arguments are [2, nvar, ngrids] instead of [1, nvar, ngrids].

        Raises:
            InputError: If there is no component.
        """
        if not components:
            raise InputError("xc expected at least one component, got none; pass None instead")
        self.kind: XCKind = _highest([c.kind for c, _ in components])
        self.unrestricted = unrestricted
        self.components = tuple(components)
        by_hand = [pair for pair in components if _first_of(pair[0], unrestricted) is not None]
        self._groups = _grouped(components)
        self._by_hand = _grouped(by_hand)
        self._automatic = _grouped([pair for pair in components if pair not in by_hand])

    @property
    def key(self) -> Hashable:
        """Equal for functionals with equal values; see ``ks.batch``."""
        return (self.unrestricted, self.components)

    def polarised(self) -> "SemilocalFunctional":
        """The functional of spin densities (alpha, beta)."""
        return SemilocalFunctional(self.components, unrestricted=True)

    def gradient(self, rho: Features) -> tuple[GridScalar, Features]:
        """Energy per volume and its first derivative.

        Args:
            rho: Density rows, atomic units.

        Returns:
            f, [ngrids], Eh / bohr^3, and df/drho, the shape of ``rho``; both detached.

        Raises:
            InputError: If the shape does not fit the functional.
        """
        f, first = GRAPHS_HERE.call((self.key, 1), self._gradient, self._checked(rho))
        return f, first

    def _gradient(self, rho: Tensor) -> tuple[Tensor, ...]:
        f_total = torch.zeros_like(rho[0, 0])
        f_u = None
        raw = _variables(rho)
        for threshold, pairs in self._by_hand:
            value, *first = _by_hand(raw, (threshold, pairs), unrestricted=self.unrestricted)
            f_total, f_u = f_total + value, _add(f_u, tuple(first))
        for leaves, f, ratio in self._evaluate(raw, self._automatic):
            f_u = _add(f_u, _derivatives(f, leaves))
            value = f.detach()
            f_total = f_total + (value if ratio is None else value * ratio)
        return f_total, _pull(rho, _require(f_u), linear=True)

    def second(self, rho: Features, d1: Features) -> Features:
        """Second derivative of f contracted with ``d1``.

        Args:
            rho: Density rows, atomic units.
            d1: Direction, the shape of ``rho``.

        Returns:
            The shape of ``rho``, linear in ``d1``, detached.

        Raises:
            InputError: If a shape does not fit the functional.
        """
        given = self._checked(rho), self._checked(d1)
        return GRAPHS_HERE.call((self.key, 2), self._second, *given)[0]

    def _second(self, rho: Tensor, d1: Tensor) -> tuple[Tensor, ...]:
        rho = _bounded(rho)
        du = _push(rho, d1)
        f_u = h_u = None
        for leaves, f, _ in self._evaluate(_variables(rho), self._groups):
            first = _derivatives(f, leaves, create_graph=True)
            h_u = _add(h_u, _derivatives(_contract(first, du), leaves))
            f_u = _add(f_u, tuple(x.detach() for x in first))
        out = _pull(rho, _require(h_u), linear=True) + _pull(d1, _require(f_u), linear=False)
        return (out,)

    def third(self, rho: Features, d1: Features, d2: Features) -> Features:
        """Third derivative of f contracted with two directions.

        Args:
            rho: Density rows, atomic units.
            d1: First direction, the shape of ``rho``.
            d2: Second direction, the shape of ``rho``.

        Returns:
            The shape of ``rho``, bilinear and symmetric in the directions, detached.

        Raises:
            InputError: If a shape does not fit the functional.
        """
        given = self._checked(rho), self._checked(d1), self._checked(d2)
        return GRAPHS_HERE.call((self.key, 3), self._third, *given)[0]

    def _third(self, rho: Tensor, d1: Tensor, d2: Tensor) -> tuple[Tensor, ...]:
        rho = _bounded(rho)
        du1, du2, ddu = _push(rho, d1), _push(rho, d2), _push(d1, d2, linear=False)
        h1 = h2 = t_u = None
        for leaves, f, _ in self._evaluate(_variables(rho), self._groups):
            first = _derivatives(f, leaves, create_graph=True)
            along1 = _derivatives(_contract(first, du1), leaves, create_graph=True)
            along2 = _derivatives(_contract(first, du2), leaves, retain_graph=True)
            mixed = _contract(along1, du2) + _contract(first, ddu)
            t_u = _add(t_u, _derivatives(mixed, leaves))
            h1 = _add(h1, tuple(x.detach() for x in along1))
            h2 = _add(h2, along2)
        out = _pull(rho, _require(t_u), linear=True)
        out = out + _pull(d1, _require(h2), linear=False)
        return (out + _pull(d2, _require(h1), linear=False),)

    def _checked(self, rho: Tensor) -> Tensor:
        expected = (2 if self.unrestricted else 1, NVAR[self.kind])
        if tuple(rho.shape[:-1]) != expected:
            raise InputError(
                f"density variables expected shape {[*expected, 'ngrids']}, got"
                f" {list(rho.shape)}; pass the rows of a {self.kind}"
            )
        return rho.detach()

    def _evaluate(
        self, raw: Variables, groups: Sequence[Group]
    ) -> Iterator[tuple[Variables, Tensor, Tensor | None]]:
        """For each threshold: leaf variables, f with its graph, factor from floored to true rho."""
        for threshold, pairs in groups:
            kind = _highest([c.kind for c, _ in pairs])
            with torch.enable_grad():
                if self.unrestricted:
                    leaves = sanitise_polarised(kind, raw, threshold)
                    leaves = tuple(x.detach().requires_grad_() for x in leaves)
                    density = Polarised(raw[0] + raw[1] >= threshold, threshold, *leaves)
                    f = sum(c * part.polarised(density) for part, c in pairs)
                    ratio = _counted_share(raw, density)
                else:
                    leaves = sanitise_closed_shell(kind, raw, threshold)
                    leaves = tuple(x.detach().requires_grad_() for x in leaves)
                    density = ClosedShell(raw[0] >= threshold, threshold, *leaves)
                    f = sum(c * part.closed_shell(density) for part, c in pairs)
                    ratio = None
                yield leaves, torch.where(density.alive, f, 0.0), ratio


def _grouped(components: Sequence[tuple[Component, float]]) -> list[Group]:
    """The components by density threshold, within which they share intermediates."""
    ordered = sorted(components, key=lambda pair: pair[0].threshold)
    groups = groupby(ordered, key=lambda pair: pair[0].threshold)
    return [(threshold, tuple(pairs)) for threshold, pairs in groups]


def _first_of(part: Component, unrestricted: bool) -> Callable[..., Variables] | None:
    return part.polarised_first if unrestricted else part.closed_shell_first


def _counted_share(raw: Variables, density: Polarised) -> Tensor:
    """Factor of f: libxc returns energies per electron, so a floored channel does not count."""
    return ((raw[0] + raw[1]) / density.rho.detach()).clamp(max=1.0)


def _by_hand(raw: Variables, group: Group, *, unrestricted: bool) -> Variables:
    """f and its derivatives by the density variables, from the written-out ones."""
    kind = _highest([c.kind for c, _ in group[1]])
    used = raw[: N_VARIABLES[kind][unrestricted]]
    if used[0].device.type != "cpu":
        return _first_by_hand(used, group, unrestricted=unrestricted)
    return _recorded(group, unrestricted, len(used))(*used)


@lru_cache(maxsize=256)
def _recorded(group: Group, unrestricted: bool, n_variables: int) -> Operations:
    """:func:`_first_by_hand` of a group, recorded once for all molecules."""

    def first(*raw: Tensor) -> Variables:
        return _first_by_hand(raw, group, unrestricted=unrestricted)

    return recorded(first, *[(16,)] * n_variables)


def _first_by_hand(raw: Variables, group: Group, *, unrestricted: bool) -> Variables:
    """The functional, operation by operation."""
    threshold, pairs = group
    kind = _highest([c.kind for c, _ in pairs])
    with torch.no_grad():
        if unrestricted:
            leaves = sanitise_polarised(kind, raw, threshold)
            density = Polarised(raw[0] + raw[1] >= threshold, threshold, *leaves)
        else:
            leaves = sanitise_closed_shell(kind, raw, threshold)
            density = ClosedShell(raw[0] >= threshold, threshold, *leaves)
        total: Variables | None = None
        for part, coefficient in pairs:
            values = _require(_first_of(part, unrestricted))(density)
            if coefficient != 1:
                values = tuple(x.mul_(coefficient) for x in values)
            total = _add(total, values)
        f, *first = (torch.where(density.alive, x, 0.0) for x in _require(total))
        if isinstance(density, Polarised):
            f = f * _counted_share(raw, density)
    return f, *first


def _derivatives(
    f: Tensor, leaves: Variables, *, create_graph: bool = False, retain_graph: bool = False
) -> Variables:
    """Pointwise derivatives of f with respect to each leaf."""
    # the sum's own gradient: given one from outside, torch imports a package of symbolic shapes
    return torch.autograd.grad(
        f.sum(),
        leaves,
        create_graph=create_graph,
        retain_graph=retain_graph or create_graph,
        materialize_grads=True,
    )


def _contract(x: Variables, y: Variables) -> Tensor:
    """Sum over variables of x * y; a functional of few variables ignores the rest of ``y``."""
    with torch.enable_grad():
        total = x[0] * y[0]
        for a, b in zip(x[1:], y[1:], strict=False):
            total = total + a * b
        return total


def _add(total: Variables | None, more: Variables) -> Variables:
    """Sum of two sets of derivatives, of which one may lack the later variables."""
    if total is None:
        return more
    longer, shorter = (total, more) if len(total) >= len(more) else (more, total)
    head = tuple(a + b for a, b in zip(longer, shorter, strict=False))
    return head + longer[len(shorter) :]


def _require(x: T | None) -> T:
    assert x is not None
    return x


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """Product of two vector fields, [3, ngrids] -> [ngrids]."""
    return (x * y).sum(0)


def _bounded(rho: Tensor) -> Tensor:
    """Gradient rows of a size whose third powers are finite; sigma has its ceiling far below."""
    if rho.shape[-2] == 1:
        return rho
    out = rho.clone()
    out[..., 1:4, :].clamp_(-GRADIENT_CEILING, GRADIENT_CEILING)
    return out


def _variables(rho: Tensor) -> Variables:
    """u(rho): rho, sigma, tau, or the spin-resolved seven."""
    # beyond this the squares, and with them sigma_ab, would overflow to inf - inf
    grad = rho[..., 1:4, :].clamp(-1e150, 1e150)
    if len(rho) == 1:
        (one,) = rho
        out = (one[0],)
        if one.shape[0] > 1:
            out = (*out, _dot(grad[0], grad[0]))
        return out if one.shape[0] < 5 else (*out, one[4])
    a, b = rho
    out = (a[0], b[0])
    if a.shape[0] > 1:
        grad_a, grad_b = grad
        out = (*out, _dot(grad_a, grad_a), _dot(grad_a, grad_b), _dot(grad_b, grad_b))
    return out if a.shape[0] < 5 else (*out, a[4], b[4])


def _push(rho: Tensor, d: Tensor, *, linear: bool = True) -> Variables:
    """J(rho) d; with ``linear`` false only its sigma entries (the rest are zero)."""
    if len(rho) == 1:
        (one,), (along,) = rho, d
        zero = torch.zeros_like(along[0])
        out = (along[0] if linear else zero,)
        if along.shape[0] > 1:
            out = (*out, 2 * _dot(one[1:4], along[1:4]))
        return out if along.shape[0] < 5 else (*out, along[4] if linear else zero)
    (a, b), (da, db) = rho, d
    zero = torch.zeros_like(da[0])
    out = (da[0], db[0]) if linear else (zero, zero)
    if da.shape[0] > 1:
        ab = _dot(a[1:4], db[1:4]) + _dot(b[1:4], da[1:4])
        out = (*out, 2 * _dot(a[1:4], da[1:4]), ab, 2 * _dot(b[1:4], db[1:4]))
    if da.shape[0] < 5:
        return out
    return (*out, da[4], db[4]) if linear else (*out, zero, zero)


def _pull(rho: Tensor, w: Variables, *, linear: bool) -> Tensor:
    """J(rho)^T w; with ``linear`` false only the gradient rows (the rest are zero)."""
    out = torch.zeros_like(rho)
    if len(rho) == 1:
        (one,), (rows,) = rho, out
        if linear:
            rows[0] = w[0]
        if len(w) > 1:
            torch.mul(one[1:4], 2 * w[1], out=rows[1:4])
        if len(w) > 2 and linear:
            rows[4] = w[2]
        return out
    if linear:
        out[0, 0], out[1, 0] = w[0], w[1]
    if len(w) > 2:
        out[0, 1:4] = 2 * w[2] * rho[0, 1:4] + w[3] * rho[1, 1:4]
        out[1, 1:4] = 2 * w[4] * rho[1, 1:4] + w[3] * rho[0, 1:4]
    if len(w) > 5 and linear:
        out[0, 4], out[1, 4] = w[5], w[6]
    return out
