"""Input and output scales: buffers set from examples before training, saved with the weights.

Matrices span five orders of magnitude (1s-1s Fock elements against far-pair overlaps). Every input
and output channel is divided by its root mean square per element, or per ordered element pair, so
that the trainable part sees numbers of order one. A scale is shared by the components of an irrep
and therefore keeps the symmetry.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.ao.blocks import irrep_basis
from deeph_zero.errors import InputError
from deeph_zero.nn.frames import frame_basis
from deeph_zero.nn.inputs import N_MATRICES, NetworkInputs
from deeph_zero.nn.spec import NetworkSpec

NOTHING = 1e6
"""Bounds of an empty range, (high, low); finite, so that checks of the weights pass."""
_FLOOR = 1e-2
"""Smallest output scale as a fraction of the mean one."""
_NARROWEST = 0.1
"""Smallest scale of a channel as a fraction of its root mean square over the classes: one that a
few symmetric molecules leave nearly empty would magnify what the next molecule puts there."""


class Scales(torch.nn.Module):
    """The buffers, and how they are applied."""

    node_shift: Tensor
    node_scale: Tensor
    pair_scale: Tensor
    node_out: Tensor
    pair_out: Tensor
    correction_range: Tensor
    lookup: Tensor
    settled: Tensor
    node_instance: Tensor
    pair_instance: Tensor

    def __init__(self, spec: NetworkSpec) -> None:
        """Unit scales."""
        super().__init__()
        self.elements = spec.elements
        n, full = len(spec.elements), spec.layout.dim**2
        self.irreps, self.frame = irrep_basis(spec.layout), frame_basis(spec.layout)
        lookup = torch.full((max(spec.elements) + 1,), -1, dtype=torch.long)
        lookup[list(spec.elements)] = torch.arange(n)
        self.register_buffer("lookup", lookup, persistent=False)
        # elements whose scales belong to trained weights
        self.register_buffer("settled", torch.zeros(n, dtype=torch.bool), persistent=False)
        node, pair = _instances(self.irreps.keys), _frame_instances(self.frame.widths)
        self.register_buffer("node_instance", node, persistent=False)
        self.register_buffer("pair_instance", pair, persistent=False)
        self.register_buffer("node_shift", torch.zeros(n, N_MATRICES, full))
        self.register_buffer("node_scale", torch.ones(n, N_MATRICES, full))
        self.register_buffer("pair_scale", torch.ones(n, n, N_MATRICES, full))
        self.register_buffer("node_out", torch.ones(n, full))
        self.register_buffer("pair_out", torch.ones(n, n, full))
        self.register_buffer("correction_range", torch.tensor([NOTHING, -NOTHING]))

    def species(self, inputs: NetworkInputs) -> Int[Tensor, " nnode"]:
        """Position of each node's atomic number among the elements.

        Args:
            inputs: Those of any structures.

        Returns:
            Indices into ``spec.elements``.

        Raises:
            InputError: If one is unknown.
        """
        unknown = inputs.elements - set(self.elements)
        if unknown:
            msg = (
                f"expected one of the elements {list(self.elements)}, got {min(unknown)}; "
                "use a model trained with this element"
            )
            raise InputError(msg)
        return self.lookup[inputs.numbers.to(self.lookup.device)]

    @property
    def seen_corrections(self) -> tuple[float, float]:
        """Range of the eigenvalues of corrections, Eh, see :mod:`deeph_zero.nn.spectral_bound`."""
        low, high = self.correction_range.tolist()
        return low, high

    def widen(self, low: float, high: float) -> None:
        """Take in the range of other corrections, Eh."""
        now = self.seen_corrections
        self.correction_range.copy_(torch.tensor([min(now[0], low), max(now[1], high)]))

    def node_inputs(self, raw: Tensor, species: Tensor) -> Tensor:
        """Diagonal input blocks, shifted (invariants only) and scaled."""
        nmat = raw.shape[1]
        return (raw - self.node_shift[species, :nmat]) / self.node_scale[species, :nmat]

    def pair_inputs(self, raw: Tensor, species: Tensor, edge_index: Tensor) -> Tensor:
        """Off-diagonal input blocks, scaled."""
        i, j = edge_index
        return raw / self.pair_scale[species[i], species[j], : raw.shape[1]]

    def moments(
        self,
        inputs: Sequence[NetworkInputs],
        corrections: Sequence[BlockMatrix],
        others: Iterable[NetworkInputs] = (),
    ) -> "Moments":
        """What :meth:`set_from` needs of some examples; see :meth:`FockNetwork.calibrate`."""
        found = Moments.empty(len(self.elements), self.node_out.shape[-1])
        for x, correction in zip(inputs, corrections, strict=True):
            exact = x.to("cpu", torch.float64)
            self._count_inputs(exact, found)
            self._count_correction(exact, correction, found)
        for x in others:
            self._count_inputs(x.to("cpu", torch.float64), found)
        return found

    def calibrate(
        self,
        inputs: Sequence[NetworkInputs],
        corrections: Sequence[BlockMatrix],
        others: Iterable[NetworkInputs] = (),
    ) -> None:
        """See :meth:`FockNetwork.calibrate`."""
        if not inputs or len(inputs) != len(corrections):
            msg = (
                f"calibration needs as many corrections as inputs, at least one, got "
                f"{len(corrections)} and {len(inputs)}; pass one correction per molecule"
            )
            raise InputError(msg)
        self.set_from([self.moments(inputs, corrections, others)])

    def set_from(self, parts: "Sequence[Moments]") -> None:
        """Set the scales.

        Args:
            parts: From :meth:`moments`, of different examples.
        """
        found = Moments.empty(len(self.elements), self.node_out.shape[-1])
        for part in parts:
            found.add(part)
        nodes = found.nodes
        invariant = torch.arange(nodes.first.shape[-1]) < self.irreps.sizes[0]
        mean = torch.where(invariant, nodes.mean(), 0.0)
        rms = nodes.rms(self.node_instance.cpu())
        spread = nodes.rms(self.node_instance.cpu(), mean)
        # one example has no spread: the prior width is the size itself, fading with more examples
        count = nodes.count.clamp(min=1)[:, None, None]
        spread = (spread.square() + (rms / (1 + count)).square()).sqrt()
        self._set(self.node_shift, _fill(mean, nodes.seen))
        self._set(self.node_scale, _positive(_widened(spread, nodes.seen)))
        pairs = found.pairs
        rms = _widened(pairs.rms(self.pair_instance.cpu()), pairs.seen)
        self._set(self.pair_scale, _positive(rms))
        for out, target, instance in (
            (found.node_out, self.node_out, self.node_instance),
            (found.pair_out, self.pair_out, self.pair_instance),
        ):
            rms = _widened(out.rms(instance.cpu()), out.seen)
            self._set(target, _floored(rms[:, 0]))

    def _set(self, buffer: Tensor, values: Tensor) -> None:
        """Write all rows but those of settled elements, or of pairs of two such."""
        n = len(self.elements)
        settled, per_pair = self.settled, buffer.shape[:2] == (n, n) and len(values) == n * n
        kept = settled[:, None] & settled if per_pair else settled
        kept = kept.view(*kept.shape, *[1] * (buffer.ndim - kept.ndim))
        # to single precision in any case: however the sums were ordered, the scales are the same
        rounded = values.float().view_as(buffer).to(buffer)
        buffer.copy_(torch.where(kept, buffer, rounded))

    def _count_inputs(self, x: NetworkInputs, found: "Moments") -> None:
        species = self.species(x).cpu()
        found.nodes.add(species, _pad(x.node_inputs))
        i, j = x.edge_index
        found.pairs.add(species[i] * len(self.elements) + species[j], _pad(x.edge_inputs))

    def _count_correction(
        self, x: NetworkInputs, correction: BlockMatrix, found: "Moments"
    ) -> None:
        species = self.species(x).cpu()
        node, pair = self.targets(x, correction)
        found.node_out.add(species, node[:, None])
        i, j = x.edge_index
        strength = (x.decay * x.envelope).clamp(min=1e-3)[:, None]
        found.pair_out.add(species[i] * len(self.elements) + species[j], (pair / strength)[:, None])

    def targets(
        self, x: NetworkInputs, correction: BlockMatrix
    ) -> tuple[Float[Tensor, "nnode full"], Float[Tensor, "nedge full"]]:
        """A correction as flat node irreps and flat O(2) channels of the pairs, Eh."""
        exact = correction.values.detach().cpu().double()
        node, edge = x.padded([correction.with_values(exact)])
        edge = x.ao_wigner @ edge @ x.ao_wigner.mT
        node = node.flatten(-2) @ self.irreps.matrix.to(node)
        return node, edge.flatten(-2) @ self.frame.matrix.to(edge)


class _Moments:
    """Count, sum and sum of squares per class (element or pair), matrix and component."""

    def __init__(self, classes: int, matrices: int, full: int) -> None:
        self.count = torch.zeros(classes, dtype=torch.float64)
        self.first = torch.zeros(classes, matrices, full, dtype=torch.float64)
        self.second = torch.zeros_like(self.first)

    def add(self, index: Tensor, rows: Tensor) -> None:
        self.count.index_add_(0, index, torch.ones(len(index), dtype=torch.float64))
        self.first.index_add_(0, index, rows)
        self.second.index_add_(0, index, rows.square())

    @property
    def seen(self) -> Tensor:
        return self.count > 0

    def merge(self, other: "_Moments") -> None:
        self.count += other.count
        self.first += other.first
        self.second += other.second

    def mean(self) -> Tensor:
        return self.first / self.count.clamp(min=1)[:, None, None]

    def rms(self, instance: Tensor, mean: Tensor | float = 0.0) -> Tensor:
        """Root mean square about ``mean``, averaged over the components of each irrep."""
        n = self.count.clamp(min=1)[:, None, None]
        square = (
            self.second / n - 2 * mean * self.first / n + mean**2
            if isinstance(mean, Tensor)
            else self.second / n
        ).clamp(min=0)
        size = int(instance.max()) + 1
        total = square.new_zeros(*square.shape[:-1], size).index_add(-1, instance, square)
        return (total / instance.bincount(minlength=size)).sqrt()[..., instance]


@dataclasses.dataclass(frozen=True)
class Moments:
    """Sums over examples from which the scales follow; sums of different examples add up.

    Attributes:
        nodes: Diagonal blocks of the input matrices, per element.
        pairs: Off-diagonal ones, per ordered element pair.
        node_out: Diagonal blocks of the corrections.
        pair_out: Off-diagonal ones, divided by the strength of the pair.
    """

    nodes: _Moments
    pairs: _Moments
    node_out: _Moments
    pair_out: _Moments

    @classmethod
    def empty(cls, n: int, full: int) -> "Moments":
        """No examples.

        Args:
            n: Elements.
            full: Components of a block.

        Returns:
            Zeros.
        """
        return cls(
            _Moments(n, N_MATRICES, full),
            _Moments(n * n, N_MATRICES, full),
            _Moments(n, 1, full),
            _Moments(n * n, 1, full),
        )

    def add(self, other: "Moments") -> None:
        """Take in other examples.

        Args:
            other: Their sums.
        """
        for field in dataclasses.fields(self):
            getattr(self, field.name).merge(getattr(other, field.name))


def _widened(scale: Tensor, seen: Tensor) -> Tensor:
    """Classes without an example filled; every channel at least a part of what it is elsewhere."""
    filled = _fill(scale, seen)
    if not bool(seen.any()):
        return filled
    typical = scale[seen].square().mean(0).sqrt()
    return torch.maximum(filled, _NARROWEST * typical)


def _pad(raw: Tensor) -> Tensor:
    return torch.nn.functional.pad(raw, (0, 0, 0, N_MATRICES - raw.shape[1]))


def _fill(values: Tensor, seen: Tensor) -> Tensor:
    """Classes without an example get the mean over those that have one, or 1 if none has."""
    if not bool(seen.any()):
        return torch.ones_like(values)
    mean = values[seen].mean(0)
    return torch.where(seen.view(-1, *[1] * (values.ndim - 1)), values, mean)


def _positive(scale: Tensor) -> Tensor:
    """Channels that are zero in the examples keep the scale 1 (their input stays what it is)."""
    tiny = 1e-6 * scale.amax(-1, keepdim=True)
    return torch.where(scale > tiny.clamp(min=1e-9), scale, torch.ones_like(scale))


def _floored(scale: Tensor) -> Tensor:
    """Never below a fraction of the mean scale of all channels that are not empty."""
    used = scale[scale > 0]
    floor = _FLOOR * (used.mean() if len(used) else torch.ones(()).to(scale))
    return scale.clamp(min=float(floor))


def _instances(keys: Sequence[tuple[tuple[int, int], int]]) -> Tensor:
    """Irrep instance of each flat component of a node block."""
    parts, start = [], 0
    for (l, _), mult in keys:
        parts.append(torch.arange(start, start + mult).repeat(2 * l + 1))
        start += mult
    return torch.cat(parts)


def _frame_instances(widths: Sequence[int]) -> Tensor:
    """O(2) channel of each flat component of a pair block."""
    parts, start = [], 0
    for k, width in enumerate(widths):
        parts.append(torch.arange(start, start + width).repeat(2 if k > 1 else 1))
        start += width
    return torch.cat(parts)
