"""A model of crystals: whose settings count, which crystals are large, and what is refused."""

import numpy as np
import pytest
import torch
from ase import Atoms

from deeph_zero.ao.shells import BasisLayout
from deeph_zero.errors import InputError
from deeph_zero.method import Method
from deeph_zero.model_files.folder import save_model
from deeph_zero.model_files.meta import crystal_meta, model_meta
from deeph_zero.molecule import State
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.predict import crystal_model as module
from deeph_zero.predict.crystal_model import CrystalModel, load_crystal_model
from deeph_zero.predict.given import crystal_in_state
from deeph_zero.prepared.crystal import PreparedCrystal
from deeph_zero.settings.config import MethodConfig
from deeph_zero.settings.crystal_config import SmearedCrystalConfig

CHAIN = Atoms(
    "H2", positions=[[0.05, 0, 0.1], [0.63, 0.37, 0.47]],
    cell=[[2.06, 0, 0], [0, 2.75, 0], [0, 0.05, 2.9]], pbc=True,
)  # fmt: skip
MOLECULE = crystal_in_state(CHAIN, State(0, 0))


def network(inputs="physics"):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        layout = BasisLayout.from_shells({1: (0,)})
        spec = default_spec(layout, "tiny", cutoff=7.0, inputs=inputs, balanced=False)
        return FockNetwork(spec).double().eval()


def meta(spec, constant=None, **crystal):
    given = {"kmesh": (2, 1, 1), "ke_cutoff": 20.0, "pseudo": "gth-pade", "smearing": 0.01}
    return crystal_meta(
        MethodConfig.parse({"basis": "gth-szv", "xc": "lda,vwn"}),
        SmearedCrystalConfig.parse(given | crystal),
        spec,
        [MOLECULE],
        constant,
    )


@pytest.fixture(scope="module")
def model():
    net = network()
    return CrystalModel(net, meta(net.spec))


def asked(**crystal):
    return SmearedCrystalConfig.parse(crystal)


def test_what_is_solved_is_what_it_was_trained_on(model):
    method = model.method
    assert (method.xc, method.basis, method.smearing) == ("lda,vwn", "gth-szv", 0.01)
    assert (method.crystal.pseudo, method.crystal.ke_cutoff) == ("gth-pade", 20.0)
    assert (method.density_fit, method.grid_level) == (False, None)
    assert model.elements == (1,)
    bare = CrystalModel(model.network, meta(model.network.spec, pseudo="none"))
    assert bare.method.crystal.pseudo is None


@pytest.mark.parametrize(
    ("given", "kmesh", "smearing"),
    [
        (None, (2, 1, 1), 0.01),
        ({}, (2, 1, 1), 0.01),
        ({"kmesh": (3, 3, 3)}, (3, 3, 3), 0.01),
        ({"smearing": 0.0}, (2, 1, 1), 0.0),
        ({"kspacing": 0.7}, (3, 2, 2), 0.01),
        ({"ke_cutoff": 30.0}, (2, 1, 1), 0.01),
    ],
    ids=str,
)
def test_what_is_asked_comes_before_the_models_own(model, given, kmesh, smearing):
    settings = model.settings(None if given is None else asked(**given))
    method = module.crystal_method(MOLECULE, settings)
    assert method.crystal.kmesh == kmesh
    assert (settings.smearing, method.smearing) == (smearing, smearing)
    assert method.crystal.ke_cutoff == (given or {}).get("ke_cutoff", 20.0)
    assert method.crystal.pseudo == "gth-pade"


def test_without_a_mesh_kpoints_are_as_dense_as_in_training(model):
    net = model.network
    free = CrystalModel(net, meta(net.spec, kmesh=None, kspacing=0.5))
    assert module.crystal_method(MOLECULE, free.settings()).crystal.kmesh != (2, 1, 1)
    wide = crystal_in_state(CHAIN * (2, 1, 1), State(0, 0))
    one, two = (module.crystal_method(m, free.settings()).crystal.kmesh for m in (MOLECULE, wide))
    assert two[0] <= -(-one[0] // 2) + 1
    assert two[1:] == one[1:]


def test_one_grid_or_two_is_no_other_model(model):
    model.iterate_on(two_grids=False)
    assert not module.crystal_method(MOLECULE, model.settings()).two_grids
    model.iterate_on(two_grids=True)
    assert module.crystal_method(MOLECULE, model.settings()).two_grids


def test_a_crystal_is_prepared_as_the_network_reads_it(model):
    method = module.crystal_method(MOLECULE, model.settings())
    ready = model.prepare(MOLECULE, method)
    assert isinstance(ready, PreparedCrystal)
    assert ready.ks.nk == 2
    assert ready.ks.fock_builds == 0
    assert ready.inputs.cutoff == 7.0


def test_elements_it_was_not_trained_on_are_named(model):
    other = CHAIN.copy()
    other.symbols[0] = "He"
    for call in (model.predict, CrystalModel(network("geometry"), model.meta).predict_sparse):
        with pytest.raises(InputError, match=r"was trained on \(H\), got He; train a model on"):
            call(other)


def test_sparse_blocks_need_a_network_of_geometries(model):
    with pytest.raises(InputError, match="geometry inputs for sparse blocks, got physics inputs"):
        model.predict_sparse(CHAIN)


def test_which_crystals_are_large(model, monkeypatch):
    """Beyond so many functions, of a network that reads the geometry alone, and neutral."""
    geometry = CrystalModel(network("geometry"), model.meta)
    assert not geometry.is_large(MOLECULE)
    monkeypatch.setattr(module, "LARGE", 1)
    assert geometry.is_large(MOLECULE)
    assert not model.is_large(MOLECULE)
    charged = crystal_in_state(CHAIN, State(1, 1))
    assert not geometry.is_large(charged)


def test_molecules_are_no_crystals(model):
    with pytest.raises(InputError, match="expected a crystal"):
        model.predict(Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.7]]))


def test_a_network_predicts_with_what_was_asked(model):
    found = model.predict(CHAIN, kmesh=(1, 1, 1), certificate=False)
    assert (found.ks.nk, found.ks.fock_builds) == (1, 0)
    assert found.method.crystal.kmesh == (1, 1, 1)
    assert found.fock.shape == (1, 1, 2, 2)
    assert (found.energy, found.certificate, found.residual_mae) == (None, None, None)
    with pytest.raises(InputError, match="kmesh"):
        model.predict(CHAIN, kmesh=(0, 1, 1))


@pytest.mark.parametrize(
    ("tol", "words"), [(1e-20, "rounding does not let"), (0.0, "a positive tolerance")]
)
def test_what_cannot_be_refined_to_is_refused(model, tol, words):
    with pytest.raises(InputError, match=words):
        model.predict(CHAIN, refine=tol)


def test_a_models_constant_moves_every_level(model):
    """The average potential that training found stands beside the network."""
    constant = {"offset": 0.125, "elements": [[1, 0.0, 3.0]]}
    moved = CrystalModel(model.network, meta(model.network.spec, constant))
    one, other = (m.predict(CHAIN, certificate=False) for m in (model, moved))
    volume = abs(np.linalg.det(MOLECULE.lattice))
    shift = 0.125 + 3.0 * 2 / volume
    torch.testing.assert_close(other.fock - one.fock, shift * one.ks.data.ovlp.expand_as(one.fock))
    np.testing.assert_allclose(other.fermi, np.array(one.fermi) + shift, atol=1e-7)


def test_files_of_crystals_are_told_from_those_of_molecules(model, tmp_path):
    path = save_model(tmp_path / "crystals", model.network, model.meta)
    found = load_crystal_model(path.parent)
    assert found.settings() == model.settings()
    assert found.state == model.state == State(0, 0)
    for name, value in model.network.state_dict().items():
        assert torch.equal(found.network.state_dict()[name], value), name
    info = _info()
    molecules = model_meta(MethodConfig(basis="sto-3g"), info, model.network.spec, [])
    save_model(tmp_path / "molecules", model.network, molecules)
    with pytest.raises(InputError, match="expected a model of crystals, got one of molecules in"):
        load_crystal_model(tmp_path / "molecules")


def _info():
    from pyscf import gto

    from deeph_zero.kohnsham import KohnSham

    mol = gto.M(atom="H 0 0 0; H 0 0 0.7", basis="sto-3g", verbose=0)
    return KohnSham.of_method(mol, Method(basis="sto-3g", grid_level=0), builds=False).info
