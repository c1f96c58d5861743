"""Kohn-Sham theory of several unlike molecules in one call, each as it would be alone."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Literal, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from deeph_zero.errors import InputError
from deeph_zero.ks.batch.dielectric import whole_steps
from deeph_zero.ks.batch.padded import PaddedBucket
from deeph_zero.ks.given import check_count
from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.ks.parallel.graphs import GRAPHS_HERE
from deeph_zero.ks.protocol import Functional
from deeph_zero.ks.response.dielectric import dielectric_step
from deeph_zero.ks.scf.start import filled_density
from deeph_zero.ks.terms import build
from deeph_zero.ks.terms.build import FockBuild
from deeph_zero.ks.terms.padding import Padding
from deeph_zero.ks.terms.semilocal_merged import MERGE_POINTS
from deeph_zero.types import GivenMatrices, MoleculeMatrix

R = TypeVar("R")

Strategy = Literal["merged", "padded"]
Energies = Float[Tensor, " nmol"]
Filled = tuple[MoleculeMatrix, float]
"""A density matrix and T S of its occupations, Eh."""

SIZE_STEP = 1.5
"""Molecules share a padded stack while the largest has at most so many times the orbitals of the
smallest."""


def default_strategy(device: torch.device) -> Strategy:
    """How to work on a device: "padded" stacks for a GPU, "merged" calls for a processor."""
    return "padded" if device.type == "cuda" else "merged"


def gains_together(device: torch.device) -> bool:
    """Whether whole calculations of several molecules cost less in one call.

    Args:
        device: Where their tensors live.

    Returns:
        True on a GPU.
    """
    return default_strategy(device) == "padded"


def gains(device: torch.device, ngrids: int) -> bool:
    """Whether a molecule is faster in a batch than alone.

    Args:
        device: Where its tensors live.
        ngrids: Points of its grid.

    Returns:
        True on a GPU; on a processor where a call of the functional has room for more points.
    """
    return gains_together(device) or ngrids <= MERGE_POINTS


class _Build(Function):
    """(E, F, F, ...) of density matrices; the backward pass of the F is one response each."""

    @staticmethod
    def forward(ctx: Any, batch: "KSBatch", *dms: Tensor) -> tuple[Tensor, ...]:
        builds = batch.build(dms)
        ctx.batch = batch
        ctx.set_materialize_grads(False)
        focks = tuple(one.fock for one in builds)
        ctx.save_for_backward(*dms, *focks)
        return torch.stack([one.energy for one in builds]), *focks

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        energy, *focks = grads
        n = len(focks)
        # the Fock matrices are outputs: autograd reconnects them, so dE differentiates again
        dms, built = ctx.saved_tensors[:n], ctx.saved_tensors[n:]
        along: dict[int, Tensor] = {}
        wanted = [k for k in range(n) if focks[k] is not None and ctx.needs_input_grad[k + 1]]
        if wanted:
            grad = [focks[k] for k in wanted]
            sym = [0.5 * (g + g.mH) for g in grad if g is not None]
            some = ctx.batch.subset(wanted)
            found = _Response.apply(some, *[dms[k] for k in wanted], *sym)
            along = dict(zip(wanted, found, strict=True))  # pyright: ignore
        totals: list[Tensor | None] = []
        for k in range(n):
            parts = [along[k]] if k in along else []
            if energy is not None:
                parts.append(energy[k] * built[k])
            totals.append(sum(parts[1:], start=parts[0]) if parts else None)
        return None, *totals


class _Response(Function):
    """dF of every molecule along a direction; self-adjoint, so its backward is the same map."""

    @staticmethod
    def forward(ctx: Any, batch: "KSBatch", *matrices: Tensor) -> tuple[Tensor, ...]:
        n = len(batch)
        ctx.batch = batch
        ctx.save_for_backward(*matrices)
        return tuple(batch.response(matrices[:n], matrices[n:]))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        batch: KSBatch = ctx.batch
        n = len(batch)
        dms, directions = ctx.saved_tensors[:n], ctx.saved_tensors[n:]
        sym = [0.5 * (grad + grad.mH) for grad in grads]
        by_dm: list[Tensor | None] = [None] * n
        by_direction: list[Tensor | None] = [None] * n
        if any(ctx.needs_input_grad[1 : n + 1]):
            parts = zip(batch.layers, dms, directions, sym, strict=True)
            by_dm = [build.second_response(layer.data, *one) for layer, *one in parts]
        if any(ctx.needs_input_grad[n + 1 :]):
            by_direction = list(batch.response(dms, sym))
        return None, *by_dm, *by_direction


class KSBatch:
    """Several :class:`KohnShamLayer` as one: lists of matrices in, lists out, in order.

    Molecules may differ in size, elements, charge, spin treatment and functional; those that agree
    in functional and spin treatment are worked on together. Every number equals the one of the
    layer alone to rounding, and is differentiable in the same way. The layers count their own
    builds. What does not fit a GPU's memory is done in halves, from then on. Methods without
    details are those of :class:`~deeph_zero.ks.facade.BatchFacade`.

    Examples:
        >>> batch = KSBatch([water, methanol])
        >>> energies, focks = batch(batch.density(focks))
    """

    def __init__(self, layers: Sequence[KohnShamLayer], *, strategy: str | None = None) -> None:
        """Sort the molecules into buckets.

        Args:
            layers: The molecules, all on one device.
            strategy: "merged" (one by one with shared calls of the functional) or "padded" (stacks
                of equal shape); None chooses by the device.

        Raises:
            InputError: If there is no layer, they are on different devices or the strategy is
                unknown.
        """
        if not layers:
            raise InputError("a batch expected at least one molecule, got none")
        devices = {layer.x.device for layer in layers}
        if len(devices) > 1:
            found = ", ".join(sorted(map(str, devices)))
            raise InputError(f"a batch expected one device, got {found}; give each its own batch")
        if strategy not in (None, "merged", "padded"):
            raise InputError(f"strategy expected 'merged' or 'padded', got {strategy!r}")
        self.layers = list(layers)
        chosen = strategy or default_strategy(devices.pop())
        self.strategy: Strategy = cast("Strategy", chosen)
        self._buckets = _buckets(self.layers, self.strategy)
        self._stacks: dict[int, PaddedBucket] = {}
        self.scarce = False
        """Whether not all of a bucket did fit the device's memory at once."""

    def __len__(self) -> int:
        """Number of molecules."""
        return len(self.layers)

    def subset(self, which: Sequence[int]) -> "KSBatch":
        """The batch of some of the molecules; itself if all are asked for in order."""
        if list(which) == list(range(len(self))):
            return self
        return KSBatch([self.layers[k] for k in which], strategy=self.strategy)

    def __call__(self, dms: GivenMatrices) -> tuple[Energies, list[MoleculeMatrix]]:
        """Energies and Fock matrices; both differentiable in ``dms``."""
        self.check(dms)
        energies, *focks = _Build.apply(self, *(0.5 * (dm + dm.mH) for dm in dms))  # pyright: ignore
        return energies, focks

    def build(self, dms: GivenMatrices, coarse: Sequence[FockBuild | None] = ()) -> list[FockBuild]:
        """Energy parts and Fock matrices, without autograd. Counts as one build each.

        Args:
            dms: Symmetric density matrices.
            coarse: Their builds on the coarse grid, where they are known: J and K are taken over
                by molecules that would be built alone.

        Returns:
            The builds, in order.

        Raises:
            InputError: If their number is not the number of molecules, or one is not of its
                molecule.
        """
        self.check(dms)

        def work(b: int, members: Sequence[int]) -> Iterable[Any]:
            some = [dms[k] for k in members]
            if self._is_padded(members):
                return self.stack(b).fock_builds(some)
            datas = [self.layers[k].data.plain() for k in members]
            known = [coarse[k] for k in members] if coarse else None
            return build.fock_builds(datas, some, known)

        with torch.no_grad():
            out = self._by_bucket(work)
        self._count()
        each = zip(self.layers, out, dms, strict=True)
        return [layer.shifted(built, dm) for layer, built, dm in each]

    def response(self, dms: GivenMatrices, directions: GivenMatrices) -> list[MoleculeMatrix]:
        """dF along symmetric ``directions``, without autograd. Counts as one build each."""
        self.check(dms)
        self.check(directions)

        def work(b: int, members: Sequence[int]) -> Iterable[Any]:
            some = [dms[k] for k in members], [directions[k] for k in members]
            if self._is_padded(members):
                return self.stack(b).responses(*some)
            return build.responses([self.layers[k].data.plain() for k in members], *some)

        with torch.no_grad():
            out = self._by_bucket(work)
        self._count()
        return out

    def density(self, focks: GivenMatrices) -> list[MoleculeMatrix]:
        """Density matrix of every Fock matrix, twice differentiable and safe under degeneracy."""
        self.check(focks)

        def work(b: int, members: Sequence[int]) -> Iterable[Any]:
            if self._is_padded(members):
                return self.stack(b).densities([focks[k] for k in members])
            return [self.layers[k].density(focks[k]) for k in members]

        return self._by_bucket(work)

    def filled(self, focks: GivenMatrices, degeneracy_tol: float) -> list[Filled]:
        """Density matrices and T S (Eh) of Fock matrices, without a gradient.

        Args:
            focks: Fock matrices, Eh.
            degeneracy_tol: Frontier levels closer than this (Eh) are filled evenly.

        Returns:
            P and T S of each.

        Raises:
            ComputationError: If a matrix is not finite.
        """

        def work(b: int, members: Sequence[int]) -> Iterable[Any]:
            if degeneracy_tol == 0 and self._is_padded(members):
                return [(dm, 0.0) for dm in self.stack(b).filled([focks[k] for k in members])]
            return [filled_density(self.layers[k], focks[k], degeneracy_tol) for k in members]

        return self._by_bucket(work)

    def dielectric_steps(self, focks: GivenMatrices, dms: GivenMatrices) -> list[MoleculeMatrix]:
        """What is left of a self-consistency step of every molecule, without autograd."""
        self.check(focks)
        self.check(dms)

        def work(b: int, members: Sequence[int]) -> Iterable[Any]:
            some = [focks[k] for k in members], [dms[k] for k in members]
            if self._is_padded(members):
                return whole_steps(self.stack(b), *some)
            each = zip((self.layers[k] for k in members), *some, strict=True)
            return [dielectric_step(*one) for one in each]

        with torch.no_grad():
            return self._by_bucket(work)

    def within_memory(self, work: Callable[[], R]) -> R:
        """Work that goes over the buckets, with smaller ones where the device's memory is short.

        Args:
            work: Done anew from its beginning.

        Returns:
            What it gives.

        Raises:
            OutOfMemoryError: If a single molecule does not fit.
        """
        while True:
            try:
                return work()
            except torch.OutOfMemoryError:
                if not self._halve():
                    raise
            # here nothing holds what had been computed
            GRAPHS_HERE.release()

    def _halve(self) -> bool:
        """Padded buckets of half as many molecules, one of them in memory at a time."""
        shared = [len(one) > 1 and self._is_padded(one) for one in self._buckets]
        parts: list[list[int]] = []
        for members, divisible in zip(self._buckets, shared, strict=True):
            half = len(members) // 2
            parts += [members[:half], members[half:]] if divisible else [members]
        self._buckets, self.scarce = parts, True
        self._stacks.clear()
        return any(shared)

    def _by_bucket(self, work: Callable[[int, Sequence[int]], Iterable[Any]]) -> list[Any]:
        """What work gives for every bucket, in the order of the molecules."""

        def whole() -> list[Any]:
            out: list[Any] = [None] * len(self)
            for b, members in enumerate(self._buckets):
                _place(out, members, work(b, members))
            return out

        return self.within_memory(whole)

    def padded_buckets(self) -> list[tuple[list[int], Padding | None]]:
        """Positions of the molecules of every bucket that is worked on as padded stacks.

        With what its stack shares with others of the same molecules, where it was made.
        """
        found: list[tuple[list[int], Padding | None]] = []
        for b, members in enumerate(self._buckets):
            if self._is_padded(members):
                stack = self._stacks.get(b)
                found.append((list(members), None if stack is None else stack.padding))
        return found

    def _is_padded(self, members: Sequence[int]) -> bool:
        return self.strategy == "padded" and self.layers[members[0]].smearing == 0

    @property
    def stackable(self) -> bool:
        """Whether all molecules are worked on as padded stacks: on a GPU, and none is smeared."""
        return all(map(self._is_padded, self._buckets))

    @property
    def buckets(self) -> list[list[int]]:
        """Positions of the molecules of every set that is worked on together."""
        return [list(one) for one in self._buckets]

    def stack(self, bucket: int) -> PaddedBucket:
        """The padded stack of a bucket, made when it is first asked for.

        Args:
            bucket: Its position among :attr:`buckets`.

        Returns:
            The stack; what memory is short of is made again.
        """
        if bucket not in self._stacks:
            if self.scarce:
                self._stacks.clear()
            members = self._buckets[bucket]
            self._stacks[bucket] = PaddedBucket([self.layers[k] for k in members])
        return self._stacks[bucket]

    def _count(self) -> None:
        for layer in self.layers:
            layer.fock_builds += 1

    def check(self, matrices: GivenMatrices) -> None:
        """See whether there is one matrix for each molecule, and each is of its molecule.

        Args:
            matrices: What was given.

        Raises:
            InputError: If their number is not the number of molecules, or type, precision, device,
                size or spin axis of one are others.
        """
        check_count(matrices, len(self))
        for k, (layer, matrix) in enumerate(zip(self.layers, matrices, strict=True)):
            layer.check(matrix, where=f"molecule {k} of the batch: ")


def _place(out: list[Any], members: Sequence[int], found: Iterable[Any]) -> None:
    for k, one in zip(members, found, strict=True):
        out[k] = one


def _buckets(layers: Sequence[KohnShamLayer], strategy: Strategy) -> list[list[int]]:
    """Members of every set of molecules that are worked on together."""
    kinds: dict[Hashable, list[int]] = {}
    keyless: list[Functional] = []
    for k, layer in enumerate(layers):
        key = _functional_key(layer.data.functional, keyless)
        terms = len(layer.data.exchange), layer.unrestricted
        own = (layer.gap_floor, layer.smearing > 0) if strategy == "padded" else ()
        kinds.setdefault((key, terms, own), []).append(k)
    groups = list(kinds.values())
    if strategy == "merged":
        return groups
    return [bucket for members in groups for bucket in _by_size(layers, members)]


def _functional_key(functional: Functional | None, keyless: list[Functional]) -> Hashable:
    """Equal for functionals with equal values; one without a key is equal to itself alone."""
    if functional is None or hasattr(functional, "key"):
        return getattr(functional, "key", None)
    if not any(one is functional for one in keyless):
        keyless.append(functional)
    return "keyless", next(k for k, one in enumerate(keyless) if one is functional)


def _by_size(layers: Sequence[KohnShamLayer], members: Sequence[int]) -> list[list[int]]:
    groups: list[list[int]] = []
    for k in sorted(members, key=lambda k: (layers[k].nao, k)):
        if groups and layers[k].nao <= SIZE_STEP * layers[groups[-1][0]].nao:
            groups[-1].append(k)
        else:
            groups.append([k])
    return groups
