"""A structure's lattice and the settings make one method; meshes keep their spacing."""

import dataclasses

import numpy as np
import pytest
from pyscf.pbc import gto

from deeph_zero.method import CrystalMethod
from deeph_zero.molecule import Molecule
from deeph_zero.settings.config import FitConfig, LabelConfig, MethodConfig
from deeph_zero.settings.crystal_config import BASIS, KSPACING, CrystalConfig
from deeph_zero.settings.crystal_method import (
    CrystalSettings,
    ModelCrystals,
    crystal_basis,
    crystal_method,
    mesh_of,
    reciprocal_lengths,
)

LATTICE = np.array([[4.1, 0.3, 0.0], [-1.2, 6.7, 0.2], [0.4, 0.1, 9.3]])
SLAB = (True, True, False)
CRYSTAL = Molecule(
    numbers=np.array([1]), coords=np.zeros((1, 3)), lattice=LATTICE, pbc=(True, True, True)
)


def test_reciprocal_lengths_are_pyscfs():
    cell = gto.M(a=LATTICE, unit="B", atom="H 0 0 0", basis="sto-3g", spin=1, verbose=0)
    found = reciprocal_lengths(LATTICE, (True, True, True))
    np.testing.assert_allclose(found, np.linalg.norm(cell.reciprocal_vectors(), axis=1), rtol=1e-12)


def test_the_third_vector_of_a_layer_does_not_count():
    longer = LATTICE.copy()
    longer[2] = 0.0
    found = [reciprocal_lengths(lattice, SLAB)[:2] for lattice in (LATTICE, longer)]
    np.testing.assert_allclose(*found)
    assert mesh_of(longer, SLAB, 0.05)[2] == 1


@pytest.mark.parametrize("spacing", [0.05, 0.25, 0.4, 3.0])
def test_no_spacing_is_wider_than_asked_for_and_no_point_too_many(spacing):
    counts = np.array(mesh_of(LATTICE, (True, True, True), spacing))
    lengths = 2 * np.pi * np.linalg.norm(np.linalg.inv(LATTICE), axis=0)
    assert (lengths / counts <= spacing * (1 + 1e-8)).all()
    assert (counts == 1)[lengths / np.maximum(counts - 1, 0.5) <= spacing].all()


def test_a_spacing_that_fits_exactly_is_not_rounded_up():
    cubic = np.eye(3) * 2 * np.pi  # reciprocal vectors of length 1
    assert mesh_of(cubic, (True, True, True), 1 / 3) == (3, 3, 3)
    assert mesh_of(cubic, (True, True, True), (1.0, 0.5, 0.1)) == (1, 2, 10)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {"kmesh": mesh_of(LATTICE, (True,) * 3, KSPACING), "pseudo": "gth-pbe"}),
        ({"kmesh": "3 1 2", "ke_cutoff": 50}, {"kmesh": (3, 1, 2), "ke_cutoff": 50.0}),
        ({"kspacing": 10}, {"kmesh": (1, 1, 1)}),
        ({"pseudo": "None"}, {"pseudo": None}),
    ],
)
def test_what_a_label_of_a_crystal_solves(values, expected):
    config = LabelConfig.parse({"crystal": values, "smearing": 0.01})
    method = crystal_method(CRYSTAL, config)
    assert isinstance(method.crystal, CrystalMethod)
    assert {name: getattr(method.crystal, name) for name in expected} == expected
    assert (method.basis, method.smearing, method.unrestricted) == (BASIS, 0.01, None)


def test_what_is_stated_wins_over_the_crystals_defaults():
    stated = MethodConfig(basis="def2-svp", xc="lda", unrestricted=True, two_grids=False)
    method = crystal_method(CRYSTAL, FitConfig(method=stated))
    assert (method.basis, method.xc) == ("def2-svp", "lda")
    assert (method.unrestricted, method.two_grids) == (True, False)
    assert crystal_basis(MethodConfig()) == BASIS
    assert crystal_basis(MethodConfig(basis="def2-svp")) == "def2-svp"


def test_a_models_spacings_hold_where_nobody_asks():
    config = ModelCrystals(
        method=MethodConfig(), crystal=CrystalConfig(), smearing=0.0, spacings=(10.0, 0.5, 0.3)
    )
    assert isinstance(config, CrystalSettings)
    of_model = mesh_of(LATTICE, (True,) * 3, (10.0, 0.5, 0.3))
    assert of_model[0] == 1

    def mesh(settings):
        return crystal_method(CRYSTAL, settings).crystal.kmesh

    assert mesh(config) == of_model
    asked = dataclasses.replace(config, crystal=CrystalConfig(kspacing=0.4))
    assert mesh(asked) == mesh_of(LATTICE, (True,) * 3, 0.4)
    unknown = dataclasses.replace(config, spacings=None)
    assert mesh(unknown) == mesh_of(LATTICE, (True,) * 3, KSPACING)
