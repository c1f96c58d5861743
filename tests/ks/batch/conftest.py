"""Small molecules of unlike size, closed shells and open ones, and matrices far from solved."""

import pytest
import torch
from pyscf import gto

from deeph_zero.kohnsham import KohnSham

ATOMS = {
    1: (("F 0 0 .1; H .2 .3 .9", 0, 0), ("He 0 0 0; H 0 .1 .8", 1, 0)),
    2: (("O 0 0 .1; H .2 .3 1", 0, 1), ("N .1 0 0; H 0 .2 1", 0, 2), ("H 0 0 0", 0, 1)),
}
"""Atoms, charge and spin by spin channels. The hydrogen atom has no beta electron."""


@pytest.fixture(scope="session")
def small():
    """Makes layers by spin channels; new ones at every call, their integrals made once."""
    kept = {}

    def make(nspin, **settings):
        settings = {"xc": "pbe", "grid_level": 0} | settings
        key = nspin, *sorted(settings.items())
        if key not in kept:
            kept[key] = [
                KohnSham.from_pyscf(
                    gto.M(atom=atom, basis="sto-3g", charge=charge, spin=spin, verbose=0),
                    **settings,
                )
                for atom, charge, spin in ATOMS[nspin]
            ]
        layers = [ks.layer.on(ks.layer.data) for ks in kept[key]]
        for layer in layers:
            layer.fock_builds = layer.coarse_builds = 0
        return layers

    return make


@pytest.fixture(params=[1, 2], ids=["closed", "open"])
def nspin(request):
    """Spin channels."""
    return request.param


@pytest.fixture
def disturbed():
    """Makes a symmetric matrix beside each layer's F, and the density of that of the guess."""

    def make(layers, size=0.05):
        generator = torch.Generator().manual_seed(3)
        out = []
        for layer in layers:
            fock = layer.build(layer.dm_guess).fock
            noise = size * torch.randn(fock.shape, generator=generator, dtype=fock.dtype)
            out.append((fock + noise + noise.mT, layer.density(fock)))
            layer.fock_builds = 0
        return tuple(zip(*out, strict=True))

    return make
