"""Blocks of a predicted crystal as a record: H and S at any k, the shells, the Fermi level."""

import numpy as np
import pytest
import torch

from deeph_zero.ao.shells import BasisLayout
from deeph_zero.model_files.meta import crystal_meta
from deeph_zero.molecule import Molecule
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.predict import crystal_model
from deeph_zero.predict.crystal_blocks import predicted_blocks
from deeph_zero.predict.crystal_model import CrystalModel
from deeph_zero.settings.config import MethodConfig
from deeph_zero.settings.crystal_config import SmearedCrystalConfig

LATTICE = np.array([[4.0, 0, 0], [0, 5.2, 0], [0, 0.1, 5.5]])
CRYSTAL = Molecule(
    numbers=np.array([1, 1]),
    coords=np.array([[0.1, 0, 0.2], [1.2, 0.7, 0.9]]),
    lattice=LATTICE,
    pbc=(True, True, True),
)
KPTS = torch.tensor([[0.1, 0.2, 0.3], [0.0, 0.0, 0.0]], dtype=torch.float64)


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        layout = BasisLayout.from_shells({1: (0,)})
        spec = default_spec(layout, "tiny", cutoff=7.0, inputs="geometry", balanced=False)
        network = FockNetwork(spec).double().eval()
        for weights in network.node_out.weights:
            torch.nn.init.normal_(weights, std=0.01)
    crystal = SmearedCrystalConfig.parse(
        {"kmesh": (1, 1, 1), "ke_cutoff": 15.0, "pseudo": "gth-pade"}
    )
    method = MethodConfig.parse({"basis": "gth-szv", "xc": "lda,vwn"})
    return CrystalModel(network, crystal_meta(method, crystal, spec, [CRYSTAL]))


@pytest.mark.parametrize("large", [False, True], ids=["with a layer", "sparse"])
def test_blocks_give_the_prediction_at_any_k(model, monkeypatch, large):
    """Sparse ones have H₀ of boxes of points, which differs by 1e-5 Eh."""
    exact = model.predict_structure(CRYSTAL, model.settings(), certificate=False)
    if large:
        monkeypatch.setattr(crystal_model, "LARGE", 1)
    record = predicted_blocks(model, CRYSTAL, model.settings())
    found, wanted = record.matrices.fock.at_k(KPTS), exact.hamiltonian(KPTS.tolist())
    torch.testing.assert_close(found.reshape(wanted.shape), wanted, atol=1e-4, rtol=0)
    ovlp = exact.ks.overlap_at(KPTS.tolist())
    assert record.matrices.overlap is not None
    torch.testing.assert_close(record.matrices.overlap.at_k(KPTS), ovlp, atol=1e-6, rtol=0)
    assert record.matrices.shells == ((0,), (0,))
    assert record.structure.pbc.tolist() == [True] * 3
    assert record.structure.lattice is not None
    np.testing.assert_allclose(record.structure.lattice, LATTICE)
    assert np.isfinite(record.matrices.facts["fermi"])
