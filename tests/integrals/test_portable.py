"""What is computed in another process: sent, moved, and the same bits."""

import pickle

import numpy as np
import pytest
import torch

from deeph_zero.integrals.calculation import calculation
from deeph_zero.integrals.mole import build_mole
from deeph_zero.integrals.system import ks_data, portable_part
from deeph_zero.ks.facade import MoleculeFacade
from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.molecule import Molecule

METHODS = {
    "pbe": {"xc": "pbe", "grid_level": 0},
    "lda": {"xc": "lda,vwn", "grid_level": 0},
    "scan": {"xc": "r2scan", "grid_level": 0},
    "hybrid": {"xc": "wb97x", "grid_level": 0, "unrestricted": True},
    "exact": {"xc": "pbe0", "grid_level": 0, "density_fit": False},
    "hf": {"xc": "hf"},
    "vv10": {"xc": "wb97x-v", "grid_level": 0, "nlc_grid_level": 0},
    "rounded": {"xc": "pbe0", "grid_level": 0, "jk_dtype": torch.float32},
}


def water(shift=0.0, **values):
    coords = np.array([[0, 0, 0.2 + shift], [0, 1.43, 1.1], [0.1, -1.4, 1.15]])
    return Molecule(numbers=np.array([8, 1, 1]), coords=coords, file="w.xyz", **values)


@pytest.mark.parametrize("name", METHODS)
def test_what_was_sent_gives_the_same_bits(name):
    mol = build_mole(water(), basis="sto-3g")
    given = dict(METHODS[name])
    dtype = {"jk_dtype": given.pop("jk_dtype", torch.float64)}
    found = calculation(mol, **given)
    sent = pickle.loads(pickle.dumps(portable_part(found, **dtype)))
    (own, info), (got, info_got) = (ks_data(found, portable=part, **dtype) for part in (None, sent))
    assert info_got == info
    one, other = (MoleculeFacade(KohnShamLayer(data)).build(own.dm_guess) for data in (own, got))
    assert torch.equal(one.fock, other.fock)
    assert one.energy == other.energy
    assert torch.equal(own.dm_guess, got.dm_guess)
    assert torch.equal(own.dipole, got.dipole)


def test_moving_keeps_operators_shared():
    mol = build_mole(water(), basis="sto-3g")
    part = portable_part(calculation(mol, xc="pbe0", grid_level=0))
    assert part.two.coulomb is part.two.exchange[0][1]
    assert part.to("cpu") is part
    moved = part.to("meta")
    assert moved.two.coulomb is moved.two.exchange[0][1]
    assert moved.two.coulomb.cderi.device == moved.one.dipole.device == moved.dm_guess.device
    assert moved.one.e_nuc == part.one.e_nuc
    exact = portable_part(calculation(mol, xc="pbe0", grid_level=0, density_fit=False)).to("meta")
    assert exact.two.coulomb.eri.device.type == "meta"
