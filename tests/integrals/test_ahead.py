"""Integrals from worker processes: the same bits in any order, and whatever happens to a worker."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from deeph_zero.errors import InputError
from deeph_zero.integrals.ahead import IntegralsAhead, Order
from deeph_zero.integrals.calculation import calculation_of
from deeph_zero.integrals.mole import build_mole
from deeph_zero.integrals.portable import Portable
from deeph_zero.integrals.system import portable_part
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule


def water(shift=0.0, **values):
    coords = np.array([[0, 0, 0.2 + shift], [0, 1.43, 1.1], [0.1, -1.4, 1.15]])
    return Molecule(numbers=np.array([8, 1, 1]), coords=coords, file="w.xyz", **values)


@pytest.fixture
def orders():
    method = Method(basis="sto-3g", grid_level=0)
    return [Order(molecule=water(0.01 * k), method=method) for k in range(4)]


@pytest.fixture
def ahead():
    pool = IntegralsAhead(1)
    yield pool
    pool.close()


def same(part: Portable, order: Order) -> bool:
    mol = build_mole(order.molecule, basis=order.method.basis)
    own = portable_part(calculation_of(mol, order.method))
    ours, theirs = own.two.coulomb.cderi, part.two.coulomb.cderi
    return torch.allclose(ours, theirs, rtol=0, atol=1e-12) and torch.equal(
        own.one.hcore, part.one.hcore
    )


def test_orders_are_limited_and_plans_change(ahead, orders):
    ahead.plan((k, lambda k=k: orders[k]) for k in range(4))
    assert ahead.on_order == ahead.limit == 2
    assert same(ahead.take(1, orders[1]), orders[1])
    assert ahead.on_order == 1
    ahead.plan([(3, lambda: orders[3])])  # 0 is not wanted any more
    assert ahead.on_order == 1
    assert same(ahead.take(3, orders[3]), orders[3])
    assert same(ahead.take(2, orders[2]), orders[2])  # never ordered: waited for
    assert ahead.on_order == 0


def test_a_killed_worker_is_done_without(ahead, orders, caplog):
    ahead.take(0, orders[0])
    (process,) = ahead._pool._processes.values()
    ahead.plan([(1, lambda: orders[1])])
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert same(ahead.take(1, orders[1]), orders[1])
    assert same(ahead.take(2, orders[2]), orders[2])
    assert ahead._pool is None
    assert sum("worker process" in record.message for record in caplog.records) == 1
    ahead.plan([(3, lambda: orders[3])])
    assert ahead.on_order == 0


def test_errors_arrive_as_they_are(ahead):
    lawrencium = Molecule(
        numbers=np.array([103]), coords=np.zeros((1, 3)), spin=1, file="lr.xyz", frame=3
    )
    order = Order(molecule=lawrencium, method=Method())
    with pytest.raises(InputError, match="def2-svp"):
        ahead.take(0, order)
    assert same(ahead.take(1, good := Order(molecule=water(), method=Method(basis="sto-3g"))), good)


def test_workers_end_with_a_killed_process(tmp_path):
    script = tmp_path / "starts.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            sys.path.insert(0, sys.argv[1])
            from test_ahead import IntegralsAhead, Method, Order, water

            if __name__ == "__main__":
                pool = IntegralsAhead(1)
                pool.take(0, Order(molecule=water(), method=Method(basis="sto-3g", grid_level=0)))
                print(*pool._pool._processes, flush=True)
                sys.stdin.read()
            """
        )
    )
    here = Path(__file__).parent
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, script, here], text=True, **pipes)
    worker = int(process.stdout.readline())
    process.kill()
    process.communicate()
    while alive(worker):  # the time limit of every test is the limit here
        time.sleep(0.05)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:  # one that nobody has asked for its end is not alive
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return True
