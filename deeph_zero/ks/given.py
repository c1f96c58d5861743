"""What users hand to a Kohn-Sham layer, looked at before it is used."""

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from deeph_zero.errors import InputError, refuse_unknown

_log = logging.getLogger("deeph_zero")

S = TypeVar("S")
Array = TypeVar("Array", np.ndarray, Tensor)

CLOSED = "[nao, nao], the sum of both spins"
OPEN = "[2, nao, nao], alpha and beta"

_LEAST: Mapping[str, float] = {"max_cycle": 0, "diis_space": 1, "diis_start": 0}
"""Smallest whole numbers of SCF settings."""

_RANGES: Mapping[str, tuple[str, Callable[[float], bool]]] = {
    "": ("a number of 0 or more", lambda x: 0 <= x < math.inf),
    "conv_tol": ("a number above 0", lambda x: x > 0),  # infinite: this one does not matter
    "conv_tol_grad": ("a number above 0 or None", lambda x: x > 0),
    "damp": ("a number from 0 to less than 1", lambda x: 0 <= x < 1),
}
"""Numbers of SCF settings; "": those that have no row."""


def by_spin(given: Array, axes: int) -> Array:
    """An array as users have it with the spin axis in front, which closed shells come without.

    Args:
        given: [*spin, ...]; for (alpha, beta) the axis has length 2.
        axes: Number of the other axes: 2 for matrices and orbitals, 1 for levels.

    Returns:
        [nspin, ...], a view.

    Raises:
        InputError: If it is neither.
    """
    if given.ndim == axes:
        return given[None]
    if given.ndim == axes + 1 and len(given) == 2:
        return given
    kind = {1: "levels", 2: "a matrix"}[axes]
    raise InputError(
        f"expected {kind} of a closed shell ({axes} {'axes' if axes > 1 else 'axis'}), or two "
        f"for alpha and beta, got the shape {list(given.shape)}"
    )


def check_tensor(
    given: Any, like: Tensor, dtypes: Sequence[torch.dtype] = (torch.float64,), where: str = ""
) -> None:
    """See whether something is a tensor of double precision on the device of the layer.

    Values are not looked at, so a GPU is not waited for.

    Args:
        given: What came.
        like: A tensor of the layer.
        dtypes: Those that will do, the usual one first.
        where: Start of the message.

    Raises:
        InputError: If it is none.
    """
    if not isinstance(given, Tensor):
        name = type(given).__name__
        cure = "torch.as_tensor(x, dtype=torch.float64) makes one"
        raise InputError(f"{where}expected a torch tensor, got {name}; {cure}")
    if given.dtype not in dtypes:
        cure = "give .real" if given.is_complex() else "convert it with .double()"
        raise InputError(
            f"{where}expected a matrix of {dtypes[0]}, got {given.dtype}; compute in double "
            f"precision, or {cure}"
        )
    if given.device != like.device:
        raise InputError(
            f"{where}expected a matrix on {like.device}, got one on {given.device}; use "
            f".to({str(like.device)!r})"
        )


def check_matrix(given: Any, like: Tensor, *, unrestricted: bool, where: str = "") -> None:
    """See whether something is a matrix over the orbitals of a molecule.

    Args:
        given: What came.
        like: A tensor of the layer, [nao, ...].
        unrestricted: Whether it needs the axis of both spins.
        where: Start of the message.

    Raises:
        InputError: If type, precision, device, size or spin axis are others.
    """
    check_tensor(given, like, where=where)
    nao = like.shape[0]
    expected = (2, nao, nao) if unrestricted else (nao, nao)
    if given.shape == expected:
        return
    got = list(given.shape)
    cure = "give matrices of the same molecule and basis"
    if got == [2, nao, nao]:
        cure = "make the layer with unrestricted=True"
    elif got == [nao, nao]:
        cure = "give alpha and beta, or make the layer with unrestricted=False"
    kind = f"an unrestricted layer ({OPEN})" if unrestricted else f"a closed shell ({CLOSED})"
    raise InputError(
        f"{where}expected a matrix of shape {list(expected)} for {kind}, got {got}; {cure}"
    )


def check_spin_matrix(given: Any, like: Tensor, *, unrestricted: bool, where: str = "") -> None:
    """See whether something is a matrix of a layer: the spin axis is there in closed shells too.

    Args:
        given: What came.
        like: A tensor of the layer, [nao, ...].
        unrestricted: Two spins.
        where: Start of the message.

    Raises:
        InputError: If type, precision, device or shape are others.
    """
    check_tensor(given, like, where=where)
    nao = like.shape[0]
    expected = [2 if unrestricted else 1, nao, nao]
    if list(given.shape) != expected:
        raise InputError(
            f"{where}expected a matrix of shape {expected} (spin, AO, AO) for a layer, got "
            f"{list(given.shape)}; KohnSham takes those of closed shells without the spin axis"
        )


def check_count(given: Any, count: int) -> None:
    """See whether there is one matrix for each molecule of a batch.

    Args:
        given: What came.
        count: Number of molecules.

    Raises:
        InputError: If it is no list, or has another length.
    """
    if not isinstance(given, Sequence | Tensor) or isinstance(given, str):
        raise InputError(
            f"a batch of {count} molecules expected a list of as many matrices, got "
            f"{type(given).__name__}; put them into a list"
        )
    if len(given) != count:
        raise InputError(
            f"a batch of {count} molecules expected as many matrices, got {len(given)}"
        )


def scf_settings(kind: type[S], given: Mapping[str, Any]) -> S:
    """Settings of an SCF from keywords that a user gave.

    Args:
        kind: Dataclass of the settings; its defaults tell the types.
        given: Names of fields and values.

    Returns:
        The settings.

    Raises:
        InputError: If a name is none of a field, or a value is of another type or out of range.
    """
    fields = {field.name: field.default for field in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
    refuse_unknown("scf", given, fields)
    plain: dict[str, Any] = {}
    for name, value in given.items():
        default = fields[name]
        expected = _expected(name, value, default)
        if expected:
            raise InputError(f"scf: expected {name} as {expected}, got {value!r:.60}")
        own = float if default is None else type(default)
        plain[name] = None if value is None else own(value)  # numpy's numbers become plain ones
    return kind(**plain)


def check_start(
    stated: Mapping[str, Any], *, start: bool, built: bool, smeared: bool = False
) -> None:
    """See whether each setting of an SCF has something to act on; say so of a harmless one.

    Args:
        stated: The settings that a user gave.
        start: Whether a starting density came with them.
        built: Whether a build at it did.
        smeared: Whether occupations are those of Fermi.

    Raises:
        InputError: If one has not, and the result would not be what was meant.
    """
    if start and "init_guess" in stated:
        _log.warning(
            "scf: init_guess has no effect beside a starting density; leave one of them out"
        )
    if built and not start:
        raise InputError(
            "scf: expected the density that the first build was made at, got none; give it as dm0"
        )
    if stated.get("leave_saddles") and (smeared or stated.get("degeneracy_tol")):
        got = "smearing" if smeared else "degeneracy_tol"
        raise InputError(
            f"scf: expected integer occupations with leave_saddles=True, got {got}; leave one of "
            "them out"
        )


def _expected(name: str, value: Any, default: Any) -> str:
    """What a setting should have been; nothing where it is."""
    if isinstance(default, bool | str):
        words = "True or False" if isinstance(default, bool) else "a name"
        return "" if isinstance(value, type(default)) else words
    if value is None and default is None:
        return ""
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if isinstance(default, int):
        least = _LEAST[name]
        fits = isinstance(value, Integral) and number >= least
        return "" if fits else f"a whole number of {least} or more"
    words, in_range = _RANGES.get(name, _RANGES[""])
    return "" if in_range(number) else words  # NaN is in none
