"""Large crystals: the same H as with a layer, as sparse blocks, and the same levels."""

import numpy as np
import pytest
import torch
from ase import Atoms

from deeph_zero.ao.shells import BasisLayout
from deeph_zero.errors import InputError
from deeph_zero.model_files.meta import crystal_meta
from deeph_zero.molecule import State
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.predict.crystal_model import CrystalModel
from deeph_zero.predict.given import crystal_in_state
from deeph_zero.settings.config import MethodConfig
from deeph_zero.settings.crystal_config import SmearedCrystalConfig

CHAIN = Atoms(
    "H2",
    positions=[[0.05, 0, 0.1], [0.63, 0.37, 0.47]],
    cell=[[2.06, 0, 0], [0, 2.75, 0], [0, 0.05, 2.9]],
    pbc=True,
)


def model(inputs):
    """An untrained network whose output is not small."""
    torch.manual_seed(3)
    layout = BasisLayout.from_shells({1: (0,)})
    network = FockNetwork(default_spec(layout, "tiny", cutoff=8.0, inputs=inputs)).double().eval()
    for weights in network.parameters():
        weights.data += 0.1 * torch.randn_like(weights)
    method = MethodConfig.parse({"basis": "gth-szv", "xc": "lda,vwn"})
    crystal = SmearedCrystalConfig.parse(
        {"kmesh": (2, 1, 1), "ke_cutoff": 40.0, "pseudo": "gth-pade", "smearing": 0.01}
    )
    meta = crystal_meta(method, crystal, network.spec, [crystal_in_state(CHAIN, State(0, 0))])
    return CrystalModel(network, meta)


def test_sparse_blocks_are_the_matrices_of_a_layer():
    one = model("geometry")
    dense = one.predict(CHAIN, kmesh=(2, 1, 1), certificate=False)
    sparse = one.predict_sparse(CHAIN)
    kpts = torch.from_numpy(dense.ks.info.kpts)
    own = sparse.hamiltonian.at_k(kpts)
    torch.testing.assert_close(own, dense.fock[0].to(own), rtol=0, atol=3e-5)
    assert float(dense.correction.values.abs().max()) > 1e-3
    levels = dense.ks.bands(dense.fock)
    found = sparse.frontier((2, 1, 1), count=2)
    energies = np.concatenate([k.energies for k in found.levels[0]])
    np.testing.assert_allclose(np.sort(energies), levels.mo_energy.flatten().sort()[0], atol=1e-4)
    assert abs(found.fermi - levels.filling.fermi[0]) < 1e-3


def test_models_that_read_more_and_unknown_elements_are_refused():
    with pytest.raises(InputError, match="geometry inputs for sparse blocks, got physics inputs"):
        model("physics").predict_sparse(CHAIN)
    other = CHAIN.copy()
    other.symbols[0] = "He"
    with pytest.raises(InputError, match=r"trained on \(H\), got He"):
        model("geometry").predict_sparse(other)
