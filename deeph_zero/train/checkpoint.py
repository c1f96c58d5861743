"""Model files and training checkpoints: safetensors + JSON, crash-safe, never pickle.

A model is ``model.safetensors`` + ``model.json`` in a run folder. A training checkpoint is a folder
with ``state.safetensors`` + ``state.json``; one is kept per run, ``RUN/checkpoints/last.ckpt/``.
:mod:`deeph_zero.train.state` says how the two files of a pair stay consistent.
"""

import dataclasses
import functools
import hashlib
import pathlib
import shutil
from importlib import metadata
from typing import Any

import torch
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO

from deeph_zero import __version__
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.train.state import decode_state, encode_state, read_pair, write_pair

FORMAT_VERSION = 1
"""Of model files and checkpoints; a reader refuses newer ones."""

MODEL_STEM = "model"
KEEP = pathlib.PurePosixPath("checkpoints") / "last.ckpt"
"""The one checkpoint a run keeps, relative to its folder: the latest, replaced atomically."""

_MODEL_KIND = "deeph-zero model"
_STATE_KIND = "deeph-zero checkpoint"
_STATE_STEM = "state"
_STATE_KEYS = ("epoch", "global_step", "state_dict", "loops", "callbacks", "optimizer_states")
_FINGERPRINT_LMAX = 4


@functools.cache
def clebsch_gordan_fingerprint() -> str:
    """Hash of e3nn's coupling coefficients, to notice another sign or order convention.

    The weights of a network mean something only together with the coefficients it was trained
    with. Values are rounded to two decimals: up to l = 4 the closest any of them comes to a
    rounding boundary is 5e-5, far above the 1e-7 to which e3nn computes them, so that the hash is
    the same on every machine and still changes with any sign, order or normalisation.

    Returns:
        The first 16 hexadecimal digits of a SHA-256.
    """
    from e3nn import o3

    digest = hashlib.sha256()
    for l1 in range(_FINGERPRINT_LMAX + 1):
        for l2 in range(_FINGERPRINT_LMAX + 1):
            for l3 in range(abs(l1 - l2), min(l1 + l2, 2 * _FINGERPRINT_LMAX) + 1):
                values = o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
                digest.update((100 * values).round().to(torch.int8).numpy().tobytes())
    return digest.hexdigest()[:16]


def model_folder(path: str | pathlib.Path) -> pathlib.Path:
    """The folder of a model given as its run folder or as its ``model.safetensors``.

    Args:
        path: As the user gave it.

    Returns:
        The folder that should hold ``model.safetensors`` and ``model.json``.

    Raises:
        InputError: If there is nothing of the kind.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        if not (path / f"{MODEL_STEM}.safetensors").exists():
            raise InputError(
                f"expected a model (run folder or model.safetensors), got {path}, which has no "
                "model.safetensors; give the folder that `deeph-zero fit` wrote"
            )
        return path
    if not path.exists():
        raise InputError(
            f"expected a model (run folder or model.safetensors), got {path}, which does not exist"
            "; give the folder that `deeph-zero fit` wrote"
        )
    if path.name != f"{MODEL_STEM}.safetensors":
        raise InputError(
            f"expected a model (run folder or model.safetensors), got {path}, which is not one; "
            "give the folder that `deeph-zero fit` wrote"
        )
    return path.parent


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
            whole.update((folder / f"{MODEL_STEM}.{ending}").read_bytes())
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
        "e3nn_version": metadata.version("e3nn"),
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


def _check_kind(document: dict[str, Any], kind: str, folder: pathlib.Path) -> None:
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
    _check_kind(document, _MODEL_KIND, folder)
    if not isinstance(document.get("network"), dict):
        raise InputError(
            f"expected the network's specification in {folder / MODEL_STEM}.json, got none; "
            "copy the file again"
        )
    if document.get("cg_fingerprint") != clebsch_gordan_fingerprint():
        raise InputError(
            f"{folder}: trained with e3nn {document.get('e3nn_version')}, whose Clebsch-Gordan "
            f"coefficients differ from those of e3nn {metadata.version('e3nn')} installed here; "
            "install that version or train again"
        )


class SafeCheckpointIO(CheckpointIO):
    """Lightning's checkpoints as a folder of safetensors + JSON, atomic, without pickle.

    Give it to the trainer: ``Trainer(plugins=[SafeCheckpointIO()])``; then ``save_checkpoint`` and
    ``fit(ckpt_path=...)`` use it.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | pathlib.Path,
        storage_options: object = None,
    ) -> None:
        """Write ``checkpoint`` into the folder ``path``; a crash leaves the old or the new one.

        Args:
            checkpoint: What Lightning collected.
            path: The checkpoint folder.
            storage_options: Not used.

        Raises:
            ComputationError: If the disk refuses.
            TypeError: If the checkpoint holds objects that only pickle could store.
        """
        del storage_options
        document, tensors = encode_state(checkpoint)
        header = {"kind": _STATE_KIND, "format_version": FORMAT_VERSION, "version": __version__}
        write_pair(pathlib.Path(path), _STATE_STEM, tensors, {**header, "state": document})

    def load_checkpoint(
        self,
        path: str | pathlib.Path,
        map_location: object = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read the folder ``path``; tensors come on the CPU and Lightning moves them.

        Args:
            path: The checkpoint folder.
            map_location: Not used.
            weights_only: Not used; reading never runs code.

        Returns:
            What was saved.

        Raises:
            InputError: If it is not a checkpoint, damaged, or newer than this package.
        """
        del map_location, weights_only
        folder = pathlib.Path(path)
        tensors, document = read_pair(
            folder,
            _STATE_STEM,
            what="checkpoint",
            check=lambda doc: _check_kind(doc, _STATE_KIND, folder),
        )
        try:
            decoded = decode_state(document["state"], tensors)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError):
            decoded = None
        state: dict[str, Any] = decoded if isinstance(decoded, dict) else {}
        missing = [key for key in _STATE_KEYS if key not in state]
        if missing:
            raise InputError(
                f"{folder / _STATE_STEM}.json: expected the state of a training, there is no "
                f"{missing[0]}; put the run's own file back, or use --overwrite to start again"
            )
        return state

    def remove_checkpoint(self, path: str | pathlib.Path) -> None:
        """Delete the folder.

        Args:
            path: The checkpoint folder.
        """
        shutil.rmtree(path, ignore_errors=True)
