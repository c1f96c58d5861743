"""Nested state (dicts, lists, tensors) as JSON values and named tensors, and back; never pickle."""

import collections
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch


def encode_state(tree: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """Split a nested state into something JSON can hold and the tensors it refers to.

    Dictionaries with keys of any kind, lists, tuples, sets, counters, deques, numpy arrays and
    scalars, infinities, ``torch.dtype`` and bytes all come back from :func:`decode_state` as what
    they were.

    Args:
        tree: The state, as ``state_dict()`` methods return it.

    Returns:
        The JSON document and the tensors by name (on the CPU, contiguous, sharing no memory).

    Raises:
        TypeError: If something in it could only be stored by pickling; the message has its path.
    """
    tensors: dict[str, torch.Tensor] = {}
    return _encode(tree, "", tensors), tensors


def _encode(node: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    if node is None or isinstance(node, bool | str) or type(node) is int:
        return node
    if type(node) is float:
        return node if math.isfinite(node) else {"$float": repr(node)}
    if isinstance(node, torch.Tensor):
        name = path or "/"
        # a clone: safetensors refuses views that share memory, and saving must not see later steps
        tensors[name] = node.detach().to("cpu", copy=True).contiguous()
        return {"$tensor": name}
    special = _encode_special(node, path, tensors)
    if special is not None:
        return special
    return _encode_container(node, lambda item, key: _encode(item, f"{path}/{key}", tensors), path)


def _encode_special(node: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(node, np.ndarray | np.generic):
        inner = _encode(torch.from_numpy(np.array(node)), path, tensors)
        return {"$scalar" if isinstance(node, np.generic) else "$array": inner}
    if isinstance(node, torch.dtype):
        return {"$dtype": str(node).removeprefix("torch.")}
    if isinstance(node, bytes):
        return {"$bytes": node.hex()}
    return None


def _encode_container(node: Any, encode: Callable[[Any, Any], Any], path: str) -> Any:
    if isinstance(node, dict):
        if type(node) is not collections.Counter and all(
            type(key) is str and not key.startswith("$") for key in node
        ):
            return {key: encode(value, key) for key, value in node.items()}
        tag = "$counter" if type(node) is collections.Counter else "$items"
        pairs = enumerate(node.items())
        return {tag: [[encode(k, f"{n}k"), encode(v, f"{n}v")] for n, (k, v) in pairs]}
    items: list[Any] | None = None
    if isinstance(node, list | tuple | set | frozenset | collections.deque):
        items = [encode(item, n) for n, item in enumerate(node)]
    if items is None:
        raise TypeError(
            f"state must hold tensors, numbers, text and containers of them, got "
            f"{type(node).__name__} at {path or '/'}; store what it is made of instead"
        )
    if isinstance(node, list):
        return items
    if isinstance(node, collections.deque):
        return {"$deque": [items, node.maxlen]}
    return {"$tuple" if isinstance(node, tuple) else "$set": items}


def decode_state(document: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Put together again what :func:`encode_state` took apart."""
    if isinstance(document, list):
        return [decode_state(item, tensors) for item in document]
    if not isinstance(document, dict):
        return document
    if len(document) == 1:
        ((tag, value),) = document.items()
        if tag in _DECODERS:
            return _DECODERS[tag](value, tensors)
    return {key: decode_state(value, tensors) for key, value in document.items()}


_DECODERS: dict[str, Callable[[Any, dict[str, torch.Tensor]], Any]] = {
    "$float": lambda value, _: float(value),
    "$tensor": lambda name, tensors: tensors[name],
    "$array": lambda inner, tensors: decode_state(inner, tensors).numpy(),
    "$scalar": lambda inner, tensors: decode_state(inner, tensors).numpy()[()],
    "$dtype": lambda name, _: getattr(torch, name),
    "$bytes": lambda value, _: bytes.fromhex(value),
    "$tuple": lambda items, tensors: tuple(decode_state(items, tensors)),
    "$set": lambda items, tensors: set(decode_state(items, tensors)),
    "$deque": lambda pair, tensors: collections.deque(decode_state(pair[0], tensors), pair[1]),
    "$items": lambda items, tensors: dict(decode_state(items, tensors)),
    "$counter": lambda items, tensors: collections.Counter(dict(decode_state(items, tensors))),
}
