"""Python pickles of strangers: numbers, texts, lists, dictionaries and NumPy arrays, no code.

Nothing that a pickle names is imported or called: the few names NumPy's arrays are made with stand
for small classes here that note what they are given, and arrays are made from the bytes at the end.
"""

import io
import math
import pickle
from typing import Any

import numpy as np

from deeph_zero.errors import InputError

_DEEPEST = 20
_CURE = "only numbers, texts, lists, dictionaries and NumPy arrays are read"


class _Dtype:
    """What ``numpy.dtype`` is given."""

    def __init__(self, name: str = "", *_: Any) -> None:
        self.name, self.order = name, "|"

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and isinstance(state[1], str):
            self.order = state[1]

    def numpy(self) -> np.dtype[Any]:
        """The type of number it means."""
        name = self.name if isinstance(self.name, str) else ""
        if self.order not in ("<", ">", "|", "=") or name[:1] not in ("f", "i", "u", "b", "c"):
            raise InputError(f"expected arrays of numbers, got the type {name[:20]!r}; {_CURE}")
        try:
            kind = np.dtype(name)
        except TypeError:
            raise InputError(f"expected arrays of numbers, got {name[:20]!r}; {_CURE}") from None
        if kind.fields is not None or kind.subdtype is not None or kind.kind not in "fiubc":
            raise InputError(f"expected arrays of numbers, got {name[:20]!r}; {_CURE}")
        return kind.newbyteorder(self.order) if self.order in "<>" else kind


class _Array:
    """What NumPy makes an array of."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def numpy(self) -> np.ndarray:
        """The array."""
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise InputError(f"expected an array, got a damaged one; {_CURE}")
        _, shape, kind, fortran, data = self.state
        return _array(data, kind, shape, "F" if fortran else "C")


class _Buffer:
    """An array in pickles of protocol 5."""

    def __init__(self, *given: Any) -> None:
        self.given = given

    def numpy(self) -> np.ndarray:
        """The array."""
        if len(self.given) != 4:
            raise InputError(f"expected an array, got a damaged one; {_CURE}")
        data, kind, shape, order = self.given
        return _array(data, kind, shape, str(order))


class _Scalar:
    """One number of NumPy."""

    def __init__(self, *given: Any) -> None:
        self.given = given

    def numpy(self) -> Any:
        """The number."""
        if len(self.given) != 2:
            raise InputError(f"expected a number, got a damaged one; {_CURE}")
        kind, data = self.given
        return _array(data, kind, (), "C").item()


def _array(data: Any, kind: Any, shape: Any, order: str) -> np.ndarray:
    sizes = shape if isinstance(shape, tuple) else (shape,)
    good = all(type(n) is int and 0 <= n < 2**40 for n in sizes) and len(sizes) < 10
    if not isinstance(kind, _Dtype) or not good or not isinstance(data, bytes | bytearray):
        raise InputError(f"expected an array of numbers, got another; {_CURE}")
    dtype = kind.numpy()
    if math.prod(sizes) * dtype.itemsize != len(data):
        raise InputError(
            f"expected an array of shape {sizes}, got {len(data)} bytes; the file is damaged"
        )
    found = np.frombuffer(bytes(data), dtype).reshape(sizes, order="F" if order == "F" else "C")
    return found.astype(dtype.newbyteorder("="))


def _nothing(*_: Any) -> "_Array":
    """Stands for ``_reconstruct``, whose arguments are the same for every array."""
    return _Array()


def _encoded(text: Any = "", codec: Any = "latin1") -> bytes:
    """Bytes, which protocols before 3 write as text."""
    if not isinstance(text, str) or codec != "latin1":
        raise InputError(f"expected data, got another text; {_CURE}")
    return text.encode("latin1")


_NAMES = {
    "_reconstruct": _nothing,
    "ndarray": _Array,
    "dtype": _Dtype,
    "scalar": _Scalar,
    "_frombuffer": _Buffer,
}
_BYTES = (("_codecs", "encode"), ("__builtin__", "bytes"), ("builtins", "bytes"))
_MODULES = (
    "numpy",
    *(f"numpy.{core}.{part}" for core in ("core", "_core") for part in ("multiarray", "numeric")),
)


class _Unpickler(pickle.Unpickler):
    """Knows NumPy's names and no others."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """What stands for a name."""
        if module_name in _MODULES and global_name in _NAMES:
            return _NAMES[global_name]
        if (module_name, global_name) in _BYTES:
            return _encoded
        raise InputError(
            f"expected data, got code: it names {module_name[:40]}.{global_name[:40]}, which is "
            f"not executed; {_CURE}"
        )

    def persistent_load(self, pid: Any) -> Any:
        """Nothing lies outside."""
        raise InputError(f"expected data, got a reference to {str(pid)[:40]!r}; {_CURE}")


def unpickled(content: bytes) -> Any:
    """The data of a pickle.

    Args:
        content: Its bytes.

    Returns:
        Plain values, and NumPy arrays of numbers.

    Raises:
        InputError: If it holds anything else, or is damaged.
    """
    try:
        found = _Unpickler(io.BytesIO(content)).load()
    except InputError as error:
        if "\n" not in str(error):
            raise
        raise InputError(" ".join(str(error).split())) from None
    except Exception as error:  # a damaged pickle raises whatever its operations meet
        raise InputError(
            f"expected a whole pickle, got a damaged one ({type(error).__name__}); copy it again"
        ) from None
    return _plain(found, 0)


def _plain(value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        raise InputError(f"expected data, it is nested too deep; {_CURE}")
    if isinstance(value, _Array | _Buffer | _Scalar):
        return value.numpy()
    if isinstance(value, dict):
        return {key: _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | bytearray):
        return value
    raise InputError(f"expected data, got {type(value).__name__}; {_CURE}")
