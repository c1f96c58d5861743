"""A network that reads elements and positions: no Fock build, no two-electron integral, no grid."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from pyscf import dft, gto

from deeph_zero.ao.rotation import ao_rotation
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.integrals import system
from deeph_zero.integrals.atomic_clouds import atomic_clouds, superposed_atoms
from deeph_zero.integrals.atomic_potentials import screened_core
from deeph_zero.integrals.mole import molecule_of
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.linalg.orthogonalise import orthogonaliser
from deeph_zero.ks.multipoles import screened
from deeph_zero.model import Model, load
from deeph_zero.model_files.folder import save_model
from deeph_zero.model_files.meta import model_meta
from deeph_zero.molecule import Molecule
from deeph_zero.nn.balance import Balance
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.reading import Reading
from deeph_zero.nn.spec import NetworkSpec, default_spec
from deeph_zero.predict.single import builds_once
from deeph_zero.prepared.molecule import basis_layout, prepare
from deeph_zero.settings.config import MethodConfig
from deeph_zero.train.taught import make_problem

CONFIG = MethodConfig(basis="6-31g", grid_level=1)
METHOD = CONFIG.as_method()
WATER = "O 0 0 0.1; H 0.1 0.76 0.58; H 0.05 -0.74 0.61"


def mole(atom=WATER, **settings):
    return gto.M(atom=atom, **({"basis": METHOD.basis, "verbose": 0} | settings))


def network(scale=0.01, **changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        spec = default_spec(basis_layout([mole()]), "tiny", inputs="geometry")
        net = FockNetwork(dataclasses.replace(spec, **changes))
        for name, value in net.named_parameters():
            if "_out." in name:
                torch.nn.init.normal_(value, std=scale)
    return net.double().eval()


@pytest.fixture(scope="module")
def model():
    return Model(network(), METHOD)


@pytest.fixture
def no_integrals(monkeypatch):
    def refuse(*_args, **_settings):
        raise AssertionError("asked for integrals that a prediction does not need")

    for name in ("two_electron_operators", "_grid", "density_guess"):
        monkeypatch.setattr(system, name, refuse)


@pytest.mark.usefixtures("no_integrals")
def test_nothing_is_built_without_a_certificate(model):
    result = model.predict(mole(), certificate=False)
    assert result.fock_builds == 0
    assert result.energy is None
    assert result.fock_rebuilt is None
    assert result.n_electrons is None
    assert float((result.dm * result.overlap).sum()) == pytest.approx(10)
    assert (result.fock - screened_core(mole())).abs().max() > 1e-3
    assert np.linalg.norm(result.dipole) > 0.1
    with pytest.raises(AssertionError):
        model.predict(mole())


def base_of(mol):
    """Superposed atoms with their self-consistent charges and dipoles."""
    x = orthogonaliser(torch.from_numpy(mol.intor("int1e_ovlp")), 1e-6)
    return screened(superposed_atoms(mol), x, mol.nelec, atomic_clouds(mol)).fock


def test_an_untrained_network_says_its_base():
    result = Model(network(scale=0.0), METHOD).predict(mole(), certificate=False)
    torch.testing.assert_close(result.fock, base_of(mole()), rtol=0, atol=1e-12)


def test_the_output_is_taken_between_partly_orthogonal_orbitals():
    net = network()
    assert net.spec.balanced
    result = Model(net, METHOD).predict(mole(), certificate=False)
    prepared = prepare(molecule_of(mole()), METHOD, net.reading, builds=False)
    output = net(prepared.inputs)[0].to_dense().detach()
    balance = Balance.of(result.overlap)
    expected = base_of(mole()) + balance.root @ output @ balance.root
    torch.testing.assert_close(result.fock, expected, rtol=0, atol=1e-10)
    assert (balance.correction(output) - output).abs().max() > 1e-3
    # and what has to be predicted for a matrix makes that matrix
    wanted = prepared.in_blocks(expected - prepared.fock0)
    torch.testing.assert_close(prepared.hamiltonian(wanted), expected, rtol=0, atol=1e-10)


def test_models_without_the_word_predict_element_by_element(tmp_path):
    old = network(balanced=False)
    save_model(tmp_path, old, model_meta(CONFIG, KohnSham.without_builds(mole()).info, old.spec))
    file = tmp_path / "model.json"
    described = json.loads(file.read_text())["network"]
    assert described.pop("balanced") is False
    assert not NetworkSpec.from_dict(described).balanced
    result = load(tmp_path).predict(mole(), certificate=False)
    inputs = prepare(molecule_of(mole()), METHOD, old.reading, builds=False).inputs
    expected = base_of(mole()) + old(inputs)[0].to_dense().detach()
    torch.testing.assert_close(result.fock, expected, rtol=0, atol=1e-9)


def test_models_of_version_0_1_correct_the_screened_core_and_read_it_alone(tmp_path):
    old = network(scale=0.0, base="fock", balanced=False)
    result = Model(old, METHOD).predict(mole(), certificate=False)
    torch.testing.assert_close(result.fock, screened_core(mole()), rtol=0, atol=1e-12)
    info = KohnSham.of_method(mole(), METHOD, builds=False).info
    save_model(tmp_path, old, model_meta(CONFIG, info, old.spec))
    described = json.loads((tmp_path / "model.json").read_text())
    assert described["network"].pop("base") == "fock"
    assert NetworkSpec.from_dict(described["network"]).base == "fock", "nobody wrote it in 0.1"
    inputs = prepare(molecule_of(mole()), METHOD, old.reading, builds=False).inputs
    other = dataclasses.replace(inputs, node_inputs=inputs.node_inputs.clone())
    other.node_inputs[:, 2:] = 1.0
    reader = network(base="fock")
    own, moved = (reader(x)[0].to_dense() for x in (inputs, other))
    torch.testing.assert_close(own, moved, rtol=0, atol=0)


def test_bases_belong_to_their_inputs():
    with pytest.raises(InputError, match=r"base: expected one of .*fock.*multipoles"):
        network(base="dielectric")


@pytest.mark.parametrize("sign", [1, -1])
def test_a_prediction_turns_with_the_molecule_exactly(model, sign):
    """From the structure to the matrix: there is no grid that stays put."""
    mol = mole()
    q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    rotation = torch.from_numpy(q * np.sign(np.linalg.det(q)) * sign)
    turned = mol.set_geom_(mol.atom_coords() @ rotation.numpy().T, unit="bohr", inplace=False)
    u = ao_rotation(basis_layout([mol]), [8, 1, 1], rotation)
    before, after = (model.predict(m, certificate=False).fock for m in (mol, turned))
    torch.testing.assert_close(u @ before @ u.T, after, rtol=0, atol=1e-10)


@pytest.mark.usefixtures("no_integrals")
def test_radicals_have_two_unlike_matrices(model):
    result = model.predict(mole("O 0 0 0; H 0.1 0.2 0.94", spin=1), certificate=False)
    assert result.fock.shape == (2, 11, 11)
    assert (result.fock[0] - result.fock[1]).abs().max() > 1e-4
    traces = (result.dm * result.overlap).sum((-1, -2))
    assert traces.tolist() == pytest.approx([5, 4])


def test_files_keep_the_kind_of_inputs(model, tmp_path):
    info = KohnSham.of_method(mole(), METHOD, builds=False).info
    save_model(tmp_path, model.network, model_meta(CONFIG, info, model.network.spec))
    again = load(tmp_path)
    assert again.network.spec.inputs == "geometry"
    assert torch.equal(
        again.predict(mole(), certificate=False).fock, model.predict(mole(), certificate=False).fock
    )


def test_the_description_is_that_of_the_full_layer():
    bare = KohnSham.without_builds(mole(), xc="pbe0").info
    full = KohnSham.from_pyscf(mole(), xc="pbe0", grid_level=0).info
    for name in ("xc", "kind", "xc_components", "hyb", "auxbasis", "density_fit", "nao", "cart",
                 "charge", "spin", "basis", "ao_atoms", "atom_charges", "dispersion"):  # fmt: skip
        assert getattr(bare, name) == getattr(full, name), name


def test_certificate_and_refinement_still_are_exact(model):
    mf = dft.RKS(mole(), xc="pbe").density_fit()
    mf.grids.level = 1
    mf.conv_tol = 1e-11
    mf.kernel()
    result = model.predict(mole(), refine=1e-6)
    assert result.certificate is not None
    assert result.refined is not None
    assert result.refined.converged
    assert result.energy > mf.e_tot + 1e-6
    assert result.refined.energy == pytest.approx(mf.e_tot, abs=1e-9)
    assert result.standard_start is False


@pytest.mark.usefixtures("no_integrals")
def test_a_guess_costs_no_build(model):
    dm = model.guess(dft.RKS(mole(), xc="pbe").density_fit())
    assert np.einsum("ij,ji->", dm, mole().intor("int1e_ovlp")) == pytest.approx(10)


def test_a_layer_without_integrals_refuses_builds():
    ks = KohnSham.without_builds(mole())
    with pytest.raises(ComputationError, match="two-electron integrals"):
        ks.scf()
    with pytest.raises(ComputationError, match="two-electron integrals"):
        ks.build(ks.data.dm_guess)


def test_training_teaches_from_the_coarse_grid(water_molecule):
    layout = basis_layout([mole()])
    reading = Reading(layout, cutoff=14.0, inputs="geometry")
    problem = make_problem(water_molecule, METHOD, reading)
    torch.testing.assert_close(problem.fock0, base_of(mole()), rtol=0, atol=1e-12)
    assert (problem.ks.fock_builds, problem.start) == (0, None)
    assert problem.ks.coarse_builds > 0
    problem.teacher.advance()
    assert problem.ks.fock_builds == 1
    assert problem.teacher.finished, "one build settles a geometry"
    exact = problem.ks.scf(conv_tol_grad=1e-8).fock
    torch.testing.assert_close(problem.teacher.target, exact, rtol=0, atol=1e-5)


def test_without_a_coarse_grid_training_teaches_from_the_superposed_atoms(water_molecule):
    layout = basis_layout([mole()])
    reading = Reading(layout, cutoff=14.0, inputs="geometry")
    one_grid = dataclasses.replace(METHOD, two_grids=False)
    problem = make_problem(water_molecule, one_grid, reading)
    assert problem.ks.fock_builds == 1
    assert problem.start is not None
    reading = Reading(layout, cutoff=14.0, base="fock")
    physics = make_problem(water_molecule, one_grid, reading)
    assert torch.equal(physics.fock0, problem.start.fock), "as models of version 0.1 have it"
    assert torch.equal(problem.teacher.target, physics.teacher.target)
    torch.testing.assert_close(problem.fock0, base_of(mole()), rtol=0, atol=1e-12)
    assert (problem.fock0 - problem.start.fock).abs().max() > 0.01


def test_the_base_of_physics_inputs_is_moved_on_where_that_is_safe(water_molecule):
    layout = basis_layout([mole()])
    problem = make_problem(water_molecule, METHOD, Reading(layout, cutoff=14.0))
    ks, dm0 = problem.ks, problem.ks.data.dm_guess
    assert problem.start is not None
    assert problem.matrices is not None
    step = ks.dielectric_step(problem.start.fock, dm0)
    torch.testing.assert_close(problem.fock0, problem.start.fock + step, rtol=0, atol=1e-12)
    assert torch.equal(problem.matrices.fock0, problem.fock0)
    exact = ks.scf(conv_tol_grad=1e-8).fock
    near, far = ((f - exact).abs().mean() for f in (problem.fock0, problem.start.fock))
    assert near < far / 3
    hydroxyl = Molecule(
        numbers=np.array([8, 1]), coords=np.array([[0, 0, 0], [0, 0, 1.83]]), spin=1
    )
    undecided = make_problem(hydroxyl, METHOD, Reading(layout, cutoff=14.0))
    assert undecided.start is not None
    assert torch.equal(undecided.fock0, undecided.start.fock), "its hole is not decided"


def test_a_single_build_keeps_no_ao_values_and_gives_the_same(model, water_molecule):
    kept, ks = model.predict_layer(water_molecule)
    grids = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deeph_zero.predict.single.builds_once", grids.append)
        model.predict(water_molecule, refine=1e-4)
        assert grids == [], "who builds again keeps what it needs"
    assert ks.data.grid.kept_bytes > 0
    once = KohnSham.of_method(mole(), METHOD)
    builds_once(once)
    assert torch.equal(once.build(kept.dm).fock, ks.build(kept.dm).fock)
    assert once.data.grid.kept_bytes == 0
    found = model.predict(water_molecule)
    assert found.energy == kept.energy
    assert found.certificate == kept.certificate


@pytest.fixture
def water_molecule():
    return molecule_of(mole())
