"""``python -m deeph_zero``: the same as the command ``deeph-zero``."""

import sys

from deeph_zero.cli.main import entry_point

if __name__ == "__main__":
    sys.exit(entry_point())
