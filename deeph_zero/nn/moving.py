"""How a network's output follows the atoms, by forward-mode differentiation."""

import copy
import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.nn.inputs import PhysicsMatrices, block_inputs, node_scalars
from deeph_zero.nn.neighbours import neighbours
from deeph_zero.nn.network import FockNetwork
from deeph_zero.types import AOMatrix


class MovingNetwork:
    """A network and one geometry, in double precision on the CPU.

    Attributes:
        output: What it predicts there, dense, in PySCF's AO order, Eh.
    """

    def __init__(
        self,
        network: FockNetwork,
        numbers: Sequence[int],
        coords: Float[Tensor, "natm 3"],
        state: tuple[int, int],
        matrices: PhysicsMatrices,
    ) -> None:
        """Predict.

        Args:
            network: A copy of it is differentiated.
            numbers: Atomic numbers.
            coords: bohr.
            state: Charge and 2S.
            matrices: What the network reads there.
        """
        self._network = copy.deepcopy(network).cpu().double().eval()
        self._numbers = list(numbers)
        self._near = neighbours(coords, network.spec.cutoff)
        self._channels = matrices.channels()
        self._scalars = node_scalars(self._numbers, *state, len(self._channels))
        self._pattern = self._near.pattern(network.spec.layout.sizes(self._numbers))
        with torch.no_grad():
            self.output = self._dense(self._channels, self._near.vectors)

    def moved(self, atom: int, changes: Iterable[PhysicsMatrices]) -> Iterator[AOMatrix]:
        """Derivatives of the output along x, y and z of an atom.

        Args:
            atom: The one that moves.
            changes: Derivatives of the matrices, per bohr.

        Yields:
            For each direction the derivative, Eh/bohr.
        """
        first, second = self._near.pairs
        step = (second == atom).double() - (first == atom).double()
        for x, change in enumerate(changes):
            direction = torch.zeros_like(self._near.vectors)
            direction[:, x] = step
            with torch.no_grad(), forward_ad.dual_level():
                output = self._dense(
                    forward_ad.make_dual(self._channels, change.channels().contiguous()),
                    forward_ad.make_dual(self._near.vectors, direction),
                )
                tangent = forward_ad.unpack_dual(output).tangent
            yield torch.zeros_like(self.output) if tangent is None else tangent

    def _dense(self, channels: Tensor, vectors: Tensor) -> Tensor:
        spec, pattern = self._network.spec, self._pattern
        inputs = block_inputs(
            spec.layout,
            self._numbers,
            dataclasses.replace(self._near, vectors=vectors),
            BlockMatrix.gathered(pattern, channels),
            self._scalars,
            cutoff=spec.cutoff,
            dtype=torch.float64,
        )
        (found,) = self._network(inputs)
        return found.to_dense()
