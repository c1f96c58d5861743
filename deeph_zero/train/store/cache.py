"""Cache of integrals and AO values with a memory limit; evicted entries are recomputed."""

import dataclasses
import logging
import os
import pickle
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import IO

import torch

from deeph_zero.integrals.ahead import IntegralsAhead, Order
from deeph_zero.integrals.two_electron import available_memory_mb
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.protocol import KSData
from deeph_zero.ks.terms.two_electron import FittedTensor
from deeph_zero.train.store.compact import light_bytes, packed
from deeph_zero.train.store.stored_data import Heavy, StoredData
from deeph_zero.train.taught import Problem

_log = logging.getLogger("deeph_zero")

SHARE_OF_AVAILABLE = 0.6
"""Share of the free memory for all geometries of a run, when the user says nothing."""
STAYING = 0.75
"""Part of the memory whose geometries stay. Batches are drawn at random, once around per epoch: a
cache that always drops the least recently used one would nearly always drop what comes next."""
_POINT_BYTES = 64
"""What a grid point takes beside AO values: coordinates, weights, block tables."""


Rebuild = Callable[..., KSData]
"""Computes the data of a geometry once more; called with a worker's integrals where there are."""


@dataclasses.dataclass
class _Source:
    """How the data of a geometry comes back."""

    rebuild: Rebuild
    order: Callable[[], Order] | None
    nbytes: int
    light: int
    extent: tuple[int, int] | None = None
    """Offset and length in the file."""
    space: tuple[int, int] | None = None
    """What the file has for this geometry or those before it in its place."""
    used: int = 0


class HeavyStore:
    """Large tensors of a run's geometries, in memory up to a limit.

    What does not fit is computed again from the structure when it is used, or read from a file
    without a name, which vanishes with the process. Either way it is bitwise the same on a CPU.
    """

    def __init__(
        self,
        memory_mb: float,
        disk_mb: float = 0.0,
        folder: Path | None = None,
        ahead: IntegralsAhead | None = None,
    ) -> None:
        """An empty store.

        Args:
            memory_mb: For everything kept of the geometries, their small matrices included, MB.
                The geometry in use is kept whatever its size.
            disk_mb: Largest size of the file, MB.
            folder: Where the file is; None for the system's folder for temporary files.
            ahead: Processes that compute what does not fit; None computes it here.
        """
        self.ahead = ahead
        self.memory_bytes = memory_mb * 1e6
        self.light_bytes = 0
        self._largest = 0
        self.rebuilt = 0
        self.read = 0
        self._disk_bytes = disk_mb * 1e6
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._written = 0
        self._sources: list[_Source] = []
        self._staying: OrderedDict[int, Heavy] = OrderedDict()
        self._passing: OrderedDict[int, Heavy] = OrderedDict()
        self._used = {True: 0, False: 0}
        self._clock = 0
        self._current: tuple[int, Heavy] | None = None

    def __len__(self) -> int:
        """Number of geometries."""
        return len(self._sources)

    @property
    def n_kept(self) -> int:
        """Geometries that are in memory now."""
        return len(self._staying) + len(self._passing)

    @property
    def n_written(self) -> int:
        """Geometries that are in the file."""
        return sum(source.extent is not None for source in self._sources)

    @property
    def used_bytes(self) -> int:
        """What the large tensors in memory can take."""
        return sum(self._used.values())

    @property
    def needed_bytes(self) -> int:
        """What all geometries together can take."""
        return self.light_bytes + sum(source.nbytes for source in self._sources)

    @property
    def holds_all(self) -> bool:
        """Whether all geometries fit together."""
        return self.needed_bytes <= self.memory_bytes

    @property
    def _room(self) -> float:
        """Memory for large tensors here, what workers send left out."""
        coming = 0 if self.ahead is None else self.ahead.on_order
        return self.memory_bytes - self.light_bytes - coming * self._largest

    def adopt(
        self,
        problem: Problem,
        rebuild: Rebuild,
        key: int | None = None,
        order: Callable[[], Order] | None = None,
    ) -> Problem:
        """Take over the large tensors of a geometry.

        Args:
            problem: The geometry, freshly prepared.
            rebuild: Computes its data once more.
            key: Position of the geometry that it replaces, if it replaces one.
            order: What a worker would have to compute for it.

        Returns:
            The geometry with a layer that asks the store for them.
        """
        data, key = problem.ks.data.plain(), len(self._sources) if key is None else key
        kept = problem.on(StoredData(data, lambda: self.get(key)))
        kept.stored = packed(kept.stored)
        source = _Source(rebuild, order, heavy_bytes(problem.ks), light_bytes(kept))
        if key == len(self._sources):
            self._sources.append(source)
        else:
            self.release(key)
            self.light_bytes -= self._sources[key].light
            source.space = self._sources[key].space
            self._sources[key] = source
        self.light_bytes += source.light
        self._largest = max(self._largest, source.nbytes)
        self._put(key, lambda: Heavy.of(data))
        return kept

    def release(self, key: int) -> None:
        """Let go of the tensors of a geometry that is about to be replaced.

        Args:
            key: Its position.
        """
        if self._current is not None and self._current[0] == key:
            self._current = None
        for stays, shelf in ((True, self._staying), (False, self._passing)):
            if shelf.pop(key, None) is not None:
                self._used[stays] -= self._sources[key].nbytes

    def get(self, key: int) -> Heavy:
        """The large part of a geometry, from memory, the file, or computed now.

        Args:
            key: Position in the order of adoption.

        Returns:
            Its tensors.

        Raises:
            ComputationError: If it has to be computed and that fails.
        """
        if self._current is not None and self._current[0] == key:
            return self._current[1]
        for shelf in (self._staying, self._passing):
            if key in shelf:
                shelf.move_to_end(key)
                return self._use(key, shelf[key])
        return self._put(key, lambda: self._load(key))

    def missing(self, keys: Sequence[int]) -> list[tuple[Hashable, Callable[[], Order]]]:
        """Geometries that are neither in memory nor in the file; the file is read ahead.

        Args:
            keys: Positions of those that will be asked for, the first ones soonest.

        Returns:
            Names for :attr:`ahead`, and what they stand for.
        """
        found: list[tuple[Hashable, Callable[[], Order]]] = []
        for key in keys:
            source = self._sources[key]
            if key in self._staying or key in self._passing:
                continue
            if source.extent is not None and self._file is not None:
                _read_ahead(self._file.fileno(), *source.extent)
            elif source.order is not None:
                found.append((_again(key), source.order))
        return found

    def close(self) -> None:
        """Give the disk space back; what was there is computed again if it is asked for."""
        if self._file is not None:
            self._file.close()
        self._file, self._disk_bytes = None, 0.0

    def _use(self, key: int, data: Heavy) -> Heavy:
        self._clock += 1
        self._sources[key].used = self._clock
        self._current = key, data
        return data

    def _put(self, key: int, make: Callable[[], Heavy]) -> Heavy:
        """Make room first: what leaves and what comes are never both in memory."""
        self._current = None
        nbytes = self._sources[key].nbytes
        room = self._room
        while self.used_bytes + nbytes > room and self.n_kept:
            self._drop()
        data = make()
        stays = self._used[True] + nbytes <= STAYING * room
        (self._staying if stays else self._passing)[key] = data
        self._used[stays] += nbytes
        return self._use(key, data)

    def _drop(self) -> None:
        """Let go of a geometry: one that was not used for long, or one that passes through."""
        oldest = next(iter(self._staying), None)
        stale = oldest is not None and self._clock - self._sources[oldest].used > 2 * len(
            self._sources
        )
        stays = stale or not self._passing
        key, data = (self._staying if stays else self._passing).popitem(last=False)
        self._used[stays] -= self._sources[key].nbytes
        self._write(key, data)

    def _write(self, key: int, data: Heavy) -> None:
        source = self._sources[key]
        full = self._written >= self._disk_bytes
        if source.extent is not None or (full and source.space is None):
            return
        raw = pickle.dumps(data, protocol=pickle.HIGHEST_PROTOCOL)
        offset, size = source.space or (0, 0)
        if len(raw) > size:
            # one that comes into an older one's place may be followed by a larger one
            offset, size = self._written, len(raw) if not size else len(raw) * 5 // 4
            if offset + size > self._disk_bytes:
                self._disk_bytes = self._written  # full
                return
        try:
            if self._file is None:
                # without a name: nothing is left behind, however the process ends
                self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
            _write_all(self._file.fileno(), raw, offset)
        except OSError as error:
            _log.warning(
                "the file for integrals cannot grow (%s): those of further geometries are computed "
                "again when needed",
                error.strerror or error,
            )
            self._disk_bytes = self._written
            return
        source.extent, source.space = (offset, len(raw)), (offset, size)
        self._written = max(self._written, offset + size)

    def _load(self, key: int) -> Heavy:
        source = self._sources[key]
        raw = self._read(source.extent)
        if raw is None:
            self.rebuilt += 1
            if self.ahead is None or source.order is None:
                return Heavy.of(source.rebuild())
            return Heavy.of(source.rebuild(self.ahead.take(_again(key), source.order())))
        self.read += 1
        return pickle.loads(raw)

    def _read(self, extent: tuple[int, int] | None) -> bytes | None:
        if extent is None or self._file is None:
            return None
        offset, length = extent
        parts: list[bytes] = []
        while length:
            part = os.pread(self._file.fileno(), length, offset)
            if not part:
                return None
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return b"".join(parts)


def _again(key: int) -> Hashable:
    return "again", key


def _read_ahead(file: int, offset: int, length: int) -> None:
    """Ask the system to have a part of a file in memory soon, where it can be asked."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, offset, length, os.POSIX_FADV_WILLNEED)


def _write_all(file: int, raw: bytes, offset: int) -> None:
    view = memoryview(raw)
    while view:
        count = os.pwrite(file, view, offset)
        view, offset = view[count:], offset + count


def heavy_bytes(ks: KohnSham) -> int:
    """The most that integrals, grid and AO values of a geometry can take.

    Args:
        ks: Its layer, with its data in memory.

    Returns:
        Bytes, the temporary memory of a Fock build not included.
    """
    fitted = [op for _, op in ks.data.exchange if isinstance(op, FittedTensor)]
    unpacked = sum(  # operators may share one tensor
        op.unpacked_bytes for k, op in enumerate(fitted) if not any(op is o for o in fitted[:k])
    )
    coarse = 0
    grids = ks.data.coarse() if ks.data.coarse is not None else None
    if grids is not None:
        coarse = grids.memory_bytes + _POINT_BYTES * grids.grid.ngrids
    points = _POINT_BYTES * ks.info.ngrids
    return ks.info.memory_bytes + unpacked + points + coarse + _bytes(ks.data.dipole)


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def memory_limit_mb(wanted: float | None, device: torch.device, processes: int = 1) -> float:
    """Memory for the geometries of one process.

    Args:
        wanted: The user's, for all processes together; None for a share of what is free.
        device: Where the tensors live.
        processes: How many share the memory.

    Returns:
        MB.
    """
    if wanted is None:
        gpu = device.type == "cuda"
        free = torch.cuda.mem_get_info(device)[0] / 1e6 if gpu else available_memory_mb()
        wanted = SHARE_OF_AVAILABLE * free
    return wanted / processes
