"""Blocks of many grids as one padded stack: said on the CPU, evaluated on the device."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deeph_zero.ao.stack import StackedShells, stacked_values
from deeph_zero.ao.values import AOBasis
from deeph_zero.ks.parallel.uploads import sent
from deeph_zero.ks.protocol import AOStack


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Functions:
    """All contracted functions of one l of a molecule."""

    shell: Int[np.ndarray, " n"]
    first: Int[np.ndarray, " n"]
    centre: Float[np.ndarray, "n 3"]
    exponents: Float[np.ndarray, "n nprim"]
    coefficients: Float[np.ndarray, "n nprim"]


@dataclasses.dataclass(frozen=True)
class BlockSource:
    """What the blocks of one grid are made of, on the CPU.

    Attributes:
        basis: All shells.
        centres: Atoms, bohr.
        sizes: AOs of each shell.
        shells: Which shells each block has.
        points: Where each block's points are in ``coords``.
        coords: Bohr.
        weights: Quadrature weights.
    """

    basis: AOBasis
    centres: Float[np.ndarray, "natm 3"]
    sizes: Int[np.ndarray, " nshell"]
    shells: Bool[np.ndarray, "nblk nshell"]
    points: Sequence[slice]
    coords: Float[np.ndarray, "npoints 3"]
    weights: Float[np.ndarray, " npoints"]

    @functools.cached_property
    def functions(self) -> dict[int, _Functions]:
        """By l; shells with fewer primitives than others of their l are filled up."""
        out: dict[int, _Functions] = {}
        for l in sorted({group.l for group in self.basis.groups}):
            groups = [group for group in self.basis.groups if group.l == l]
            most = max(group.exponents.shape[1] for group in groups)
            columns: dict[str, list[np.ndarray]] = {}
            for group in groups:
                nctr, nprim = group.coefficients.shape[1:]
                fill = np.array([(0, 0), (0, most - nprim)])
                exponents = group.exponents.repeat_interleave(nctr, 0).numpy()
                atoms = group.atom.repeat_interleave(nctr).numpy()
                own = {
                    "shell": group.shell.repeat_interleave(nctr).numpy(),
                    "first": group.columns[:, :, 0].reshape(-1).numpy(),
                    "centre": self.centres[atoms],
                    "exponents": np.pad(exponents, fill, constant_values=1.0),
                    "coefficients": np.pad(group.coefficients.flatten(0, 1).numpy(), fill),
                }
                for name, values in own.items():
                    columns.setdefault(name, []).append(values)
            out[l] = _Functions(**{name: np.concatenate(some) for name, some in columns.items()})
        return out


def make_stack(
    blocks: Sequence[tuple[BlockSource, int]], nao: int, *, deriv: int, device: torch.device
) -> AOStack:
    """AO values of some blocks, padded to the largest one.

    Padding points have no weight and lie on real ones; padding columns have no values.

    Args:
        blocks: Grids and numbers of their blocks.
        nao: Index of columns that are not there.
        deriv: Highest derivative, 0 or 1.
        device: Where values are made.

    Returns:
        The stack.
    """
    npoints = max(_length(source.points[k]) for source, k in blocks)
    nloc = max(int(source.sizes[source.shells[k]].sum()) for source, k in blocks)
    given = np.zeros((len(blocks), 4, npoints))
    index = np.full((len(blocks), nloc), nao)
    parts: dict[int, list[dict[str, np.ndarray]]] = {}
    for b, (source, k) in enumerate(blocks):
        some = source.points[k]
        n = _length(some)
        given[b, :3, :n] = source.coords[some].T
        given[b, :3, n:] = given[b, :3, n - 1 : n]
        given[b, 3, :n] = source.weights[some]
        there = np.repeat(source.shells[k], source.sizes)
        index[b, : there.sum()] = np.flatnonzero(there)
        rank = there.cumsum() - 1
        for l, functions in source.functions.items():
            rows = np.flatnonzero(source.shells[k][functions.shell])
            parts.setdefault(l, []).append(
                {
                    "block": np.full(len(rows), b),
                    "row": b * nloc + rank[functions.first[rows]],
                    "centre": functions.centre[rows],
                    "exponents": functions.exponents[rows],
                    "coefficients": functions.coefficients[rows],
                }
            )
    cart = blocks[0][0].basis.cart
    shells, columns = _copied(parts, index, cart=cart, device=device)
    on_device = sent(torch.from_numpy(given), device)
    ao = stacked_values(shells, on_device[:, :3], nloc, deriv=deriv, cart=cart)
    return AOStack(ao=ao, weights=on_device[:, 3], index=columns)


def _copied(
    parts: dict[int, list[dict[str, np.ndarray]]],
    index: Int[np.ndarray, "nblk nloc"],
    *,
    cart: bool,
    device: torch.device,
) -> tuple[list[StackedShells], Tensor]:
    """The functions of every l, and the columns: all integers and all numbers in one copy each."""
    numbers: list[np.ndarray] = []
    integers: list[np.ndarray] = [index]
    for l in sorted(parts):
        most = max(one["exponents"].shape[1] for one in parts[l])
        nfun = (l + 1) * (l + 2) // 2 if cart else 2 * l + 1
        joined = {
            name: np.concatenate([_wide(one[name], most, name) for one in parts[l]])
            for name in parts[l][0]
        }
        integers += [joined["block"], joined["row"][:, None] + np.arange(nfun)]
        numbers += [joined[name] for name in ("centre", "exponents", "coefficients")]
    ints, floats = _to(integers, device), _to(numbers, device)
    shells = [
        StackedShells(
            l=l,
            block=ints[2 * k + 1],
            row=ints[2 * k + 2],
            centre=floats[3 * k],
            exponents=floats[3 * k + 1],
            coefficients=floats[3 * k + 2],
        )
        for k, l in enumerate(sorted(parts))
    ]
    return shells, ints[0]


def _wide(values: np.ndarray, most: int, name: str) -> np.ndarray:
    """With as many primitives as any molecule has."""
    if name not in ("exponents", "coefficients"):
        return values
    fill = np.array([(0, 0), (0, most - values.shape[1])])
    return np.pad(values, fill, constant_values=1.0 if name == "exponents" else 0.0)


def _to(arrays: Sequence[np.ndarray], device: torch.device) -> list[Tensor]:
    """Views of one tensor on the device."""
    flat = np.concatenate([one.reshape(-1) for one in arrays])
    parts = sent(torch.from_numpy(flat), device).split([a.size for a in arrays])
    return [part.view(a.shape) for part, a in zip(parts, arrays, strict=True)]


def _length(points: slice) -> int:
    return points.stop - points.start
