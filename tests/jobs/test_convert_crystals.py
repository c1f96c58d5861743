"""Crystals of other programs in a Gaussian basis become labels, their density that of the SCF."""

import json

import numpy as np
import pytest

from deeph_zero.cli.main import entry_point
from deeph_zero.data.crystal_labels import CrystalLabels
from deeph_zero.errors import InputError
from deeph_zero.method import CrystalMethod, Method

CRYSTAL = """3
Lattice="2.6 0.1 0.0 0.2 2.4 0.0 0.0 0.3 2.9" pbc="T T T" spin={spin}
H 0.1 0.2 0.3
H 0.2 0.1 1.05
He 1.3 1.2 2.0
"""
METHOD = Method(
    xc="lda,vwn", basis="gth-szv", crystal=CrystalMethod(kmesh=(2, 1, 2), pseudo="gth-pade")
)


@pytest.fixture(scope="module", params=[0, 2])
def folder(request, tmp_path_factory):
    """Labels, and DeepH's folder of them, which says neither functions nor occupations."""
    folder = tmp_path_factory.mktemp("crystal")
    (folder / "a.xyz").write_text(CRYSTAL.format(spin=request.param))
    words = ["label", folder / "a.xyz", "-o", folder / "a.h5", "--xc", "lda,vwn", "--kmesh", 2, 1]
    words += [2, "--basis", "gth-szv", "--pseudo", "gth-pade", "--ke-cutoff", 25, "-q"]
    words += ["--conv-tol", 1e-10, "--threads", 1, "--device", "cpu"]
    assert entry_point([str(w) for w in words]) == 0
    assert entry_point(["convert", str(folder / "a.h5"), str(folder / "deeph"), "-q"]) == 0
    info = json.loads((folder / "deeph" / "info.json").read_text())
    assert info.pop("basis") == "gth-szv"
    (folder / "deeph" / "info.json").write_text(json.dumps(info))
    return folder


def test_the_density_is_that_of_the_label(folder):
    back = folder / "back.h5"
    words = ["convert", str(folder / "deeph"), str(back), "--basis", "gth-szv", "-q"]
    assert entry_point([*words, "--overwrite"]) == 0
    own, found = (CrystalLabels([p]).label(0, METHOD) for p in (folder / "a.h5", back))
    np.testing.assert_array_equal(own.kpts, found.kpts)
    assert own.kmesh == found.kmesh
    np.testing.assert_allclose(found.fock, own.fock, atol=1e-7)
    # the label's own density is the one that the last build was of
    np.testing.assert_allclose(found.dm, own.dm, atol=1e-5)
    np.testing.assert_allclose(found.mo_occ.sum(), own.mo_occ.sum(), atol=1e-10)
    assert found.energy is None
    other = Method(xc="lda,vwn", basis="gth-dzvp", crystal=METHOD.crystal)
    with pytest.raises(InputError, match="expected labels of basis gth-dzvp, got gth-szv"):
        CrystalLabels([back]).label(0, other)


def test_functions_of_another_basis_are_refused(folder, capsys):
    for basis, words in (
        ("gth-dzvp", "expected the shells of gth-dzvp, got those of another basis set"),
        ("gth-szv-molopt-sr", "expected the overlap of gth-szv-molopt-sr at these positions"),
    ):
        out = folder / "none.h5"
        assert entry_point(["convert", str(folder / "deeph"), str(out), "--basis", basis]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert words in line
        assert not out.exists()
