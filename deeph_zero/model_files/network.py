"""The network of a model file, its specification and weights checked against each other."""

import os
import pathlib
from typing import Any

import torch

from deeph_zero.errors import InputError
from deeph_zero.model_files.document import check_model_document, check_sizes
from deeph_zero.model_files.folder import MODEL_STEM, model_folder, read_model
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import NetworkSpec


def read_network(path: str | pathlib.Path) -> tuple[FockNetwork, dict[str, Any]]:
    """Read a network and what ``model.json`` says beside it; runs no code from the files.

    Args:
        path: Run folder or its ``model.safetensors``.

    Returns:
        The network, on the CPU in evaluation mode, and the rest of ``model.json``.

    Raises:
        InputError: If it is not a model this version can read; one line says why.
    """
    check_path(path)
    document, state, meta = read_model(path)
    described = model_folder(path) / f"{MODEL_STEM}.json"
    check_model_document({**meta, "network": document}, described)
    check_sizes(document, state, described)
    try:
        spec = NetworkSpec.from_dict(document)
        with torch.random.fork_rng(devices=[]):  # initial weights must not disturb the user's seed
            network = FockNetwork(spec)
        network.to(next(v.dtype for v in state.values() if v.is_floating_point()))
        everything = {"scales.correction_range": network.scales.correction_range} | state
        network.load_state_dict(everything)
        _check_types(network, state)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, StopIteration) as error:
        raise mismatch(path, error) from error
    return network.eval(), meta


def check_path(given: Any) -> None:
    """See whether what a Python user gives for a model is a path or a name.

    Args:
        given: What came.

    Raises:
        InputError: If it is neither.
    """
    if not isinstance(given, str | os.PathLike):
        raise InputError(
            f"expected a model (run folder or model.safetensors), got {type(given).__name__}; give "
            "its path, or a name that `deeph-zero models` lists"
        )


def mismatch(path: str | pathlib.Path, error: Exception) -> InputError:
    """What is said of files that do not belong together.

    Args:
        path: The model, as given.
        error: What went wrong with them.

    Returns:
        The error to raise.
    """
    first = (str(error) or type(error).__name__).splitlines()[0]
    return InputError(
        f"expected weights and specification of one network in {path}, got a mismatch ({first})"
        "; copy model.safetensors and model.json again from one run"
    )


def _check_types(network: FockNetwork, state: dict[str, torch.Tensor]) -> None:
    """Weights are numbers of one type; torch would convert others, and lose what it cannot hold."""
    wanted = {name: value.dtype for name, value in network.state_dict().items()}
    for name, value in state.items():
        if value.dtype != wanted[name] or value.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"{name} holds {str(value.dtype).removeprefix('torch.')}")
