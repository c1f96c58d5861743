"""A batch of unlike molecules against its molecules one by one, in both strategies."""

import dataclasses

import pytest
import torch
from pyscf import gto

from deeph_zero.errors import InputError
from deeph_zero.kohnsham import KohnSham
from deeph_zero.kohnsham.batch import KohnShamBatch
from deeph_zero.ks.batch.ks_batch import KSBatch, default_strategy, gains
from deeph_zero.ks.grid import padded
from deeph_zero.ks.linalg import eigen
from deeph_zero.ks.linalg.eigen import Policy
from deeph_zero.ks.scf.start import filled_density
from deeph_zero.ks.terms import semilocal_merged
from deeph_zero.testing import WATER

ATOMS = {
    "water": (WATER, 0, 0),
    "hydrogen": ("H 0 0 0; H 0 .1 .74", 0, 0),
    "methanol": (
        (
            "C -.05 .66 .01; O .06 -.76 0; H -1.09 .97 -.02; H .43 1.07 .89; H .44 1.08 -.88;"
            "H -.86 -1.05 .03"
        ),
        0,
        0,
    ),
    "ch3": ("C 0 0 .02; H 0 1.08 0; H .93 -.54 0; H -.93 -.54 .01", 0, 1),
    "oh": ("O 0 0 0; H .1 0 .97", 0, 1),
    "hydroxide": ("O 0 0 0; H .1 0 .96", -1, 0),
    "helium": ("He 0 0 0", 0, 0),
}
STRATEGIES = ("merged", "padded")
MIXED = ("water", "ch3", "hydrogen", "methanol", "oh", "helium")


def layer(name, xc="pbe", basis="6-31g", **settings):
    atom, charge, spin = ATOMS[name]
    mol = gto.M(atom=atom, charge=charge, spin=spin, basis=basis, verbose=0)
    return KohnSham.from_pyscf(mol, xc=xc, grid_level=0, **settings)


def disturbed(layers, seed=0):
    """A Fock matrix for each, far from self-consistency and without symmetry."""
    generator = torch.Generator().manual_seed(seed)
    focks = []
    for one in layers:
        fock = one.build(one.data.dm_guess).fock
        noise = 0.05 * torch.randn(fock.shape, generator=generator, dtype=fock.dtype)
        focks.append(fock + noise + noise.mT)
    return focks


def assert_close(found, wanted, atol=1e-10):
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("xc", ["lda,vwn", "pbe", "tpss", "pbe0", "camb3lyp", "m062x", "hf"])
def test_density_build_and_response_equal_one_by_one(xc, strategy):
    # with one orbital sigma = 8 rho tau: rounding decides which branch of a meta-GGA is taken
    names = MIXED if xc not in ("tpss", "m062x") else ("water", "ch3", "methanol", "oh")
    layers = [layer(name, xc) for name in names]
    batch = KohnShamBatch(layers, strategy=strategy)
    focks = disturbed(layers)
    dms = batch.density(focks)
    assert_close(dms, [one.density(f) for one, f in zip(layers, focks, strict=True)])
    found = batch.build(dms)
    wanted = [one.build(dm) for one, dm in zip(layers, dms, strict=True)]
    for a, b in zip(found, wanted, strict=True):
        for part in ("fock", "n_electrons"):
            torch.testing.assert_close(getattr(a, part), getattr(b, part), rtol=0, atol=1e-10)
        assert {"e_core", "e_coul", "e_nuc"} < a.parts.keys() == b.parts.keys()
        for name, energy in a.parts.items():
            assert float(energy) == pytest.approx(float(b.parts[name]), rel=0, abs=1e-10)
    along = batch.response(dms, focks)
    parts = zip(layers, dms, focks, strict=True)
    assert_close(along, [one.response(dm, f) for one, dm, f in parts])


def test_nonlocal_correlation_is_part_of_a_padded_batch():
    one = layer("helium", "wb97x_v")
    (found,) = KohnShamBatch([one], strategy="padded").build([one.data.dm_guess])
    wanted = one.build(one.data.dm_guess)
    assert abs(float(wanted.parts["e_nlc"])) > 1e-4
    assert float(found.energy) == pytest.approx(float(wanted.energy), abs=1e-10)
    torch.testing.assert_close(found.fock, wanted.fock, rtol=0, atol=1e-10)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("xc", ["pbe", "pbe0"])
def test_gradients_and_second_derivatives_equal_one_by_one(xc, strategy):
    names = ("water", "ch3", "hydrogen", "hydroxide")
    layers = [layer(name, xc, basis="sto-3g") for name in names]
    batch = KohnShamBatch(layers, strategy=strategy)
    focks = [f.requires_grad_() for f in disturbed(layers)]

    def loss(pairs):
        return sum(e.square() * 1e-3 + (f * f).sum() for e, f in pairs)

    together = loss(zip(*batch(batch.density(focks)), strict=True))
    alone = loss(one(one.density(f)) for one, f in zip(layers, focks, strict=True))
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-10)
    first = [torch.autograd.grad(t, focks, create_graph=True) for t in (together, alone)]
    assert_close(*first, atol=1e-9)
    again = [torch.autograd.grad(sum(g.square().sum() for g in one), focks) for one in first]
    assert_close(*again, atol=1e-6)  # these derivatives are of the order of 1e4


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_part_of_the_outputs_gives_the_gradient_of_its_molecule_alone(strategy):
    layers = [layer(name) for name in ("water", "hydrogen", "ch3")]
    batch = KohnShamBatch(layers, strategy=strategy)
    dms = [one.data.dm_guess.clone().requires_grad_() for one in layers]
    before = [one.fock_builds for one in layers]
    energies, focks = batch(dms)
    (energies[0] + focks[1].square().sum()).backward()
    spent = [one.fock_builds - n for one, n in zip(layers, before, strict=True)]
    assert spent == [1, 2, 1]  # one response, for the one Fock matrix that was used
    water, hydrogen, ch3 = dms
    assert_close([water.grad], [focks[0].detach()])
    assert not ch3.grad.any()
    own = hydrogen.detach().clone().requires_grad_()
    layers[1](own)[1].square().sum().backward()
    assert_close([hydrogen.grad], [own.grad])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_scf_equals_one_by_one_in_energy_iterations_and_builds(strategy):
    names = ("water", "ch3", "hydrogen", "methanol", "hydroxide", "oh")
    layers = [layer(name) for name in names]
    found = KohnShamBatch(layers, strategy=strategy).scf()
    counts = [one.fock_builds for one in layers]
    for k, name in enumerate(names):
        alone = layer(name)
        wanted = alone.scf()
        assert found[k].converged
        assert found[k].energy == pytest.approx(wanted.energy, abs=1e-9)
        assert found[k].iterations == wanted.iterations
        assert found[k].fock_builds == wanted.fock_builds == counts[k]
        torch.testing.assert_close(found[k].dm, wanted.dm, rtol=0, atol=1e-6)
    assert len({one.iterations for one in found}) > 1, "every molecule stops by itself"


def test_scf_by_purification_equals_eigenvectors(monkeypatch):
    layers = [layer(name) for name in ("water", "ch3", "methanol")]
    wanted = [one.scf() for one in layers]
    monkeypatch.setitem(eigen.POLICY, "cpu", Policy(projector="purify"))
    calls = []
    purified = eigen.purified_density
    monkeypatch.setattr(eigen, "purified_density", lambda *a: calls.append(1) or purified(*a))
    found = KohnShamBatch(layers, strategy="padded").scf()
    assert calls
    for a, b in zip(found, wanted, strict=True):
        assert a.energy == pytest.approx(b.energy, abs=1e-9)
        assert a.iterations == b.iterations


def test_small_molecules_share_calls_of_the_functional(monkeypatch):
    layers = [layer("hydrogen") for _ in range(4)]
    functional = layers[0].data.functional
    calls = []
    gradient = type(functional).gradient
    monkeypatch.setattr(
        type(functional), "gradient", lambda f, rho: calls.append(rho.shape[-1]) or gradient(f, rho)
    )
    KohnShamBatch(layers, strategy="merged").build([one.data.dm_guess for one in layers])
    assert sum(calls) == sum(one.data.grid.ngrids for one in layers)
    assert len(calls) < 4
    assert max(calls) <= semilocal_merged.MERGE_POINTS


def test_stacks_are_cut_to_the_memory_asked_for(monkeypatch):
    layers = [layer(name) for name in ("water", "methanol", "hydrogen")]
    dms = [one.data.dm_guess for one in layers]
    wanted = [one.fock for one in KohnShamBatch(layers, strategy="padded").build(dms)]
    monkeypatch.setattr(padded, "STACK_MB", 0.5)
    found = [one.fock for one in KohnShamBatch(layers, strategy="padded").build(dms)]
    assert_close(found, wanted, atol=1e-12)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_settings_of_each_layer_are_kept(strategy):
    """Smearing, even filling of a degenerate level and another functional in one batch."""
    layers = [layer("oh"), layer("oh", smearing=0.02), layer("water", "pbe0"), layer("water")]
    layers += [layer("hydroxide", density_fit=False), layer("hydroxide", "pbe0", density_fit=False)]
    batch = KohnShamBatch(layers, strategy=strategy)
    results = batch.scf(degeneracy_tol=1e-4)
    for one, found in zip(layers, results, strict=True):
        wanted = one.scf(degeneracy_tol=1e-4)
        assert found.free_energy == pytest.approx(wanted.free_energy, abs=1e-9)
        assert found.degenerate == wanted.degenerate
    dms = batch.density([r.fock for r in results])
    assert_close(dms, [one.density(r.fock) for one, r in zip(layers, results, strict=True)])


def test_dependent_orbitals_are_dropped_in_a_padded_stack():
    layers = [layer("water"), layer("methanol"), layer("hydrogen")]
    ovlp = layers[1].data.ovlp
    threshold = float(torch.linalg.eigvalsh(ovlp)[1]) * 1.01
    data = dataclasses.replace(layers[1].data, lindep_threshold=threshold)
    layers[1] = KohnSham(data, layers[1].info)
    assert layers[1].nmo == layers[1].nao - 2
    focks = disturbed(layers)
    dms = KohnShamBatch(layers, strategy="padded").density(focks)
    assert_close(dms, [one.density(f) for one, f in zip(layers, focks, strict=True)])


def test_the_facade_makes_a_batch_of_moles():
    moles = [
        gto.M(atom=ATOMS[name][0], basis="sto-3g", spin=ATOMS[name][2], verbose=0)
        for name in ("water", "ch3")
    ]
    batch = KohnShamBatch.from_pyscf(moles, xc="pbe", grid_level=0)
    assert [one.info.nao for one in batch.layers] == [7, 8]
    alone = KohnSham.from_pyscf(moles[1], xc="pbe", grid_level=0).scf()
    assert batch.scf()[1].energy == pytest.approx(alone.energy, abs=1e-9)


def test_wrong_batches_are_refused():
    with pytest.raises(InputError, match="at least one molecule"):
        KohnShamBatch([])
    one = layer("hydrogen")
    with pytest.raises(InputError, match="'merged' or 'padded'"):
        KohnShamBatch([one], strategy="loop")
    with pytest.raises(InputError, match="expected as many matrices, got 2"):
        KohnShamBatch([one]).build([one.data.dm_guess] * 2)
    nan = torch.full_like(one.data.ovlp, float("nan"))
    for strategy in STRATEGIES:
        with pytest.raises(Exception, match="finite Fock matrix"):
            KohnShamBatch([one], strategy=strategy).density([nan])


def test_where_a_batch_pays():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert (default_strategy(cpu), default_strategy(gpu)) == ("merged", "padded")
    assert gains(gpu, 10**7)
    assert gains(cpu, semilocal_merged.MERGE_POINTS)
    assert not gains(cpu, semilocal_merged.MERGE_POINTS + 1)


def test_molecules_of_about_one_size_share_a_stack(small):
    """HF has 6 orbitals, HeH+ 2: three times as many are too many."""
    large, little = small(1)
    batch = KSBatch([large, little, large, little], strategy="padded")
    assert [members for members, _ in batch.padded_buckets()] == [[1, 3], [0, 2]]
    mixed = KSBatch([large, *small(2)[:2], little], strategy="padded")
    assert sorted(sorted(members) for members, _ in mixed.padded_buckets()) == [[0], [1, 2], [3]]


def test_a_part_of_a_batch_keeps_its_strategy(small):
    batch = KSBatch([*small(1), *small(2)], strategy="padded")
    assert batch.subset(range(5)) is batch
    some = batch.subset([3, 0])
    assert (len(some), some.strategy) == (2, "padded")
    assert some.layers == [batch.layers[3], batch.layers[0]]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_densities_of_given_occupations(small, disturbed, strategy):
    """With and without even filling; with smearing T S beside them."""
    layers = small(2)
    focks, _ = disturbed(layers)
    layers[1].smearing = 0.02
    found = KSBatch(layers, strategy=strategy).filled(focks, 1e-6)
    for (dm, ts), layer, fock in zip(found, layers, focks, strict=True):
        wanted, entropy = filled_density(layer, fock, 1e-6)
        torch.testing.assert_close(dm, wanted, rtol=0, atol=1e-10)
        assert ts == pytest.approx(entropy, abs=1e-12)
    assert [ts > 0 for _, ts in found] == [False, True, False]
