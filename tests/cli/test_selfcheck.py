"""The self-check: what passes, what a broken installation looks like, and that it would notice."""

import math

import numpy as np
import pytest
import torch

from deeph_zero.cli import selfcheck
from deeph_zero.cli.selfcheck import Check, run_checks
from deeph_zero.kohnsham import KohnSham
from deeph_zero.nn.network import FockNetwork
from deeph_zero.testing import WATER


@pytest.fixture
def small(monkeypatch):
    """Water in STO-3G: the same checks in a tenth of the time."""
    from pyscf import gto

    mol = gto.M(atom=WATER, basis="sto-3g", verbose=0)
    monkeypatch.setattr(selfcheck, "_water", lambda: mol)


@pytest.mark.parametrize(
    ("value", "passed"),
    [
        (0.0, True),
        (1e-9, True),
        (1.1e-9, False),
        (math.nan, False),
        (math.inf, False),
        (None, False),
    ],
)
def test_a_number_passes_up_to_its_limit(value, passed):
    check = Check("name", value, 1e-9, 0.5)
    assert check.passed is passed
    assert check.as_dict()["passed"] is passed
    assert check.as_dict()["limit"] == 1e-9


def test_the_molecule_is_the_one_of_all_tests():
    assert selfcheck.WATER == WATER


@pytest.mark.usefixtures("small")
def test_this_installation_passes():
    checks = run_checks()
    assert [check.error for check in checks] == [""] * 3
    assert all(check.passed and check.seconds > 0 for check in checks)
    assert all(check.value > 0 for check in checks[1:]), "a check that compares nothing finds 0"


def test_a_check_that_cannot_run_does_not_stop_the_others(monkeypatch):
    def broken():
        raise ImportError("libcint.so not found\nsecond line")

    def silent():
        raise RuntimeError

    monkeypatch.setattr(selfcheck, "fock_deviation", broken)
    monkeypatch.setattr(selfcheck, "derivative_deviation", silent)
    monkeypatch.setattr(selfcheck, "rotation_deviation", lambda: np.float64(2e-10))
    checks = run_checks()
    assert [check.error for check in checks] == [
        "ImportError: libcint.so not found", "RuntimeError: ", "",
    ]  # fmt: skip
    assert [check.passed for check in checks] == [False] * 3
    assert type(checks[2].value) is float, "JSON has no numbers of NumPy"


@pytest.mark.usefixtures("small")
def test_a_wrong_fock_matrix_is_noticed(monkeypatch):
    real = KohnSham.__call__

    def wrong(self, dm):
        energy, fock = real(self, dm)
        return energy, fock * (1 + 1e-5)

    monkeypatch.setattr(KohnSham, "__call__", wrong)
    assert selfcheck.fock_deviation() > 1e-6
    assert selfcheck.derivative_deviation() > 1e-6


@pytest.mark.usefixtures("small")
def test_a_network_that_does_not_turn_is_noticed(monkeypatch):
    real = FockNetwork.forward

    def bent(self, inputs):
        found = real(self, inputs)
        for blocks in found:
            dense = blocks.to_dense()
            dense[..., 0, 3] += 1e-4 * torch.sign(dense[..., 0, 1])
            dense[..., 3, 0] = dense[..., 0, 3]
            blocks.to_dense = lambda dense=dense: dense
        return found

    straight = selfcheck.rotation_deviation()
    assert 0 < straight < 1e-10
    with monkeypatch.context() as patch:
        patch.setattr(FockNetwork, "forward", bent)
        check = selfcheck._timed("turns", 1e-10, selfcheck.rotation_deviation)
    assert not check.passed


def test_a_device_is_compared_with_the_processor():
    assert selfcheck.device_deviation("cpu") < 1e-12
    assert selfcheck.scf_deviation("cpu") < 1e-9


def test_another_device_has_checks_of_its_own(monkeypatch):
    for name in ("fock_deviation", "derivative_deviation", "rotation_deviation"):
        monkeypatch.setattr(selfcheck, name, lambda: 0.0)
    monkeypatch.setattr(selfcheck, "device_deviation", lambda device: 0.0 * len(device))
    monkeypatch.setattr(selfcheck, "scf_deviation", lambda device: 1.0 * len(device))
    assert len(run_checks("cpu")) == 3
    more = run_checks("cuda:1")[3:]
    assert [check.passed for check in more] == [True, False]
    assert all("on cuda:1" in check.name for check in more)
