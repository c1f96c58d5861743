"""Tensors and a document as one safetensors file and one JSON file, crash-safe.

The pair is written so that a process killed at any moment leaves a readable, consistent pair: both
files are written completely under ``.new`` names, then renamed, tensors first; the JSON holds the
SHA-256 of the tensors it belongs to. Between the two renames the tensors are new, the JSON is old
and ``.json.new`` still waits: :func:`read_pair` recognises that by the checksum and takes the
waiting one. Nothing here unpickles, so that reading a file can never run code.
"""

import hashlib
import json
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import safetensors
import safetensors.torch
import torch

from deeph_zero.errors import InputError
from deeph_zero.host.documents import parse_json, read_document, read_regular
from deeph_zero.host.files import cannot_write


def write_pair(
    folder: pathlib.Path, stem: str, tensors: dict[str, torch.Tensor], document: dict[str, Any]
) -> None:
    """Write ``stem.safetensors`` and ``stem.json`` so that no crash can leave a mixed pair.

    Args:
        folder: Where; made if it is not there.
        stem: File name without suffix.
        tensors: CPU tensors by name.
        document: Anything JSON holds; its key ``sha256`` is set here.

    Raises:
        ComputationError: If the disk refuses (full, read-only); the previous pair is untouched.
    """
    blob = safetensors.torch.save(tensors)
    document = {**document, "sha256": hashlib.sha256(blob).hexdigest()}
    text = json.dumps(document, indent=1, allow_nan=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = [folder / f"{stem}.safetensors", folder / f"{stem}.json"]
        _settle(folder, stem)
        for name, content in zip(names, (blob, text.encode()), strict=True):
            _write_synced(name.with_name(name.name + ".new"), content)
        for name in names:
            name.with_name(name.name + ".new").replace(name)
    except OSError as error:
        raise cannot_write(folder / f"{stem}.safetensors", error) from error


def _write_synced(path: pathlib.Path, content: bytes) -> None:
    try:
        path.unlink(missing_ok=True)
        with path.open("xb") as stream:  # a link in its place would be followed otherwise
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())  # else a power cut can keep the rename and lose the content
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _settle(folder: pathlib.Path, stem: str) -> None:
    """Finish a write that was killed between its two renames, so that ``.new`` can be reused."""
    waiting = folder / f"{stem}.json.new"
    tensors = folder / f"{stem}.safetensors"
    if not (waiting.exists() and tensors.exists()):
        return
    expected = _sha256_in(waiting)
    if expected is not None and hashlib.sha256(tensors.read_bytes()).hexdigest() == expected:
        waiting.replace(folder / f"{stem}.json")


def _sha256_in(path: pathlib.Path) -> str | None:
    try:
        document = parse_json(read_document(path))
    except (OSError, ValueError):
        return None
    return document.get("sha256") if isinstance(document, dict) else None


def read_pair(
    folder: pathlib.Path,
    stem: str,
    *,
    what: str,
    check: Callable[[dict[str, Any]], None] | None = None,
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a pair written by :func:`write_pair`; runs no code from it.

    Args:
        folder: Where it is.
        stem: File name without suffix.
        what: What it should be, for messages, e.g. "model".
        check: Called with the document before the tensors are looked at; may raise.

    Returns:
        Tensors by name, and the document.

    Raises:
        InputError: If a file is missing, damaged, or the two do not belong together.
    """
    tensor_path, json_path = folder / f"{stem}.safetensors", folder / f"{stem}.json"
    # a run in progress replaces its pair now and then: look again before complaining
    for pause in (0.0, 0.02, 0.2):
        time.sleep(pause)
        blob = _read_bytes(tensor_path, what, read_regular)
        digest = hashlib.sha256(blob).hexdigest()
        waiting = json_path.with_name(json_path.name + ".new")
        source = waiting if _sha256_in(waiting) == digest else json_path
        document = _document(source, what)
        if document.get("sha256") == digest:
            break
    if check is not None:
        check(document)
    tensors = _tensors(blob, tensor_path, what)
    if document.get("sha256") != digest:
        raise InputError(
            f"expected {tensor_path.name} and {json_path.name} of one {what}, got two in {folder} "
            "that do not belong together (SHA-256 differs); copy both again from one run"
        )
    return tensors, document


def _read_bytes(
    path: pathlib.Path,
    what: str,
    read: Callable[[pathlib.Path], bytes],
) -> bytes:
    try:
        return read(path)
    except OSError as error:
        raise InputError(
            f"expected a deeph-zero {what} in {path.parent}, but {path.name} cannot be read "
            f"({error.strerror}); give the folder of a finished run or its {path.name}"
        ) from error


def _tensors(blob: bytes, path: pathlib.Path, what: str) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load(blob)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise InputError(
            f"expected a deeph-zero {what}, got {path}, which is truncated or not a safetensors "
            f"file ({len(blob)} bytes); copy it again or train it again"
        ) from error


def _document(path: pathlib.Path, what: str) -> dict[str, Any]:
    content = _read_bytes(path, what, read_document)
    try:
        document = parse_json(content.decode("utf-8"))
    except ValueError as error:
        raise InputError(
            f"expected a deeph-zero {what}, got {path}, which is not valid JSON; copy it again "
            "together with its .safetensors"
        ) from error
    if not isinstance(document, dict):
        raise InputError(
            f"expected a deeph-zero {what}, got {path}, which holds {_word(document)}; copy it "
            "again together with its .safetensors"
        )
    return document


def _word(document: object) -> str:
    return "nothing" if document is None else f"a {type(document).__name__}"
