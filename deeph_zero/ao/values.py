"""Values and derivatives of contracted Gaussian AOs at points, in torch, on the tensors' device."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deeph_zero.ao.harmonics import angular_table, monomials
from deeph_zero.types import Coordinates

N_COMPONENTS = (1, 4, 10)
"""Components up to derivative order 0, 1, 2: value; x, y, z; xx, xy, xz, yy, yz, zz."""

_AXES = tuple(tuple(itertools.combinations_with_replacement(range(3), n)) for n in range(3))

Angular = tuple[Float[Tensor, "natoms _ nfun npoints"], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shell:
    """A contracted shell, c_k(r) = Σ_p coefficients[k][p] exp(-exponents[p] r²) times r^l angles.

    Attributes:
        atom: Index of its centre.
        l: Angular momentum.
        exponents: One per primitive, bohr^-2.
        coefficients: [contraction][primitive], normalisation of the radial part included.
    """

    atom: int
    l: int
    exponents: Sequence[float]
    coefficients: Sequence[Sequence[float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShellGroup:
    """Shells of one l, one number of primitives and one number of contractions, as tensors.

    Attributes:
        l: Angular momentum.
        shell: Number of each shell in the basis.
        atom: Index of each centre.
        exponents: bohr^-2.
        coefficients: Contraction coefficients.
        columns: AO number of each function: shell by shell, contraction by contraction.
    """

    l: int
    shell: Int[Tensor, " nshell"]
    atom: Int[Tensor, " nshell"]
    exponents: Float[Tensor, "nshell nprim"]
    coefficients: Float[Tensor, "nshell nctr nprim"]
    columns: Int[Tensor, "nshell nctr nfun"]

    def take(self, rows: Int[Tensor, " n"]) -> "ShellGroup":
        """Some of the shells."""
        return ShellGroup(
            l=self.l, **{name: tensor[rows] for name, tensor in self._tensors().items()}
        )

    def to(self, device: torch.device | str) -> "ShellGroup":
        """These shells on another device."""
        return ShellGroup(
            l=self.l, **{name: tensor.to(device) for name, tensor in self._tensors().items()}
        )

    def _tensors(self) -> dict[str, Tensor]:
        values = vars(self)
        return {name: values[name] for name in values if name != "l"}


class _Family(NamedTuple):
    """Groups of one l: their centres, and the row of ``atoms`` that each shell needs."""

    groups: tuple[ShellGroup, ...]
    atoms: Int[Tensor, " natoms"]
    rows: tuple[Int[Tensor, " _"], ...]


@dataclasses.dataclass(frozen=True)
class AOBasis:
    """All shells of a molecule (or those that matter somewhere), without their positions.

    Attributes:
        groups: Shells that are evaluated together, by ascending l.
        cart: Cartesian functions instead of solid harmonics.
    """

    groups: tuple[ShellGroup, ...]
    cart: bool

    @classmethod
    def from_shells(cls, shells: Sequence[Shell], *, cart: bool = False) -> "AOBasis":
        """Sort shells into groups; AOs are numbered in the order of ``shells``.

        Args:
            shells: Shells in AO order; within a shell contractions first, then m (or monomials).
            cart: Cartesian functions.

        Returns:
            The basis, float64 on the CPU.
        """
        members: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
        first = 0
        for k, shell in enumerate(shells):
            pattern = (shell.l, len(shell.exponents), len(shell.coefficients))
            members.setdefault(pattern, []).append((k, first))
            first += len(shell.coefficients) * _n_functions(shell.l, cart)
        groups = []
        for l, _, nctr in sorted(members):
            numbers, firsts = zip(*members[l, _, nctr], strict=True)
            chosen = [shells[k] for k in numbers]
            nfun = _n_functions(l, cart)
            inner = torch.arange(nctr * nfun).reshape(nctr, nfun)
            groups.append(
                ShellGroup(
                    l=l,
                    shell=torch.tensor(numbers),
                    atom=torch.tensor([s.atom for s in chosen]),
                    exponents=_float64([s.exponents for s in chosen]),
                    coefficients=_float64([s.coefficients for s in chosen]),
                    columns=torch.tensor(firsts)[:, None, None] + inner,
                )
            )
        return cls(tuple(groups), cart)

    @functools.cached_property
    def index(self) -> Int[Tensor, " nao"]:
        """AO numbers of the columns that :func:`ao_values` gives, ascending."""
        return self._unordered.sort().values

    @functools.cached_property
    def order(self) -> Int[Tensor, " nao"]:
        """Where each column is in the order of evaluation (group by group)."""
        return self._unordered.argsort()

    @functools.cached_property
    def _unordered(self) -> Int[Tensor, " nao"]:
        return torch.cat([group.columns.reshape(-1) for group in self.groups])

    @functools.cached_property
    def families(self) -> tuple["_Family", ...]:
        """Groups of one l, with the centres whose angular functions they share."""
        out = []
        for _, family in itertools.groupby(self.groups, lambda group: group.l):
            groups = tuple(family)
            atoms, rows = torch.cat([g.atom for g in groups]).unique(return_inverse=True)
            out.append(_Family(groups, atoms, rows.split([len(g.atom) for g in groups])))
        return tuple(out)

    @property
    def nao(self) -> int:
        """Number of AOs."""
        return sum(group.columns.numel() for group in self.groups)

    @property
    def nshell(self) -> int:
        """Number of shells."""
        return sum(len(group.shell) for group in self.groups)

    def select(self, shells: Bool[Tensor, " nshell"]) -> "AOBasis":
        """The basis with some shells only; AOs keep their numbers.

        Args:
            shells: By shell number of the full basis, on the basis' device.

        Returns:
            A basis with fewer columns.
        """
        rows = [shells[group.shell].nonzero()[:, 0] for group in self.groups]
        kept = zip(self.groups, rows, strict=True)
        return AOBasis(tuple(group.take(r) for group, r in kept if len(r)), self.cart)

    def to(self, device: torch.device | str) -> "AOBasis":
        """This basis on another device."""
        return AOBasis(tuple(group.to(device) for group in self.groups), self.cart)


def _n_functions(l: int, cart: bool) -> int:
    return len(monomials(l)) if cart else 2 * l + 1


def _float64(rows: Sequence[object]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def ao_values(
    basis: AOBasis,
    coords: Coordinates,
    points: Float[Tensor, "npoints 3"],
    deriv: int = 0,
) -> Float[Tensor, "ncomp npoints nao"]:
    """AO values and derivatives with respect to the point, in PySCF's order.

    φ = R(r²) Y(r), r from the centre, R = Σ_p c_p exp(-a_p r²), Y a polynomial of degree l. With
    R' = 2 dR/d(r²): ∂_i φ = R ∂_i Y + R' r_i Y, and once more for second derivatives.
    Differentiable in ``coords`` and ``points``.

    Args:
        basis: Shells.
        coords: Centres, bohr.
        points: bohr, on the device of ``basis`` and ``coords``.
        deriv: Highest derivative: 0, 1 or 2.

    Returns:
        1, 4 or 10 components (value; x, y, z; xx, xy, xz, yy, yz, zz), columns as in
        ``basis.index``, contiguous.

    Accuracy:
        Equal to libcint's to 1e-12 of the largest value of each component.
    """
    return columns_last(ao_rows(basis, coords, points, deriv))


def columns_last(
    rows: Float[Tensor, "ncomp nao npoints"],
) -> Float[Tensor, "ncomp npoints nao"]:
    """Contiguous copy with the last axes swapped; by component, which is faster on CPUs."""
    out = rows.new_empty(rows.shape[0], rows.shape[2], rows.shape[1])
    for k in range(rows.shape[0]):
        out[k].copy_(rows[k].T)
    return out


def ao_rows(
    basis: AOBasis,
    coords: Coordinates,
    points: Float[Tensor, "npoints 3"],
    deriv: int = 0,
) -> Float[Tensor, "ncomp nao npoints"]:
    """:func:`ao_values` with one row per AO, as they are made."""
    if not basis.groups:
        return points.new_zeros(N_COMPONENTS[deriv], 0, len(points))
    parts = []
    for family in basis.families:
        shift = points.T - coords[family.atoms].unsqueeze(-1)
        found = angular(shift, family.groups[0].l, deriv, cart=basis.cart)
        square = shift.square().sum(1)
        for group, row in zip(family.groups, family.rows, strict=True):
            radial = _radial(group, square[row], deriv)
            local = tuple(part[row] for part in found)
            parts.append(_products(radial, shift[row], local))
    return torch.cat(parts, dim=1)[:, basis.order]


def ao_rows_along(
    basis: AOBasis,
    centre: Float[Tensor, " 3"],
    points: Float[Tensor, "npoints 3"],
    rows: Float[Tensor, "n 4 npoints"],
) -> tuple[Float[Tensor, "nao npoints"], Float[Tensor, "n nao npoints"]]:
    """AO values of one atom, and sums v φ + w·∇φ that need no gradient by itself.

    Args:
        basis: Shells of one atom.
        centre: bohr.
        points: bohr.
        rows: v, and w of three components, of every sum.

    Returns:
        φ, and the sums; AOs as in :func:`ao_rows`.

    Cost:
        About half of all components of :func:`ao_rows`.
    """
    shift = (points - centre).T.contiguous()
    square, along = shift.square().sum(0)[None], (rows[:, 1:] * shift).sum(1)
    values, sums = [], []
    for family in basis.families:
        y, *slopes = angular(shift[None], family.groups[0].l, 1, cart=basis.cart)
        turned = torch.einsum("nxp,xfp->nfp", rows[:, 1:], slopes[0][0])
        for group in family.groups:
            radial = _radial(group, square.expand(len(group.atom), -1), 1).unsqueeze(3)
            values.append((radial[0] * y[0, 0]).flatten(0, 2))
            factor = rows[:, 0, None, None, None] * radial[0]
            factor = factor + along[:, None, None, None] * radial[1]
            own = factor * y[0, 0] + radial[0] * turned[:, None, None]
            sums.append(own.flatten(1, 3))
    return torch.cat(values)[basis.order], torch.cat(sums, 1)[:, basis.order]


def _radial(
    group: ShellGroup, square: Float[Tensor, "nshell npoints"], deriv: int
) -> Float[Tensor, "order nshell nctr npoints"]:
    """R, 2 dR/d(r²), 4 d²R/d(r²)² of every contraction."""
    exponents = group.exponents
    primitives = torch.exp(exponents.neg().unsqueeze(-1) * square.unsqueeze(1))
    factors = torch.stack([(-2.0 * exponents) ** k for k in range(deriv + 1)])
    coefficients = factors.unsqueeze(2) * group.coefficients
    nctr = coefficients.shape[2]
    radial = coefficients.transpose(0, 1).flatten(1, 2) @ primitives
    return radial.unflatten(1, (deriv + 1, nctr)).transpose(0, 1)


def angular(shift: Float[Tensor, "natoms 3 npoints"], l: int, deriv: int, *, cart: bool) -> Angular:
    """Y and its derivatives up to ``deriv``, one tensor [natoms, axes, nfun, npoints] per order."""
    natoms, _, npoints = shift.shape
    powers = [shift.new_ones(natoms, 1, npoints)]
    for degree in range(1, l + 1):
        powers.append(_next_monomials(powers[-1], shift, degree))
    out = []
    for order in range(deriv + 1):
        table = angular_table(l, order, cart=cart, device=shift.device)
        rows = table @ powers[max(l - order, 0)]
        out.append(rows.unflatten(1, (len(_AXES[order]), -1)))
    return tuple(out)


def _next_monomials(
    previous: Float[Tensor, "natoms n npoints"],
    shift: Float[Tensor, "natoms 3 npoints"],
    degree: int,
) -> Float[Tensor, "natoms nnext npoints"]:
    """Monomials of ``degree`` from those of one less: x times all, y times those free of x, z^l."""
    x, y, z = (shift[:, axis : axis + 1] for axis in range(3))
    return torch.cat([x * previous, y * previous[:, -degree:], z * previous[:, -1:]], dim=1)


def _products(
    radial: Float[Tensor, "order nshell nctr npoints"],
    shift: Float[Tensor, "nshell 3 npoints"],
    angular: Angular,
) -> Float[Tensor, "ncomp ncolumns npoints"]:
    """All components of R times Y."""
    radial = radial.unsqueeze(3)
    axes = shift[:, :, None, None]
    y = angular[0][:, 0, None]  # [nshell, 1, nfun, npoints]; contractions come second
    out = [radial[0] * y]
    if len(angular) == 1:
        return torch.stack(out).flatten(1, 3)
    dy = angular[1][:, :, None]
    slope = radial[1] * y
    out += [radial[0] * dy[:, i] + axes[:, i] * slope for i in range(3)]
    if len(angular) == 3:
        d2y = angular[2][:, :, None]
        curvature = radial[2] * y
        for k, (i, j) in enumerate(_AXES[2]):
            mixed = axes[:, i] * dy[:, j] + axes[:, j] * dy[:, i]
            term = radial[0] * d2y[:, k] + radial[1] * mixed + axes[:, i] * axes[:, j] * curvature
            out.append(term + slope if i == j else term)
    return torch.stack(out).flatten(1, 3)
