"""What a network reads of a molecule, and how it corrects it."""

import dataclasses

import torch

from deeph_zero.ao.shells import BasisLayout
from deeph_zero.nn.spec import BASES, Base, InputKind, NetworkSpec


@dataclasses.dataclass(frozen=True)
class Reading:
    """What of a network's architecture a geometry has to be made ready for.

    Attributes:
        layout: Shells of the network's elements.
        cutoff: The network's, bohr.
        inputs: What it reads, see :class:`~deeph_zero.nn.spec.NetworkSpec`.
        base: What it corrects, likewise; None: the newest with these inputs.
        balanced: How corrections are predicted, likewise.
        dtype: The network's.
    """

    layout: BasisLayout
    _: dataclasses.KW_ONLY
    cutoff: float
    inputs: InputKind = "physics"
    base: Base | None = None
    balanced: bool = False
    dtype: torch.dtype = torch.float32

    @classmethod
    def of(cls, spec: NetworkSpec, dtype: torch.dtype) -> "Reading":
        """That of a network.

        Args:
            spec: Its architecture.
            dtype: Its weights.

        Returns:
            What it reads and corrects.
        """
        return cls(
            spec.layout,
            cutoff=spec.cutoff,
            inputs=spec.inputs,
            base=spec.base,
            balanced=spec.balanced,
            dtype=dtype,
        )

    @property
    def corrected(self) -> Base:
        """The base, said."""
        return BASES[self.inputs][-1] if self.base is None else self.base
