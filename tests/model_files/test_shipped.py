"""What is really shipped: every file as it was packed, a whole card, a size, sane answers."""

import re
import socket

import pytest
from pyscf import dft, gto

from deeph_zero.data.structures import chemical_symbols
from deeph_zero.host import shipped
from deeph_zero.model import load
from deeph_zero.model_files import registry
from deeph_zero.testing import WATER

NAMES = registry.names()
METHANE = "C 0 0 0; H 0.63 0.62 0.64; H -0.63 -0.63 0.62; H -0.62 0.63 -0.64; H 0.63 -0.63 -0.62"
FAR = 0.02
"""Eh; the energy of a density that a network for many molecules has at water and methane."""


def test_nothing_lies_in_the_folder_that_the_index_does_not_prove():
    there = {p.name for p in shipped.FOLDER.iterdir()}
    assert there == {*NAMES, shipped.INDEX}
    for name in NAMES:
        folder = registry.shipped_folder(name)
        assert {p.name for p in folder.iterdir()} == {
            "model.safetensors",
            "model.json",
            "card.json",
        }


@pytest.mark.parametrize("name", NAMES)
def test_the_card_is_whole_and_of_this_model(name):
    card, model = registry.card(name), load(name)
    assert card == model.card
    assert card.name == name
    assert card.bytes == (registry.shipped_folder(name) / "model.safetensors").stat().st_size
    assert card.bytes <= shipped.LARGEST
    assert card.parameters == sum(p.numel() for p in model.network.parameters())
    assert {*card.domain.elements} <= {chemical_symbols[z] for z in model.elements}
    assert (card.method.xc, card.method.basis) == (model.method.xc, model.method.basis)
    assert card.method.auxbasis == model.meta["auxbasis"]
    assert (0, 0) in card.domain.states
    assert card.unknown, "says what it does not know"
    assert card.errors, "errors of structures that were not trained on"
    assert card.errors_by_atoms
    assert {s.name for s in card.errors_by_element} <= {*card.domain.elements}
    for text in (card.title, card.trained, card.data, *card.recipe, *card.unknown):
        assert not re.search(r"(^|\s)/\w", text), "no path of a machine"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("atoms", [WATER, METHANE], ids=["water", "methane"])
def test_it_answers_small_molecules_without_a_network(name, atoms, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket, "socket", refuse)
    model = load(name)
    mol = gto.M(atom=atoms, basis=model.method.basis, verbose=0)
    result = model.predict(mol, certificate=False)
    assert result.out_of_distribution == ()
    energies = result.mo_energy
    nocc = mol.nelectron // 2
    assert energies[nocc - 1] < energies[nocc]
    mf = dft.RKS(mol, xc=model.method.xc).density_fit()
    mf.grids.level = 0  # both at the same points
    converged = mf.kernel()
    found = mf.energy_tot(dm=result.dm.numpy())
    assert converged - 1e-8 <= found <= converged + FAR
