"""Users' matrices in and out: the spin axis is put on and taken off, and nothing else changes."""

import dataclasses
from typing import NamedTuple

import pytest
import torch
from pyscf import gto

from deeph_zero.errors import InputError
from deeph_zero.kohnsham import KohnSham
from deeph_zero.kohnsham.batch import KohnShamBatch


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


# ---- every method, once per spin treatment -------------------------------------------------------


class At(NamedTuple):
    """A density, F there, and a symmetric direction."""

    dm: torch.Tensor
    fock: torch.Tensor
    along: torch.Tensor


@pytest.fixture(scope="module", params=[False, True], ids=["closed", "open"])
def solved(request):
    """A layer, and matrices beside its solution's."""
    ks = layer(request.param)
    dm = ks.density(ks.build(ks.data.dm_guess).fock)
    fock = ks.build(dm).fock
    return ks, At(dm, fock, fock @ dm + dm @ fock)


METHODS = {
    "build": lambda ks, at: ks.build(at.dm).fock,
    "response": lambda ks, at: ks.response(at.dm, at.along),
    "orbitals": lambda ks, at: ks.orbitals(at.fock).mo_coeff,
    "levels": lambda ks, at: ks.orbitals(at.fock, 1e-3).mo_energy,
    "density": lambda ks, at: ks.density(at.fock),
    "call": lambda ks, at: ks(at.dm)[1],
    "commutator": lambda ks, at: ks.commutator(at.fock, at.dm),
}
"""What gives matrices."""
NUMBERS = {
    "energy": lambda ks, at: float(ks(at.dm)[0]),
    "entropy_energy": lambda ks, at: float(ks.entropy_energy(at.fock)),
    "dipole": lambda ks, at: ks.dipole(at.dm).tolist(),
    "spin_square": lambda ks, at: ks.spin_square(at.dm),
    "n_electrons": lambda ks, at: ks.n_electrons(at.dm),
}
"""What gives numbers."""


@pytest.mark.parametrize("name", METHODS)
def test_matrices_are_the_layers(solved, name):
    ks, at = solved
    found = METHODS[name](ks, at)
    inside = METHODS[name](ks.layer, At(*(ks.to_layer(one) for one in at)))
    assert inside.shape == (ks.layer.nspin, *found.shape[-inside.ndim + 1 :])
    assert found.ndim == inside.ndim - (not ks.unrestricted)
    torch.testing.assert_close(found, ks.from_layer(inside), rtol=0, atol=0)


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_the_layers(solved, name):
    ks, at = solved
    inside = At(*(ks.to_layer(one) for one in at))
    assert NUMBERS[name](ks, at) == pytest.approx(NUMBERS[name](ks.layer, inside))


def test_analyses_of_a_density(solved):
    ks, (dm, fock, _) = solved
    energy = ks.build(dm).energy
    certificate = ks.certificate(dm, fock, energy)
    assert certificate.orbital_gradient_rms > 0
    assert ks.certificate(dm, fock, float(energy)).orbital_gradient_rms == pytest.approx(
        certificate.orbital_gradient_rms
    )
    found = ks.stability(dm, fock, external=False)
    assert found.internal
    assert found.dm_internal is None or found.dm_internal.shape == dm.shape


def bad_matrices(ks):
    """What is not a matrix of this molecule, and words that say what came."""
    dm = ks.data.dm_guess
    return {
        "fewer orbitals": (dm[..., :5, :5], r"got \[.*5, 5\]"),
        "the other spins": (dm[0] if ks.unrestricted else dm.expand(2, -1, -1), "got"),
        "single precision": (dm.float(), "float32"),
        "numpy": (dm.numpy(), "ndarray"),
        "nothing": (None, "None"),
    }


@pytest.mark.parametrize("method", ["build", "density", "dipole", "response", "commutator", "call"])
def test_every_method_looks_at_what_it_gets(solved, method):
    ks, (dm, *_) = solved
    for bad, words in bad_matrices(ks).values():
        given = [dm, bad] if method in ("response", "commutator") else [bad]
        with pytest.raises(InputError, match=words):
            (ks if method == "call" else getattr(ks, method))(*given)


def test_counts_and_thresholds_are_the_layers():
    ks = layer(False)
    ks.build(ks.data.dm_guess)
    assert (ks.fock_builds, ks.builds.fine, ks.layer.fock_builds) == (1, 1, 1)
    ks.fock_builds = 0
    ks.smearing = 0.01
    assert ks.layer.fock_builds == 0
    assert ks.layer.smearing == 0.01
    assert float(ks.entropy_energy(ks.build(ks.data.dm_guess).fock)) >= 0
    assert (ks.nao, ks.nmo, ks.nelec, ks.unrestricted) == (6, 6, (5, 5), False)


def test_other_data_of_the_same_molecule():
    """Builds are counted on; the first one's stay what they were."""
    ks = layer(False)
    ks.build(ks.data.dm_guess)
    other = ks.on(ks.data)
    other.build(ks.data.dm_guess)
    assert (other.fock_builds, ks.fock_builds) == (2, 1)
    assert type(other) is type(ks)
    assert other.layer is not ks.layer


def test_builds_come_and_go_with_their_axes():
    for unrestricted in (False, True):
        ks = layer(unrestricted)
        built = ks.build(ks.data.dm_guess)
        inside = ks.build_to_layer(built)
        assert inside.fock.shape == (ks.layer.nspin, 6, 6)
        assert torch.equal(ks.from_layer_record(inside).fock, built.fock)
        assert ks.build_to_layer(None) is None
        bare = ks.build_to_layer(dataclasses.replace(built, v_xc=None))
        assert bare.v_xc is None


def test_a_batch_says_which_molecule_is_wrong():
    layers = [layer(False), layer(True)]
    batch = KohnShamBatch(layers)
    dms = [one.data.dm_guess for one in layers]
    inside = batch.to_layers(dms)
    assert [m.shape[0] for m in inside] == [1, 2]
    for one, other in zip(batch.from_layers(inside), dms, strict=True):
        assert torch.equal(one, other)
    with pytest.raises(InputError, match=r"molecule 1 of the batch: .*got \[6, 6\]"):
        batch.build([dms[0], dms[0]])
    with pytest.raises(InputError, match="expected as many matrices"):
        batch.density(dms[:1])
    records = batch.from_layer_records([one.layer.orbitals(m) for one, m in
                                        zip(layers, inside, strict=True)])  # fmt: skip
    assert [r.mo_coeff.ndim for r in records] == [2, 3]
    assert (len(batch), batch.strategy) == (2, "merged")
