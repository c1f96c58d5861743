"""Certificates of several molecules at once against those of each alone."""

import dataclasses

import numpy as np
import pytest
from pyscf import gto

from deeph_zero.kohnsham import KohnSham
from deeph_zero.kohnsham.batch import KohnShamBatch
from deeph_zero.ks.batch.certificates import Point, certify_together

ATOMS = ("H 0 0 0; H 0 .1 .74", "F 0 0 0; H .1 .2 .9", "F 0 0 0")
"""The last one's frontier level is degenerate."""


def moles():
    for atom in ATOMS:
        yield gto.M(atom=atom, basis="sto-3g", spin=int("H" not in atom), verbose=0)


@pytest.mark.parametrize("settings", [{"two_grids": True}, {"two_grids": False}, {"xc": "hf"}])
def test_certificates_are_those_of_each_molecule(settings):
    settings = {"xc": "pbe", "grid_level": 1} | settings
    layers = [KohnSham.from_pyscf(mol, **settings) for mol in moles()]
    batch = KohnShamBatch(layers, strategy="padded")
    points = []
    for ks in layers:
        dm = ks.density(ks.build(ks.data.dm_guess).fock)
        built = ks.build(dm)
        at = ks.to_layer(dm), ks.to_layer(built.fock)
        points.append(Point(ks.layer, *at, float(built.energy), there=at))
    before = [ks.layer.builds for ks in layers]
    found = certify_together(batch.batch, points)
    spent = [ks.layer.builds - one for ks, one in zip(layers, before, strict=True)]
    for ks, at, one, builds in zip(layers, points, found, spent, strict=True):
        before_it = ks.layer.builds
        wanted = ks.certificate(ks.from_layer(at.dm), ks.from_layer(at.fock), at.energy)
        assert builds == ks.layer.builds - before_it
        for field in dataclasses.fields(one):
            values = [getattr(it, field.name) for it in (one, wanted)]
            pair = [np.array(value, dtype=float) for value in values]
            np.testing.assert_allclose(*pair, atol=1e-7, rtol=1e-5, err_msg=field.name)
    assert [one.degenerate for one in found] == [False, False, True]
