"""The specification of ``model.json``: which keys there are, of which type, in which range."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field
from torch import Tensor

from deeph_zero.data.stored_values import HEAVIEST
from deeph_zero.errors import InputError
from deeph_zero.host.one_line import quoted
from deeph_zero.settings.base import Settings
from deeph_zero.settings.config import MethodConfig
from deeph_zero.settings.crystal_config import SmearedCrystalConfig

_Channels = Annotated[int, Field(ge=0, le=4096)]
_Momentum = Annotated[int, Field(ge=0, le=8)]
_Shells = dict[
    Annotated[int, Field(ge=1, le=HEAVIEST)],
    Annotated[tuple[_Momentum, ...], Field(min_length=1, max_length=256)],
]
_Slots = Annotated[
    tuple[Annotated[int, Field(ge=0, le=256)], ...], Field(min_length=1, max_length=9)
]


class LayoutDocument(Settings):
    """Shells per element, and the slots they share."""

    shells: Annotated[_Shells, Field(min_length=1)]
    slots: _Slots


class NetworkDocument(Settings):
    """The architecture, see :class:`deeph_zero.nn.spec.NetworkSpec`."""

    layout: LayoutDocument
    natural: tuple[_Channels, ...]
    pseudo: tuple[_Channels, ...]
    pair: tuple[_Channels, ...]
    n_layers: int = Field(default=3, ge=0, le=64)
    cutoff: float = Field(default=14.0, gt=0, le=1000)
    n_radial: int = Field(default=16, ge=1, le=4096)
    embedding: int = Field(default=32, ge=1, le=4096)
    inputs: Literal["physics", "geometry"] = "physics"
    interaction: Literal["so2", "tensor-product"] = "so2"
    base: Literal["fock", "dielectric", "multipoles"] = "fock"
    balanced: bool = False


class ConstantDocument(Settings):
    """See :class:`deeph_zero.prepared.constant.LevelConstant`."""

    offset: float
    elements: tuple[tuple[Annotated[int, Field(ge=1, le=HEAVIEST)], float, float], ...]


class CrystalDocument(SmearedCrystalConfig):
    """What only models of crystals have."""

    constant: ConstantDocument | None = None
    spacings: (
        tuple[
            Annotated[float, Field(gt=0)],
            Annotated[float, Field(gt=0)],
            Annotated[float, Field(gt=0)],
        ]
        | None
    ) = None


class ModelDocument(Settings):
    """The whole file but its marks (kind, version, checksum), which are looked at before."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="allow", allow_inf_nan=False, validate_default=False
    )

    method: MethodConfig
    crystal: CrystalDocument | None = None
    network: NetworkDocument
    elements: Annotated[tuple[Annotated[int, Field(ge=1, le=HEAVIEST)], ...], Field(min_length=1)]
    shells: _Shells
    basis: str
    auxbasis: str | None = None
    xc: str
    kind: str
    density_fit: bool = True
    grid_level: Annotated[int, Field(ge=0, le=9)] | None = None
    units: Literal["hartree atomic units"] = "hartree atomic units"
    ao_order: Literal["pyscf"] = "pyscf"
    cart: bool = False
    calibration: dict[str, Any] | None = None
    hyb: float = 0.0
    alpha: float = 0.0
    omega: float = 0.0
    nlc: tuple[tuple[float, ...], ...] = ()
    xc_components: tuple[tuple[str, float], ...] = ()
    dispersion: str | None = None
    version: str = ""
    e3nn_version: str = ""


_SAME = ("basis", "xc", "density_fit", "grid_level")
"""Said twice, of the model and of its method."""


def check_model_document(document: dict[str, Any], path: Path) -> None:
    """See whether ``model.json`` keeps its specification.

    Args:
        document: Its content.
        path: Where it stood, for messages.

    Raises:
        InputError: If a key is missing, of another type or out of range, or two disagree.
    """
    cure = "copy the file again from its run, or train again"
    try:
        # strict, so that text is no number; as JSON, whose keys are text and whose tuples are lists
        found = ModelDocument.model_validate_json(json.dumps(document), strict=True)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(
            f"{path}: expected the specification of one network, {_words(first)}; {cure}"
        ) from None
    layout = found.network.layout.shells
    if tuple(found.elements) != tuple(sorted(layout)) or found.shells != layout:
        raise InputError(
            f"{path}: expected elements and shells as in network.layout "
            f"({sorted(layout)}), got elements {list(found.elements)}; {cure}"
        )
    for name in _SAME:
        mine, theirs = getattr(found, name), getattr(found.method, name)
        if name in document and mine != theirs:
            raise InputError(
                f"{path}: expected {name} {theirs!r} as in method.{name}, got {mine!r}; {cure}"
            )


def check_sizes(network: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> None:
    """See whether weights have the sizes that ``network`` names, before anything is built.

    A specification of billions of channels would fill memory before its weights are missed.

    Args:
        network: The architecture, checked.
        tensors: The weights.
        path: ``model.json``, for messages.

    Raises:
        InputError: If they differ.
    """
    spec = NetworkDocument.model_validate(network)
    n, k = len(spec.layout.shells), spec.embedding
    dim = sum(count * (2 * l + 1) for l, count in enumerate(spec.layout.slots))
    wanted = {
        "element.weight": (n, k),
        "pair_condition.0.weight": (2 * k, 2 * k + spec.n_radial),
        "node_film.weight": (sum(spec.natural) + sum(spec.pseudo), k),
        "pair_film.weight": (sum(spec.pair), k),
        "scales.node_out": (n, dim**2),
    }
    found = {name: tuple(tensors[name].shape) for name in wanted if name in tensors}
    layers = {name.split(".")[1] for name in tensors if name.startswith("layers.")}
    different = [name for name in wanted if found.get(name) != wanted[name]]
    if different or len(layers) != spec.n_layers:
        what = (
            f"{different[0]} of shape {wanted[different[0]]}, got {found.get(different[0])}"
            if different
            else f"{spec.n_layers} layers, got {len(layers)}"
        )
        raise InputError(
            f"{path}: expected weights and specification of one network, with {what}; copy "
            "model.safetensors and model.json again from one run"
        )


def _words(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"] if part != "[key]")
    if error["type"] == "missing":
        return f"it has no {name}"
    if error["type"] == "extra_forbidden":
        return f"got the unknown key {name}"
    if not name:
        return "got something nested"
    told = str(error["msg"])
    wanted = told.removeprefix("Input should be ").removeprefix("Value error, expected ")
    return f"{name}: expected {wanted[:1].lower()}{wanted[1:]}, got {quoted(error.get('input'))}"
