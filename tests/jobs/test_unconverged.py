"""What is advised where an SCF did not converge."""

import pytest
import torch

from deeph_zero.jobs.unconverged import (
    FEW,
    SMALL_GAP,
    advice,
    advice_of_reference,
    crystal_advice,
    smallest_gap,
)
from deeph_zero.ks.periodic.result import CrystalSCFResult
from deeph_zero.ks.scf.result import SCFResult

ZERO = torch.zeros(3, 3, dtype=torch.float64)


def result(gap=0.4, *, iterations=100, degenerate=False, spins=False):
    levels = torch.tensor([-0.5, -0.1, gap - 0.1], dtype=torch.float64)
    occ = torch.tensor([2.0, 2.0, 0.0], dtype=torch.float64)
    if spins:
        levels, occ = torch.stack([levels + 0.01, levels]), torch.stack([occ, occ]) / 2
        levels[1, 2] += 0.1
    zero = torch.stack([ZERO, ZERO]) if spins else ZERO
    return SCFResult(
        energy=-1.0, fock=zero, dm=zero, mo_energy=levels, mo_coeff=zero, mo_occ=occ,
        converged=False, iterations=iterations, fock_builds=4, gradient_norm=2e-3,
        degenerate=degenerate,
    )  # fmt: skip


@pytest.mark.parametrize("spins", [False, True])
def test_the_gap_is_the_smaller_one_of_both_spins(spins):
    assert smallest_gap(result(0.3, spins=spins)) == pytest.approx(0.3)


def test_there_is_no_gap_where_all_is_filled():
    full = SCFResult(**vars(result()) | {"mo_occ": torch.ones(3, dtype=torch.float64)})
    assert smallest_gap(full) == float("inf")


SMALL = SMALL_GAP / 2


@pytest.mark.parametrize(
    ("ended", "asked", "words"),
    [
        (result(), {}, "still going down; use a larger max_cycle"),
        (result(iterations=60), {}, "where it came to rest; use a larger conv_tol_grad"),
        (result(SMALL), {}, "gap 1.0e-02 Eh; use smearing=0.01 or level_shift=0.3"),
        (result(SMALL), {"level_shift": 0.2}, "gap 1.0e-02 Eh; use smearing=0.01"),
        (
            result(degenerate=True),
            {"level_shift": 0.2},
            "a degenerate frontier level; use smearing=0.01 or break_symmetry=True",
        ),
        (
            result(SMALL),
            {"smearing": 0.005},
            "fractional occupations; use level_shift=0.3 or a wider smearing",
        ),
        (
            result(),
            {"smearing": 0.005, "level_shift": 0.3},
            "fractional occupations; use a wider smearing",
        ),
    ],
)  # fmt: skip
def test_what_helps_depends_on_how_it_ended(ended, asked, words):
    assert advice(ended, max_cycle=100, **asked) == f"orbital gradient 2.0e-03 Eh, {words}"


@pytest.mark.parametrize("ended", [result(SMALL), result(degenerate=True)])
def test_a_few_cycles_say_nothing_of_the_molecule(ended):
    text = advice(ended, max_cycle=FEW - 1, smearing=0.01)
    assert text == "orbital gradient 2.0e-03 Eh; use a larger max_cycle"


@pytest.mark.parametrize(
    ("ended", "max_cycle", "labelled", "words"),
    [
        (result(), 1, False, "Eh; use a larger max_cycle"),
        (result(), 100, False, "still going down; use a larger max_cycle"),
        (result(), 100, True, "use a larger max_cycle or scf=False, as it has a label"),
        (result(iterations=60), 100, False, "where it came to rest; use a larger conv_tol"),
        (result(SMALL), 100, False, "use scf=False and a label made with level_shift=0.3"),
        (result(SMALL), 100, True, "gap 1.0e-02 Eh; use scf=False, as it has a label"),
        (result(degenerate=True), 100, True, "frontier level; use scf=False, as it has a label"),
    ],
)
def test_a_reference_has_the_cures_of_evaluate(ended, max_cycle, labelled, words):
    text = advice_of_reference(ended, max_cycle=max_cycle, labelled=labelled)
    assert text.startswith("orbital gradient 2.0e-03 Eh")
    assert text.endswith(words)


def crystal(gap):
    """What is asked of a last iterate, and nothing else."""
    end = object.__new__(CrystalSCFResult)
    vars(end).update(gap=gap, gradient_norm=2e-3)
    return end


@pytest.mark.parametrize(
    ("gap", "asked", "words"),
    [
        (0.4, {}, "use a larger max_cycle"),
        (0.0, {}, "use smearing=0.01"),
        (0.0, {"max_cycle": FEW - 1}, "use a larger max_cycle"),
        (0.0, {"smearing": 0.005}, "use a larger max_cycle"),
        (0.0, {"trained": True}, "train the model with smearing=0.01"),
        (0.4, {"labelled": True}, "use a larger max_cycle, or scf=False, as it has a label"),
    ],
)
def test_crystals_without_a_gap_want_smearing(gap, asked, words):
    text = crystal_advice(crystal(gap), **{"max_cycle": 100, "smearing": 0.0} | asked)
    assert text == f"(orbital gradient 2.0e-03 Eh, gap {gap:.1e} Eh); {words}"
