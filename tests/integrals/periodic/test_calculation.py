"""What is to be computed of a crystal: from keywords, a method, or an object of PySCF."""

import numpy as np
import pytest
from pyscf.pbc import dft
from pyscf.pbc import scf as pbc_scf

from deeph_zero.errors import InputError
from deeph_zero.integrals.periodic.calculation import (
    MOST_POLARISED,
    crystal_calculation,
    crystal_calculation_of,
)
from deeph_zero.method import CrystalMethod, Method


@pytest.fixture(scope="module")
def lih(crystal):
    return crystal("lih")


# ---- from a cell -------------------------------------------------------------------------------


def test_defaults_of_a_cell(lih):
    found = crystal_calculation(lih)
    assert found.method == Method(
        xc="pbe", basis="gth-szv", density_fit=False, unrestricted=False,
        crystal=CrystalMethod(kmesh=(1, 1, 1), pseudo="gth-pbe", ke_cutoff=20.0),
    )  # fmt: skip
    assert found.mesh == tuple(lih.mesh)
    electrons = lih.tot_electrons()
    assert found.nelec == (electrons / 2, electrons / 2)
    assert (found.smearing, found.moments, found.exxdiv, found.fitting) == (
        0.0,
        None,
        "ewald",
        None,
    )


def test_keywords_of_a_cell(lih):
    found = crystal_calculation(
        lih, xc="pbe0", kmesh=(3, 1, 2), shifted=True, unrestricted=True, smearing=0.01,
        fix_spin=True, exxdiv=None,
    )  # fmt: skip
    assert found.spec.hyb == 0.25
    assert (found.kpoints.mesh, found.shifted) == ((3, 1, 2), True)
    assert found.kpoints.weights.sum() == pytest.approx(1)
    # Monkhorst and Pack's mesh avoids Γ along the axis with two points
    assert np.abs(found.kpoints.scaled[:, 2]).min() == pytest.approx(0.25)
    assert found.unrestricted
    assert found.method.crystal == CrystalMethod(
        kmesh=(3, 1, 2), pseudo="gth-pbe", ke_cutoff=20.0, shifted=True, fix_spin=True
    )
    assert (found.method.smearing, found.exxdiv) == (0.01, None)


def test_spins_follow_the_cell_or_its_moments(crystal):
    two = crystal_calculation(crystal("chain", spin=2))
    assert (two.unrestricted, two.nelec) == (True, (2.0, 0.0))
    moments = crystal_calculation(crystal("chain"), moments=[1, -1])
    assert (moments.unrestricted, moments.moments, moments.nelec) == (True, (1.0, -1.0), (1.0, 1.0))
    own = crystal_calculation(crystal("chain", magmom=[1, -1]))
    assert own.moments == (1.0, -1.0)
    assert crystal_calculation(crystal("chain", magmom=[0, 0])).moments is None
    # of a closed shell the cell's own are of no use
    closed = crystal_calculation(crystal("chain", magmom=[1, -1]), unrestricted=False)
    assert closed.moments is None


def test_where_the_electrons_start(crystal):
    cell = crystal("chain", spin=2)
    assert crystal_calculation(crystal("chain")).spin_shares().tolist() == [[1.0, 1.0]]
    assert crystal_calculation(cell).spin_shares().tolist() == [[1.0, 1.0], [0.0, 0.0]]
    shares = crystal_calculation(cell, moments=[0.5, -3.0]).spin_shares()
    wanted = [[0.75, 0.5 * (1 - MOST_POLARISED)], [0.25, 0.5 * (1 + MOST_POLARISED)]]
    np.testing.assert_allclose(shares, wanted, atol=1e-15)


def test_odd_electrons_need_smearing(crystal):
    cell = crystal("aluminium", spin=1)
    cell.spin = 0
    with pytest.raises(InputError, match="expected an even number of electrons for spin 0, got 3"):
        crystal_calculation(cell)
    with pytest.raises(InputError, match="even number of electrons"):
        crystal_calculation(cell, smearing=0.01, fix_spin=True)
    assert crystal_calculation(cell, smearing=0.01).nelec == (1.5, 1.5)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"smearing": -0.1}, "smearing expected a width of 0 or more"),
        ({"smearing": "a"}, "smearing expected a width of 0 or more"),
        ({"smearing": float("nan")}, "smearing expected a width of 0 or more"),
        ({"moments": [1]}, r"moments expected one number for each of the 2 atoms, got \[1\]"),
        ({"moments": [1, float("inf")]}, "moments expected one number for each of the 2 atoms"),
        ({"moments": []}, r"moments expected one number for each of the 2 atoms, got \[\]"),
        ({"moments": 1}, "moments expected one number for each of the 2 atoms, got 1; correct"),
        (
            {"moments": [1, -1], "unrestricted": False},
            r"expected two spins, got one \(unrestricted",
        ),
        ({"exxdiv": "vcut"}, "exxdiv expected 'ewald', 'vcut_sph', 'vcut_ws' or None, got 'vcut'"),
        (
            {"exxdiv": "vcut_sph", "xc": "hse06"},
            "for the short-range exchange of xc 'hse06', got 'v",
        ),
        ({"kmesh": (0, 1, 1)}, "kmesh expected three positive whole numbers"),
        ({"xc": "wb97x-v"}, "wb97x-v"),
    ],
)
def test_wrong_keywords(lih, keywords, words):
    # types are checked at every call under test, as far as annotations go
    try:
        with pytest.raises(InputError, match=words):
            crystal_calculation(lih, **keywords)
    except Exception as error:
        if type(error).__name__ != "TypeCheckError":
            raise


def test_spins_cannot_be_closed(crystal):
    with pytest.raises(InputError, match=r"\(cell\.spin 2\) with two spins, got unr"):
        crystal_calculation(crystal("chain", spin=2), unrestricted=False)


def test_a_basis_written_out_is_custom(crystal):
    method = crystal_calculation(crystal("helium")).method
    assert (method.basis, method.crystal.pseudo) == ("custom", None)


# ---- of a method -------------------------------------------------------------------------------


def test_a_method_is_kept_as_it_was_asked_for(lih):
    crystal = CrystalMethod(kmesh=(1, 2, 1), pseudo="gth-pbe", ke_cutoff=50.0)
    asked = Method(xc="lda,vwn", basis="gth-szv", two_grids=False, crystal=crystal)
    found = crystal_calculation_of(lih, asked)
    assert found.kpoints.mesh == (1, 2, 1)
    assert not found.two_grids
    # what was asked for, with spins as a yes or no
    assert (found.method.crystal, found.method.unrestricted) == (crystal, False)
    with pytest.raises(InputError, match="expected a crystal's method, got a molecule's"):
        crystal_calculation_of(lih, Method())


# ---- from an object ----------------------------------------------------------------------------


def test_an_object_of_many_k_points(lih):
    mf = dft.KUKS(lih, lih.make_kpts([2, 1, 1]), xc="pbe")
    found = crystal_calculation(mf)
    assert (found.kpoints.mesh, len(found.kpoints.scaled)) == (None, 2)
    np.testing.assert_allclose(found.kpoints.scaled, lih.get_scaled_kpts(mf.kpts), atol=1e-14)
    assert found.unrestricted
    assert sum(found.nelec) == pytest.approx(lih.tot_electrons())
    assert not found.probe_apart
    moments = crystal_calculation(mf, moments=[0.5, -0.5])
    assert moments.moments == (0.5, -0.5)


def test_an_object_of_one_k_point(lih):
    mf = dft.RKS(lih, xc="pbe0")
    mf.exxdiv = None
    found = crystal_calculation(mf)
    assert (found.exxdiv, found.probe_apart, found.unrestricted) == (None, False, False)
    assert crystal_calculation(dft.RKS(lih, xc="pbe0")).probe_apart
    assert crystal_calculation(pbc_scf.RHF(lih)).spec.kind == "HF"


def test_an_object_whose_short_range_exchange_is_cut_off(lih):
    mf = dft.KRKS(lih, lih.make_kpts([1, 1, 1]), xc="hse06")
    mf.exxdiv = "vcut_ws"
    with pytest.raises(InputError, match="got 'vcut_ws'; its kernel does not diverge"):
        crystal_calculation(mf)
    mf.exxdiv = None
    assert crystal_calculation(mf).exxdiv is None


def test_keywords_beside_an_object(lih):
    mf = dft.KRKS(lih, lih.make_kpts([1, 1, 1]), xc="pbe")
    for name, value in {
        "xc": "pbe", "kmesh": (1, 1, 1), "smearing": 0.01, "shifted": True, "fix_spin": True,
        "exxdiv": None, "density_fit": True, "unrestricted": False,
    }.items():  # fmt: skip
        with pytest.raises(InputError, match=f"expected {name} from the mean-field object"):
            crystal_calculation(mf, **{name: value})


def test_odd_electrons_of_a_closed_shell_object(crystal):
    cell = crystal("aluminium", spin=1)
    mf = dft.KRKS(cell, cell.make_kpts([1, 1, 1]), xc="pbe")
    with pytest.raises(InputError, match="expected an even number of electrons, got 3 over"):
        crystal_calculation(mf)
