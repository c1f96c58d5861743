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
    try:
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    except ValueError:
        got = f"{os.environ['RANK']} and {os.environ['WORLD_SIZE']}"
        raise InputError(f"RANK, WORLD_SIZE: expected numbers, got {got}; unset them") from None
    return Launch(rank, size, max(1, here))
