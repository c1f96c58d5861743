"""The layer of a crystal and a method, and what its description says."""

import copy
import pickle

import numpy as np
import pytest
import torch
from pyscf.pbc import dft, gto

from deeph_zero.errors import InputError
from deeph_zero.kohnsham.crystal import CrystalKohnSham
from deeph_zero.method import CrystalMethod, Method

METHOD = Method(
    xc="lda,vwn", basis="gth-dzvp", smearing=0.01, two_grids=False,
    crystal=CrystalMethod(kmesh=(1, 1, 2), pseudo="gth-pade", shifted=True, fix_spin=True),
)  # fmt: skip


@pytest.fixture(scope="module")
def cell():
    one = gto.Cell(atom="He 0.1 0 0", a=np.eye(3) * 4, basis="gth-dzvp", pseudo="gth-pade")
    return one.build(mesh=[11, 11, 11], verbose=0)


def test_a_method_and_keywords_make_the_same_layer(cell):
    ks = CrystalKohnSham.of_method(cell, METHOD, moments=[0.5])
    crystal = {"kmesh": (1, 1, 2), "shifted": True, "smearing": 0.01, "fix_spin": True}
    other = CrystalKohnSham.from_pyscf(
        cell, xc="lda,vwn", moments=[0.5], two_grids=False, **crystal
    )
    assert ks.info.unrestricted, "moments ask for two spins"
    assert ks.data.coarse is None
    assert (ks.info.kpts == other.info.kpts).all()
    dm = ks.density(ks.fock_of(ks.base_potential()))
    assert float(ks.build(dm).energy) == float(other.build(dm).energy)
    mine, theirs = ks.info.method, other.info.method
    assert mine.crystal == METHOD.crystal
    assert theirs.crystal is not None
    assert (theirs.crystal.kmesh, theirs.crystal.shifted, theirs.crystal.fix_spin) == (
        (1, 1, 2), True, True,
    )  # fmt: skip
    for name in ("xc", "basis", "smearing", "two_grids", "unrestricted"):
        assert getattr(mine, name) == getattr(theirs, name)
    assert (ks.info.xc, ks.info.pseudo, ks.info.smearing) == ("lda,vwn", "gth-pade", 0.01)


def test_a_molecules_method_is_refused(cell):
    with pytest.raises(InputError, match=r"expected a crystal's method, .* crystal=CrystalMethod"):
        CrystalKohnSham.of_method(cell, Method())


@pytest.mark.parametrize("xc", ["lda,vwn", "pbe0"])
def test_a_layer_can_be_sent_to_another_process_and_copied(cell, xc):
    """Of a hybrid the kernels of exact exchange go along, AO values are made again."""
    ks = CrystalKohnSham.from_pyscf(cell, xc=xc, kmesh=(1, 1, 2))
    dm = torch.zeros_like(ks.data.ovlp)
    dm[:, 0, 0] = 2 / ks.data.ovlp[:, 0, 0]
    wanted = ks.build(dm)
    for there in (pickle.loads(pickle.dumps(ks)), copy.deepcopy(ks)):
        found = there.build(dm)
        assert float(found.energy) == float(wanted.energy)
        assert torch.equal(found.fock, wanted.fock)
        assert there.data.coarse().mesh.shape == ks.data.coarse_mesh


def test_a_hybrid_with_fitted_integrals_is_refused_in_a_line(cell):
    mf = dft.KRKS(cell, cell.make_kpts([1, 1, 1]), xc="pbe0").density_fit()
    ks = CrystalKohnSham.from_pyscf(mf)
    for do in (pickle.dumps, copy.deepcopy):
        with pytest.raises(InputError, match="copy or to send to another process, got one of a"):
            do(ks)
