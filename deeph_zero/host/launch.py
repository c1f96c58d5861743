"""What ``torchrun`` says to a process that it starts."""

import dataclasses
import os

from deeph_zero.errors import InputError

_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclasses.dataclass(frozen=True)
class Launch:
    """A process among those that torchrun started.

    Attributes:
        rank: Position of this process.
        size: How many there are, on all machines.
        here: How many of them are on this machine.
    """

    rank: int
    size: int
    here: int


def launch() -> Launch | None:
    """What torchrun says to this process.

    Returns:
        Its place; None where it was started by itself, or alone.

    Raises:
        InputError: If what torchrun says is not complete.
    """
    if "RANK" not in os.environ or os.environ.get("WORLD_SIZE", "1") == "1":
        return None
    missing = [name for name in _NEEDED if name not in os.environ]
    if missing:
        raise InputError(
            f"RANK: expected {', '.join(missing)} beside it, as torchrun sets them; unset RANK, or "
            "start with torchrun"
        )
    rank, size = _count("RANK"), _count("WORLD_SIZE")
    if not 0 <= rank < size:
        raise InputError(
            f"RANK: expected 0 to {size - 1} of the {size} processes in WORLD_SIZE, got {rank}; "
            "unset both, or start with torchrun"
        )
    return Launch(rank, size, max(1, _count("LOCAL_WORLD_SIZE")))


def _count(name: str) -> int:
    text = os.environ.get(name, "1")
    try:
        return int(text)
    except ValueError:
        raise InputError(
            f"{name}: expected a number, as torchrun sets it, got {text!r}; unset RANK, or start "
            "with torchrun"
        ) from None
