"""The only place that knows how PySCF's AO order and axes relate to e3nn's.

PySCF's real solid harmonics have the polar axis z and run m = -l..l, except p, which runs x, y, z.
e3nn's have the polar axis y. Relabelling the Cartesian axes cyclically, (x, y, z) -> (y, z, x),
turns one into the other without a sign or a dense matrix: e3nn's harmonics of the relabelled
vector *are* PySCF's harmonics of the original one, up to the order of p. So coordinates enter the
network through :func:`to_network_axes`, matrices through :func:`m_order`, and nothing else
converts.
"""

from jaxtyping import Float
from torch import Tensor

_CYCLE = (1, 2, 0)
"""Component k of a vector in network axes is component ``_CYCLE[k]`` in the user's axes."""


def to_network_axes(vectors: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Cartesian vectors in the axes e3nn works in: (x, y, z) -> (y, z, x)."""
    return vectors[..., list(_CYCLE)]


def to_user_axes(vectors: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Inverse of :func:`to_network_axes`."""
    return vectors[..., [_CYCLE.index(k) for k in range(3)]]


def rotation_to_network_axes(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The same rotation or reflection, written for vectors in network axes."""
    return rotation[..., list(_CYCLE), :][..., list(_CYCLE)]


def m_order(l: int) -> tuple[int, ...]:
    """Position within a PySCF shell of each e3nn component m = -l..l.

    Args:
        l: Angular momentum of the shell.

    Returns:
        ``order`` with ``e3nn[k] = pyscf[order[k]]``; the identity except for p.
    """
    return _CYCLE if l == 1 else tuple(range(2 * l + 1))


AO_ORDERS = ("pyscf", "m", "orca")
"""How programs order the functions of a shell: PySCF; m = -l..l; ORCA's m = 0, 1, -1, 2, -2, ..."""


def stored_order(l: int, name: str) -> tuple[int, ...]:
    """Position within a PySCF shell of each function of a shell in another order.

    ORCA's signs of |m| > 2 are not treated: f functions need more than an order.

    Args:
        l: Angular momentum of the shell.
        name: One of :data:`AO_ORDERS`.

    Returns:
        ``order`` with ``stored[k] = pyscf[order[k]]``.
    """
    if name == "pyscf":
        return tuple(range(2 * l + 1))
    by_m = m_order(l)
    if name == "m":
        return by_m
    outwards = [0] + [m for k in range(1, l + 1) for m in (k, -k)]
    return tuple(by_m[m + l] for m in outwards)
