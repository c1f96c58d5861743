"""Warnings that come once in a process, however often they are due."""

import functools
import logging


@functools.lru_cache
def say_once(line: str | None) -> None:
    """Warn in the package's log, the first time.

    Args:
        line: The warning; None: nothing to say.
    """
    if line is not None:
        logging.getLogger("deeph_zero").warning("%s", line)
