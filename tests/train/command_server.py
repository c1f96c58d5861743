"""Runs `deeph-zero` commands as processes of their own, forked so that imports are paid once.

One JSON line in, one JSON line out. ``{"argv", "cwd", "log", "plan"}`` starts a command with its
output in ``log.out`` and ``log.err`` and answers with its pid; ``{"wait": pid}`` answers with its
exit code (negative: the signal that ended it). A plan makes things happen at the n-th call of a
named place: a signal to the process itself, a full disk, time passing. On the clock of time limits
no other time passes than that, so that no machine is too slow for a test.
"""

import errno
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

import torch

import deeph_zero.cli.checks  # noqa: F401
from deeph_zero.cli import fit
from deeph_zero.cli.main import entry_point
from deeph_zero.host import runtime, tensor_files
from deeph_zero.train import callbacks, finish, prepare
from deeph_zero.train.fit import run_fit  # noqa: F401
from deeph_zero.train.module import FitModule
from deeph_zero.train.teacher import Teacher

PLACES = {
    "integrals": (prepare, "make_problem"),
    "build": (Teacher, "learn"),
    "step": (FitModule, "training_step"),
    "epoch": (FitModule, "on_train_epoch_end"),
    "certificate": (finish, "_certify"),
    "rename": (Path, "replace"),
    "write": (tensor_files, "_write_synced"),
}
PASSED = [0.0]
"""Seconds since the command began, as its time limit knows them."""


def act(action):
    """What happens at the place."""
    if "signal" in action:
        os.kill(os.getpid(), action["signal"])
    if "passes" in action:
        PASSED[0] += action["passes"]
    if "full_disk" in action:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def arm(action):
    """Make ``action`` happen at call number ``action["call"]`` (from 1) of its place."""
    owner, name = PLACES[action["place"]]
    original, calls = getattr(owner, name), [0]

    def wrapped(*args, **kwargs):
        calls[0] += 1
        if action["call"] <= calls[0] < action["call"] + action.get("times", 1):
            act(action)
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


def child(request):
    """The command, in the forked process."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup would hide it
    started = time.monotonic()
    runtime.now = lambda: started + PASSED[0]
    os.chdir(request["cwd"])
    for number, ending in ((1, "out"), (2, "err")):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(f"{request['log']}.{ending}", flags, 0o644), number)
    plan = request["plan"]
    fit.report_run = lambda *_: None  # a page of seconds, which no test of interruptions reads
    if "checkpoint_every" in plan:
        callbacks.Checkpoints.__init__.__kwdefaults__["every_seconds"] = plan["checkpoint_every"]
    if "file_size" in plan:
        resource.setrlimit(resource.RLIMIT_FSIZE, (plan["file_size"],) * 2)
    for action in plan.get("actions", []):
        arm(action)
    return entry_point(request["argv"])


def main():
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C on the terminal is for pytest
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)  # noqa: T201
            continue
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                code = child(request)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        print(json.dumps(pid), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
