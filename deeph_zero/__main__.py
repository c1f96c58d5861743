"""The command ``deeph-zero``, also ``python -m deeph_zero``: Ctrl-C is a line from the start."""

import signal
import sys

INTERRUPTED = 128 + signal.SIGINT
"""Exit code of what Ctrl-C ended."""


def main() -> int:
    """Run one command, whose modules take a moment to import.

    Returns:
        The exit code, see :func:`deeph_zero.cli.main.entry_point`.

    Raises:
        KeyboardInterrupt: After Ctrl-C at a terminal, with its line said: Python tidies up and
            dies of SIGINT, which is 130 to a shell too, and the only end of a command that ends
            the shell's loops. Programs that started it get the exit code.
    """
    try:
        from deeph_zero.cli.main import entry_point
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        code = INTERRUPTED
    else:
        code = entry_point()
    if code == INTERRUPTED and sys.stderr is not None and sys.stderr.isatty():
        sys.excepthook = lambda *_: None
        raise KeyboardInterrupt
    return code


if __name__ == "__main__":
    sys.exit(main())
