"""SCF on two grids against PySCF and against one grid: what it costs, what it does when lost."""

import dataclasses
import gc
import weakref

import numpy as np
import pytest
import torch
from pyscf import dft, gto

from deeph_zero.integrals.coarse import LADDER, coarse_atom_grids
from deeph_zero.kohnsham import KohnSham
from deeph_zero.kohnsham.batch import KohnShamBatch
from deeph_zero.ks.scf import iteration, solve, two_grids
from deeph_zero.ks.scf.iteration import State
from deeph_zero.testing import WATER

NO2 = "N 0 0 0; O .02 1.1 .46; O -.03 -1.12 .43"
CASES = {
    "lda": (WATER, 0, 0, "lda,vwn", "def2-svp"),
    "gga": ("S 0 0 0; O .03 1.24 .72; O -.02 -1.22 .75", 0, 0, "pbe", "def2-svp"),
    "hybrid": (WATER, 0, 0, "b3lyp", "def2-svp"),
    "range separation": (WATER, 0, 0, "camb3lyp", "6-31g"),
    "meta-gga": ("C 0 0 0; O .02 0 1.2; H .93 .05 -.57; H -.95 0 -.6", 0, 0, "r2scan", "def2-svp"),
    "vv10": ("F 0 0 0; H .1 .05 .92", 0, 0, "b97m-v", "6-31g"),
    "ion": ("O 0 0 0; H .1 0 .96", -1, 0, "pbe", "def2-svp"),
    "open shell": (NO2, 0, 1, "pbe", "def2-svp"),
    "open shell hybrid": (NO2, 0, 1, "pbe0", "def2-svp"),
    "ecp": ("I 0 0 0; H .1 .05 1.6", 0, 0, "pbe", "def2-svp"),
    "f functions": ("N 0 0 0; N .05 .02 1.1", 0, 0, "pbe", "def2-tzvp"),
    "hydrogen": ("H 0 0 0; H 0 .1 .74", 0, 0, "pbe", "def2-svp"),
}


def layer(case, level=3, **settings):
    atom, charge, spin, xc, basis = CASES[case]
    ecp = basis if "I " in atom else {}
    mol = gto.M(atom=atom, charge=charge, spin=spin, basis=basis, ecp=ecp, verbose=0)
    return KohnSham.from_pyscf(mol, xc=xc, grid_level=level, **settings)


@pytest.mark.reference
@pytest.mark.parametrize("case", CASES)
def test_the_answer_is_pyscfs_and_takes_three_fine_builds_at_most(case):
    atom, charge, spin, xc, basis = CASES[case]
    ecp = basis if "I " in atom else {}
    mol = gto.M(atom=atom, charge=charge, spin=spin, basis=basis, ecp=ecp, verbose=0)
    mf = (dft.UKS if spin else dft.RKS)(mol, xc=xc).density_fit()
    mf.conv_tol = 1e-10
    mf.kernel()
    ks = KohnSham.from_pyscf(mf)
    result = ks.scf(conv_tol=1e-9, conv_tol_grad=1e-5)
    assert result.converged
    assert result.energy == pytest.approx(mf.e_tot, abs=2e-9)
    filled = [n > 0 for n in mol.nelec] if spin else ...
    theirs = np.asarray(mf.mo_energy)[filled]
    np.testing.assert_allclose(result.mo_energy.numpy()[filled], theirs, atol=2e-5)
    assert result.fock_builds <= 3
    assert ks.builds == dataclasses.replace(ks.builds, fine=result.fock_builds)
    assert result.coarse_builds == ks.coarse_builds > 0


@pytest.mark.parametrize("case", ["gga", "meta-gga", "open shell hybrid"])
def test_one_grid_is_kept_for_who_wants_it(case):
    alone = layer(case, two_grids=False)
    one = alone.scf(conv_tol_grad=1e-6)
    assert alone.layer.coarse is None
    assert one.coarse_builds == 0
    both = layer(case)
    two = both.scf(conv_tol_grad=1e-6)
    asked = both.scf(conv_tol_grad=1e-6, two_grids=False)
    assert (asked.coarse_builds, asked.fock_builds) == (0, one.fock_builds)
    assert two.energy == pytest.approx(one.energy, abs=1e-9)
    assert 2 * two.fock_builds <= one.fock_builds
    torch.testing.assert_close(two.fock, one.fock, rtol=0, atol=5e-6)


def test_the_grid_is_coarse_where_that_pays():
    ratios = {}
    for level in (0, 1, 2, 3):
        ks = layer("ion", level=level)
        ratios[level] = ks.layer.coarse_ratio
        result = ks.scf(conv_tol_grad=1e-5)
        assert bool(result.coarse_builds) == (ratios[level] >= solve.PAYS)
    assert ratios[0] == 0
    assert 2.5 <= ratios[1] < solve.PAYS < ratios[2] < ratios[3]


def test_every_kind_of_atom_has_points():
    mol = gto.M(atom="H1 0 0 0; Xe 0 0 3; GHOST-C 0 3 0", basis="def2-svp", spin=1, verbose=0)
    for (radial, angular), grid in zip(LADDER, coarse_atom_grids(mol), strict=True):
        assert grid["H1"] == (radial[0], angular[0])
        assert grid["Xe"] == (radial[4], angular[4])
        assert grid["GHOST-C"] == (radial[1], angular[1])


def test_an_atom_stays_on_one_grid():
    # degenerate holes turn freely: the coarse grid's own direction would be the wrong one
    ks = KohnSham.from_pyscf(gto.M(atom="F 0 0 0", spin=1, basis="def2-svp", verbose=0))
    assert ks.layer.coarse is None
    assert ks.scf(conv_tol_grad=1e-5).converged


def test_the_coarse_grid_is_converged_as_far_as_gradient_and_energy_ask():
    settings = solve.SCFSettings
    goals = [
        two_grids._goal(settings(conv_tol=energy, conv_tol_grad=gradient))
        for energy, gradient in ((1e-9, 1e-5), (1e-9, 1e-4), (1e-12, 1e-5), (1e-9, None))
    ]
    assert goals == pytest.approx([5e-6, 2e-5, 2e-6, 2e-6 * 10**0.5], rel=1e-12)


def test_a_given_build_is_not_made_again():
    ks = layer("gga")
    good = ks.scf(conv_tol_grad=1e-4)
    built = ks.build(good.dm)
    before = ks.fock_builds
    result = ks.scf(good.dm, first_build=built, conv_tol_grad=1e-6)
    assert result.converged
    assert result.fock_builds == ks.fock_builds - before == 1


@pytest.mark.parametrize("case", ["gga", "open shell"])
def test_a_start_near_the_end_costs_one_build(case):
    ks = layer(case)
    done = ks.scf(conv_tol_grad=1e-8)
    again = ks.scf(done.dm, conv_tol_grad=1e-5)
    assert again.fock_builds <= 2
    assert again.energy == pytest.approx(done.energy, abs=1e-9)


@pytest.mark.parametrize("case", ["gga", "open shell"])
def test_fractional_occupations_end_at_the_same_free_energy(case):
    ks = layer(case, smearing=0.02)
    two, one = (ks.scf(conv_tol_grad=1e-6, two_grids=both) for both in (True, False))
    assert two.converged
    assert two.entropy_energy > 1e-4
    assert two.free_energy == pytest.approx(one.free_energy, abs=1e-9)
    assert two.fock_builds < one.fock_builds


def test_even_filling_of_a_degenerate_level_is_kept():
    mol = gto.M(atom="O 0 0 0; H 0 0 .97", spin=1, basis="6-31g", verbose=0)
    ks = KohnSham.from_pyscf(mol)
    two, one = (
        ks.scf(conv_tol_grad=1e-6, degeneracy_tol=1e-3, two_grids=both) for both in (True, False)
    )
    assert two.degenerate
    assert two.converged
    assert two.energy == pytest.approx(one.energy, abs=1e-8)


def test_limits_count_cycles_on_both_grids():
    ks = layer("gga")
    result = ks.scf(conv_tol_grad=1e-9, max_cycle=3)
    assert not result.converged
    assert result.iterations == 3
    assert result.fock_builds == 1, "a result is the target grid's, converged or not"


@pytest.fixture
def diagonalised(monkeypatch):
    """Fock matrices that an SCF asked to have diagonalised: its cycles."""
    real, found = solve.answer, []

    def answer(wanted, settings):
        if getattr(wanted, "mixture", None) is not None:
            found.append(wanted.layer)
        return real(wanted, settings)

    monkeypatch.setattr(solve, "answer", answer)
    return found


@pytest.fixture
def misled(monkeypatch):
    """Rounds that end at the starting density."""
    real = two_grids.iterate

    def iterate(coarse, start, settings, mixer):
        state, cycles, newton = yield from real(coarse, start, settings, mixer)
        if coarse.shift is None:  # the first coarse SCF
            return state, cycles, newton
        return dataclasses.replace(state, dm=coarse.dm_guess), cycles, newton

    monkeypatch.setattr(two_grids, "iterate", iterate)


@pytest.mark.usefixtures("misled")
def test_a_coarse_grid_that_leads_astray_is_left(diagonalised):
    ks = layer("gga")
    wanted = ks.scf(conv_tol_grad=1e-6, two_grids=False)
    diagonalised.clear()
    result = ks.scf(conv_tol_grad=1e-6)
    assert result.converged
    assert result.energy == pytest.approx(wanted.energy, abs=1e-9)
    assert result.fock_builds > 3
    assert result.coarse_builds > 0
    assert result.iterations == len(diagonalised), "the round that failed is counted"


@pytest.mark.usefixtures("misled")
@pytest.mark.parametrize("limit", [3, 4, 5, 6, 7])
def test_a_round_that_fails_counts_against_the_limit(diagonalised, limit):
    result = layer("gga").scf(conv_tol_grad=1e-9, max_cycle=limit)
    assert not result.converged
    assert result.iterations == len(diagonalised) == limit


def test_of_a_round_that_fails_the_better_density_is_kept(monkeypatch):
    ks = layer("gga")
    real, good = two_grids.iterate, ks.scf(conv_tol_grad=1e-9).dm

    def early(coarse, start, settings, mixer):
        state, cycles, newton = yield from real(coarse, start, settings, mixer)
        if coarse.shift is None:
            return state, cycles, newton
        better = 0.7 * good + 0.3 * start.dm
        return dataclasses.replace(state, dm=better), cycles, newton

    real_steps, starts = two_grids.scf_steps, []

    def scf_steps(layer, start, settings, before):
        starts.append(start.energy)
        return real_steps(layer, start, settings, before)

    first = ks.scf(conv_tol_grad=1e-7, max_cycle=3)
    assert (first.fock_builds, first.converged) == (1, False)
    monkeypatch.setattr(two_grids, "iterate", early)
    monkeypatch.setattr(two_grids, "scf_steps", scf_steps)
    monkeypatch.setattr(two_grids, "ASTRAY", 0.01)
    result = ks.scf(conv_tol_grad=1e-7)
    assert result.converged
    assert len(starts) == 1
    assert starts[0] < first.energy


def test_a_coarse_scf_that_fails_leaves_the_start_to_the_target_grid(monkeypatch):
    ks = layer("gga")
    wanted = ks.scf(conv_tol_grad=1e-6, two_grids=False)

    def hopeless(_coarse, start, _settings, _mixer):
        yield from ()
        return start, 7, 0

    monkeypatch.setattr(two_grids, "iterate", hopeless)
    result = ks.scf(conv_tol_grad=1e-6)
    assert result.converged
    assert result.energy == pytest.approx(wanted.energy, abs=1e-9)
    assert result.fock_builds == wanted.fock_builds
    assert result.iterations == wanted.iterations + 7
    assert result.second_order_steps == 0


def test_second_order_steps_on_the_coarse_grid_are_counted(monkeypatch):
    ks = layer("gga")
    real = two_grids.iterate

    def stalls(coarse, start, settings, mixer):
        state, cycles, _ = yield from real(coarse, start, settings, mixer)
        return state, cycles - 1, 1

    monkeypatch.setattr(two_grids, "iterate", stalls)
    result = ks.scf(conv_tol_grad=1e-6)
    assert result.converged
    assert result.second_order_steps == 1
    assert result.coarse_builds <= 6, "one coarse SCF, then the target grid alone"


@pytest.mark.parametrize("case", ["lda", "meta-gga", "open shell hybrid", "ecp"])
def test_steps_in_single_precision_change_no_answer(case, monkeypatch):
    ks = layer(case)
    found = ks.scf(conv_tol_grad=1e-5)
    coarse = ks.data.coarse().grid
    assert 0 < coarse.kept_bytes <= coarse.memory_bytes / 2, "values in float32"
    monkeypatch.setattr(two_grids, "SINGLE", 1.0)
    other = layer(case)
    wanted = other.scf(conv_tol_grad=1e-5)
    assert other.data.coarse().grid.kept_bytes == other.data.coarse().grid.memory_bytes
    assert (found.fock_builds, found.coarse_builds) == (wanted.fock_builds, wanted.coarse_builds)
    assert found.energy == pytest.approx(wanted.energy, abs=2e-11)
    assert found.gradient_norm < 1e-5
    assert float(ks.build(found.dm).energy) == pytest.approx(found.energy, abs=1e-12)
    torch.testing.assert_close(ks.build(found.dm).fock, found.fock, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "settings", [{"conv_tol_grad": 1e-6}, {"conv_tol": 1e-12, "conv_tol_grad": 1e-5}]
)
def test_steps_are_exact_where_single_precision_would_be_felt(settings):
    ks = layer("hydrogen")
    ks.scf(**settings)
    coarse = ks.data.coarse()
    assert coarse.grid.kept_bytes == coarse.grid.memory_bytes


def test_second_order_steps_begin_at_an_exact_build(monkeypatch):
    ks = layer("gga")
    coarse = ks.layer.coarse
    coarse.single = True
    dm = ks.layer.density(coarse.build(ks.layer.dm_guess).fock)
    rough = State.of(coarse, (dm, 0.0, coarse.step_build(dm)))
    exact = coarse.build(dm)
    assert 0 < abs(rough.energy - float(exact.energy)) < 1e-4
    monkeypatch.setattr(iteration, "_second_order", lambda _, start, *__: (start, 0))
    asked = iteration.SecondOrder(layer=coarse, start=rough, settings=solve.SCFSettings(), cycles=1)
    start, _ = asked.take()
    assert start.energy == float(exact.energy)
    assert torch.equal(start.fock, exact.fock)


@pytest.mark.parametrize("atom", [WATER, "F 0 0 0; H .1 .05 .92"])
def test_a_last_build_that_says_nothing_new_is_not_made(atom):
    # the two grids of a meta-GGA disagree by more than conv_tol on how far the first round lowers E
    ks = KohnSham.from_pyscf(gto.M(atom=atom, basis="def2-svp", verbose=0), xc="r2scan")
    result = ks.scf(conv_tol_grad=1e-5)
    assert result.converged
    assert result.fock_builds == 2
    assert 1e-8 < result.gradient_norm < 1e-5
    tight = ks.scf(conv_tol=1e-11, conv_tol_grad=1e-7)
    assert result.energy == pytest.approx(tight.energy, abs=1e-10)


def test_levels_that_touch_say_nothing_about_the_energy():
    ks = layer("gga", smearing=0.02).layer
    state = State.of(ks, (ks.dm_guess, 0.0, ks.build(ks.dm_guess)))
    assert two_grids._energy_left(ks, state) == float("inf")
    ks.smearing = 0.0
    levels = ks.orbitals(state.fock).mo_energy[0]
    gap = float(levels[ks.nelec[0]] - levels[ks.nelec[0] - 1])
    assert two_grids._energy_left(ks, state) == pytest.approx(state.gradient_norm**2 / gap)


@pytest.mark.parametrize("strategy", ["merged", "padded"])
def test_a_batch_equals_its_molecules(strategy):
    names = ("gga", "hybrid", "open shell", "ion", "hydrogen")
    singles = [layer(name) for name in names]
    alone = [ks.scf(conv_tol_grad=1e-6) for ks in singles]
    batch = KohnShamBatch([layer(name) for name in names], strategy=strategy)
    together = batch.scf(conv_tol_grad=1e-6)
    for one, many, ks, other in zip(alone, together, singles, batch.layers, strict=True):
        assert many.converged
        assert many.energy == pytest.approx(one.energy, abs=1e-9)
        assert (many.fock_builds, many.iterations) == (one.fock_builds, one.iterations)
        assert ks.builds == other.builds


@pytest.mark.parametrize(
    ("case", "energy", "level"),
    [
        ("gga", 0.3e-6, 3),
        ("hybrid", 0.3e-6, 3),
        ("meta-gga", 3e-6, 3),
        ("open shell", 1e-6, 3),
        ("gga", 1e-6, 1),
    ],
)
def test_one_fine_build_tells_the_converged_energy_and_levels(case, energy, level):
    ks = layer(case, level=level)
    done = ks.scf(conv_tol=1e-11, conv_tol_grad=1e-7)
    first = ks.build(ks.data.dm_guess).fock
    dm = ks.density(first + ks.dielectric_step(first, ks.data.dm_guess))
    built = ks.build(dm)
    found = ks.certificate(dm, built.fock, built.energy)
    error = float(built.energy) - done.energy
    assert error > 1e-4, "otherwise there is nothing to estimate"
    assert found.energy_estimate == pytest.approx(done.energy, abs=energy)
    levels = done.mo_energy.reshape(-1, ks.nmo)
    homo = [float(e[n - 1]) for e, n in zip(levels, ks.nelec, strict=False)]
    np.testing.assert_allclose(np.atleast_1d(found.homo_estimate), homo, atol=3e-5)
    change = ks.dipole(done.dm) - ks.dipole(dm)
    np.testing.assert_allclose(found.dipole_change, change.numpy(), atol=2e-4)


def test_the_constant_is_the_derivative_of_its_energy():
    ks = layer("open shell")
    coarse = ks.layer.coarse
    dm = ks.scf(conv_tol_grad=1e-2).dm
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(dm.shape, generator=generator, dtype=dm.dtype)
    coarse.shift = 1e-2 * (noise + noise.mT)
    along = torch.randn(dm.shape, generator=generator, dtype=dm.dtype)
    along = along + along.mT
    step = 1e-4
    up, down = (float(coarse.build(dm + s * step * along).energy) for s in (1, -1))
    slope = float((coarse.build(dm).fock * along).sum())
    assert slope != 0
    assert (up - down) / (2 * step) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("both", [True, False])
def test_the_electrons_of_the_last_build_are_kept(both):
    ks = layer("gga")
    result = ks.scf(conv_tol_grad=1e-5, two_grids=both)
    assert result.n_electrons == pytest.approx(ks.n_electrons(result.dm), abs=1e-9)
    assert result.n_electrons != pytest.approx(32.0, abs=1e-12), "integrated, not counted"


def test_two_grids_keep_no_more_values_than_the_target_grid_alone():
    alone, both = layer("ion", two_grids=False), layer("ion")
    one, two = (ks.scf(conv_tol_grad=1e-6) for ks in (alone, both))
    fine, coarse = both.data.grid, both.data.coarse().grid
    assert fine.kept_bytes + coarse.kept_bytes <= alone.data.grid.kept_bytes
    assert fine.kept_bytes > 0.5 * alone.data.grid.kept_bytes
    assert coarse.kept_bytes == coarse.memory_bytes
    assert two.energy == pytest.approx(one.energy, abs=1e-9)


def test_a_layer_leaves_memory_when_it_is_let_go():
    ks = layer("ion")
    done = ks.scf(conv_tol_grad=1e-4)
    ks.certificate(done.dm, done.fock, done.energy)
    kept = weakref.ref(ks)
    gc.disable()  # what waits for the search for circles may fill the memory before
    try:
        del ks
        assert kept() is None
    finally:
        gc.enable()
