"""Sums of terms where more than one build or change is asked for at once."""

import pytest
import torch
from pyscf import gto

import deeph_zero as dz
from deeph_zero.ks.terms.build import (
    fock_build,
    fock_builds,
    linear_response,
    rebuild_on_grids,
    response,
    responses,
    second_response,
)

ATOMS = ("O 0 0 .1; H .2 .3 1", "F .1 0 0; H .2 .1 .9")


@pytest.fixture(scope="module")
def molecules():
    """An open shell and a closed one: layers on two grids, densities, changes."""
    out = []
    for k, atom in enumerate(ATOMS):
        mol = gto.M(atom=atom, basis="sto-3g", spin=1 - k, verbose=0)
        layers = [dz.KohnSham.from_pyscf(mol, xc="pbe0", grid_level=n, unrestricted=True).layer
                  for n in (0, 1)]  # fmt: skip
        dm = layers[0].dm_guess
        generator = torch.Generator().manual_seed(k)
        noise = 0.1 * torch.randn(2, *dm.shape, generator=generator, dtype=dm.dtype)
        out.append((layers, dm, noise @ dm + dm @ noise.mT))
    return out


def test_a_build_on_another_grid_takes_the_rest_over(molecules):
    for (coarse, fine), dm, _ in molecules:
        first, wanted = fock_build(coarse.data, dm), fock_build(fine.data, dm)
        found = rebuild_on_grids(fine.data, dm, first)
        assert float((wanted.fock - first.fock).abs().max()) > 1e-5
        torch.testing.assert_close(found.fock, wanted.fock, rtol=0, atol=1e-12)
        assert found.parts.keys() == wanted.parts.keys()
        for name, value in wanted.parts.items():
            torch.testing.assert_close(found.parts[name], value, rtol=0, atol=1e-12)
        assert found.parts["e_coul"] is first.parts["e_coul"]


def test_several_at_once_are_one_after_another(molecules):
    datas = [layers[1].data for layers, *_ in molecules]
    dms = [dm for _, dm, _ in molecules]
    coarse = [fock_build(molecules[0][0][0].data, dms[0]), None]
    for known in (None, coarse):
        for found, data, dm in zip(fock_builds(datas, dms, known), datas, dms, strict=True):
            wanted = fock_build(data, dm)
            torch.testing.assert_close(found.fock, wanted.fock, rtol=0, atol=1e-12)
            torch.testing.assert_close(found.energy, wanted.energy, rtol=0, atol=1e-11)
            torch.testing.assert_close(found.n_electrons, wanted.n_electrons)
    along = [changes[0] for *_, changes in molecules]
    for found, data, dm, d in zip(responses(datas, dms, along), datas, dms, along, strict=True):
        torch.testing.assert_close(found, response(data, dm, d), rtol=0, atol=1e-12)


def test_many_changes_of_one_density_are_their_responses(molecules):
    (layer, _), dm, changes = molecules[0]
    many = linear_response(layer.data, dm)(changes)
    for found, one in zip(many, changes, strict=True):
        torch.testing.assert_close(found, response(layer.data, dm, one), rtol=0, atol=1e-12)
    both = second_response(layer.data, dm, *changes)
    torch.testing.assert_close(both, second_response(layer.data, dm, *changes.flip(0)))
    assert float(both.abs().max()) > 1e-4
