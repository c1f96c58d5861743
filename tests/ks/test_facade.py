"""Users' matrices in and out: the spin axis is put on and taken off, and nothing else changes."""

import pytest
import torch
from pyscf import gto

from deeph_zero.errors import InputError
from deeph_zero.kohnsham import KohnSham


def layer(unrestricted):
    mol = gto.M(atom="H 0 0 0; F .1 0 .9", basis="sto-3g", verbose=0)
    return KohnSham.from_pyscf(mol, xc="pbe", grid_level=0, unrestricted=unrestricted)


@pytest.mark.parametrize("unrestricted", [False, True])
def test_results_are_the_layers_without_the_axis_of_a_closed_shell(unrestricted):
    ks = layer(unrestricted)
    shape = (2, 6, 6) if unrestricted else (6, 6)
    dm = ks.data.dm_guess
    assert dm.shape == shape
    assert torch.equal(ks.to_layer(dm), ks.layer.dm_guess)
    assert ks.layer.dm_guess.shape == (ks.layer.nspin, 6, 6)
    built, inside = ks.build(dm), ks.layer.build(ks.layer.dm_guess)
    assert built.fock.shape == built.v_xc.shape == shape
    assert torch.equal(ks.to_layer(built.fock), inside.fock)
    assert built.energy == inside.energy
    assert torch.equal(ks.build_to_layer(built).v_xc, inside.v_xc)
    assert ks.fock_builds == ks.layer.fock_builds == 2
    orbitals = ks.orbitals(built.fock)
    assert orbitals.mo_coeff.shape == shape
    assert orbitals.mo_energy.shape == shape[:-1]
    assert float(ks.dielectric_step(built.fock, dm).abs().max()) > 1e-3


def test_a_layer_wants_the_axis_and_the_facade_does_not():
    ks = layer(None)
    with pytest.raises(InputError, match=r"shape \[1, 6, 6\] .* got \[6, 6\]; KohnSham takes"):
        ks.layer.build(ks.data.dm_guess)
    with pytest.raises(InputError, match=r"shape \[6, 6\] .*, got \[1, 6, 6\]"):
        ks.build(ks.layer.dm_guess)
