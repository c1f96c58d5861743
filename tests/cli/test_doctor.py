"""The command ``doctor``: versions, devices, and a self-check that can fail."""

import json

import pytest

from deeph_zero import __version__
from deeph_zero.cli import doctor, selfcheck
from deeph_zero.cli.selfcheck import Check


def test_doctor_checks_itself(run):
    result = run("doctor", "--json", "--device", "cpu")
    assert (result.code, result.err) == (0, "")
    report = json.loads(result.out)
    assert report["version"] == __version__
    assert report["packages"]["pyscf"]
    assert set(report["optional"]) >= {"rdkit", "torch_scatter", "tensorboard"}
    assert [check["passed"] for check in report["self_check"]] == [True, True, True]
    assert all(check["value"] > 0 for check in report["self_check"][1:])


def test_doctor_reports_a_sick_installation(run, monkeypatch):
    from deeph_zero.cli import selfcheck

    def broken():
        raise ImportError("libcint.so not found\nsecond line")

    monkeypatch.setattr(selfcheck, "fock_deviation", broken)
    monkeypatch.setattr(selfcheck, "derivative_deviation", lambda: 0.5)
    monkeypatch.setattr(selfcheck, "rotation_deviation", lambda: 1e-13)
    result = run("doctor")
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert "ImportError: libcint.so not found" in result.err
    assert result.out.count("FAILED") == 2


PASSED, FAILED = Check("one", 1e-12, 1e-9, 0.5), Check("two", 3e-3, 1e-6, 0.25)


@pytest.fixture
def checks(monkeypatch):
    found = [PASSED]
    monkeypatch.setattr(selfcheck, "run_checks", lambda _device: found)
    return found


def test_what_is_installed_is_listed(run, checks):
    checks.append(PASSED)
    result = run("doctor", "--device", "cpu", "--threads", "1")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert any(line.split() == ["deeph-zero", __version__] for line in lines)
    assert "threads: 1" in result.out
    assert "used: cpu" in result.out
    assert sum("passed" in line for line in lines) == 2
    for name, use in doctor.OPTIONAL.items():
        assert any(name in line and use[:20] in line for line in lines), name


@pytest.mark.parametrize(
    ("check", "got"),
    [
        (FAILED, "two: expected at most 1e-06, got 3.0e-03; install the versions in"),
        (Check("two", None, 1e-6, 0.1, "ImportError: no libcint"), "got ImportError: no libcint; "),
    ],
)
def test_the_first_failure_is_the_line_of_the_error(run, checks, check, got):
    checks += [check, FAILED]
    result = run("doctor", "--device", "cpu", "--json")
    assert result.code == 1
    assert got in result.err
    report = json.loads(result.out)
    assert report["ok"] is False
    assert [c["passed"] for c in report["self_check"]] == [True, False, False]
    assert report["counts"] is None


@pytest.mark.usefixtures("checks")
def test_a_card_that_torch_does_not_see_is_explained(run, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for version, said in ((None, "none, this build is for the processor"), ("13.0", "it sees no")):
        monkeypatch.setattr("torch.version.cuda", version)
        assert f"CUDA of torch: {version or said}" in (out := run("doctor").out)
        assert said in out


def test_a_package_that_is_missing_is_said():
    assert doctor._version("no-such-package-anywhere") is None
    assert doctor._version("numpy")
    assert [doctor._present(name) for name in ("numpy.linalg", "no_such.module")] == [True, False]
