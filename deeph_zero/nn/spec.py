"""The architecture of a network as plain, JSON-able numbers."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

from deeph_zero.ao.shells import BasisLayout
from deeph_zero.errors import InputError

InputKind = Literal["physics", "geometry"]
Base = Literal["fock", "dielectric", "multipoles"]
Interaction = Literal["so2", "tensor-product"]

BASES: dict[InputKind, tuple[Base, ...]] = {
    "physics": ("fock", "dielectric"),
    "geometry": ("fock", "multipoles"),
}
"""What can be corrected with each kind of inputs, the newest last."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """Everything needed to build the network; the weights are all that is missing.

    Attributes:
        layout: Shells per element and slots.
        natural: Node channels of parity (-1)^l for l = 0..lmax.
        pseudo: Node channels of parity -(-1)^l for l = 0..lmax.
        pair: Pair channels A1, A2, E_1, ..., E_lmax in the bond frame.
        n_layers: Message-passing layers.
        cutoff: Pairs further apart get no correction, bohr.
        n_radial: Radial functions of the distance.
        embedding: Width of the element and pair embeddings.
        inputs: ``physics`` reads S, h, P0, F0, dP and corrects F0; ``geometry`` reads and corrects
            matrices that follow from elements, positions, charge and spin without a Fock build.
        base: What is corrected. With ``physics`` inputs, and read as F0: the matrix F[P0] itself
            ("fock", all there was before version 0.2) or moved on by the dielectric step. With
            ``geometry`` inputs: the core Hamiltonian screened by neutral atoms ("fock", likewise),
            which is read beside S; or superposed atoms with self-consistent charges and dipoles
            ("multipoles"), read with the densities it gives.
        balanced: Whether the output is the correction between partly orthogonalised orbitals, see
            :mod:`deeph_zero.nn.balance`, or (before version 0.2) between the orbitals themselves.
        interaction: Message passing by linear maps in bond frames or by tensor products.
    """

    layout: BasisLayout
    natural: tuple[int, ...]
    pseudo: tuple[int, ...]
    pair: tuple[int, ...]
    n_layers: int = 3
    cutoff: float = 14.0
    n_radial: int = 16
    embedding: int = 32
    inputs: InputKind = "physics"
    interaction: Interaction = "so2"
    base: Base = "fock"
    balanced: bool = False

    def __post_init__(self) -> None:
        """Check that widths belong together and that every number is in its range.

        Raises:
            InputError: If not.
        """
        for name, good, wanted in (
            ("cutoff", 0 < self.cutoff < math.inf, "a distance above 0, bohr"),
            ("n_layers", self.n_layers >= 0, "a count, 0 or more"),
            ("n_radial", self.n_radial >= 1, "a count, 1 or more"),
            ("embedding", self.embedding >= 1, "a width, 1 or more"),
            ("inputs", self.inputs in BASES, f"one of {get_args(InputKind)}"),
            (
                "base",
                self.base in BASES.get(self.inputs, ()),
                f"one of {BASES.get(self.inputs)} with {self.inputs} inputs",
            ),
            (
                "interaction",
                self.interaction in get_args(Interaction),
                f"one of {get_args(Interaction)}",
            ),
        ):
            if not good:
                msg = f"{name}: expected {wanted}, got {getattr(self, name)!r}; correct it"
                raise InputError(msg)
        lmax = 2 * self.layout.max_l
        if not len(self.natural) == len(self.pseudo) == len(self.pair) - 1 == lmax + 1:
            msg = (
                f"widths must run over l = 0..{lmax} (pair: A1, A2, E_1..E_{lmax}), got "
                f"{self.natural}, {self.pseudo}, {self.pair}; use default_spec(layout)"
            )
            raise InputError(msg)

    @property
    def reads_density(self) -> bool:
        """Whether there are more input matrices than S and h."""
        return self.inputs == "physics" or self.base != "fock"

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers the network knows."""
        return self.layout.elements

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        data = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        data["layout"] = self.layout.to_dict()
        return {k: list(v) if isinstance(v, tuple) else v for k, v in data.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "NetworkSpec":
        """Inverse of :meth:`to_dict`."""
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data.items()
        }
        values["layout"] = BasisLayout.from_dict(data["layout"])
        return cls(**values)


Size = Literal["tiny", "small", "medium", "large"]

_SCALE: dict[str, float] = {"tiny": 0.25, "small": 1.0, "medium": 1.5, "large": 2.5}
_LAYERS: dict[str, int] = {"tiny": 2, "small": 3, "medium": 3, "large": 4}
_NATURAL = (64, 32, 24, 24, 20)
_PSEUDO = (0, 8, 8, 4, 4)
_PAIR = (96, 32, 64, 64, 48, 24)
_HIGH = 4
"""Channels of any l or m beyond the tables."""


def default_spec(
    layout: BasisLayout,
    size: Size = "small",
    *,
    cutoff: float = 14.0,
    inputs: InputKind = "physics",
    interaction: Interaction = "so2",
    balanced: bool = True,
) -> NetworkSpec:
    """Widths that worked for a basis of any angular momentum.

    Args:
        layout: Basis layout.
        size: ``tiny`` for tests, ``small`` (about 0.9 M parameters with def2-SVP) for one molecule
            or one trajectory, larger ones for many molecules.
        cutoff: bohr.
        inputs: See :class:`NetworkSpec`.
        interaction: See :class:`NetworkSpec`.
        balanced: See :class:`NetworkSpec`; false for crystals, whose blocks have no such K.

    Returns:
        The specification.

    Raises:
        InputError: If the size is unknown.
    """
    if size not in _SCALE:
        msg = f"size must be one of {list(_SCALE)}, got {size!r}; choose one of them"
        raise InputError(msg)

    def widths(table: tuple[int, ...], n: int) -> tuple[int, ...]:
        full = [*table, *[_HIGH] * max(0, n - len(table))][:n]
        # even, because the invariants pair one half of the channels with the other
        return tuple(2 * max(1, round(w * _SCALE[size] / 2)) if w else 0 for w in full)

    lmax = 2 * layout.max_l
    return NetworkSpec(
        layout=layout,
        natural=widths(_NATURAL, lmax + 1),
        pseudo=widths(_PSEUDO, lmax + 1),
        pair=widths(_PAIR, lmax + 2),
        n_layers=_LAYERS[size],
        cutoff=cutoff,
        inputs=inputs,
        interaction=interaction,
        base=BASES[inputs][-1],
        balanced=balanced,
    )
