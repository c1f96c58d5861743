"""Several predictions from one call of the network: the numbers of each alone, on any device."""

import numpy as np
import pytest
import torch

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.integrals.mole import build_mole
from deeph_zero.method import Method
from deeph_zero.model import Model
from deeph_zero.molecule import Molecule
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.predict.answer import Asked
from deeph_zero.predict.together import check_predicted, network_focks, predict_together
from deeph_zero.prepared.molecule import basis_layout
from deeph_zero.prepared.several import prepare_several

METHOD = Method(xc="lda,vwn", basis="sto-3g", grid_level=0)
CPU = torch.device("cpu")


def hydride(z, length, charge=0):
    coords = np.array([[0.1, 0.0, 0.2], [0.3, 0.1, 0.2 + length]])
    return Molecule(
        numbers=np.array([z, 1]), coords=coords, charge=charge, spin=charge, file=f"{z}.xyz"
    )


MOLECULES = [hydride(1, 1.4), hydride(3, 1.7), hydride(3, 1.9, charge=1)]


def network(inputs):
    layout = basis_layout([build_mole(m, basis="sto-3g") for m in MOLECULES])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        made = FockNetwork(default_spec(layout, "tiny", cutoff=8.0, inputs=inputs)).double()
        for name, value in made.named_parameters():
            if "_out." in name:
                torch.nn.init.normal_(value, std=0.02)
    return made.eval()


NETWORKS = {inputs: network(inputs) for inputs in ("physics", "geometry")}


def together(inputs, *, molecules=MOLECULES, **asked):
    about = {"method": METHOD, "known": (None, None), "device": CPU}
    return predict_together(NETWORKS[inputs], molecules, Asked(**asked), **about)[0]


@pytest.mark.parametrize(
    ("inputs", "asked"),
    [
        ("physics", {}),
        ("physics", {"coupled": False}),
        ("geometry", {"certificate": False}),
        ("geometry", {"refine": 1e-5, "compare_start": True}),
    ],
    ids=str,
)
def test_several_are_what_each_is_alone(inputs, asked):
    model = Model(NETWORKS[inputs], METHOD)
    found = together(inputs, **asked)
    for molecule, one in zip(MOLECULES, found, strict=True):
        wanted = model.predict(molecule, **asked)
        for name in ("fock", "dm", "base", "fock_rebuilt", "mo_energy", "mo_occ", "overlap"):
            mine, theirs = getattr(one, name), getattr(wanted, name)
            assert (mine is None) is (theirs is None), name
            if mine is not None:
                torch.testing.assert_close(mine, theirs, atol=1e-7, rtol=0, msg=name)
        np.testing.assert_allclose(one.dipole, wanted.dipole, atol=1e-6)
        # rounding decides a cycle that ends near the tolerance
        spare = 0 if wanted.refined is None else 1
        assert abs(one.fock_builds - wanted.fock_builds) <= spare
        assert one.standard_start == wanted.standard_start
        if asked.get("compare_start"):
            assert abs(one.standard_iterations - wanted.standard_iterations) <= spare
        assert one.instability == pytest.approx(wanted.instability, abs=1e-6)
        if wanted.certificate is not None:
            for name in ("energy", "energy_error_estimate", "orbital_gradient_rms"):
                value = getattr(wanted.certificate, name)
                assert getattr(one.certificate, name) == pytest.approx(value, rel=1e-5), name
        if wanted.refined is not None:
            assert one.refined.energy == pytest.approx(wanted.refined.energy, abs=1e-8)
            assert abs(one.refined.iterations - wanted.refined.iterations) <= spare


def test_a_correction_of_one_molecule_is_that_of_its_place():
    """Order and company change nothing."""
    reading = NETWORKS["geometry"].reading
    focks = {}
    for order in ([0, 1, 2], [2, 0], [1]):
        some = [MOLECULES[k] for k in order]
        ready = prepare_several(some, METHOD, reading, device=CPU, builds=False).prepared
        for k, fock in zip(order, network_focks(NETWORKS["geometry"], ready, CPU), strict=True):
            torch.testing.assert_close(fock, focks.setdefault(k, fock), atol=1e-12, rtol=0)


def test_a_matrix_that_is_not_finite_names_its_molecule():
    fock = torch.zeros(2, 2)
    check_predicted(MOLECULES[1], fock)
    for value in (torch.nan, torch.inf):
        fock[0, 1] = value
        with pytest.raises(ComputationError, match=r"^3\.xyz frame 0: .*NaN or infinity; the geom"):
            check_predicted(MOLECULES[1], fock)


@pytest.mark.parametrize("tol", [0.0, -1e-5])
def test_a_tolerance_is_positive(tol):
    with pytest.raises(InputError, match="positive tolerance"):
        together("geometry", refine=tol)
