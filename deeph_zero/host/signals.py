"""Ctrl-C, SIGTERM and SIGHUP: each ends a command in good order, and the exit code says which."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What a terminal, a batch system or ``timeout`` sends to end a command."""
FIRST = "what is being computed is finished and saved first, a second Ctrl-C ends at once"
"""Said at the first signal."""
LAST = "that was the last structure, nothing is left out"
"""Said where the first signal changes nothing."""
_WORDS = {signal.SIGTERM: "ended by SIGTERM", signal.SIGHUP: "ended by SIGHUP"}


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end; whatever handles Ctrl-C handles it too.

    Attributes:
        signum: The signal.
    """

    def __init__(self, signum: int, text: str = "") -> None:
        """Keep the signal, and a sentence for the user.

        Args:
            signum: The signal.
            text: Sentence; empty says what came.
        """
        super().__init__(text)
        self.signum = signum


def signal_of(error: BaseException) -> int:
    """The signal behind an interruption; SIGINT for Python's own KeyboardInterrupt."""
    return error.signum if isinstance(error, Stopped) else signal.SIGINT


def word_of(error: BaseException) -> str:
    """What happened, for messages: "interrupted", "ended by SIGTERM"."""
    return _WORDS.get(signal.Signals(signal_of(error)), "interrupted")


def saying(error: BaseException, text: str) -> Stopped:
    """An interruption with a further sentence behind its message.

    Args:
        error: A KeyboardInterrupt.
        text: What is left, and how to go on; may be empty.

    Returns:
        What to raise in its place.
    """
    return Stopped(signal_of(error), f"{word_of(error)}{text}")


class Interrupt:
    """Remembers the first signal so that a step can finish; see :func:`interruptible`."""

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        """Nothing was asked yet.

        Args:
            say: Told at once of the first signal, in one line; None: nobody is.
        """
        self.signum: int | None = None
        self._say = say

    @property
    def requested(self) -> bool:
        """Whether a signal came."""
        return self.signum is not None

    def check(self) -> None:
        """Act on a remembered signal, at a point where everything is saved.

        Raises:
            Stopped: If one came.
        """
        if self.signum is not None:
            raise Stopped(self.signum)

    def settle(self, stopped_by: str | None) -> None:
        """Where all that was asked for is done, a signal that came in its last step counts nothing.

        Args:
            stopped_by: What ended it before; None: nothing did.
        """
        if stopped_by is None and self.signum is not None:
            self._tell(f"{word_of(Stopped(self.signum))}: {LAST}")
            self.signum = None

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Signal handler: the first signal is remembered, the second one acts at once.

        Args:
            signum: Signal number.
            frame: Interrupted frame.

        Raises:
            Stopped: On the second signal.
        """
        del frame
        if self.requested:
            raise Stopped(signum)
        self.signum = signum
        self._tell(f"{word_of(Stopped(signum))}: {FIRST}")

    def _tell(self, text: str) -> None:
        if self._say is not None:
            # a terminal that has gone, or a line that was being written: the signal still counts
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                self._say(text)

    def listen(self) -> dict[int, object]:
        """Take the signals, or take them back from a library; nohup's SIGHUP stays ignored.

        Returns:
            The handlers before.
        """
        return _handled_by(self.handle)


def _raise(signum: int, frame: FrameType | None) -> None:
    del frame
    raise Stopped(signum)


def _handled_by(handler: object, signals: tuple[signal.Signals, ...] = END_SIGNALS) -> dict:
    """Install a handler where the user did not ask to ignore the signal."""
    before: dict[int, object] = {}
    if threading.current_thread() is not threading.main_thread():
        return before  # Python delivers signals to the main thread only
    for signum in signals:
        old = signal.getsignal(signum)
        # a shell starts background jobs with SIGINT ignored; whoever sends one means it
        if old is signal.SIG_IGN and signum != signal.SIGINT:
            continue
        before[signum] = old
        signal.signal(signum, handler)  # pyright: ignore[reportArgumentType]
    return before


def _put_back(before: dict[int, object]) -> None:
    for signum, old in before.items():
        signal.signal(signum, old)  # pyright: ignore[reportArgumentType]


@contextlib.contextmanager
def ending_like_ctrl_c() -> Iterator[None]:
    """SIGTERM and SIGHUP raise inside the block as Ctrl-C does, so that everything is tidied up.

    Yields:
        Nothing.
    """
    before = _handled_by(_raise, (signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        _put_back(before)


@contextlib.contextmanager
def interruptible(say: Callable[[str], None] | None = None) -> Iterator[Interrupt]:
    """Hold back the first signal inside the block; the caller asks ``interrupt.check()``.

    The previous handlers are put back at the end, and a signal that nobody asked about is raised
    then. Outside the main thread Python delivers no signals and the block changes nothing.

    Args:
        say: Told at once of the first signal, in one line.

    Yields:
        The flag to look at between steps.

    Raises:
        Stopped: At the end of the block, if a signal came in it.
    """
    interrupt = Interrupt(say)
    before = interrupt.listen()
    try:
        yield interrupt
    finally:
        _put_back(before)
    interrupt.check()


@contextlib.contextmanager
def no_interrupts() -> Iterator[None]:
    """A process started in here is deaf to these signals from its first moment on.

    Yields:
        Nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set(END_SIGNALS))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_to_parent() -> None:
    """In a worker: these signals are for the process that gives out work, and ends its workers."""
    for signum in END_SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
