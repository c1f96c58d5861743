"""What of crystals is not computed, each in one line that says what helps."""

import numpy as np
import pytest
from pyscf import gto as molecular
from pyscf.pbc import df, dft, gto, scf
from pyscf.pbc.dft import gen_grid

import deeph_zero as dz
from deeph_zero.errors import InputError
from deeph_zero.integrals.periodic import system
from deeph_zero.integrals.periodic.checks import check_mean_field

CELLS = {
    "dimension 1": ("helium", {"dimension": 1, "low_dim_ft_type": "inf_vacuum"}, {},
                    "dimension 1.*use 2"),
    "inf_vacuum": ("slab", {"dimension": 2, "low_dim_ft_type": "inf_vacuum"}, {}, "inf_vacuum"),
    "no core functions": ("diamond", {"pseudo": None}, {}, "pseudopotential for C"),
    "basis and pseudo": ("lih", {"basis": {"Li": "DZVP-MOLOPT-SR-GTH-q3", "H": "gth-szv"},
                                 "pseudo": {"Li": "gth-pade-q1", "H": "gth-pade"}}, {},
                         "Li for the same number of electrons"),
    "all electrons": ("diamond", {"basis": "6-31g"}, {}, "basis for pseudopotentials.*of C, and"),
    "odd electrons": ("aluminium", {}, {}, "even number of electrons for spin 0, got 3"),
    "parity": ("aluminium", {"spin": 2}, {}, "even number of electrons for spin 2, got 3"),
    "spin, one channel": ("chain", {"spin": 2}, {"unrestricted": False}, "two spins"),
    "exxdiv": ("helium", {}, {"xc": "pbe0", "exxdiv": "ws"}, "exxdiv expected 'ewald'"),
    "VV10": ("helium", {}, {"xc": "scan_vv10"}, "VV10"),
    "kmesh of a slab": ("slab", {"dimension": 2}, {"kmesh": (2, 2, 2)}, "1 along the third"),
    "kmesh": ("helium", {}, {"kmesh": (2, 0, 2)}, "three positive whole numbers"),
    "short kmesh": ("helium", {}, {"kmesh": (2, 2)}, "three positive whole numbers"),
    "smearing": ("helium", {}, {"smearing": -0.1}, "width of 0 or more"),
    "moments": ("helium", {}, {"moments": (1, -1)}, "one number for each of the 1 atoms"),
    "unknown keyword": ("helium", {}, {"kmsh": (1, 1, 1)}, "unknown keyword kmsh.*kmesh"),
    "molecule's keyword": ("helium", {}, {"grid_level": 3}, "unknown keyword grid_level"),
    "too many electrons": ("chain", {"spin": 4, "charge": -2, "basis": "gth-szv"}, {},
                           "at most 2 electrons"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", CELLS)
def test_cells_and_keywords(case, crystal):
    name, settings, keywords, message = CELLS[case]
    cell = crystal(name, **settings)
    with pytest.raises(InputError, match=message) as caught:
        dz.KohnSham.from_pyscf(cell, **keywords)
    assert "\n" not in str(caught.value)


def test_a_singular_overlap_is_refused_before_anything_is_computed(crystal, monkeypatch):
    def fails(*_):
        raise AssertionError("computed")

    monkeypatch.setattr(system, "fixed_operator", fails)
    basis = {"He": [[0, [0.05, 1.0]], [0, [0.0500001, 1.0]]]}
    with pytest.raises(InputError, match=r"eigenvalues above 1e-07 at every k, got .* diffuse"):
        dz.KohnSham.from_pyscf(crystal("helium", basis=basis))


def _objects(cell):
    kpts = cell.make_kpts([2, 1, 1])
    plain = dft.KRKS(cell, kpts, xc="pbe")
    mdf = plain.copy()
    mdf.with_df = df.MDF(cell, kpts)
    yield "MDF", mdf, "MDF"
    uniform = plain.copy()
    uniform.with_df = df.GDF(cell, kpts)
    yield "fitting on a uniform grid", uniform, "use BeckeGrids"
    yield "multigrid", plain.copy().multigrid_numint(), "MultiGrid"
    yield "ROKS", dft.KROKS(cell, kpts), "KROKS"
    yield "ROHF", scf.KROHF(cell, kpts), "KROHF"
    gauss = plain.copy().smearing(0.01, method="gauss")
    yield "Gaussian smearing", gauss, "gauss smearing"
    fixed = plain.copy().smearing(0.01, mu0=0.1)
    yield "chemical potential", fixed, "mu0"
    own = plain.copy()
    own.get_hcore = lambda *_: 0
    yield "own hcore", own, "get_hcore"
    mesh = plain.copy()
    mesh.with_df = df.FFTDF(cell, kpts)
    mesh.with_df.mesh = np.array(cell.mesh) + 2
    yield "meshes", mesh, "two different meshes"
    hybrid = plain.copy()
    hybrid.xc = "hse06"
    hybrid.omega = 0.2
    yield "omega", hybrid, "omega of its own"
    other = plain.copy()
    other.exxdiv = "none"
    yield "exxdiv", other, "exxdiv 'none'"
    yield "functional", dft.KRKS(cell, kpts).define_xc_("0.5*lda,"), "a custom functional"
    energies = dft.KRKS(cell, kpts)
    energies._numint.eval_xc_eff = None
    yield "quadrature", energies, "mf._numint.eval_xc_eff of its own"
    integrals = dft.KRKS(cell, kpts)
    integrals.with_df.get_nuc = integrals.with_df.get_pp
    yield "attraction", integrals, "mf.with_df.get_nuc of its own"
    points = dft.KRKS(cell, kpts)
    points.grids.weights = 0.9 * points.grids.weights
    yield "weights", points, "uniform grid with points or weights of its own"
    pruned = dft.KRKS(cell, kpts).density_fit()
    pruned.small_rho_cutoff = 1e-3
    yield "cutoff", pruned, r"small_rho_cutoff 0\.001; set it to 0"
    moved = cell.copy()
    moved.set_geom_(cell.atom_coords() + 0.1, unit="bohr")
    foreign = dft.KRKS(cell, kpts).density_fit()
    foreign.with_df = df.GDF(moved, kpts)
    yield (
        "fitting of another cell",
        foreign,
        r"mf.with_df of another cell; call mf.reset\(mf.cell\)",
    )
    late = dft.KRKS(moved, kpts)
    late.grids = gen_grid.UniformGrids(cell)
    yield "points of another cell", late, "mf.grids of another cell"


def test_objects(crystal):
    cell = crystal("helium")
    seen = []
    for name, mf, message in _objects(cell):
        with pytest.raises(InputError, match=message) as caught:
            dz.KohnSham.from_pyscf(mf)
        assert "\n" not in str(caught.value)
        seen.append(name)
    assert len(seen) == 18
    mf = dft.KRKS(cell, cell.make_kpts([2, 1, 1]), xc="pbe")
    for keyword in (
        {"xc": "pbe"},
        {"kmesh": (2, 1, 1)},
        {"smearing": 0.1},
        {"fix_spin": True},
        {"exxdiv": None},
        {"density_fit": True},
    ):
        with pytest.raises(InputError, match=f"{next(iter(keyword))} from the mean-field object"):
            dz.KohnSham.from_pyscf(mf, **keyword)
    assert dz.KohnSham.from_pyscf(mf).nk == 2


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("fitted", [False, True])
def test_integrals_that_a_run_keeps(fitted, crystal):
    """PySCF takes them again; on an even mesh those of a complex k are not Hermitian."""
    cell = crystal("helium", mesh=[8, 8, 7])
    mf = dft.RKS(cell, cell.get_abs_kpts([0.2, 0.1, 0.3]))
    mf = mf.density_fit() if fitted else mf
    mf._eri = own = mf.with_df.get_ao_eri(mf.kpt, compact=True)
    check_mean_field(mf)
    for wrong in (0.5 * own, own[:2]):
        mf._eri = wrong
        with pytest.raises(InputError, match=r"those of mf\.with_df; set mf\._eri to None"):
            check_mean_field(mf)
    mf._eri = own
    mf.kpt = cell.get_abs_kpts([0.4, 0.1, 0.3])
    with pytest.raises(InputError, match=r"mf\._eri"):
        check_mean_field(mf)


def test_grids_and_fittings_as_users_set_them_are_no_peculiarity(crystal):
    cell = crystal("helium")
    mf = dft.KRKS(cell, cell.make_kpts([2, 1, 1]), xc="pbe").density_fit(auxbasis="weigend")
    mf.grids.prune, mf.grids.radii_adjust, mf.grids.atom_grid = None, None, (20, 50)
    mf.with_df.eta, mf.with_df.exp_to_discard = 0.3, 0.2
    check_mean_field(mf)
    own = dft.KRKS(cell, cell.make_kpts([2, 1, 1]))
    own.with_df = df.FFTDF(cell.copy(), own.kpts)
    check_mean_field(own)


def test_unbuilt_and_molecules(crystal):
    with pytest.raises(InputError, match=r"call cell.build\(\)"):
        dz.KohnSham.from_pyscf(gto.Cell())
    mol = molecular.M(atom="H 0 0 0; H 0 0 1", verbose=0)
    with pytest.raises(InputError, match="expected kmesh with a crystal"):
        dz.KohnSham.from_pyscf(mol, kmesh=(1, 1, 1))
    with pytest.raises(InputError, match="got a crystal"):
        dz.KohnShamBatch.from_pyscf([mol, crystal("helium")])
    with pytest.raises(InputError, match="expected a built"):
        dz.KohnSham.without_builds(crystal("helium"))
    ks = dz.KohnSham.from_pyscf(crystal("helium"), xc="lda,vwn")
    with pytest.raises(InputError, match=r"shape \[nk, 3\]"):
        ks.fock_at([0, 0, 0])
    with pytest.raises(InputError, match="unknown keyword level_shift"):
        ks.scf(level_shift=1.0)
