"""The only place that knows how PySCF's AO order and axes relate to e3nn's.

PySCF's real solid harmonics have the polar axis z and run m = -l..l, except p, which runs x, y, z.
e3nn's have the polar axis y. Relabelling the Cartesian axes cyclically, (x, y, z) -> (y, z, x),
turns one into the other without a sign or a dense matrix: e3nn's harmonics of the relabelled
vector *are* PySCF's harmonics of the original one, up to the order of p. So coordinates enter the
network through :func:`to_network_axes`, matrices through :func:`m_order`, and nothing else
converts.
"""

from collections.abc import Sequence

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
    """A rotation or reflection of vectors, written for network axes."""
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
"""The orders that are tried on a matrix of which nothing is known."""

SHELL_ORDERS = (*AO_ORDERS, "psi4", "openmx", "siesta", "aims", "abacus")
"""How programs order the functions of a shell, and which signs they give them.

``m``: m = -l..l (DeepH, DeePTB). ``orca``, ``psi4``, ``abacus``: m = 0, 1, -1, 2, -2, ...;
``openmx``: the same from f on, p is x, y, z and d is z2, x2-y2, xy, xz, yz. ``siesta`` and ``aims``
run as ``m`` does. Signs differ from PySCF's as in :func:`stored_signs`.
"""


def stored_order(l: int, name: str) -> tuple[int, ...]:
    """Position within a PySCF shell of each function of a shell in another order.

    Args:
        l: Angular momentum of the shell.
        name: One of :data:`SHELL_ORDERS`.

    Returns:
        ``order`` with ``stored[k] = sign[k] * pyscf[order[k]]``.
    """
    if name == "pyscf":
        return tuple(range(2 * l + 1))
    by_m = m_order(l)
    return tuple(by_m[m + l] for m in _stored_m(l, name))


def stored_signs(l: int, name: str) -> tuple[int, ...]:
    """Signs of the functions of a shell against PySCF's.

    ORCA turns m = ±3 round, and from g on m = ±4 too; SIESTA and ABACUS have (-1)^m, FHI-aims has
    it for m > 0.

    Args:
        l: Angular momentum of the shell.
        name: One of :data:`SHELL_ORDERS`.

    Returns:
        +1 or -1 for each function in the stored order.
    """
    if name in ("pyscf", "m", "psi4", "openmx"):
        return (1,) * (2 * l + 1)
    return tuple(_sign(m, name) for m in _stored_m(l, name))


def _stored_m(l: int, name: str) -> tuple[int, ...]:
    """m of each function in the stored order."""
    if name in ("m", "siesta", "aims"):
        return tuple(range(-l, l + 1))
    if name == "openmx" and l in _OPENMX:
        return _OPENMX[l]
    return (0, *(m for k in range(1, l + 1) for m in (k, -k)))


_OPENMX = {1: (1, -1, 0), 2: (0, 2, -2, 1, -1)}


def _sign(m: int, name: str) -> int:
    if name == "orca":
        return -1 if abs(m) in (3, 4) else 1
    odd = abs(m) % 2 == 1
    return -1 if odd and (m > 0 or name != "aims") else 1


def to_pyscf(ls: Sequence[int], name: str) -> tuple[list[int], list[int]]:
    """Places and signs that bring the functions of some shells into PySCF's order.

    Args:
        ls: Angular momentum of every shell, in order.
        name: The order they are stored in, one of :data:`SHELL_ORDERS`.

    Returns:
        ``places`` and ``signs`` with ``pyscf[k] = signs[k] * stored[places[k]]``.
    """
    order: list[int] = []
    stored: list[int] = []
    for l in ls:
        order.extend(len(stored) + k for k in stored_order(l, name))
        stored.extend(stored_signs(l, name))
    places = sorted(range(len(order)), key=order.__getitem__)
    return places, [stored[k] for k in places]


def from_pyscf(ls: Sequence[int], name: str) -> tuple[list[int], list[int]]:
    """Inverse of :func:`to_pyscf`: ``stored[k] = signs[k] * pyscf[places[k]]``."""
    places: list[int] = []
    signs: list[int] = []
    for l in ls:
        places.extend(len(signs) + k for k in stored_order(l, name))
        signs.extend(stored_signs(l, name))
    return places, signs
