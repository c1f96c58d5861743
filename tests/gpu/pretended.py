"""A pretended CUDA device: numbers come from the CPU, devices are kept apart as CUDA keeps them.

Inside ``pretended_cuda()`` the word ``"cuda"`` works in a CPU build of torch. A tensor "on the
device" wraps a CPU tensor; torch knows it as a PrivateUse1 device (so that autograd runs its
backward pass in a device thread, as for CUDA), Python sees ``cuda:0``. Every operation that reaches
the dispatcher goes through :func:`_run`, which raises where CUDA would (operands on two devices,
``.numpy()`` of a device tensor) and counts launches, copies and synchronisations.

As on CUDA a CPU scalar without dimensions may enter an elementwise operation, and CPU indices a
device tensor (counted as a copy); device indices into a CPU tensor may not. Not seen: numerical
differences between libraries, races, memory exhaustion, kernels that CUDA lacks for a type, time,
``torch.func`` transforms (the response of VV10). One device, streams that never overlap, and only
this process: worker processes know nothing of it. :mod:`.capture` has its graphs.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import (
    _DummyDeviceGuard,
    _DummyPrivateUse1Hook,
    _setup_privateuseone_for_python_backend,
)

from . import capture, streams
from .counts import COPIES, INDEXING, Seen

aten = torch.ops.aten
NAME = "pretended"
SHOWN = torch.device("cuda", 0)
CPU = torch.device("cpu")

_seen = Seen()


class DeviceTensor(torch.Tensor):
    """A CPU tensor that says it is on the device."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner):
        out = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(NAME, 0),
        )
        out.inner = inner
        return out

    @property
    def device(self):  # what Python sees; C++ sees PrivateUse1
        return SHOWN

    @property
    def is_cuda(self):
        return True

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, value):  # weights become views of one vector
        self.inner = value.inner
        torch.Tensor.data.__set__(self, value)

    def cuda(self, *_, **__):
        return self

    def numpy(self, *, force=False):
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor "
            "to host memory first."
        )

    def __array__(self, *_, **__):
        return self.numpy()

    def untyped_storage(self):  # pointers tell apart what shares memory
        return self.inner.untyped_storage()

    def data_ptr(self):
        return self.inner.data_ptr()

    def record_stream(self, stream):
        pass  # memory is given back when Python lets go of it

    def tolist(self):
        return self.detach().cpu().tolist()

    def __repr__(self, *, tensor_contents=None):
        with torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch():
            return f"DeviceTensor({list(self.inner.shape)}, {self.inner.dtype})"

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            out = self.detach().clone().requires_grad_(self.requires_grad)
            if isinstance(self, torch.nn.Parameter):
                out = torch.nn.Parameter(out, self.requires_grad)
            memo[id(self)] = out
        return memo[id(self)]

    def __reduce_ex__(self, protocol):  # a process that unpickles has no pretended device
        return (_onto_device, (self.detach().cpu(), self.requires_grad))

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _onto_device(tensor, requires_grad):
    return tensor.to("cuda").requires_grad_(requires_grad)


class _DispatchMode(TorchDispatchMode):
    """Sees operations without a device tensor too: creation on the device, copies to it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _FunctionMode(TorchFunctionMode):
    """Says the registered device's name to torch where the program says "cuda"."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.device:
            return func(*args, **kwargs)
        if getattr(func, "__name__", "") == "cuda" and args and isinstance(args[0], torch.Tensor):
            return args[0].to(torch.device(NAME, 0))
        args = tuple(_renamed(a) for a in args)
        if "device" in kwargs:
            kwargs["device"] = _renamed(kwargs["device"])
        return func(*args, **kwargs)


def _renamed(value):
    if isinstance(value, str) and value.split(":")[0] == "cuda":
        return torch.device(NAME, 0)
    if isinstance(value, torch.device) and value.type == "cuda":
        return torch.device(NAME, 0)
    return value


# ---- the dispatcher ------------------------------------------------------------------------------


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation: on the CPU, with devices checked and counted."""
    if func is torch.ops.prim.device.default:
        return torch.device(NAME, 0)
    tensors = [x for x in _flat((*args, *kwargs.values())) if isinstance(x, torch.Tensor)]
    on_device = [x for x in tensors if isinstance(x, DeviceTensor)]
    on_cpu = [x for x in tensors if not isinstance(x, DeviceTensor)]
    to_device = _goes_to_device(func, args, kwargs, there=bool(on_device))
    if not on_device and not to_device:
        return _on_host(func, args, kwargs)
    graph = capture.capturing()
    crosses = func in COPIES and (bool(on_device) != to_device or bool(on_cpu))
    if graph is not None:
        graph.check(func, args, crosses=crosses, on_cpu=on_cpu)
    _check_devices(func, on_device, on_cpu, args)
    if kwargs.get("device") is not None:
        kwargs = {**kwargs, "device": CPU}
    kwargs.pop("pin_memory", None)
    inner_args = _mapped(_inner, args)
    inner_kwargs = {name: _mapped(_inner, value) for name, value in kwargs.items()}
    out = func(*inner_args, **inner_kwargs)
    if func is not aten.copy_.default and crosses:
        # the CPU's "copy" to itself is the tensor itself
        out = out.clone() if any(out is i for i in _flat(inner_args)) else out
        streams.put_off(args[0], out, kwargs)
    own = {id(x.inner): x for x in on_device}

    def wrapped(x: Any) -> Any:
        if not isinstance(x, torch.Tensor) or id(x) in own:
            return own.get(id(x), x)
        if x.is_conj():  # what resolves a lazy conjugate does not run below this dispatcher
            x = torch.conj_physical(x.conj())
        return DeviceTensor(x) if to_device else x

    result = _mapped(wrapped, out)
    if graph is None:
        _seen.count(func, args, crosses=crosses, to_device=to_device)
    else:
        found = [x for x in _flat((result,)) if isinstance(x, DeviceTensor)]
        graph.record(func, (inner_args, inner_kwargs), on_device, found)
    return result


def _goes_to_device(func: Any, args: Any, kwargs: dict[str, Any], *, there: bool) -> bool:
    """Whether a result lies on the device; ``there``: something among the arguments does."""
    if func is aten.copy_.default:
        return isinstance(args[0], DeviceTensor)
    asked = kwargs.get("device")
    return there if asked is None else torch.device(asked).type in (NAME, "cuda")


def _on_host(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Nothing to do with the device, and not there when a graph is replayed."""
    out, graph = func(*args, **kwargs), capture.capturing()
    if graph is not None and any(x.ndim for x in _flat((out,)) if isinstance(x, torch.Tensor)):
        graph.spoil(f"work of the host, {func}")
    return out


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    """What is in nested lists and tuples; torch's own function takes a third of a test's time."""
    for x in values:
        if isinstance(x, list | tuple):
            yield from _flat(x)
        else:
            yield x


def _mapped(function: Callable[[Any], Any], x: Any) -> Any:
    """The same nested lists and tuples with other things in them."""
    if isinstance(x, list | tuple):
        return type(x)([_mapped(function, one) for one in x])
    return function(x)


def _inner(x: Any) -> Any:
    return x.inner if isinstance(x, DeviceTensor) else x


def _check_devices(func: Any, on_device: list[Any], on_cpu: list[Any], args: Any) -> None:
    """Raise as CUDA does where devices mix."""
    if not on_device or not on_cpu or func in COPIES:
        return
    name = func.overloadpacket.__name__
    if func in INDEXING:
        values = [v for v in args[2:3] if isinstance(v, torch.Tensor)]
        if isinstance(args[0], DeviceTensor) and all(
            isinstance(v, DeviceTensor) or v.ndim == 0 for v in values
        ):
            _seen.copied_indices(name)
            return
        text = "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
        raise RuntimeError(f"{text} [{name}]")
    many, scalars = name.startswith(("_foreach", "_fused")), all(t.ndim == 0 for t in on_cpu)
    if many and scalars:  # steps of an optimizer
        return
    written_on_cpu = func._schema.is_mutable and not isinstance(args[0], DeviceTensor)
    if _is_elementwise(func) and scalars and not written_on_cpu:
        return
    raise RuntimeError(
        "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and "
        f"cpu! (when calling {func})"
    )


_ELEMENTWISE = {
    aten.where,
    aten.lerp,
    aten.lerp_,
    aten.clamp,
    aten.masked_fill,
    aten.masked_fill_,
    aten.fill_,
    aten.fill,
    aten.pow,
    aten.addcmul,
    aten.addcmul_,
    aten.addcdiv,
    aten.addcdiv_,
}
"""Elementwise operations that torch does not tag so."""


def _is_elementwise(func: Any) -> bool:
    tagged = torch.Tag.pointwise in func.tags or func.namespace == "prims"
    return tagged or func.overloadpacket in _ELEMENTWISE


# ---- switching it on -----------------------------------------------------------------------------


class _Guard(_DummyDeviceGuard):
    """Streams and events that do nothing."""


class _Backend:
    """What ``torch.<name>`` has to have."""

    def is_initialized(self):
        return True

    def is_available(self):
        return True

    def current_device(self):
        return 0

    def _is_in_bad_fork(self):
        return False

    def manual_seed_all(self, *_):
        pass

    def device_count(self):
        return 1

    def get_rng_state(self, *_):
        return torch.get_rng_state()

    def set_rng_state(self, state, *_):
        torch.set_rng_state(state)

    def get_amp_supported_dtype(self):
        return [torch.float16, torch.bfloat16]


def register() -> None:
    """Tell torch of the device: once per process, before anything has run backward.

    The first backward pass starts a thread for every device there is; later ones have none.
    """
    if not hasattr(torch, NAME):
        _setup_privateuseone_for_python_backend(
            NAME, backend_module=_Backend(), hook=_DummyPrivateUse1Hook(), device_guard=_Guard()
        )


_CUDA = {
    "is_available": lambda: True,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "set_device": lambda *_: None,
    "empty_cache": lambda: None,
    "get_device_name": lambda *_: "pretended GPU",
    "get_device_capability": lambda *_: (9, 0),
    "mem_get_info": lambda *_: (8 * 10**9, 10**10),
    "memory_allocated": lambda *_: 0,
    "max_memory_allocated": lambda *_: 0,
    "memory_stats": lambda *_: {},
    "reset_peak_memory_stats": lambda *_: None,
    "manual_seed_all": lambda *_: None,
    "manual_seed": lambda *_: None,
    "is_initialized": lambda: True,
    "init": lambda: None,
    "_lazy_init": lambda: None,
    "get_rng_state_all": list,
    "set_rng_state_all": lambda *_: None,
}


@contextlib.contextmanager
def pretended_cuda(*, count: bool = True) -> Iterator[Seen]:
    """Inside, ``"cuda"`` is the pretended device.

    Args:
        count: Also count launches, copies and synchronisations (three times slower).

    Yields:
        The counts, kept up to date.
    """
    register()
    _seen.reset()
    _seen.counting = count
    with contextlib.ExitStack() as stack:
        for name, stand_in in (_CUDA | capture.CUDA).items():
            stack.enter_context(mock.patch.object(torch.cuda, name, stand_in))
        stack.enter_context(mock.patch.object(torch.Tensor, "pin_memory", streams.pin_memory))
        # torch.tensor(..., device=) then makes a CPU tensor and copies it where the mode sees it
        before = torch._C._only_lift_cpu_tensors()
        stack.callback(torch._C._set_only_lift_cpu_tensors, before)
        torch._C._set_only_lift_cpu_tensors(True)
        stack.enter_context(_DispatchMode())
        stack.enter_context(_FunctionMode())
        yield _seen


@contextlib.contextmanager
def device_used() -> Iterator[None]:
    """What it holds computes on the device: equal numbers are no sign of that.

    Yields:
        Nothing. On a real device only Kohn-Sham layers are looked at.
    """
    # at the top it would be imported before the checks of shapes are in place
    from deeph_zero.kohnsham import KohnSham

    before, made, init = _seen.used, [], KohnSham.__init__

    def told(self: KohnSham, data: Any, *args: Any, **settings: Any) -> None:
        if data.functional is not None:  # the others make no builds
            made.append(data.ovlp.device.type)
        init(self, data, *args, **settings)

    with mock.patch.object(KohnSham, "__init__", told):
        yield
    assert set(made) <= {"cuda"}
    assert not hasattr(torch, NAME) or _seen.used - before >= 100
