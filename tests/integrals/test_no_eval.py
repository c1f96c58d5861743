"""PySCF evaluates no text, whatever was imported first."""

import importlib

import pytest

import deeph_zero.integrals  # noqa: F401  what is tested happens at its import
from deeph_zero.integrals.no_eval import configuration_file, left_on, switch_off


def test_nothing_is_left_on_and_a_reader_that_is_gets_named(monkeypatch):
    assert left_on() == []
    module = importlib.import_module("pyscf.gto.basis.parse_nwchem")
    monkeypatch.setattr(module, "DISABLE_EVAL", False)
    assert left_on() == ["pyscf.gto.basis.parse_nwchem"]
    switch_off()
    assert left_on() == []


def test_a_basis_with_code_is_refused():
    from pyscf import gto

    with pytest.raises(Exception, match=r"(?i)float|convert|eval|syntax|parse|basis"):
        gto.basis.parse("#BASIS SET\nH S\n 1.0 __import__('os').getpid()\nEND\n")


def test_the_file_of_settings_is_named(monkeypatch):
    monkeypatch.setenv("PYSCF_CONFIG_FILE", "a.py")
    assert configuration_file() == "a.py"
    monkeypatch.delenv("PYSCF_CONFIG_FILE")
    assert configuration_file() == "none"
