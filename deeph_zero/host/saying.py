"""Warnings that come once, however often they are due, and say of which structure they are."""

import contextlib
import functools
import logging
from collections.abc import Hashable, Iterator


@functools.lru_cache
def say_once(line: str | None) -> None:
    """Warn in the package's log, the first time.

    Args:
        line: The warning; None: nothing to say.
    """
    if line is not None:
        logging.getLogger("deeph_zero").warning("%s", line)


class Naming:
    """Puts names of structures before warnings of the package's log.

    Those that hold for all structures of a kind (``extra={"of_a_kind": True}``) come once for it.
    """

    def __init__(self) -> None:
        """Nothing is said yet."""
        self._said: set[tuple[str, Hashable]] = set()

    @contextlib.contextmanager
    def of(self, where: str, kind: Hashable) -> Iterator[None]:
        """Inside the block warnings are of one structure.

        Args:
            where: What they begin with.
            kind: Its kind.

        Yields:
            Nothing.
        """

        def name(record: logging.LogRecord) -> bool:
            if record.levelno < logging.WARNING:
                return True
            if getattr(record, "of_a_kind", False):
                key = (str(record.msg), kind)
                if key in self._said:
                    return False
                self._said.add(key)
            record.msg, record.args = where + record.getMessage(), ()
            return True

        logger = logging.getLogger("deeph_zero")
        logger.addFilter(name)
        try:
            yield
        finally:
            logger.removeFilter(name)
