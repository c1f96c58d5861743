"""The Fock network: physics matrices in, correction to the Fock matrix out."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.ao.blocks import irrep_basis, irrep_matrix, split_irreps
from deeph_zero.errors import InputError
from deeph_zero.nn.frames import (
    feature_keys,
    frame_basis,
    frame_matrix,
    join_frame,
    split_frame,
)
from deeph_zero.nn.inputs import N_MATRICES, NetworkInputs
from deeph_zero.nn.interactions import LAYERS
from deeph_zero.nn.layers import TypedLinear
from deeph_zero.nn.reading import Reading
from deeph_zero.nn.scales import Scales
from deeph_zero.nn.spec import NetworkSpec


class FockNetwork(torch.nn.Module):
    """Predicts Delta_H = H - H0 from the physics matrices; exactly O(3)-equivariant.

    Weights are shared by the two spin channels, so swapping alpha and beta swaps the outputs. The
    readout starts at zero: an untrained network returns H = H0. With ``spec.balanced`` what is
    called a correction here is the C of :mod:`~deeph_zero.nn.balance`, K C K being Delta_H.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        """Random weights (from torch's generator) and unit scales; calibrate before training."""
        super().__init__()
        self.spec = spec
        layout = spec.layout
        self.irreps, self.frame = irrep_basis(layout), frame_basis(layout)
        self.keys = feature_keys(spec.natural, spec.pseudo)
        self.scales = Scales(spec)
        k = spec.embedding
        n_inputs = {key: mult * N_MATRICES for key, mult in self.irreps.keys}
        pair_inputs = [w * N_MATRICES for w in self.frame.widths]
        node_widths = [mult for _, mult in self.keys]
        self.element = torch.nn.Embedding(len(spec.elements), k)
        self.node_condition = torch.nn.Sequential(
            torch.nn.Linear(k + 3, k), torch.nn.SiLU(), torch.nn.Linear(k, k)
        )
        self.pair_condition = torch.nn.Sequential(
            torch.nn.Linear(2 * k + spec.n_radial, 2 * k),
            torch.nn.SiLU(),
            torch.nn.Linear(2 * k, k),
        )
        self.node_start = TypedLinear([n_inputs.get(key, 0) for key, _ in self.keys], node_widths)
        self.node_film = torch.nn.Linear(k, sum(node_widths))
        self.node_bias = torch.nn.Linear(k, node_widths[0])
        self.pair_start = TypedLinear(pair_inputs, spec.pair)
        self.pair_film = torch.nn.Linear(k, sum(spec.pair))
        self.pair_bias = torch.nn.Linear(k, spec.pair[0])
        self.layers = torch.nn.ModuleList(
            LAYERS[spec.interaction](spec) for _ in range(spec.n_layers)
        )
        features = dict(self.keys)
        self.node_feature_widths = [
            features.get(key, 0) + n_inputs[key] for key, _ in self.irreps.keys
        ]
        self.pair_feature_widths = [a + b for a, b in zip(spec.pair, pair_inputs, strict=True)]
        self.node_out_film = torch.nn.Linear(k, sum(self.node_feature_widths))
        self.pair_out_film = torch.nn.Linear(k, sum(self.pair_feature_widths))
        self.node_out = TypedLinear(
            self.node_feature_widths, [mult for _, mult in self.irreps.keys], bias=True, gain=0.0
        )
        self.pair_out = TypedLinear(
            self.pair_feature_widths, self.frame.widths, bias=True, gain=0.0
        )
        for film in (self.node_film, self.pair_film, self.node_out_film, self.pair_out_film):
            torch.nn.init.normal_(film.weight, std=0.3 / math.sqrt(k))
            torch.nn.init.zeros_(film.bias)

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights."""
        return self.element.weight.dtype

    @property
    def reading(self) -> Reading:
        """What geometries have to be made ready for."""
        return Reading.of(self.spec, self.dtype)

    def forward(self, inputs: NetworkInputs) -> list[BlockMatrix]:
        """Delta_H of every structure of the batch.

        Args:
            inputs: From :func:`~deeph_zero.nn.inputs.prepare_inputs` or
                :func:`~deeph_zero.nn.inputs.collate`; cast to the type of the weights.

        Returns:
            For each structure float64 blocks (i, j, R) in PySCF's AO order, Eh, with elements
            [nel], or [2, nel] for two spins; H(j, i, -R) = H(i, j, R)ᵀ exactly. ``to_dense`` gives
            a molecule's matrix, ``at_k`` that of a crystal.

        Raises:
            InputError: If an element or the cutoff is not the network's.
        """
        inputs = inputs.to(dtype=self.dtype)
        self._check(inputs)
        species = self.scales.species(inputs)
        node_features, pair_features = self.features(inputs, species)
        nodes = self.node_out(node_features)
        pairs = self.pair_out(pair_features)
        return inputs.matrices(*self.to_blocks(nodes, pairs, inputs, species))

    def features(
        self, inputs: NetworkInputs, species: Tensor | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """What the linear readout sees: per block irrep on nodes, per O(2) type on pairs."""
        self._check(inputs)
        species = self.scales.species(inputs) if species is None else species
        node_in, pair_in = self._arranged(inputs, species)
        element, pair_condition = self._conditions(inputs, species)
        by_key = {key: x for (key, _), x in zip(self.irreps.keys, node_in, strict=True)}
        empty = node_in[0].new_zeros(len(species), 0, 0)
        raw = [
            by_key.get(key, empty.new_zeros(len(species), 2 * key[0] + 1, 0))
            for key, _ in self.keys
        ]
        nodes = _film(self.node_start(raw), _factors(self.node_film, element), nodes=True)
        nodes[0] = nodes[0] + self.node_bias(element)[:, None]
        factors = _factors(self.pair_film, pair_condition)
        pairs = _film(self.pair_start(pair_in), factors, nodes=False)
        pairs[0] = pairs[0] + self.pair_bias(pair_condition)
        for layer in self.layers:
            nodes, pairs = layer(nodes, pairs, element, pair_condition, inputs)
        final = {key: x for (key, _), x in zip(self.keys, nodes, strict=True)}
        joined = [
            torch.cat([final[key], x], -1) if key in final else x
            for (key, _), x in zip(self.irreps.keys, node_in, strict=True)
        ]
        factors = _factors(self.node_out_film, element)
        node_features = _film(joined, factors, nodes=True, widths=self.node_feature_widths)
        joined = [torch.cat(two, -1) for two in zip(pairs, pair_in, strict=True)]
        factors = _factors(self.pair_out_film, pair_condition)
        pair_features = _film(joined, factors, nodes=False, widths=self.pair_feature_widths)
        return node_features, pair_features

    def _check(self, inputs: NetworkInputs) -> None:
        if inputs.cutoff != self.spec.cutoff:
            msg = (
                f"inputs must be prepared with the network's cutoff {self.spec.cutoff} bohr, got "
                f"{inputs.cutoff}; pass cutoff=model.spec.cutoff to prepare_inputs"
            )
            raise InputError(msg)

    def _arranged(
        self, inputs: NetworkInputs, species: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Scaled input matrices as channels, matrix by matrix (so 5 are a prefix of 8)."""
        nmat = inputs.node_inputs.shape[1] if self.spec.reads_density else 2
        node = self.scales.node_inputs(inputs.node_inputs[:, :nmat], species)
        pair = self.scales.pair_inputs(inputs.edge_inputs[:, :nmat], species, inputs.edge_index)
        nodes = [x.transpose(1, 2).flatten(-2) for x in split_irreps(node, self.irreps.keys)]
        parts = split_frame(pair, self.frame.widths)
        pairs = [x.flatten(1) for x in parts[:2]]
        pairs += [x.transpose(1, 2).flatten(-2) for x in parts[2:]]
        return nodes, pairs

    def _conditions(self, inputs: NetworkInputs, species: Tensor) -> tuple[Tensor, Tensor]:
        """Invariant vectors per node and per pair: elements, charge and spin, distance."""
        embedded = self.element(species)
        element = embedded + self.node_condition(torch.cat([embedded, inputs.scalars], -1))
        i, j = inputs.edge_index
        n = self.spec.n_radial
        centres = torch.linspace(0, self.spec.cutoff, n, dtype=self.dtype, device=embedded.device)
        t = (inputs.distances[:, None] - centres) * (n / self.spec.cutoff)
        radial = torch.exp(-0.5 * t.square())
        of_i, of_j = element.index_select(0, i), element.index_select(0, j)
        return element, self.pair_condition(torch.cat([of_i, of_j, radial], -1))

    def to_blocks(
        self, nodes: list[Tensor], pairs: list[Tensor], inputs: NetworkInputs, species: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Scaled outputs as AO blocks in molecule axes.

        Args:
            nodes: What ``node_out`` makes of the node features.
            pairs: What ``pair_out`` makes of the pair features.
            inputs: Network inputs of these structures.
            species: Positions of their elements in the layout.

        Returns:
            Blocks of nodes and of pairs, what ``inputs.matrices`` takes.
        """
        flat = torch.cat([x.flatten(-2) for x in nodes], -1) * self.scales.node_out[species]
        dim = self.spec.layout.dim
        matrix = irrep_matrix(self.spec.layout, flat.dtype, flat.device)
        node = (flat @ matrix.mT).unflatten(-1, (dim, dim))
        i, j = inputs.edge_index
        strength = (inputs.envelope * inputs.decay)[:, None]
        flat = join_frame(pairs) * self.scales.pair_out[species[i], species[j]] * strength
        matrix = frame_matrix(self.spec.layout, flat.dtype, flat.device)
        edge = (flat @ matrix.mT).unflatten(-1, (dim, dim))
        return node, inputs.ao_wigner.mT @ edge @ inputs.ao_wigner

    @torch.no_grad()
    def calibrate(
        self,
        inputs: Sequence[NetworkInputs],
        corrections: Sequence[BlockMatrix],
        others: Iterable[NetworkInputs] = (),
    ) -> None:
        """Set input and output scales from examples; no labels needed.

        Args:
            inputs: One entry per structure.
            corrections: Example corrections Delta_H in the same order, Eh, in the blocks of the
                inputs (:meth:`NetworkInputs.blocks`); label-free proxies such as F[P(F0)] - F0
                serve.
            others: More structures, whose corrections are not known: for the input scales.

        Raises:
            InputError: If the lists differ in length or are empty, or a shape does not fit.
        """
        self.scales.calibrate(inputs, corrections, others)


def _factors(film: torch.nn.Linear, condition: Tensor) -> Tensor:
    """1 + the invariant scale of every channel."""
    return torch.nn.functional.linear(condition, film.weight, film.bias + 1)


def _film(
    parts: Sequence[Tensor], factors: Tensor, *, nodes: bool, widths: Sequence[int] | None = None
) -> list[Tensor]:
    """Multiply every channel by its factor; ``widths`` if parts may be narrower."""
    sizes = [x.shape[-1] for x in parts] if widths is None else list(widths)
    out = []
    for k, (x, f) in enumerate(zip(parts, factors.split(sizes, -1), strict=True)):
        factor = f if f.shape[1] == x.shape[-1] else f[:, : x.shape[-1]]
        out.append(x * (factor.unsqueeze(-2) if nodes or k > 1 else factor))
    return out
