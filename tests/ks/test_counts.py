"""Counts of builds: sums and differences on both grids at once."""

from deeph_zero.ks.counts import Builds, total


def test_counts_add_up():
    before, after = Builds(3, 1), Builds(5, 9)
    spent = after - before
    assert spent == Builds(fine=2, coarse=8)
    assert before + spent == after
    assert total([before, spent, Builds(coarse=1)]) == Builds(5, 10)
    assert total([]) == Builds()


def test_the_larger_of_each():
    assert Builds(3, 1).at_least(Builds(2, 7)) == Builds(3, 7)
