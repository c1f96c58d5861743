"""What the network reads: everything static of a geometry, computed once, and batches of it."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.ao.block_pattern import BlockPattern
from deeph_zero.ao.blocks import irrep_basis
from deeph_zero.ao.convention import to_network_axes
from deeph_zero.ao.rotation import wigner_d
from deeph_zero.ao.shells import BasisLayout
from deeph_zero.errors import InputError
from deeph_zero.ks.parallel.uploads import sent
from deeph_zero.nn.frames import bond_rotations, frame_basis
from deeph_zero.nn.neighbours import Neighbours, neighbours
from deeph_zero.types import AOMatrix

N_MATRICES = 8
"""Matrices of a spin channel: its own S, h, P0, F0, dP, and own - other of the last three, which
are zero in a closed shell."""

ENVELOPE_START = 0.6
"""Fraction of the cutoff up to which pairs count in full."""

DECAY_SCALE = 0.1
"""Squared pair overlap plus density at which a correction counts as half suppressed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhysicsMatrices:
    """A molecule's matrices that exist before any SCF iteration, in PySCF's AO order.

    Attributes:
        ovlp: Overlap S, [nao, nao].
        hcore: Core Hamiltonian, [nao, nao], Eh; with ``geometry`` inputs that of screened nuclei.
        dm0: Superposition of atomic densities P0, total [nao, nao] or [2, nao, nao]; with
            ``geometry`` inputs the density of H0; or None.
        fock0: F0 = F[P0], or H0, Eh, same shape; or None.
        ddm0: P(F0) - P0, or P(H0) - P(hcore), same shape; or None.
        n_spin: Spin channels where no density tells: 2 for an open shell.
    """

    ovlp: Float[Tensor, "nao nao"]
    hcore: Float[Tensor, "nao nao"]
    dm0: AOMatrix | None = None
    fock0: AOMatrix | None = None
    ddm0: AOMatrix | None = None
    n_spin: int = 1

    def channels(self) -> Float[Tensor, "channel matrix nao nao"]:
        """Input matrices of each spin channel: one channel of 5, or two of 8.

        Returns:
            S, h, P0, F0, dP of the own spin, and for two channels own - other of the last three.

        Raises:
            InputError: If only some of dm0, fock0, ddm0 are given, or their shapes differ.
        """
        given = [m for m in (self.dm0, self.fock0, self.ddm0) if m is not None]
        nao = self.ovlp.shape[-1]
        if len(given) not in (0, 3) or any(
            m.shape != given[0].shape or m.shape[-2:] != (nao, nao) for m in given
        ):
            msg = (
                f"dm0, fock0 and ddm0 must all be given with one shape [{nao}, {nao}] or "
                f"[2, {nao}, {nao}], got {[tuple(m.shape) for m in given]}; pass all or none"
            )
            raise InputError(msg)
        common = torch.stack([self.ovlp, self.hcore])
        if not given:
            own = torch.zeros(3, nao, nao, dtype=common.dtype, device=common.device)
            return torch.cat([common, own]).expand(self.n_spin, -1, -1, -1)
        dm, fock, ddm = given
        if dm.ndim == 2:
            return spin_channels(common, torch.stack([dm / 2, fock, ddm / 2])[None])
        return spin_channels(common, torch.stack([dm, fock, ddm], 1))


def spin_channels(common: Tensor, own: Tensor) -> Tensor:
    """Input matrices of each spin channel: one of 5, or two of 8.

    Args:
        common: What both spins have, S and h, [2, ..].
        own: Density, base and change of the density of each spin, [nspin, 3, ..].

    Returns:
        Common ones, own ones, and for two channels own - other, [nspin, 5 or 8, ..].
    """
    shared = common.expand(len(own), *common.shape)
    differences = [own - own.flip(0)] if len(own) == 2 else []
    return torch.cat([shared, own, *differences], 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkInputs:
    """Static data of one structure or a batch; one with two spins is two graph copies.

    What goes in and comes out are blocks (i, j, R): first those of every atom with itself, then
    those of the pairs. A molecule has R = 0 alone.

    Attributes:
        numbers: Atomic number of each node.
        scalars: Per node: charge, n_own - n_other, n_own - half the neutral electron number.
        node_inputs: Irreps of the diagonal blocks of the input matrices.
        edge_index: Receiver i, sender j of each directed pair within the cutoff.
        distances: |R_j + R - R_i|, bohr.
        envelope: Smooth cutoff, 1 at short distance, 0 with two zero derivatives at the cutoff.
        decay: How strongly a pair overlaps, 0..1; off-diagonal corrections carry this factor.
        edge_inputs: O(2) channels of the off-diagonal blocks in the bond frame.
        wigner: D_l into the bond frame for l = 0..2 max_l, [nedge, 2l+1, 2l+1].
        ao_wigner: Rotation of the AO slots into the bond frames, [nedge, dim, dim].
        source: Where each element of the output blocks lies in the flat padded node blocks followed
            by the flat padded edge blocks.
        partner: Position of the element (j ν, i μ, -R) for each element (i μ, j ν, R).
        node_graph: Graph (spin channel of a structure) of each node.
        patterns: Output blocks of each structure.
        n_spins: Spin channels of each structure.
        cutoff: bohr.
        elements: Atomic numbers among ``numbers``, known without a look at the device.
    """

    numbers: Int[Tensor, " nnode"]
    scalars: Float[Tensor, "nnode 3"]
    node_inputs: Float[Tensor, "nnode nmat full"]
    edge_index: Int[Tensor, "2 nedge"]
    distances: Float[Tensor, " nedge"]
    envelope: Float[Tensor, " nedge"]
    decay: Float[Tensor, " nedge"]
    edge_inputs: Float[Tensor, "nedge nmat full"]
    wigner: tuple[Tensor, ...]
    ao_wigner: Float[Tensor, "nedge dim dim"]
    source: Int[Tensor, " nelement"]
    partner: Int[Tensor, " nelement"]
    node_graph: Int[Tensor, " nnode"]
    patterns: tuple[BlockPattern, ...]
    n_spins: tuple[int, ...]
    cutoff: float
    elements: frozenset[int]

    @property
    def n_molecules(self) -> int:
        """Structures in the batch."""
        return len(self.patterns)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "NetworkInputs":
        """Copy on another device and with another floating-point type."""

        def move(value: object) -> object:
            if isinstance(value, tuple):
                return tuple(move(v) for v in value)
            if isinstance(value, BlockPattern):
                return value.to(device)
            if isinstance(value, Tensor):
                return value.to(device=device, dtype=dtype if value.is_floating_point() else None)
            return value

        fields = {f.name: move(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return NetworkInputs(**fields)  # pyright: ignore[reportArgumentType]

    def padded(self, matrices: Sequence[BlockMatrix]) -> tuple[Tensor, Tensor]:
        """Node blocks and edge blocks (molecule axes) of one matrix per structure.

        Args:
            matrices: Matrices with the inputs' own patterns, see :meth:`blocks`; float64.

        Returns:
            [nnode, dim, dim] and [nedge, dim, dim].
        """
        flat = torch.cat([m.values.reshape(-1) for m in matrices]).to(self.source.device)
        dim = self.ao_wigner.shape[-1]
        n, e = len(self.numbers), len(self.distances)
        blocks = flat.new_zeros((n + e) * dim * dim).index_copy(0, self.source, flat)
        node, edge = blocks.view(n + e, dim, dim).split([n, e])
        return node, edge

    def blocks(self, matrix: Float[Tensor, "*spin nao nao"]) -> BlockMatrix:
        """The blocks of one molecule's dense matrix; pairs beyond the cutoff are left out.

        Args:
            matrix: In PySCF's AO order; inputs of two spins take [2, nao, nao].

        Returns:
            What calibration and the closed-form readout take.

        Raises:
            InputError: If the matrix has another shape, or these are not one molecule's inputs.
        """
        lead = (2,) if self.n_spins[0] == 2 else ()
        nao = self.patterns[0].nao
        if len(self.patterns) != 1 or tuple(matrix.shape) != (*lead, nao, nao):
            msg = (
                f"a correction must be a matrix of shape {(*lead, nao, nao)} for one molecule, got "
                f"{tuple(matrix.shape)}; use the AO basis and spin of the inputs"
            )
            raise InputError(msg)
        return BlockMatrix.gathered(self.patterns[0].to(matrix.device), matrix)

    def matrices(self, node: Tensor, edge: Tensor) -> list[BlockMatrix]:
        """Symmetric float64 matrices from padded blocks, H(-R) = H(R)ᵀ; one per structure."""
        flat = torch.cat([node.flatten(), edge.flatten()]).index_select(0, self.source).double()
        flat = 0.5 * (flat + flat.index_select(0, self.partner))
        counts = [n * p.nel for n, p in zip(self.n_spins, self.patterns, strict=True)]
        return [
            BlockMatrix(pattern, part if n == 1 else part.view(n, -1))
            for pattern, n, part in zip(
                self.patterns, self.n_spins, flat.split(counts), strict=True
            )
        ]


def smooth_cutoff(distances: Float[Tensor, " nedge"], cutoff: float) -> Float[Tensor, " nedge"]:
    """1 up to 0.6 of the cutoff, then the quintic step to 0; twice continuously differentiable."""
    t = ((distances / cutoff - ENVELOPE_START) / (1 - ENVELOPE_START)).clamp(0, 1)
    return 1 - t**3 * (10 - 15 * t + 6 * t**2)


def prepare_inputs(  # noqa: PLR0917  (the fixed order numbers, coords, charge, spin)
    layout: BasisLayout,
    numbers: Sequence[int] | np.ndarray | Tensor,
    coords_bohr: np.ndarray | Tensor,
    charge: int,
    spin: int,
    matrices: PhysicsMatrices,
    *,
    cutoff: float,
    dtype: torch.dtype = torch.float32,
) -> NetworkInputs:
    """Everything the network needs of one geometry, computed in float64, then cast.

    Args:
        layout: Basis layout of the model.
        numbers: Atomic numbers, [natm].
        coords_bohr: Coordinates in PySCF's axes, [natm, 3], bohr.
        charge: Total charge.
        spin: 2S, n_alpha - n_beta.
        matrices: Physics matrices in PySCF's AO order; their spin axis decides one or two channels.
        cutoff: Pairs further apart get no correction and pass no message, bohr.
        dtype: Type of the network.

    Returns:
        The inputs on the CPU.

    Raises:
        InputError: If an element is unknown, matrices and basis differ in size, the geometry has
            coincident atoms, or a closed-shell input comes with spin.
    """
    z = [int(v) for v in numbers]
    coords = torch.as_tensor(coords_bohr, dtype=torch.float64).cpu()
    channels = _checked_channels(layout, z, spin, matrices)
    near = neighbours(coords, cutoff)
    return block_inputs(
        layout,
        z,
        near,
        BlockMatrix.gathered(near.pattern(layout.sizes(z)), channels),
        node_scalars(z, charge, spin, len(channels)),
        cutoff=cutoff,
        dtype=dtype,
    )


def block_inputs(
    layout: BasisLayout,
    numbers: Sequence[int],
    near: Neighbours,
    channels: BlockMatrix,
    scalars: Float[Tensor, "channel 3"],
    *,
    cutoff: float,
    dtype: torch.dtype = torch.float32,
) -> NetworkInputs:
    """Everything the network needs of a molecule or a crystal, computed in float64, then cast.

    Args:
        layout: Basis layout of the model.
        numbers: Atomic numbers of one cell.
        near: Pairs within the cutoff.
        channels: Physics matrices on the blocks of ``near.pattern``, [channel, matrix, nel]; one
            channel of 5 or two of 8 as in :meth:`PhysicsMatrices.channels`.
        scalars: Charge, n_own - n_other, n_own - half the neutral electron number.
        cutoff: That of ``near``, bohr.
        dtype: Type of the network.

    Returns:
        The inputs on the CPU.
    """
    pattern, n, natm = channels.pattern, len(channels.values), len(numbers)
    rotation = bond_rotations(to_network_axes(near.vectors))
    wigner = tuple(wigner_d(l, rotation) for l in range(2 * layout.max_l + 1))
    ao_wigner = _block_diagonal([wigner[l] for l in layout.slot_shells], len(near.vectors))
    node, edge, decay = _blocks_in_frames(layout, channels.to_slots(layout, numbers), ao_wigner)
    distances = near.vectors.norm(dim=-1)
    envelope = smooth_cutoff(distances, cutoff)
    inputs = NetworkInputs(
        numbers=torch.tensor(list(numbers) * n),
        scalars=scalars.repeat_interleave(natm, 0),
        node_inputs=node,
        edge_index=torch.cat([near.pairs + k * natm for k in range(n)], 1),
        distances=distances.repeat(n),
        envelope=envelope.repeat(n),
        decay=decay,
        edge_inputs=edge,
        wigner=tuple(d.repeat(n, 1, 1) for d in wigner),
        ao_wigner=ao_wigner.repeat(n, 1, 1),
        source=_source(pattern.slots(layout, numbers), natm, len(pattern), layout.dim**2, n),
        partner=torch.cat([pattern.transposed() + k * pattern.nel for k in range(n)]),
        node_graph=torch.arange(n).repeat_interleave(natm),
        patterns=(pattern,),
        n_spins=(n,),
        cutoff=cutoff,
        elements=frozenset(int(z) for z in numbers),
    )
    return inputs.to(dtype=dtype)


def _checked_channels(
    layout: BasisLayout, z: list[int], spin: int, matrices: PhysicsMatrices
) -> Tensor:
    """Input matrices of each spin channel on the CPU, of the size the layout expects."""
    channels = matrices.channels().detach().cpu().double()
    nao = layout.nao(z)
    if channels.shape[-1] != nao:
        msg = (
            f"the model's basis has {nao} AOs for this molecule, the matrices have "
            f"{channels.shape[-1]}; use the basis the model was made for"
        )
        raise InputError(msg)
    if spin != 0 and matrices.dm0 is not None and len(channels) == 1:
        msg = f"spin {spin} needs alpha and beta matrices [2, nao, nao], got one; use UKS"
        raise InputError(msg)
    return channels


def node_scalars(z: Sequence[int], charge: int, spin: int, n: int) -> Float[Tensor, "channel 3"]:
    """Charge, n_own - n_other, n_own - half the neutral electron number; one row per channel.

    Args:
        z: Atomic numbers.
        charge: Total charge.
        spin: 2S.
        n: Spin channels.

    Returns:
        These numbers for every atom.
    """
    rows = [
        [float(charge), float(s), (sum(z) - charge + s) / 2 - sum(z) / 2]
        for s in ((spin, -spin) if n == 2 else (spin,))
    ]
    return torch.tensor(rows, dtype=torch.float64)


def _blocks_in_frames(
    layout: BasisLayout, blocks: Tensor, ao_wigner: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Irreps of the atoms' own blocks, bond-frame channels of the pairs', and the pairs' decay."""
    nedge = len(ao_wigner)
    node, edge = blocks.split([blocks.shape[2] - nedge, nedge], 2)
    in_frame = ao_wigner @ edge @ ao_wigner.mT
    weight = (edge[:, 0].square() + edge[:, 4].square()).sum((-1, -2))
    part = weight / (weight + DECAY_SCALE)
    return (
        (node.flatten(-2) @ irrep_basis(layout).matrix).transpose(1, 2).flatten(0, 1),
        (in_frame.flatten(-2) @ frame_basis(layout).matrix).transpose(1, 2).flatten(0, 1),
        # a root at zero has no derivative, what does not overlap has the derivative zero
        torch.where(part > 0, part.where(part > 0, 1.0).sqrt(), 0.0).flatten(),
    )


def _block_diagonal(parts: list[Tensor], nedge: int) -> Tensor:
    dim = sum(p.shape[-1] for p in parts)
    out = torch.zeros(nedge, dim, dim, dtype=torch.float64)
    start = 0
    for p in parts:
        stop = start + p.shape[-1]
        out[:, start:stop, start:stop] = p
        start = stop
    return out


def _source(slots: Tensor, natm: int, nblock: int, full: int, n: int) -> Tensor:
    """Positions of ``n`` channels: all node blocks first, then all edge blocks."""
    to_node, to_edge = natm * full, (nblock - natm) * full
    is_edge = slots >= to_node
    parts = [
        slots + torch.where(is_edge, (n - 1) * to_node + k * to_edge, k * to_node) for k in range(n)
    ]
    return torch.cat(parts)


class _Shifts:
    """How far indices of structures move where these become one batch: few operations for all."""

    def __init__(self, items: Sequence[NetworkInputs], full: int) -> None:
        counts = np.array(
            [[len(x.numbers), len(x.distances), len(x.partner), x.n_molecules] for x in items]
        )
        first = counts.cumsum(0) - counts
        nodes = counts[:, 0]
        # node blocks of all come before the edge blocks
        to_node = first[:, 0] * full
        to_edge = (nodes.sum() - nodes + first[:, 1]) * full
        rows = [*counts.T[:3], first[:, 0], first[:, 3]]
        rows += [first[:, 2], nodes * full, to_node, to_edge - to_node]
        table = sent(torch.from_numpy(np.stack(rows)), items[0].numbers.device)
        ends = counts.sum(0).tolist()
        of_nodes, of_edges, of_elements = (
            torch.repeat_interleave(one, output_size=n)
            for one, n in zip(table[:3].unbind(), ends, strict=False)
        )
        self.edges, self.nodes = table[3][of_edges], table[4][of_nodes]
        of_element = table[5:][:, of_elements].unbind()
        self.elements, self._border, self._to_node, self._further = of_element

    def source(self, own: Tensor) -> Tensor:
        """Places in the flat blocks of the batch."""
        return own + self._to_node + (own >= self._border) * self._further


def collate(items: Sequence[NetworkInputs]) -> NetworkInputs:
    """One batch from several (batches of) molecules of the same layout, cutoff and type.

    Args:
        items: Molecules or batches; an open shell next to a closed one is padded with zeros.

    Returns:
        The batch, molecules in order.

    Raises:
        InputError: If the list is empty or the cutoffs differ.
    """
    if not items or len({x.cutoff for x in items}) != 1:
        msg = (
            f"a batch needs molecules prepared with one cutoff, got {[x.cutoff for x in items]}; "
            "prepare them with the model's cutoff"
        )
        raise InputError(msg)
    if len(items) == 1:
        return items[0]
    full = items[0].node_inputs.shape[-1]
    nmat = max(x.node_inputs.shape[1] for x in items)
    shifts = _Shifts(items, full)

    def padded(x: Tensor) -> Tensor:
        missing = nmat - x.shape[1]
        return torch.nn.functional.pad(x, (0, 0, 0, missing)) if missing else x

    def joined(name: str) -> Tensor:
        return torch.cat([getattr(x, name) for x in items])

    return NetworkInputs(
        numbers=joined("numbers"),
        scalars=joined("scalars"),
        node_inputs=torch.cat([padded(x.node_inputs) for x in items]),
        edge_index=torch.cat([x.edge_index for x in items], 1) + shifts.edges,
        distances=joined("distances"),
        envelope=joined("envelope"),
        decay=joined("decay"),
        edge_inputs=torch.cat([padded(x.edge_inputs) for x in items]),
        wigner=tuple(torch.cat(d) for d in zip(*(x.wigner for x in items), strict=True)),
        ao_wigner=joined("ao_wigner"),
        source=shifts.source(joined("source")),
        partner=joined("partner") + shifts.elements,
        node_graph=joined("node_graph") + shifts.nodes,
        patterns=tuple(p for x in items for p in x.patterns),
        n_spins=tuple(n for x in items for n in x.n_spins),
        cutoff=items[0].cutoff,
        elements=frozenset[int]().union(*(x.elements for x in items)),
    )
