"""Model files: safetensors + JSON, crash-safe, never pickle.

A model is ``model.safetensors`` + ``model.json`` in a run folder; a training checkpoint is written
the same way (:mod:`deeph_zero.train.lightning_io`). :mod:`deeph_zero.host.tensor_files` says how
the two files of a pair stay consistent.
"""

import dataclasses
import functools
import hashlib
import pathlib
from typing import Any

import torch

from deeph_zero.ao.coupling import wigner_3j
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host.documents import read_regular
from deeph_zero.host.tensor_files import read_pair, write_pair
from deeph_zero.host.version import __version__
from deeph_zero.model_files import registry

FORMAT_VERSION = 1
"""Version of model files and checkpoints; a reader refuses newer ones."""

MODEL_STEM = "model"


_MODEL_KIND = "deeph-zero model"
_FINGERPRINT_LMAX = 4

E3NN_VERSION = "0.6.0"
"""Whose conventions the coupling coefficients have; recorded in every model."""


@functools.cache
def clebsch_gordan_fingerprint() -> str:
    """Hash of the coupling coefficients, to notice another sign or order convention.

    The weights of a network mean something only together with the coefficients it was trained
    with. Values are rounded to two decimals: up to l = 4 the closest any of them comes to a
    rounding boundary is 5e-5, far above their errors, so that the hash is the same on every machine
    and still changes with any sign, order or normalisation.

    Returns:
        The first 16 hexadecimal digits of a SHA-256.
    """
    digest = hashlib.sha256()
    for l1 in range(_FINGERPRINT_LMAX + 1):
        for l2 in range(_FINGERPRINT_LMAX + 1):
            for l3 in range(abs(l1 - l2), min(l1 + l2, 2 * _FINGERPRINT_LMAX) + 1):
                values = wigner_3j(l1, l2, l3)
                digest.update((100 * values).round().to(torch.int8).numpy().tobytes())
    return digest.hexdigest()[:16]


def model_folder(path: str | pathlib.Path) -> pathlib.Path:
    """The folder of a model given as its run folder, as its ``model.safetensors`` or by name.

    Args:
        path: As the user gave it.

    Returns:
        The folder that should hold ``model.safetensors`` and ``model.json``.

    Raises:
        InputError: If there is nothing of the kind, or a model that comes with the package is not
            as it was packed.
    """
    if not str(path).strip():
        raise InputError(
            f"expected a model (run folder or model.safetensors), got an empty name ({path!r}); "
            "give the folder that `deeph-zero fit` wrote"
        )
    if registry.given_by_name(path):
        return registry.shipped_folder(str(path))
    path = pathlib.Path(path)
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        what = "" if (path / f"{MODEL_STEM}.safetensors").exists() else "has no model.safetensors"
    elif not path.exists():
        what = "does not exist"
    else:
        what = "" if path.name == f"{MODEL_STEM}.safetensors" else "is not one"
    if what:
        raise InputError(
            f"expected a model (run folder or model.safetensors), got {path}, which {what}; "
            f"{_cure(path)}"
        )
    registry.say_what_is_taken(path)
    return folder


def _cure(path: pathlib.Path) -> str:
    """What to do where there is no model: another name, if one is like it."""
    name = registry.nearest(str(path))
    if name is not None and path.exists():
        return f"rename it to use {name}, the model that comes with the package"
    if name is not None:
        return f"did you mean {name}, which comes with the package?"
    names = " or a name that `deeph-zero models` lists" if registry.names() else ""
    return f"give the folder that `deeph-zero fit` wrote{names}"


def fingerprint(path: str | pathlib.Path) -> str:
    """A hash of a model's two files.

    Args:
        path: Run folder or its ``model.safetensors``.

    Returns:
        The first 16 hexadecimal digits of a SHA-256.

    Raises:
        InputError: If there is no model.
    """
    folder = model_folder(path)
    whole = hashlib.sha256()
    try:
        for ending in ("safetensors", "json"):
            whole.update(read_regular(folder / f"{MODEL_STEM}.{ending}"))
    except OSError as error:
        raise InputError(f"cannot read the model in {folder} ({error.strerror})") from None
    return whole.hexdigest()[:16]


def spec_document(network: torch.nn.Module) -> dict[str, Any]:
    """A network's ``spec`` as JSON values."""
    spec: Any = network.spec
    for name in ("to_dict", "to_json"):
        if hasattr(spec, name):
            document = getattr(spec, name)()
            return dict(document)
    return dataclasses.asdict(spec)


def save_model(
    folder: str | pathlib.Path, network: torch.nn.Module, meta: dict[str, Any]
) -> pathlib.Path:
    """Write ``model.safetensors`` + ``model.json``; a crash leaves the old or the new pair.

    Args:
        folder: The run folder; made if it is not there.
        network: Module with a ``spec`` (its architecture); parameters and buffers are stored.
        meta: JSON values that say what the network was trained for: elements, basis, shells,
            auxiliary basis, functional and its libxc components, grid level, density fitting.

    Returns:
        The path of ``model.safetensors``.

    Raises:
        ComputationError: If a weight is not finite (the older model is left alone), or the disk
            refuses.
    """
    folder = pathlib.Path(folder)
    tensors = {
        name: value.detach().to("cpu", copy=True).contiguous()
        for name, value in network.state_dict().items()
    }
    bad = _first_not_finite(tensors)
    if bad is not None:
        raise ComputationError(
            f"expected finite network weights, got NaN or infinity in {bad}; the model was not "
            "written: lower the learning rate and resume"
        )
    document = {
        **meta,
        "kind": _MODEL_KIND,
        "format_version": FORMAT_VERSION,
        "version": __version__,
        "ao_order": "pyscf",
        "units": "hartree atomic units",
        "e3nn_version": E3NN_VERSION,
        "cg_fingerprint": clebsch_gordan_fingerprint(),
        "network": spec_document(network),
    }
    write_pair(folder, MODEL_STEM, tensors, document)
    return folder / f"{MODEL_STEM}.safetensors"


def read_model(
    path: str | pathlib.Path,
) -> tuple[dict[str, Any], dict[str, torch.Tensor], dict[str, Any]]:
    """Read a model file pair; runs no code from it.

    Args:
        path: Run folder or its ``model.safetensors``.

    Returns:
        The network's specification, its state dict (CPU), and everything else of ``model.json``.

    Raises:
        InputError: If it is not a model, damaged, newer than this package, made with other
            Clebsch-Gordan coefficients, or has weights that are not finite.
    """
    folder = model_folder(path)
    tensors, document = read_pair(
        folder, MODEL_STEM, what="model", check=lambda doc: _check_model(doc, folder)
    )
    bad = _first_not_finite(tensors)
    if bad is not None:
        raise InputError(
            f"expected finite weights in {folder}, got NaN or infinity in {bad}; train it again"
        )
    meta = {key: value for key, value in document.items() if key != "network"}
    return document["network"], tensors, meta


def _first_not_finite(tensors: dict[str, torch.Tensor]) -> str | None:
    for name, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            return name
    return None


def check_kind(document: dict[str, Any], kind: str, folder: pathlib.Path) -> None:
    """See whether a JSON file is of a kind and of a version that can be read.

    Args:
        document: Its contents.
        kind: What it should call itself.
        folder: Where it lies.

    Raises:
        InputError: If it is not.
    """
    if document.get("kind") != kind:
        raise InputError(
            f"expected a {kind} in {folder}, but its JSON file does not say so; "
            "give the folder that `deeph-zero fit` wrote"
        )
    version = document.get("format_version")
    if type(version) is not int or version < 1:
        raise InputError(
            f"expected a format_version from 1 to {FORMAT_VERSION} in {folder}, got {version!r}; "
            "copy the file again"
        )
    if version > FORMAT_VERSION:
        raise InputError(
            f"{folder}: written by a newer deeph-zero (format {version}, this one reads "
            f"{FORMAT_VERSION}); upgrade"
        )


def _check_model(document: dict[str, Any], folder: pathlib.Path) -> None:
    check_kind(document, _MODEL_KIND, folder)
    if not isinstance(document.get("network"), dict):
        raise InputError(
            f"expected the network's specification in {folder / MODEL_STEM}.json, got none; "
            "copy the file again"
        )
    if document.get("cg_fingerprint") != clebsch_gordan_fingerprint():
        raise InputError(
            f"{folder}: trained with e3nn {document.get('e3nn_version')}, whose Clebsch-Gordan "
            f"coefficients differ from those of e3nn {E3NN_VERSION}, which this version "
            "follows; train again"
        )
