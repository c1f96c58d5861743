"""Every kind of mean-field object gives PySCF's own energy, or is refused in one line."""

import numpy as np
import pytest
from pyscf import df, dft, gto, qmmm, scf, sgx
from pyscf.data import nist

import deeph_zero as dz
from deeph_zero.errors import InputError
from deeph_zero.integrals.calculation import calculation
from deeph_zero.integrals.system import ks_data

WATER = "O 0 0 0.1173; H 0.1 0.7572 -0.4692; H 0 -0.7572 -0.4692"
SYMMETRIC = "O 0 0 0.1173; H 0 0.7572 -0.4692; H 0 -0.7572 -0.4692"


def mole(**settings):
    return gto.M(**({"atom": WATER, "basis": "sto-3g", "verbose": 0} | settings))


def coarse(mf):
    if isinstance(mf, dft.rks.KohnShamDFT):
        mf.grids.level = 0
    return mf


def rks(**settings):
    return coarse(dft.RKS(mole(**settings), xc="pbe"))


def uks(**settings):
    return coarse(dft.UKS(mole(**({"charge": 1, "spin": 1} | settings)), xc="pbe"))


def changed(thing, **values):
    for key, value in values.items():
        setattr(thing, key, value)
    return thing


def with_field(mf):
    """A homogeneous field along an axis that no symmetry of the molecule keeps."""
    hcore = mf.get_hcore() + 0.02 * mf.mol.intor("int1e_r")[1] + 0.01 * mf.mol.intor("int1e_r")[2]
    mf.get_hcore = lambda *_: hcore
    return mf


def with_repulsion(mf, extra=1.0):
    own = mf.mol.energy_nuc() + extra
    mf.energy_nuc = lambda *_: own
    return mf


SAME = {
    "run before": lambda: rks().run(),
    "HF run before": lambda: scf.UHF(mole()).run(),
    "newton": lambda: rks().newton(),
    "newton of a fit": lambda: rks().density_fit().newton(),
    "fit of newton's Hessian": lambda: rks().newton().density_fit(),
    "open-shell newton": lambda: uks().newton(),
    "symmetry": lambda: rks(atom=SYMMETRIC, symmetry=True),
    "HF symmetry": lambda: scf.RHF(mole(atom=SYMMETRIC, symmetry=True)),
    "symmetry, fit, newton": lambda: uks(atom=SYMMETRIC, symmetry=True).density_fit().newton(),
    "field": lambda: with_field(rks()),
    "field in newton": lambda: with_field(rks().density_fit()).newton(),
    "repulsion": lambda: with_repulsion(rks()),
    "repulsion of the molecule": lambda: coarse(dft.RKS(with_repulsion_of_mole(), xc="pbe")),
    "finite nuclei": lambda: rks(nucmod="gaussian"),
    "electrons stated": lambda: changed(uks(charge=0, spin=0), nelec=(5, 5)),
    "another way there": lambda: changed(rks(), level_shift=0.1, damp=0.2, conv_tol=1e-11),
    "hooks": lambda: changed(rks(), callback=print_nothing, get_init_guess=rks().get_init_guess),
    "fit switched off": lambda: changed(rks().density_fit(), with_df=None),
    "overlap": lambda: changed(rks(), get_ovlp=lambda *_: scf.hf.get_ovlp(mole())),
    "fitting set in auxmol": lambda: with_auxmol(rks().density_fit()),
    "HF fitting set in auxmol": lambda: with_auxmol(scf.RHF(mole()).density_fit("weigend")),
    "HF fit run before": lambda: scf.RHF(mole()).density_fit().run(),
    "reset": lambda: reset(rks()),
    "grids of its own": lambda: custom_grid(rks()),
    "to_uks": lambda: rks().to_uks(),
}  # fmt: skip


def with_auxmol(mf):
    """PySCF makes it anew from the name."""
    mf.with_df.auxmol = df.make_auxmol(mf.mol, "def2-universal-jfit")
    return mf


def reset(mf):
    mf = mf.density_fit().run()
    mf.mol.set_geom_(mf.mol.atom_coords() * 1.001, unit="bohr")
    return mf.reset(mf.mol)


def custom_grid(mf):
    mf.grids.atom_grid = {"O": (20, 50), "H": (15, 38)}
    mf.grids.build()
    return mf


def print_nothing(envs):
    del envs


def with_repulsion_of_mole():
    mol = mole()
    own = mol.energy_nuc() + 1.0
    mol.energy_nuc = lambda *_: own
    return mol


@pytest.mark.parametrize("kind", SAME)
def test_the_same_physics_gives_the_same_energy(kind):
    ours = dz.KohnSham.from_pyscf(SAME[kind]()).scf(conv_tol=1e-10)
    mf = SAME[kind]()
    reference = mf.kernel()
    assert ours.converged
    assert mf.converged
    assert abs(ours.energy - reference) < 1e-7


def stretched(kind):
    """A molecule with a small gap, so that smearing moves electrons."""
    atom = "O 0 0 0; H 0.1 0.2 1.7; H 0 -1.3 -0.9"
    charge = 1 if kind is dft.UKS else 0
    return coarse(kind(mole(atom=atom, charge=charge, spin=charge), xc="pbe"))


@pytest.mark.parametrize("kind", [dft.RKS, dft.UKS])
def test_fermi_smearing_of_the_object_is_used(kind):
    mf = scf.addons.smearing(stretched(kind), 0.03, fix_spin=True)
    ks = dz.KohnSham.from_pyscf(mf)
    ours = ks.scf(conv_tol=1e-11)
    mf.conv_tol = 1e-11
    assert abs(ours.energy - mf.kernel()) < 1e-7
    assert abs(ours.free_energy - mf.e_free) < 1e-7
    assert mf.e_tot - mf.e_free > 1e-4
    with pytest.raises(InputError, match=r"which has 0\.03, got smearing=0\.01"):
        dz.KohnSham.from_pyscf(mf, smearing=0.01)
    assert dz.KohnSham.from_pyscf(scf.addons.smearing(stretched(kind), 0)).smearing == 0


class Own(dft.rks.RKS):
    """A user's class, whose energy is unknown."""


class OtherFit(df.DF):
    """Fitting whose K is not the plain one."""


def maximum_overlap():
    mf = uks().run()
    return scf.addons.mom_occ(uks(), mf.mo_coeff, mf.mo_occ)


def own_integrals():
    mf = rks()
    mf._eri = mf.mol.intor("int2e", aosym="s8") * 1.01
    return mf


def moved(make):
    """Run, and then another geometry in the same molecule, without ``mf.reset``."""
    mf = make()
    if isinstance(mf, dft.rks.KohnShamDFT):
        mf.grids.build()
    else:
        mf.run()
    if getattr(mf, "with_df", None):
        mf.with_df.build()
    mf.mol.set_geom_(mf.mol.atom_coords() * 1.001, unit="bohr")
    return mf


def cut_off(mf):
    mf._numint.cutoff = 1e-4
    return mf


def other_tensor():
    mf = rks().density_fit()
    mf.with_df._cderi = np.ones((3, 5))
    return mf


def own_fit():
    mf = rks().density_fit()
    mf.with_df.get_jk = lambda *_: None
    return mf


REFUSED = {
    "solvent": (lambda: rks().PCM(), "PCMRKS with a solvent model"),
    "ddCOSMO": (lambda: rks().DDCOSMO(), "a solvent model"),
    "SMD": (lambda: uks().SMD(), "a solvent model"),
    "solvent of newton": (lambda: rks().newton().PCM(), "a solvent model"),
    "newton of solvent": (lambda: rks().PCM().newton(), "a solvent model"),
    "x2c": (lambda: rks().x2c(), "relativistic"),
    "x2c, fit": (lambda: rks().sfx2c1e().density_fit(), "relativistic"),
    "charges": (lambda: qmmm.mm_charge(rks(), [[0, 0, 5.0]], [0.5]), "external point charges"),
    "Gaussian smearing": (
        lambda: scf.addons.smearing(rks(), 0.01, method="gauss"), "gauss smearing.*fermi"
    ),
    "smearing across spins": (lambda: scf.addons.smearing(uks(), 0.01), "both spins.*fix_spin"),
    "fixed level": (lambda: scf.addons.smearing(rks(), 0.01, mu0=-0.1), "mf.mu0"),
    "frac_occ": (lambda: scf.addons.frac_occ(rks()), "mf.get_occ of its own"),
    "float_occ": (lambda: scf.addons.float_occ(uks()), "mf.get_occ of its own"),
    "mom_occ": (maximum_overlap, "mf.get_occ of its own"),
    "level shift": (lambda: scf.addons.dynamic_level_shift(rks()), "mf.get_fock of its own"),
    "late field": (lambda: with_field(rks().newton()), "before newton"),
    "late xc": (lambda: changed(rks().newton(), xc="b3lyp"), "before newton"),
    "nelec": (lambda: changed(uks(charge=0, spin=0), nelec=(6, 4)), r"mf.nelec \(6, 4\)"),
    "irreps": (
        lambda: changed(rks(atom=SYMMETRIC, symmetry=True), irrep_nelec={"A1": 6}),
        "irrep_nelec",
    ),
    "integrals": (own_integrals, "mf._eri"),
    "sgx": (lambda: sgx.sgx_fit(rks()), "semi-numerical"),
    "ROKS": (lambda: dft.ROKS(mole(charge=1, spin=1), xc="pbe"), "restricted open shells.*use UKS"),
    "GKS": (lambda: dft.GKS(mole(), xc="pbe"), "use UKS"),
    "DKS": (lambda: dft.DKS(mole(), xc="pbe"), "four-component"),
    "own class": (lambda: Own(mole(), xc="pbe"), "Own with a class of its own.*plain RKS or UKS"),
    "scanner": (lambda: rks().as_scanner(), "scanner"),
    "omega": (lambda: changed(coarse(dft.RKS(mole(), xc="hse06")), omega=0.2), "omega 0.2"),
    "mol.omega": (lambda: coarse(dft.RKS(changed(mole(), omega=0.3), xc="pbe")), "mol.omega 0.3"),
    "mol.intor": (lambda: dft.RKS(changed(mole(), intor=mole().intor)), "mol.intor of its own"),
    "cutoff": (lambda: changed(rks(), small_rho_cutoff=1e-7), "small_rho_cutoff"),
    "fit": (lambda: rks().density_fit(with_df=OtherFit(mole())), "got OtherFit"),
    "fit's jk": (own_fit, "mf.with_df.get_jk of its own"),
    "moved grid": (lambda: moved(rks), "mf.grids of another geometry.*mf.reset"),
    "moved fit": (
        lambda: moved(lambda: scf.RHF(mole()).density_fit()), "tensor of another geometry"
    ),
    "moved integrals": (lambda: moved(lambda: scf.RHF(mole())), "mf._eri"),
    "another molecule": (lambda: changed(rks().run(), mol=mole(atom="He 0 0 0")), "mf._eri"),
    "numint": (lambda: cut_off(rks()), "mf._numint.cutoff"),
    "tensor of another molecule": (other_tensor, r"\[naux, 28\], got \[3, 5\]"),
    "functional": (
        lambda: dft.RKS(mole()).define_xc_("0.2*HF + 0.8*LDA"), "custom functional"
    ),
    "xc of numbers": (lambda: changed(rks(), xc=101), "xc 101"),
    "unknown xc": (lambda: changed(rks(), xc="pbee"), "'pbee'"),
    "one hcore per spin": (
        lambda: changed(uks(), get_hcore=lambda mol: np.stack([scf.hf.get_hcore(mol)] * 2)),
        r"shape \(2, 7, 7\)",
    ),
    "complex hcore": (
        lambda: changed(rks(), get_hcore=lambda mol: scf.hf.get_hcore(mol) + 0j), "complex"
    ),
    "NaN": (
        lambda: changed(rks(), get_hcore=lambda mol: scf.hf.get_hcore(mol) * np.nan), "NaN"
    ),
    "charge set later": (
        lambda: dft.RKS(changed(mole(), charge=1), xc="pbe"), "charge 1 and spin 0.*call mol.build"
    ),
    "gradients": (lambda: rks().nuc_grad_method(), "got Gradients"),
}  # fmt: skip

METHODS = ("get_veff", "get_jk", "get_j", "get_k", "eig", "energy_elec", "energy_tot", "make_rdm1")
REFUSED |= {
    name: (lambda name=name: changed(rks(), **{name: lambda *_: None}), f"mf.{name} of its own")
    for name in METHODS
}


@pytest.mark.parametrize("kind", REFUSED)
def test_another_energy_is_refused_by_name(kind):
    make, words = REFUSED[kind]
    with pytest.raises(InputError, match=words) as error:
        ks_data(calculation(make()))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "has"),
    [
        ({"xc": "b3lyp"}, "pbe"),
        ({"xc": "pbe-d3bj"}, "pbe"),
        ({"density_fit": False}, "True"),
        ({"auxbasis": "weigend"}, "def2-universal-jfit"),
        ({"grid_level": 3}, "0"),
        ({"nlc_grid_level": 1}, "3"),
        ({"unrestricted": True}, "False"),
    ],
)
def test_a_keyword_that_contradicts_the_object_is_refused(given, has, monkeypatch):
    monkeypatch.setattr("deeph_zero.integrals.corrections.check_dispersion", lambda *_: None)
    mf = rks(basis="def2-svp").density_fit()
    ((name, value),) = given.items()
    with pytest.raises(InputError, match=f"{name} .*{has}.*{name}={value!r}"):
        dz.KohnSham.from_pyscf(mf, **given)


def test_keywords_that_say_the_same_are_accepted():
    mf = rks(basis="def2-svp").density_fit()
    same = {"xc": "GGA_X_PBE,GGA_C_PBE", "density_fit": True, "auxbasis": "def2-universal-jfit"}
    _, info = ks_data(calculation(mf, **same, grid_level=0, unrestricted=False, nlc_grid_level=3))
    assert info == ks_data(calculation(mf))[1]


def test_electrons_of_the_molecule_count_whatever_its_charge_says():
    mol = mole()
    mol.nelectron = 8
    data, info = ks_data(calculation(mol, grid_level=0))
    assert data.nelec == (4, 4)
    assert info.charge == 2


# ---- more electrons than orbitals -------------------------------------------------------------

TOO_MANY = {
    "pairs": ({"atom": "He 0 0 0; He 0 .3 2", "charge": -2}, "at most 2 electron pairs.*got 3"),
    "one spin": ({"atom": "He 0 0 0; He 0 .3 2", "charge": -1, "spin": 3}, "at most 2.*got 4"),
    "high spin": ({"atom": "H 0 0 0; He 0 .3 2", "charge": 0, "spin": 3}, "at most 2 .*got 3"),
}


@pytest.mark.parametrize("kind", TOO_MANY)
@pytest.mark.parametrize("as_object", [True, False])
def test_more_electrons_than_orbitals_are_refused(kind, as_object):
    settings, words = TOO_MANY[kind]
    mol = mole(**settings)
    with pytest.raises(InputError, match=words):
        dz.KohnSham.from_pyscf(scf.UHF(mol) if as_object else mol)
    with pytest.raises(InputError, match=words):
        dz.KohnSham.without_builds(mol)
    with pytest.raises(InputError, match=words):
        dz.KohnShamBatch.from_pyscf([mole(atom="He 0 0 0"), mol])


def test_linear_dependence_leaves_too_few_orbitals():
    """Two helium atoms almost on one point have one orbital, whatever the number of functions."""
    apart = 1e-4 * nist.BOHR
    mol = mole(atom=f"He 0 0 0; He 0 0 {apart}", charge=0)
    with pytest.raises(InputError, match=r"at most 1 electron pairs for 1 linearly independent.*2"):
        dz.KohnSham.from_pyscf(mol, xc="hf", density_fit=False)
    full = mole(atom="He 0 0 0; He 0 .3 2")
    assert dz.KohnSham.from_pyscf(full, xc="hf", density_fit=False).nmo == 2


def test_what_is_no_molecule_is_refused():
    with pytest.raises(InputError, match=r"built gto\.Mole, got DFRKS; give mf\.mol"):
        dz.KohnSham.without_builds(rks().density_fit())
    with pytest.raises(InputError, match="put it into a list"):
        dz.KohnShamBatch.from_pyscf(mole())
    with pytest.raises(InputError, match="atoms, got none"):
        dz.KohnSham.from_pyscf(gto.M(atom=[], verbose=0))
