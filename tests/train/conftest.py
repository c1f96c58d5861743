"""`deeph-zero` as processes that can be interrupted, killed, starved of time and disk."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@dataclasses.dataclass
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str


class Commands:
    """Starts commands through ``command_server.py``."""

    def __init__(self, folder: Path) -> None:
        script = Path(__file__).with_name("command_server.py")
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        self._server = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self._folder = folder
        self._count = 0
        self._logs: dict[int, Path] = {}

    def _ask(self, request: dict[str, Any]) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def start(self, *argv: str | Path, plan: dict[str, Any] | None = None) -> int:
        self._count += 1
        log = self._folder / f"log{self._count}"
        request = {"argv": [str(a) for a in argv], "cwd": str(self._folder), "log": str(log)}
        pid = self._ask(request | {"plan": plan or {}})
        self._logs[pid] = log
        return pid

    def wait(self, pid: int) -> Ended:
        code = self._ask({"wait": pid})
        log = self._logs.pop(pid)
        texts = [log.with_suffix(end).read_text() for end in (".out", ".err")]
        return Ended(code, *texts)

    def run(self, *argv: str | Path, plan: dict[str, Any] | None = None) -> Ended:
        return self.wait(self.start(*argv, plan=plan))

    def close(self) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait()


@pytest.fixture(scope="session")
def commands(tmp_path_factory):
    server = Commands(tmp_path_factory.mktemp("commands"))
    yield server
    server.close()
