import copy
import json
import warnings

import ase
import numpy as np
import pytest
import torch
from pyscf import dft, gto, qmmm, scf

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.kohnsham import KohnSham
from deeph_zero.method import Method
from deeph_zero.model import Model, load
from deeph_zero.model_files.folder import save_model
from deeph_zero.model_files.meta import model_meta
from deeph_zero.molecule import Molecule
from deeph_zero.nn.balance import Balance
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.prepared.molecule import basis_layout
from deeph_zero.settings.config import MethodConfig
from deeph_zero.testing import WATER
from deeph_zero.units import BOHR_IN_ANGSTROM

BASIS = "6-31g"
CONFIG = MethodConfig(basis=BASIS, grid_level=1)
METHOD = CONFIG.as_method()
HYDROXYL = "O 0 0 0; H 0.1 0.2 0.94"


def _mole(atom=WATER, **settings):
    return gto.M(atom=atom, **({"basis": BASIS, "verbose": 0} | settings))


def _network(scale=0.001):
    """An untrained network predicts F[P0]; a random readout makes it wrong in every element."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        network = FockNetwork(default_spec(basis_layout([_mole()]), "tiny"))
        for name, value in network.named_parameters():
            if "_out." in name:
                torch.nn.init.normal_(value, std=scale)
    return network.eval()


@pytest.fixture(scope="module")
def model():
    return Model(_network(), METHOD)


def _mf(mol, kind=dft.RKS, xc="pbe", auxbasis=None, level=1):
    mf = kind(mol, xc=xc) if xc else kind(mol)
    mf = mf.density_fit(auxbasis=auxbasis)
    if xc:
        mf.grids.level = level
    return mf


# ---- files ------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path, model):
    info = KohnSham.from_pyscf(_mole(), grid_level=0).info
    save_model(tmp_path / "run", model.network, model_meta(CONFIG, info, model.network.spec))
    return tmp_path / "run"


def test_a_loaded_model_predicts_the_same_and_leaves_the_seed_alone(saved, model):
    before = torch.random.get_rng_state()
    for path in (saved, saved / "model.safetensors"):
        again = load(path)
        assert again.method == METHOD
        assert torch.equal(again.predict(_mole()).fock, model.predict(_mole()).fock)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_model_json_says_what_the_model_is_for(saved):
    meta = json.loads((saved / "model.json").read_text())
    assert meta["basis"] == BASIS
    assert meta["elements"] == [1, 8]
    assert repr(load(saved)) == f"Model(pbe/{BASIS}, elements=(1, 8))"
    assert meta["shells"] == {"1": [0, 0], "8": [0, 0, 0, 1, 1]}
    assert meta["xc_components"] == [["GGA_X_PBE", 1.0], ["GGA_C_PBE", 1.0]]
    assert meta["auxbasis"]
    assert meta["grid_level"] == 1
    assert meta["density_fit"] is True
    assert meta["network"]["n_layers"] >= 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda meta: meta["network"].pop("natural"),
        lambda meta: meta["network"].update(natural=[2, 2, 2]),
        lambda meta: meta["network"].update(nonsense=1),
        lambda meta: meta.pop("method"),
        lambda meta: meta["method"].update(grid_level=77),
    ],
)
def test_a_specification_that_does_not_fit_is_one_line(saved, damage):
    path = saved / "model.json"
    meta = json.loads(path.read_text())
    damage(meta)
    path.write_text(json.dumps(meta))
    with pytest.raises(InputError, match="specification of one network") as caught:
        load(saved)
    assert "\n" not in str(caught.value)


# ---- predict ----------------------------------------------------------------------------------


def test_the_output_is_taken_between_partly_orthogonal_orbitals_unless_the_file_lacks_the_word(
    saved, model
):
    path = saved / "model.json"
    meta = json.loads(path.read_text())
    assert meta["network"].pop("balanced") is True
    path.write_text(json.dumps(meta))
    new, old = (m.predict(_mole(), certificate=False) for m in (model, load(saved)))
    assert old.base is not None
    assert new.base is not None
    torch.testing.assert_close(old.base, new.base, rtol=0, atol=0)
    output = old.fock - old.base
    assert output.abs().max() > 1e-3
    k = Balance.of(new.overlap).root
    torch.testing.assert_close(new.fock - new.base, k @ output @ k, rtol=0, atol=1e-10)
    assert (new.fock - old.fock).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("atom", "spin", "kind"), [(WATER, 0, dft.RKS), (HYDROXYL, 1, dft.UKS)], ids=["RKS", "UKS"]
)
def test_every_number_is_pyscfs_at_the_predicted_density(model, atom, spin, kind):
    mol = _mole(atom, spin=spin)
    result = model.predict(mol)
    mf = _mf(mol, kind)
    dm = result.dm.numpy()
    veff = mf.get_veff(mol, dm)
    assert abs(mf.energy_tot(dm, vhf=veff) - result.energy) < 1e-9
    np.testing.assert_allclose(
        result.fock_rebuilt.numpy(), mf.get_hcore() + veff, atol=1e-9, rtol=0
    )
    np.testing.assert_allclose(result.overlap.numpy(), mf.get_ovlp(), atol=1e-12, rtol=0)
    energies, _ = mf.eig(result.fock_rebuilt.numpy(), mf.get_ovlp())
    np.testing.assert_allclose(result.mo_energy.numpy(), energies, atol=1e-9, rtol=0)
    np.testing.assert_allclose(
        result.dipole, mf.dip_moment(mol, dm, unit="Debye", origin=_centre(mol)), atol=1e-7
    )
    assert abs(result.n_electrons - mol.nelectron) < 1e-2
    assert abs(result.residual_mae - (result.fock - result.fock_rebuilt).abs().mean()) < 1e-15
    assert result.residual_mae > 1e-3
    _check_blocks(result, mf)
    assert result.fock_builds == 2, "F0 and the one at the prediction"
    assert result.coarse_builds > 0, "the error estimate"
    assert (result.spin_square is None) == (spin == 0)
    if spin:
        assert abs(result.spin_square - mf.spin_square(_natural(mf, dm), mf.get_ovlp())[0]) < 1e-6


def _check_blocks(result, mf):
    """Against PySCF's orbitals of H, block by block."""
    energies, coeff = (np.asarray(x) for x in mf.eig(result.fock.numpy(), mf.get_ovlp()))
    coeff = coeff.reshape(-1, *coeff.shape[-2:])
    energies = energies.reshape(len(coeff), -1)
    delta = (result.fock - result.fock_rebuilt).numpy().reshape(coeff.shape)
    blocks = {"occ-occ": [], "occ-virt": [], "virt-virt": []}
    for c, d, e, electrons in zip(coeff, delta, energies, mf.mol.nelec, strict=False):
        n = int((e < e[electrons - 1] + 1e-4).sum())  # a degenerate frontier is filled evenly
        mixed = (c.T @ d @ c) ** 2
        for name, part in (
            ("occ-occ", mixed[:n, :n]), ("occ-virt", mixed[:n, n:]), ("virt-virt", mixed[n:, n:])
        ):  # fmt: skip
            blocks[name].append(part.ravel())
    assert result.residual_blocks == {
        name: pytest.approx(np.concatenate(parts).mean() ** 0.5, rel=1e-6)
        for name, parts in blocks.items()
    }


def _centre(mol):
    return np.einsum("i,ix->x", mol.atom_charges(), mol.atom_coords()) / mol.atom_charges().sum()


def _natural(mf, dm):
    """Occupied orbitals of idempotent spin densities."""
    occupied = []
    for part, n in zip(dm, mf.nelec, strict=True):
        _, vectors = scf.hf.eig(-part, np.linalg.inv(mf.get_ovlp()))
        occupied.append(np.linalg.inv(mf.get_ovlp()) @ vectors[:, :n])
    return tuple(occupied)


def test_the_certificate_bounds_and_estimates_the_error(model):
    result = model.predict(_mole(), refine=1e-6)
    truth = result.energy - result.refined.energy
    assert truth > 1e-6
    assert result.certificate.coupled
    assert 0.5 < result.certificate.energy_error_estimate / truth < 2.0
    assert result.certificate.energy == result.energy


def test_without_a_certificate_only_the_input_build_is_spent(model):
    full, fast = model.predict(_mole()), model.predict(_mole(), certificate=False)
    assert fast.fock_builds == 1
    assert torch.equal(full.fock, fast.fock)
    for name in ("energy", "fock_rebuilt", "certificate", "residual_mae", "n_electrons"):
        assert getattr(fast, name) is None
    assert not torch.equal(full.mo_energy, fast.mo_energy)
    assert model.predict(_mole(), coupled=False).fock_builds == 2


def test_refining_is_an_ordinary_converged_calculation(model):
    mol = _mole()
    result = model.predict(mol, refine=1e-6)
    mf = _mf(mol)
    mf.conv_tol, mf.conv_tol_grad = 1e-12, 1e-7
    assert result.refined.converged
    assert abs(result.refined.energy - mf.kernel()) < 1e-9
    assert result.fock_builds == 2 + result.refined.fock_builds
    assert result.refined.gradient_norm < 1e-6


def test_a_tolerance_that_is_not_positive_is_refused(model):
    with pytest.raises(InputError, match=r"positive tolerance to refine to, got -1"):
        model.predict(_mole(), refine=-1.0)


def test_mole_atoms_and_molecule_give_the_same(model):
    mol = _mole()
    charges, coords = mol.atom_charges(), mol.atom_coords()
    atoms = ase.Atoms(numbers=charges, positions=coords * BOHR_IN_ANGSTROM)
    molecule = Molecule(numbers=charges.astype(np.int64), coords=coords)
    first = model.predict(mol, certificate=False).fock
    for other in (atoms, molecule):
        assert torch.allclose(model.predict(other, certificate=False).fock, first, atol=1e-9)


def test_atoms_state_their_own_charge_and_spin(model):
    atoms = ase.Atoms("OH", positions=[[0, 0, 0], [0.1, 0.2, 0.94]], info={"charge": -1})
    assert model.predict(atoms, certificate=False).fock.ndim == 2
    atoms.info = {"spin": 1}
    assert model.predict(atoms, certificate=False).fock.shape == (2, 11, 11)


def test_another_name_of_the_same_functions_is_accepted(model):
    mol = _mole(basis={"O": gto.basis.load(BASIS, "O"), "H": gto.basis.load(BASIS, "H")})
    assert torch.equal(
        model.predict(mol, certificate=False).fock, model.predict(_mole(), certificate=False).fock
    )


def _renamed(basis):
    mol = _mole(basis=basis)
    mol.basis = BASIS
    return mol


def _swapped():
    own = {symbol: gto.basis.load(BASIS, symbol) for symbol in ("O", "H")}
    return own | {"O": own["O"][::-1]}


def _stretched():
    own = {symbol: gto.basis.load(BASIS, symbol) for symbol in ("O", "H")}
    return own | {"H": [[l, *([e * 1.1, c] for e, c in rows)] for l, *rows in own["H"]]}


BAD = [
    (lambda: _mole(basis="sto-3g"), r"model's basis '6-31g', got 'sto-3g'"),
    (lambda: _mole(basis="def2-svp"), r"model's basis '6-31g', got 'def2-svp': O .* not 3s2p"),
    (
        lambda: _mole(basis={"O": "6-31g", "H": "sto-3g"}),
        r"got '6-31g' and 'sto-3g': H \(atom 2\) has 1s functions, not 2s",
    ),
    (lambda: _mole(basis="6-31g*", cart=True), r"Cartesian, not spherical \(cart=True\)"),
    (lambda: _mole(basis="unc-6-31g"), r"'unc-6-31g': O \(atom 1\) has 10s4p functions"),
    (lambda: _renamed("sto-3g"), "got other functions of that name: O"),
    (lambda: _mole(basis=_swapped()), r"functions of its own: O \(atom 1\) .* another order"),
    (
        lambda: _mole(basis=_stretched()),
        r"functions of its own: H \(atom 2\) has .* other exponents",
    ),
    (lambda: _mole("O 0 0 0; Cl 0 0 1.6; H 0 1 0"), r"trained on \(H, O\), got Cl"),
    (lambda: _mole("ghost-O 0 0 3; H 0 0 0; H 0 0 .7"), r"ghost atom"),
    (gto.Mole, r"call mol\.build\(\) first"),
    (lambda: "water.xyz", r"got str"),
    (
        lambda: Molecule(numbers=np.array([9, 1]), coords=np.eye(3)[:2], file="a.xyz", frame=3),
        r"a\.xyz frame 3: expected elements the model was trained on \(H, O\), got F",
    ),
    (
        lambda: Molecule(numbers=np.array([8, 1]), coords=np.eye(3)[:2], file="a.xyz", frame=3),
        r"a\.xyz frame 3: .*spin",
    ),
]


@pytest.mark.parametrize(("build", "message"), BAD)
def test_what_cannot_be_predicted_is_one_line(model, build, message):
    with pytest.raises(InputError, match=message) as caught:
        model.predict(build())
    assert "\n" not in str(caught.value)


def test_a_network_that_returns_nan_is_an_error_not_a_result():
    network = _network()
    with torch.no_grad():
        next(v for n, v in network.named_parameters() if "node_out." in n).fill_(torch.nan)
    with pytest.raises(ComputationError, match="finite Fock matrix elements from the network"):
        Model(network, METHOD).predict(_mole())


# ---- PySCF ------------------------------------------------------------------------------------


class _Exact(FockNetwork):
    """A network that has learnt one molecule perfectly: it returns F_scf - H0."""

    def __init__(self, mol):
        super().__init__(default_spec(basis_layout([mol]), "tiny", balanced=False))
        ks = KohnSham.from_pyscf(mol, grid_level=METHOD.grid_level)
        fock0 = ks.build(ks.data.dm_guess).fock
        base = fock0 + ks.dielectric_step(fock0, ks.data.dm_guess)
        self.correction = ks.scf().fock - base

    def forward(self, inputs):
        return [inputs.blocks(self.correction)]


@pytest.fixture(scope="module")
def untrained():
    """Predicts exactly H0: F[P0] after a dielectric step."""
    return Model(_network(0.0), METHOD)


def test_a_guess_starts_pyscf_closer_to_the_end():
    mol = _mole()
    model = Model(_Exact(mol), METHOD)
    mf = _mf(mol)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        guess = model.guess(mf)
    reference = mf.kernel(dm0=mf.get_init_guess(mol, "minao"))
    cycles = mf.cycles
    assert abs(mf.kernel(dm0=guess) - reference) < 1e-8
    assert cycles > 5
    assert mf.cycles <= 2


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda: _mf(_mole(), dft.UKS), (2, 13, 13)),
        (lambda: _mf(_mole(HYDROXYL, spin=1), dft.UKS), (2, 11, 11)),
        (lambda: _mf(_mole(HYDROXYL, spin=1), dft.ROKS), (2, 11, 11)),
    ],
)
def test_a_guess_has_the_shape_the_object_wants(untrained, build, shape):
    mf = build()
    guess = untrained.guess(mf)
    assert guess.shape == shape
    electrons = np.einsum("smn,nm->s", guess, mf.get_ovlp())
    np.testing.assert_allclose(electrons, mf.nelec, atol=1e-8)
    mf.max_cycle = 1
    mf.kernel(dm0=guess)  # PySCF takes it


DIFFERENT = [
    (lambda: _mf(_mole(), xc="pbe0"), r"xc is 'pbe0', not 'pbe'"),
    (lambda: _mf(_mole(), scf.RHF, xc=None), r"xc is 'hf', not 'pbe'"),
    (lambda: dft.RKS(_mole(), xc="pbe"), r"fitting is 'no density fitting'"),
    (lambda: _mf(_mole(), auxbasis="weigend"), r"fitting is 'weigend'"),
    (lambda: _mf(_mole(basis="6-31g*")), r"basis is '6-31g\*', not '6-31g'"),
]


@pytest.mark.parametrize(("build", "message"), DIFFERENT)
def test_a_different_method_brings_a_warning_and_still_a_guess(untrained, build, message):
    mf = build()
    with pytest.warns(UserWarning, match=message) as caught:
        guess = untrained.guess(mf)
    assert len(caught) == 1
    electrons = np.einsum("mn,nm", guess, mf.get_ovlp())
    assert abs(electrons - 10) < 1e-3


def test_two_spellings_of_one_functional_bring_no_warning(untrained):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        untrained.guess(_mf(_mole(), xc="GGA_X_PBE,GGA_C_PBE"))


@pytest.mark.parametrize(
    ("atom", "spin", "kind"),
    [(WATER, 0, dft.RKS), (WATER, 0, dft.UKS), (HYDROXYL, 1, dft.UKS)],
    ids=["RKS", "closed UKS", "UKS"],
)
def test_a_filled_object_is_the_prediction(atom, spin, kind):
    # float64, so that one channel and two channels round alike
    model = Model(_network().double(), METHOD)
    mol = _mole(atom, spin=spin)
    mf = _mf(mol, kind)
    assert model.as_scf(mf) is mf
    result = model.predict(mol)
    dm = result.dm.numpy()
    if mf.mo_coeff.ndim == 3 and dm.ndim == 2:
        dm = np.stack([dm, dm]) / 2
    assert mf.converged is False
    assert abs(mf.e_tot - result.energy) < 1e-9
    np.testing.assert_allclose(mf.make_rdm1(), dm, atol=1e-8)
    assert abs(mf.energy_tot() - mf.e_tot) < 1e-9
    # canonical: diagonal within the occupied and within the virtual space
    fock = mf.get_fock(dm=dm)
    for c, f, e, occ in zip(*_spins(mf, fock), strict=True):
        block = c.T @ f @ c
        np.testing.assert_allclose(np.diag(block), e, atol=1e-8)
        same = (occ[:, None] == occ[None]) & ~np.eye(len(occ), dtype=bool)
        assert np.abs(block[same]).max() < 1e-8
        assert np.all(np.diff(occ) <= 0)


def _spins(mf, fock):
    arrays = (mf.mo_coeff, fock, mf.mo_energy, mf.mo_occ)
    return arrays if mf.mo_coeff.ndim == 3 else tuple(a[None] for a in arrays)


def test_a_refined_object_is_converged(model):
    mf = model.as_scf(_mf(_mole()), refine=1e-5)
    assert mf.converged is True
    assert np.abs(mf.get_grad(mf.mo_coeff, mf.mo_occ)).max() < 1e-5
    assert abs(mf.energy_tot() - mf.e_tot) < 1e-8


def _changed(thing, **values):
    for key, value in values.items():
        setattr(thing, key, value)
    return thing


def _in_field(mf):
    hcore = mf.get_hcore() + 0.02 * mf.mol.intor("int1e_r")[2]
    return _changed(mf, get_hcore=lambda *_: hcore)


def _own_repulsion(thing):
    return _changed(thing, energy_nuc=lambda *_: 1.0)


def _symmetric(**settings):
    mol = _mole("O 0 0 0.1; H 0 0.76 0.58; H 0 -0.76 0.58", symmetry=True)
    return _changed(_mf(mol), **settings)


def _on_grid(**settings):
    mf = _mf(_mole())
    _changed(mf.grids, **settings)
    return mf


def _filled_fit():
    mf = _mf(_mole())
    mf.with_df._cderi = np.ones((3, 91))
    return mf


# an object, what its message says, whether it only matters for an energy
OTHERS = {
    "solvent": (lambda: _mf(_mole()).PCM(), "a solvent model"),
    "solvent, second order": (lambda: _mf(_mole()).PCM().newton(), "a solvent model"),
    "x2c": (lambda: _mf(_mole()).x2c(), "relativistic"),
    "charges": (lambda: qmmm.mm_charge(_mf(_mole()), [[0, 0, 5.0]], [0.5]), "point charges"),
    "smearing": (lambda: scf.addons.smearing(_mf(_mole()), 0.01), "smeared occupations"),
    "occupations": (lambda: scf.addons.frac_occ(_mf(_mole())), "get_occ of its own"),
    "irreps": (lambda: _symmetric(irrep_nelec={"A1": 6}), "irrep_nelec"),
    "nelec": (lambda: _changed(_mf(_mole(), dft.UKS), nelec=(6, 4)), r"mf.nelec \(6, 4\)"),
    "field": (lambda: _in_field(_mf(_mole())), "mf.get_hcore of its own is up to 0.02"),
    "repulsion": (lambda: _own_repulsion(_mf(_mole())), "mf.energy_nuc of its own is 8.8 Eh"),
    "dispersion": (lambda: _changed(_mf(_mole()), disp="d9"), "'d9'"),
    "VV10": (lambda: _changed(_mf(_mole()), nlc="vv10"), "mf.nlc 'vv10'"),
    "unknown xc": (lambda: _changed(_mf(_mole()), xc="pbee"), "'pbee'"),
    "own fit": (_filled_fit, "mf.with_df._cderi"),
    "finite nuclei": (lambda: _mf(_mole(nucmod="gaussian")), "mol.nucmod"),
    "repulsion as a value": (lambda: _mf(_changed(_mole(), enuc=1.0)), "energy_nuc is 8.8 Eh"),
    "the molecule's repulsion": (lambda: _mf(_own_repulsion(_mole())), "energy_nuc is 8.8 Eh"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_another_hamiltonian_is_a_start_with_a_warning_and_never_a_result(untrained, kind):
    make, words = OTHERS[kind]
    mf = make()
    with pytest.raises(InputError, match=words) as caught:
        untrained.as_scf(mf)
    assert "\n" not in str(caught.value)
    assert mf.mo_coeff is None
    mf = make()
    with pytest.warns(UserWarning, match=words) as notes:
        guess = untrained.guess(mf)
    assert sum("differs" in str(note.message) for note in notes) == 1
    assert guess.shape[-1] == 13


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"level": 2}, "grids.level is 2, not 1"), ({"prune": None}, "grid of its own")],
)
def test_another_grid_is_as_good_a_start_but_another_energy(untrained, settings, words):
    with pytest.raises(InputError, match=words):
        untrained.as_scf(_on_grid(**settings))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        untrained.guess(_on_grid(**settings))


def test_a_grid_that_was_changed_behind_its_level_is_another_energy(untrained):
    mf = _mf(_mole())
    mf.grids.build()
    mf.grids.weights = mf.grids.weights * 1.01
    with pytest.raises(InputError, match="other points or weights than its level 1"):
        untrained.as_scf(mf)


@pytest.mark.parametrize(("build", "message"), DIFFERENT)
def test_a_different_method_is_never_a_result(untrained, build, message):
    message = message.replace("basis is '6-31g\\*', not '6-31g'", r"'6-31g', got '6-31g\*'")
    with pytest.raises(InputError, match=message):
        untrained.as_scf(build())


@pytest.mark.parametrize(
    "build",
    [
        lambda: _mf(_mole()).newton(),
        _symmetric,
        lambda: _symmetric().newton(),
        lambda: _mf(_mole()).run(max_cycle=1),
        lambda: _changed(_mf(_mole()), get_hcore=lambda *_: scf.hf.get_hcore(_mole())),
        lambda: _mf(_mole(nucmod={}, magmom=[0, 0, 0])),
    ],
    ids=["newton", "symmetry", "both", "run before", "the same hcore", "defaults"],
)
def test_the_same_physics_is_filled_without_a_word(model, build):
    mf = build()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.as_scf(mf, refine=1e-6)
    fresh = build()
    fresh.conv_tol = 1e-11
    fresh.max_cycle = 50
    assert mf.converged
    assert abs(mf.e_tot - fresh.kernel()) < 1e-8


def _heavy(**settings):
    given = {"atom": "H .1 .2 0; I 0 .3 1.6", "basis": "def2-svp", "verbose": 0}
    return gto.M(**(given | settings))


@pytest.fixture(scope="module")
def heavy_model():
    layout = basis_layout([_heavy(ecp="def2-svp")])
    method = Method(basis="def2-svp", grid_level=0)
    return Model(FockNetwork(default_spec(layout, "tiny")).eval(), method)


def test_a_pseudopotential_of_one_side_alone_is_named(heavy_model, model):
    bare = _heavy()  # 54 electrons; the model's has 26
    for use in (
        heavy_model.predict,
        lambda mol: heavy_model.guess(_mf(mol, level=0)),
        lambda mol: heavy_model.as_scf(_mf(mol, level=0)),
    ):
        with pytest.raises(InputError, match=r"I \(atom 2\) .*no ECP, not 25 with.*28 electrons"):
            use(bare)
    other = _mole(ecp={"O": _one_electron_core()})
    for use in (model.predict, lambda mol: model.guess(_mf(mol))):
        with pytest.raises(InputError, match=r"O \(atom 1\) .*2 electrons, not 8 with no ECP"):
            use(other)


def _one_electron_core():
    """A potential that replaces two electrons, in NWChem's format."""
    return gto.basis.parse_ecp("O nelec 2\nO ul\n2 1.0 0.5\nO S\n2 1.2 3.0\n")


def test_another_pseudopotential_of_the_same_size_is_named(heavy_model):
    text = "I nelec 28\nI ul\n2 1.0 0.5\nI S\n2 1.2 3.0\n"
    other = _heavy(ecp={"I": gto.basis.parse_ecp(text)})
    with pytest.raises(InputError, match="another effective core potential"):
        heavy_model.predict(other)
    with pytest.warns(UserWarning, match="another effective core potential"):
        heavy_model.guess(_mf(other, level=0))


def test_electrons_of_the_molecule_count_whatever_its_charge_says(model):
    mol = _mole()
    mol.nelectron = 8
    dication = _mole(charge=2)
    results = [model.predict(one, certificate=False) for one in (mol, dication)]
    assert torch.equal(results[0].fock, results[1].fock)
    assert results[0].molecule.charge == 2


def test_objects_that_cannot_be_filled_are_refused(model):
    with pytest.raises(InputError, match=r"expects an RKS or UKS object, got .*ROKS"):
        model.as_scf(dft.ROKS(_mole(HYDROXYL, spin=1)))
    with pytest.raises(InputError, match="model's basis"):
        model.as_scf(dft.RKS(_mole(basis="sto-3g")))
    for use in (model.as_scf, model.guess):
        for other in (dft.GKS(_mole()), _mole(), None):
            with pytest.raises(InputError, match=f"RKS, UKS or ROKS.*got {type(other).__name__}"):
                use(other)
    with pytest.raises(InputError, match=r"got DFRKS; give mf\.mol"):
        model.predict(_mf(_mole()))


def test_a_correction_larger_than_any_in_training_is_kept_within_bounds(model):
    free = model.predict(_mole(), certificate=False)
    own = copy.deepcopy(model)
    real = own.network.forward

    def with_a_false_level(inputs):
        found = real(inputs)
        found[0].values[0] += 100.0
        return found

    own.network.forward = with_a_false_level
    far = own.predict(_mole(), certificate=False)
    assert float((far.fock - free.fock).abs().max()) > 30.0
    own.network.scales.widen(-0.05, 0.05)
    near = own.predict(_mole(), certificate=False)
    assert float((near.fock - free.fock).abs().max()) < 1.0
