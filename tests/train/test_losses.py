"""Every loss: its gradient, its number against PySCF, what it fixes; mixes and schedules."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from pyscf import dft, gto

from deeph_zero.data.labels import Label
from deeph_zero.errors import InputError
from deeph_zero.integrals.mole import build_mole
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.nn.balance import Balance
from deeph_zero.nn.reading import Reading
from deeph_zero.prepared.molecule import basis_layout
from deeph_zero.settings.config import FitConfig
from deeph_zero.settings.loss_terms import LOSSES, Term, parse_loss
from deeph_zero.train.losses import MILLI, NUMBERS, LossMix, MatchWeights
from deeph_zero.train.losses_together import values_together
from deeph_zero.train.taught import make_problem
from deeph_zero.train.teacher import gradient_rms

METHOD = Method(basis="sto-3g", grid_level=0)
EVERY_WEIGHT = MatchWeights(occ_occ=0.4, occ_virt=0.3, virt_virt=0.2, orbital_energy=0.5)


def molecule(charge=0):
    coords = np.array([[0, 0, 0.2], [0, 1.43, 1.1], [0.1, -1.4, 1.15]])
    return Molecule(
        numbers=np.array([8, 1, 1]), coords=coords, charge=charge, spin=charge, file="w.xyz"
    )


def prepared(charge):
    one = molecule(charge)
    mole = build_mole(one, basis=METHOD.basis)
    problem = make_problem(one, METHOD, Reading(basis_layout([mole]), cutoff=8.0))
    problem.teacher.advance()
    found = problem.ks.scf()
    problem.label = Label(
        fock=found.fock,
        dm=found.dm,
        energy=found.energy,
        mo_energy=found.mo_energy,
        mo_occ=found.mo_occ,
    )
    return problem


@pytest.fixture(scope="module", params=[0, 1], ids=["rks", "uks"])
def problem(request):
    return prepared(request.param)


@pytest.fixture(scope="module")
def closed():
    return prepared(0)


def symmetric(like, rng, size):
    m = torch.randn(like.shape, generator=rng, dtype=torch.float64)
    return size * (m + m.mT)


def mix(text, weights=None):
    return LossMix(parse_loss(text), weights or MatchWeights())


@pytest.mark.parametrize("name", [*LOSSES, "energy:0.3,self-consistency:2,fixed-point"])
def test_gradient_is_that_of_finite_differences(problem, rng, name):
    problem.teacher.residual = 0.0  # nothing offered is better: the target stays
    loss = mix(name, EVERY_WEIGHT)
    start = problem.fock0 + symmetric(problem.fock0, rng, 0.01)
    along = symmetric(start, rng, 0.5)
    h = start.clone().requires_grad_()
    loss(problem, h).loss.backward()
    assert h.grad is not None
    step = 1e-4
    values = [
        [float(loss(problem, start + k * s * along).loss.detach()) for k in (1, -1)]
        for s in (step, 2 * step)
    ]
    first, second = ((up - down) / (2 * k * step) for k, (up, down) in enumerate(values, start=1))
    slope = float((h.grad * along).sum())
    assert abs(slope) > 1e-2
    # Richardson: the error is of fourth order in the step
    assert slope == pytest.approx((4 * first - second) / 3, rel=2e-6)


def pyscf_at(problem, h):
    """PySCF's mean-field object, orbitals of ``h`` and what PySCF makes of their density."""
    one = problem.molecule
    atoms = list(zip(one.numbers.tolist(), one.coords.tolist(), strict=True))
    mol = gto.M(
        atom=atoms, unit="bohr", basis="sto-3g", charge=one.charge, spin=one.spin, verbose=0
    )
    mf = (dft.UKS if one.spin else dft.RKS)(mol, xc="pbe").density_fit()
    mf.grids.level = 0
    energy, coeff = mf.eig(h.numpy(), mf.get_ovlp())
    occ = mf.get_occ(energy, coeff)
    dm = mf.make_rdm1(coeff, occ)
    veff = mf.get_veff(dm=np.asarray(dm))
    return mf, coeff, occ, dm, mf.get_fock(dm=dm, vhf=veff), veff


@pytest.mark.reference
def test_energy_commutator_and_self_consistency_are_pyscfs_numbers(problem, rng):
    h = problem.fock0 + symmetric(problem.fock0, rng, 0.01)
    mf, coeff, occ, dm, fock, veff = pyscf_at(problem, h)
    total = mf.energy_tot(dm=dm, vhf=veff)
    energy = float(mix("energy")(problem, h).loss) / MILLI
    assert energy == pytest.approx(total - round(total), abs=1e-9)
    # PySCF's gradient is 2 F_ia for a closed shell, F_ia per spin otherwise
    grad = mf.get_grad(coeff, occ, fock) / (1.0 if problem.molecule.spin else 2.0)
    rms = math.sqrt(np.square(grad).mean())
    value = mix("commutator")(problem, h)
    assert float(value.loss) / MILLI == pytest.approx(rms, rel=1e-7)
    assert value.gradient == pytest.approx(rms, rel=1e-7)
    s, c = np.linalg.eigh(mf.get_ovlp())
    x = (c / np.sqrt(s)) @ c.T
    rms = math.sqrt(np.square(x @ (h.numpy() - np.asarray(fock)) @ x).mean())
    assert float(mix("self-consistency")(problem, h).loss) / MILLI == pytest.approx(rms, rel=1e-7)


def blocks(problem, fock):
    """Unit perturbations of F in its occ-occ, occ-virt and virt-virt block, closed shell."""
    ks = problem.ks
    c, nocc = ks.orbitals(fock).mo_coeff, ks.nelec[0]
    sc = ks.data.ovlp @ c
    out = []
    for p, q in ((0, nocc - 1), (0, nocc), (nocc, nocc + 1)):
        e = torch.zeros(ks.nmo, ks.nmo, dtype=torch.float64)
        e[p, q] = e[q, p] = 1.0
        out.append(sc @ e @ sc.mT)
    return out


def test_what_each_loss_determines_and_leaves_free(closed):
    """At the solution, a step inside the occupied or the empty space is seen by matrix losses."""
    exact = closed.ks.scf(conv_tol=1e-13, conv_tol_grad=1e-9).fock
    oo, ov, vv = blocks(closed, exact)
    for name in ("energy", "commutator", "self-consistency"):
        at = [float(mix(name)(closed, exact + 1e-3 * d).loss) for d in (0 * oo, oo, ov, vv)]
        # energy is quadratic in the step, mEh; the others are linear
        assert at[2] - at[0] > 1e-4, name
        for moved in (at[1] - at[0], at[3] - at[0]):
            if name == "self-consistency":
                assert moved > 1e-2
            else:
                assert abs(moved) < 1e-5, name


def test_weights_of_blocks_and_orbital_energies(closed):
    target = closed.label.fock
    n, nocc = closed.ks.nmo, closed.ks.nelec[0]
    sizes = (nocc**2, 2 * nocc * (n - nocc), (n - nocc) ** 2)
    plain = MatchWeights(occ_virt=0.0)
    names = ("occ_occ", "occ_virt", "virt_virt")
    for k, change in enumerate(blocks(closed, target)):
        h = target + 1e-3 * change
        base = float(mix("supervised", plain)(closed, h).loss)
        assert base == pytest.approx(1e3 * float((1e-3 * change).square().mean().sqrt()), rel=1e-6)
        for j, name in enumerate(names):
            more = mix("supervised", dataclasses.replace(plain, **{name: 0.7}))(closed, h).loss
            # two elements of 1 mEh in one block
            own = 0.7 * math.sqrt(2 / sizes[k]) if j == k else 0.0
            assert float(more) - base == pytest.approx(own, abs=1e-5)
    shifted = target + 1e-3 * closed.ks.data.ovlp  # every level up by 1 mEh
    with_levels = dataclasses.replace(plain, orbital_energy=1.0)
    values = [float(mix("supervised", w)(closed, shifted).loss) for w in (plain, with_levels)]
    assert values[1] - values[0] == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("shape", ["closed", "open"])
def test_pair_weights_are_a_partition(shape):
    problem = prepared(0 if shape == "closed" else 1)
    frame = problem.target_orbitals()
    total = frame.occ_occ + frame.occ_virt + frame.virt_virt
    torch.testing.assert_close(total, torch.ones_like(total))
    assert frame is problem.target_orbitals()
    problem.teacher.advance()
    assert frame is not problem.target_orbitals()


def test_a_mix_costs_one_build_and_teaches(closed, rng):
    teacher = closed.teacher
    teacher.residual = math.inf
    h = closed.label.fock + symmetric(closed.fock0, rng, 1e-5)
    before = closed.ks.fock_builds
    mix("energy,self-consistency,commutator,fixed-point")(closed, h)
    assert closed.ks.fock_builds == before + 1
    want = float(gradient_rms(closed.ks, closed.ks.build(closed.ks.density(h)).fock,
                              closed.ks.density(h)))  # fmt: skip
    assert teacher.residual == pytest.approx(want, rel=1e-9)
    mix("fixed-point,supervised")(closed, h)
    assert closed.ks.fock_builds == before + 2  # the test's own


def test_balanced_outputs_are_compared_as_they_are_predicted(closed):
    """Their RMS, not that of the elements, which hides errors of nearly dependent orbitals."""
    balance = Balance.of(closed.ks.data.ovlp)
    balanced = dataclasses.replace(closed, balance=balance)
    error = symmetric(closed.fock0, torch.Generator().manual_seed(4), 1e-3)
    target = closed.teacher.target
    output = balance.predicted(target - closed.fock0) + error
    loss = mix("fixed-point")
    found = loss(balanced, balanced.fock0 + balance.correction(output))
    moved = balance.correction(error)
    of_elements = loss(closed, target + moved)
    assert found.residual == pytest.approx(float(moved.square().mean().sqrt()), rel=1e-6)
    assert found.residual == pytest.approx(of_elements.residual, rel=1e-9)
    rms = float(error.square().mean().sqrt())
    difference = MILLI * (rms - found.residual)
    assert abs(difference) > 0.01
    assert float(found.loss - of_elements.loss) == pytest.approx(difference, rel=1e-5)


def test_a_geometry_without_label(closed):
    bare = dataclasses.replace(closed, label=None)
    with pytest.raises(InputError, match="expected a label"):
        mix("supervised")(bare, bare.fock0)
    both, one = (mix(t)(bare, bare.fock0).loss for t in ("supervised:3,fixed-point", "fixed-point"))
    assert torch.equal(both, one)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("energy", [Term("energy")]),
        ("energy:0.1, fixed-point", [Term("energy", 0.1), Term("fixed-point")]),
        (
            "fixed-point@0-0.5,self-consistency:2@0.5",
            [Term("fixed-point", 1.0, 0.0, 0.5), Term("self-consistency", 2.0, 0.5, 1.0)],
        ),
    ],
)
def test_text_of_a_mix(text, terms):
    assert list(parse_loss(text)) == terms
    assert FitConfig.parse({"loss": text}).loss == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("enrgy", "did you mean energy"),
        ("energy:0", "weight above 0"),
        ("energy:-1", "weight above 0"),
        ("energy:1e999", "weight above 0"),
        ("energy:1.2.3", "NAME"),
        ("energy,energy", "each loss once"),
        ("energy@0.7-0.2", "START < END"),
        ("energy@0.5", "none from 0 to 0.5"),
        ("energy@0-0.4,commutator@0.6", "none from 0.4 to 0.6"),
        ("energy,", "NAME"),
        ("", "NAME"),
    ],
)
def test_a_bad_mix_is_one_line(text, message):
    with pytest.raises(InputError, match=message) as info:
        FitConfig.parse({"loss": text})
    assert str(info.value).startswith("--loss: expected")
    assert len(str(info.value).splitlines()) == 1


def test_terms_fade_into_each_other():
    loss = mix("fixed-point@0-0.5,self-consistency:2@0.5")
    assert loss.active(0.0) == {"fixed-point": 1.0}
    assert loss.active(0.5) == {"fixed-point": 0.5, "self-consistency": 1.0}
    assert loss.active(1.0) == {"self-consistency": 2.0}
    for progress in np.linspace(0, 1, 41):
        on = loss.active(progress)
        assert on.get("fixed-point", 0) + on.get("self-consistency", 0) / 2 == pytest.approx(1)


def test_energy_error_without_a_build_is_the_rise_of_the_band_energy(problem, rng):
    """tr F*(P(H) - P(F*)), to second order: what the estimate is without response."""
    target = problem.label.fock
    h = target + symmetric(target, rng, 1e-4)
    rise = float((target * (problem.ks.density(h) - problem.ks.density(target))).sum())
    found = mix("supervised")(problem, h).energy_error
    assert rise > 1e-7
    assert found == pytest.approx(rise, rel=2e-3)


@pytest.mark.parametrize("name", ["energy", "self-consistency", "commutator"])
def test_energy_error_with_a_build_is_near_the_true_one(problem, rng, name):
    h = problem.label.fock + symmetric(problem.label.fock, rng, 2e-3)
    energy, _ = problem.ks(problem.ks.density(h))
    true = float(energy) - problem.label.energy
    assert true > 1e-6
    # without response: right to a factor of about two (docs/conventions.md)
    assert 0.4 < mix(name)(problem, h).energy_error / true < 2.5


@pytest.mark.parametrize(
    "text", ["fixed-point", "fixed-point:0.5", "supervised", "supervised:0.3,fixed-point"]
)
def test_geometries_of_one_shape_have_the_losses_of_each(problem, rng, text):
    found_mix, grads, values = mix(text, EVERY_WEIGHT), [], []
    matrices = [problem.fock0 + symmetric(problem.fock0, rng, 0.01) for _ in range(3)]
    own = [problem] * 3
    if text != "supervised":  # a mix goes on without a label, and alone it would be refused
        own[1] = dataclasses.replace(problem, label=None)
    for together in (True, False):
        given = [matrix.clone().requires_grad_() for matrix in matrices]
        if together:
            found = values_together(found_mix, own, given)
        else:
            found = [found_mix(*one) for one in zip(own, given, strict=True)]
        grads.append(torch.autograd.grad(sum(one.loss for one in found), given))
        losses = torch.stack([one.loss for one in found]).tolist()
        values.append([losses, *([float(getattr(o, n)) for n in NUMBERS] for o in found)])
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-10, atol=1e-12)
    for one, other in zip(*values, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    assert values_together(mix("energy:0.3,fixed-point"), [problem], matrices[:1]) is None
    with pytest.raises(InputError, match="expected a label"):
        values_together(mix("supervised"), [dataclasses.replace(problem, label=None)], matrices[:1])
