"""Several processes that train one network: who has which geometry, and how they agree."""

import contextlib
import datetime as dt
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.strategies import SingleDeviceStrategy

from deeph_zero.errors import ComputationError, argument
from deeph_zero.host.launch import launch
from deeph_zero.host.signals import leave_to_parent, no_interrupts

_PATIENCE = dt.timedelta(hours=12)
"""How long a process waits for the others: one of them may be at a large molecule."""


class Team:
    """One process among those of a run; process 0 reads, writes and reports."""

    def __init__(self, rank: int, size: int, folder: Path | None) -> None:
        """Meet the others; returns when all are there.

        Args:
            rank: Position of this process.
            size: How many there are.
            folder: A folder of this run that all of them see; None: they meet at the address that
                torchrun gives.

        Raises:
            ComputationError: If they do not meet there.
        """
        self.rank = rank
        self.size = size
        self._folder = folder
        if folder is not None:
            store = dist.FileStore(str(folder / "meet"), size)
            dist.init_process_group(
                "gloo", store=store, rank=rank, world_size=size, timeout=_PATIENCE
            )
            return
        try:
            dist.init_process_group("gloo", rank=rank, world_size=size, timeout=_PATIENCE)
        except (RuntimeError, ValueError) as error:
            place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
            line = " ".join(str(error).split())[:120]
            raise ComputationError(
                f"expected {size} processes of torchrun to meet at {place}, they did not ({line}); "
                "name the network in GLOO_SOCKET_IFNAME"
            ) from None

    @property
    def leads(self) -> bool:
        """Whether this is process 0."""
        return self.rank == 0

    def owns(self, position: int) -> bool:
        """Whether the geometry at a position of the whole list is at this process."""
        return position % self.size == self.rank

    def gather(self, item: Any) -> list[Any]:
        """What every process gave, in their order; all have to call it.

        Args:
            item: Anything that can be sent, tensors on the CPU.

        Returns:
            One item per process.

        Raises:
            ComputationError: If a process has ended.
        """
        found: list[Any] = [None] * self.size
        with self._together():
            dist.all_gather_object(found, item)
        return found

    def any(self, flag: bool) -> bool:
        """Whether it is true for one process at least; all have to call it."""
        return any(self.gather(bool(flag)))

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Add up gradients over the processes, in place; all have to call it.

        Args:
            parameters: The network's, in one order everywhere. Where no process has a gradient,
                none is made.

        Raises:
            ComputationError: If a process has ended.
        """
        own = list(parameters)
        has = torch.tensor([float(p.grad is not None) for p in own])
        with self._together():
            dist.all_reduce(has)
            used = [p for p, count in zip(own, has.tolist(), strict=True) if count]
            if not used:
                return
            parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in used]
            flat = torch.cat([part.reshape(-1) for part in parts])
            dist.all_reduce(flat)
        for p, total in zip(used, flat.split([p.numel() for p in used]), strict=True):
            p.grad = total.view_as(p).clone()

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, ComputationError):
                raise
            told = [] if self._folder is None else sorted(self._folder.glob("error*"))
            reasons = [p.read_text("utf-8") for p in told]
            reason = reasons[0] if reasons else "it was killed or ran out of memory"
            raise ComputationError(
                f"a process of the run ended: {reason}; go on with {argument('resume', True)}"
            ) from None

    def close(self) -> None:
        """Part from the others."""
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()


class TeamStrategy(SingleDeviceStrategy):
    """Lightning's loop in each process: decisions are taken together, process 0 writes."""

    def __init__(self, team: Team) -> None:
        """Bind.

        Args:
            team: The processes.
        """
        super().__init__("cpu")
        self._team = team

    @property
    def is_global_zero(self) -> bool:
        """Whether this process writes."""
        return self._team.leads

    # `all` is Lightning's name
    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:  # noqa: A002
        """One decision for all processes: true everywhere, or (``all=False``) anywhere."""
        return not self._team.any(not decision) if all else self._team.any(decision)


@contextlib.contextmanager
def assembled(size: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> Iterator[Team]:
    """Start the other processes, and lead them inside the block.

    They end with the block, whatever happens in it.

    Args:
        size: Processes, this one included.
        work: ``work((rank, size, folder), *arguments)``, what each of the others does.
        arguments: Can be sent to another process.

    Yields:
        This process's place among them.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="deeph-zero-") as name:
        folder = Path(name)
        others = [
            context.Process(target=_guarded, args=(work, (rank, size, folder), arguments))
            for rank in range(1, size)
        ]
        for process in others:
            process.daemon = True
            with no_interrupts():
                process.start()
        team = None
        try:
            team = Team(0, size, folder)
            yield team
            for process in others:
                process.join(timeout=60)
        finally:
            for process in others:
                if process.is_alive():
                    process.kill()
                process.join()
            if team is not None:
                team.close()


@contextlib.contextmanager
def joined(arguments: tuple[Any, ...] | None) -> Iterator[Team]:
    """Lead the processes that torchrun has started, inside the block.

    Args:
        arguments: What :func:`followed` gives to each of the others; None: there is nothing to do.

    Yields:
        This process's place among them.

    Raises:
        ComputationError: If they do not meet, or one has ended.
    """
    found = launch()
    assert found is not None
    team = Team(found.rank, found.size, None)
    try:
        team.gather(arguments)
        yield team
    finally:
        team.close()


@contextlib.contextmanager
def followed() -> Iterator[tuple[Team, tuple[Any, ...] | None]]:
    """Meet the process that leads those of torchrun, and take what is to be done from it.

    Yields:
        This process's place, and what :func:`joined` was given.

    Raises:
        ComputationError: If they do not meet, or one has ended.
    """
    leave_to_parent()  # the leader tells the others after the step
    found = launch()
    assert found is not None
    team = Team(found.rank, found.size, None)
    try:
        yield team, team.gather(None)[0]
    finally:
        team.close()


def _guarded(
    work: Callable[..., None], place: tuple[int, int, Path], arguments: tuple[Any, ...]
) -> None:
    """In the new process: leave the reason of a failure where the leader finds it."""
    leave_to_parent()  # which tells the others after the step
    try:
        work(place, *arguments)
    except BaseException as error:
        text = " ".join((str(error) or type(error).__name__).split())
        rank, _, folder = place
        (folder / f"error{rank}").write_text(text, encoding="utf-8")
        raise SystemExit(1) from None
