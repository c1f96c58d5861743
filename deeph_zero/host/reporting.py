"""What a person sees while a command runs: progress, messages, warnings and tables."""

import contextlib
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from deeph_zero.host.one_line import one_line

LOGGER = logging.getLogger("deeph_zero")

_PLAIN_INTERVAL = 5.0
"""Seconds between plain progress lines where there is no terminal."""
_PLAIN_WIDTH = 160
"""Columns of a table where there is no terminal to ask."""


@runtime_checkable
class Task(Protocol):
    """One piece of progress; use it in a ``with`` block."""

    def __enter__(self) -> "Task":
        """Start showing it."""
        ...

    def __exit__(self, *exc: object) -> None:
        """Stop showing it."""
        ...

    def advance(self, n: int = 1, **fields: object) -> None:
        """Count ``n`` more steps as done; ``fields`` are shown beside the bar."""
        ...

    def skip(self, n: int) -> None:
        """Begin with ``n`` steps behind it, which say nothing about the time that is left."""
        ...


@runtime_checkable
class Reporter(Protocol):
    """Where engines say what they do. They never print."""

    def task(self, description: str, total: int | None = None) -> Task:
        """Progress over ``total`` steps (None: not known)."""
        ...

    def message(self, text: str) -> None:
        """One line for information."""
        ...

    def warning(self, text: str) -> None:
        """One line that the user should read."""
        ...

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table of text cells."""
        ...


class _SilentTask:
    """Progress that nobody sees."""

    def __enter__(self) -> "_SilentTask":
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def advance(self, n: int = 1, **fields: object) -> None:
        """Do nothing."""

    def skip(self, n: int) -> None:
        """Do nothing."""


class SilentReporter:
    """Shows nothing: for library calls and tests."""

    def task(self, description: str, total: int | None = None) -> Task:
        """Progress that nobody sees."""
        del description, total
        return _SilentTask()

    def message(self, text: str) -> None:
        """Drop it."""

    def warning(self, text: str) -> None:
        """Drop it."""

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Drop it."""


def _format(fields: dict[str, object]) -> str:
    parts = (f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in fields.items())
    return "  ".join(parts)


class _BarTask:
    """Progress bar on a terminal."""

    def __init__(self, console: Console, description: str, total: int | None) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
        )
        self._id: TaskID = self._progress.add_task(description, total=total, note="")

    def __enter__(self) -> "_BarTask":
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def advance(self, n: int = 1, **fields: object) -> None:
        """Move the bar."""
        if fields:
            self._progress.update(self._id, note=_format(fields))
        self._progress.advance(self._id, n)

    def skip(self, n: int) -> None:
        """Begin with ``n`` steps behind it."""
        self._progress.reset(self._id, completed=n)


class _LineTask:
    """Plain progress lines, at most one every few seconds and one at the end."""

    def __init__(self, console: Console, description: str, total: int | None) -> None:
        self._console = console
        self._description = description
        self._total = total
        self._done = self._skipped = 0
        self._shown = -1
        self._note = ""
        self._start = self._last = time.monotonic()

    def __enter__(self) -> "_LineTask":
        return self

    def __exit__(self, *exc: object) -> None:
        if self._shown != self._done:
            self._show()

    def advance(self, n: int = 1, **fields: object) -> None:
        """Count, and print a line when the last one is old."""
        self._done += n
        if fields:
            self._note = _format(fields)
        if time.monotonic() - self._last >= _PLAIN_INTERVAL:
            self._show()

    def skip(self, n: int) -> None:
        """Begin with ``n`` steps behind it."""
        self._done = self._skipped = n

    def _show(self) -> None:
        self._last = time.monotonic()
        self._shown = self._done
        total = "" if self._total is None else f"/{self._total}"
        seconds, did = self._last - self._start, self._done - self._skipped
        left = ""
        if self._total is not None and did > 0 and self._done < self._total:
            left = f"  {_duration(seconds / did * (self._total - self._done))} left"
        line = f"{self._description}: {self._done}{total}  {seconds:.0f} s{left}  {self._note}"
        _print(self._console, line.rstrip())


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _print(console: Console, text: str) -> None:
    """One line, as it is: no markup, no colour guesses, no wrapping."""
    line = one_line(" ".join(text.splitlines()), longest=None)
    console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Console(Console):
    """Says nothing more where its reader has gone (``| head``, ``| tee`` after Ctrl-C).

    Rich would end the process there and then, with what was computed unwritten.
    """

    def on_broken_pipe(self) -> None:
        """Write to nobody from now on."""
        self.quiet = True
        with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("wb") as nobody:
            os.dup2(nobody.fileno(), self.file.fileno())


class ConsoleReporter:
    """Progress bar on a terminal, plain lines elsewhere.

    With ``json`` standard output is left to the result: messages go to standard error, progress
    and tables are not shown. With ``quiet`` only warnings are shown.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        """Choose where things go.

        Args:
            json: Standard output is reserved for the machine-readable result.
            quiet: Show warnings only.
        """
        self._quiet = quiet
        self._json = json
        self._err = _Console(stderr=True, emoji=False)  # ":O:" is oxygen, no picture
        self._out = self._err if json else _Console(emoji=False)
        if not self._out.is_terminal:
            self._out.width = max(self._out.width, _PLAIN_WIDTH)

    def task(self, description: str, total: int | None = None) -> Task:
        """Progress over ``total`` steps (None: not known); nothing is said of none."""
        if self._quiet or self._json or total == 0:
            return _SilentTask()
        if self._out.is_terminal:
            return _BarTask(self._out, description, total)
        return _LineTask(self._out, description, total)

    def message(self, text: str) -> None:
        """One line for information."""
        if not self._quiet:
            _print(self._out, text)

    def warning(self, text: str) -> None:
        """One line on standard error."""
        _print(self._err, one_line(f"warning: {' '.join(text.splitlines())}"))

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table of text cells; columns of numbers are right-aligned."""
        if self._quiet or self._json:
            return
        table = Table(
            title=one_line(title, longest=None), title_justify="left", box=None, pad_edge=False
        )
        for k, name in enumerate(columns):
            cells = [row[k] for row in rows]
            numbers = all(cell[:1] in "-+.0123456789" for cell in cells)
            table.add_column(
                one_line(name, longest=None), justify="right" if numbers else "left", no_wrap=True
            )
        for row in rows:
            table.add_row(*(one_line(cell, longest=None) for cell in row))
        self._out.print(table, markup=False, highlight=False)


class _OneLineFormatter(logging.Formatter):
    """``warning: text`` on one line; a traceback only when details were asked for."""

    def __init__(self, *, details: bool) -> None:
        super().__init__("%(message)s")
        self._details = details

    def format(self, record: logging.LogRecord) -> str:
        if self._details:
            return f"{record.levelname.lower()}: {super().format(record)}"
        text = " ".join(record.getMessage().splitlines())
        return one_line(f"{record.levelname.lower()}: {text}")


def configure_logging(verbosity: int) -> None:
    """Send the package's log to standard error.

    Args:
        verbosity: 0 or less warnings, 1 information, 2 or more everything.
    """
    levels = {-1: logging.WARNING, 0: logging.WARNING, 1: logging.INFO}
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLineFormatter(details=verbosity > 0))
    for old in list(LOGGER.handlers):
        LOGGER.removeHandler(old)
    LOGGER.addHandler(handler)
    LOGGER.setLevel(levels.get(verbosity, logging.DEBUG))
    # it tells of its font cache on the first figure, in a form that is not ours
    logging.getLogger("matplotlib").setLevel(logging.WARNING if verbosity > 0 else logging.ERROR)
