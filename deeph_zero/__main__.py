"""The command ``deeph-zero``, also ``python -m deeph_zero``: Ctrl-C is a line from the start."""

import sys


def main() -> int:
    """Run one command, whose modules take a moment to import.

    Returns:
        The exit code, see :func:`deeph_zero.cli.main.entry_point`.
    """
    try:
        from deeph_zero.cli.main import entry_point
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        return 130
    return entry_point()


if __name__ == "__main__":
    sys.exit(main())
