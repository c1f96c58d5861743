"""What the host reads of a stack of molecules: all numbers in one copy, and iterates of them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from deeph_zero.errors import ComputationError
from deeph_zero.ks.batch.padded import PaddedOrbitals
from deeph_zero.ks.linalg.eigen import NOT_FINITE
from deeph_zero.ks.occupation import smallest_gap
from deeph_zero.ks.response.orbital_rotation import IDEMPOTENT_TOL, INTEGER_TOL
from deeph_zero.ks.scf.iteration import State, Wanted
from deeph_zero.types import SpinMatrix


class Table:
    """Numbers of every molecule that come to the host together."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._columns: dict[str, Tensor] = {}

    def add(self, name: str, values: Tensor | None) -> None:
        """Take some numbers of each molecule.

        Args:
            name: What they are.
            values: [nmol] or [nmol, n]; None adds nothing.
        """
        if values is not None:
            self._columns[name] = values.reshape(len(values), -1)

    def read(self) -> dict[str, list[list[float]]]:
        """The rows of each; the host waits for the device.

        Returns:
            By name, one row for each molecule.

        Raises:
            ComputationError: If a number is not finite.
        """
        whole = torch.cat(list(self._columns.values()), dim=1).cpu()
        if not bool(torch.isfinite(whole).all()):
            raise ComputationError(NOT_FINITE)
        widths = [values.shape[1] for values in self._columns.values()]
        parts = whole.split(widths, dim=1)
        return {name: one.tolist() for name, one in zip(self._columns, parts, strict=True)}


def numbers_of(values: Sequence[float | Tensor], like: Tensor) -> Tensor:
    """One number of each molecule, on the device.

    Args:
        values: Here, or scalars of the device.
        like: A tensor there.

    Returns:
        [nmol].
    """
    known = [one for one in values if isinstance(one, Tensor) and one.device == like.device]
    if len(known) == len(values):
        return torch.stack(known)
    return torch.tensor([float(one) for one in values], dtype=like.dtype).to(like)


def add_kind(table: Table, bucket: PaddedOrbitals, dm: SpinMatrix) -> None:
    """How far densities are from a determinant's.

    Args:
        table: Where it goes.
        bucket: The molecules.
        dm: Their density matrices.
    """
    ps = dm @ bucket.ovlp
    table.add("count", ps.diagonal(dim1=-2, dim2=-1).sum(-1))
    table.add("excess", (ps @ dm - bucket.per_orbital * dm).abs().amax((-3, -2, -1)))


def state_of(
    wanted: Wanted, own: Mapping[str, list[float]], matrices: tuple[Tensor, Tensor, Tensor]
) -> State:
    """The iterate of one molecule.

    Args:
        wanted: What was asked for.
        own: Its numbers.
        matrices: Fock matrix, density matrix and commutator.

    Returns:
        With everything that the numbers say.
    """
    fock, dm, error = matrices
    square = own["square"][0]
    gap = determinant = None
    if "levels" in own:
        layer = wanted.layer
        levels = torch.tensor(own["levels"], dtype=torch.float64).reshape(layer.nspin, -1)
        gap = smallest_gap(levels[:, : layer.nmo], layer.nelec)
    if "excess" in own:
        nelec = wanted.layer.nelec
        want = nelec if wanted.layer.unrestricted else [2 * nelec[0]]
        off = max(abs(n - m) for n, m in zip(own["count"], want, strict=True))
        determinant = off <= INTEGER_TOL and own["excess"][0] < IDEMPOTENT_TOL
    return State(
        energy=own["energy"][0],
        fock=fock,
        dm=dm,
        gradient_norm=(0.5 * square) ** 0.5,
        error=error,
        n_electrons=own["electrons"][0] if "electrons" in own else None,
        products=[*own.get("products", [])[: len(wanted.errors)], square],
        gap=gap,
        determinant=determinant,
    )
