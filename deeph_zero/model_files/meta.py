"""What ``model.json`` says of the problem a network was trained on, and what follows from it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from deeph_zero.errors import InputError, argument
from deeph_zero.integrals.info import KSInfo
from deeph_zero.molecule import Molecule, State
from deeph_zero.nn.spec import NetworkSpec
from deeph_zero.settings.config import MethodConfig
from deeph_zero.settings.crystal_config import SmearedCrystalConfig
from deeph_zero.settings.crystal_method import reciprocal_lengths

SLACK = 1.1
"""Factor on spacings of k-points: a strained cell has the mesh of the cell that it was made of."""


def model_meta(
    config: MethodConfig, info: KSInfo, spec: NetworkSpec, molecules: Iterable[Molecule] = ()
) -> dict[str, Any]:
    """What ``model.json`` says about the problem a network was trained on.

    Args:
        config: The settings, as asked for.
        info: The method, as resolved.
        spec: The network's architecture.
        molecules: What it is trained on; their charges and spins are kept as ``states``.

    Returns:
        JSON values, for :func:`deeph_zero.model_files.folder.save_model`.
    """
    resolved = ("xc", "kind", "xc_components", "hyb", "alpha", "omega", "nlc", "dispersion")
    resolved += ("auxbasis", "cart")
    return {
        "method": config.model_dump(mode="json"),
        "basis": config.basis,
        "elements": list(spec.elements),
        "shells": {str(z): list(ls) for z, ls in spec.layout.shells},
        "density_fit": config.density_fit,
        "grid_level": config.grid_level,
        "states": sorted({(m.charge, m.spin) for m in molecules}),
        **{name: getattr(info, name) for name in resolved},
    }


def crystal_meta(
    config: MethodConfig,
    crystal: SmearedCrystalConfig,
    spec: NetworkSpec,
    molecules: Sequence[Molecule],
    constant: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Contents of ``model.json`` for a network of crystals, the density of k-points included.

    Args:
        config: The settings, with the basis that was taken.
        crystal: What only crystals have.
        spec: The network's architecture.
        molecules: What it is trained on.
        constant: Fields of the model of its constant potential; None for none.

    Returns:
        JSON values.
    """
    names = SmearedCrystalConfig.model_fields
    found = crystal.model_dump(mode="json", include=set(names))
    found |= {"spacings": None, "constant": None if constant is None else dict(constant)}
    if crystal.kmesh is not None:
        lengths = [reciprocal_lengths(m.lattice, m.pbc) for m in molecules if m.lattice is not None]
        longest = np.max(lengths, axis=0) / np.array(crystal.kmesh)
        found["spacings"] = [float(x) for x in SLACK * longest]
    return {
        "method": config.model_dump(mode="json"),
        "crystal": found,
        "basis": config.basis,
        "xc": config.xc,
        "kind": "crystal",
        "elements": list(spec.elements),
        "shells": {str(z): list(ls) for z, ls in spec.layout.shells},
        "states": sorted({(m.charge, m.spin) for m in molecules}),
    }


def is_of_crystals(meta: Mapping[str, Any]) -> bool:
    """Whether ``model.json`` is that of a network of crystals."""
    return meta.get("crystal") is not None


def default_state(meta: Mapping[str, Any]) -> State:
    """Charge and spin of structures that state none.

    Args:
        meta: Contents of ``model.json``.

    Returns:
        Charge and 2S of the structures the model was trained on where they had one state, else
        the defaults of its training.

    Raises:
        InputError: If ``states`` are no pairs of whole numbers.
    """
    states = meta.get("states") or []
    try:
        pairs = [(int(charge), int(spin)) for charge, spin in states]
    except (TypeError, ValueError):
        raise InputError(
            f"expected states of pairs of whole numbers in model.json, got {str(states)[:60]!r}; "
            "copy model.safetensors and model.json again from one run"
        ) from None
    if len(pairs) == 1:
        return State(*pairs[0])
    section = meta.get("method", {})
    return State(section.get("charge", 0), section.get("spin", 0))


def asked_state(own: State, *, charge: int | None, spin: int | None) -> State:
    """Charge and spin of structures that state none, where a user may have said so.

    Args:
        own: The model's.
        charge: As asked for; None means the model's.
        spin: 2S as asked for; None means the model's.

    Returns:
        What holds.
    """
    return State(own.charge if charge is None else charge, own.spin if spin is None else spin)


def state_line(state: State, *, charge: int | None = None, spin: int | None = None) -> str | None:
    """What to say where a model's own charge and spin are taken.

    Args:
        state: The model's.
        charge: As asked for.
        spin: As asked for.

    Returns:
        One line; None where nothing but zeros is taken.
    """
    own = [
        f"{name} {value}"
        for name, value, asked in (("charge", state[0], charge), ("spin (2S)", state[1], spin))
        if asked is None
    ]
    if not own or not any(v for v, a in zip(state, (charge, spin), strict=True) if a is None):
        return None
    return (
        f"structures that state none are taken with {' and '.join(own)}, those of the model's "
        f"training; {argument('charge')} and {argument('spin')}, or charge= and "
        "spin= of a structure, say otherwise"
    )
