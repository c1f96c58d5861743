"""Mixes of losses: when each is on, how crossing terms fade, and texts that are no mix."""

import numpy as np
import pytest

from deeph_zero.settings.loss_terms import FADE, LOSSES, Term, parse_loss


@pytest.mark.parametrize("change", [0.25, 0.5, 0.9])
def test_crossing_terms_add_up_to_one_at_every_moment(change):
    before, after = parse_loss(f"fixed-point@0-{change},self-consistency@{change}")
    at = np.linspace(0, 1, 201)
    first, second = (np.array([term.factor(p) for p in at]) for term in (before, after))
    np.testing.assert_allclose(first + second, 1.0, atol=1e-12)
    assert (first[at < change - FADE] == 1).all()
    assert (second[at < change - FADE] == 0).all()
    assert (np.diff(first) <= 0).all()
    assert before.factor(change) == pytest.approx(0.5)


def test_terms_at_the_ends_do_not_fade():
    term = Term("energy", weight=0.25)
    assert [term.factor(p) for p in (0.0, 0.01, 0.5, 1.0)] == [0.25] * 4


def test_the_weight_is_a_factor():
    term = Term("energy", weight=3.0, start=0.2, end=0.8)
    assert [term.factor(p) for p in (0.0, 0.2, 0.5, 0.8, 1.0)] == [0, 1.5, 3, 1.5, 0]


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("supervised", [Term("supervised")]),
        (" energy:1e-1 ,commutator ", [Term("energy", 0.1), Term("commutator")]),
        (
            "energy@0-0.5,commutator:2@0.25-1",
            [Term("energy", 1.0, 0.0, 0.5), Term("commutator", 2.0, 0.25, 1.0)],
        ),
    ],
)
def test_terms_keep_their_order(text, terms):
    assert list(parse_loss(text)) == terms


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"expected NAME\[:WEIGHT\]\[@START\[-END\]\], got ''; write for example energy:0.5"),
        ("energy,", "got ''"),
        ("Energy", "got 'Energy'"),
        ("energy:", "got 'energy:'"),
        ("energy:1e", "got 'energy:1e'"),
        ("energy:..", "got 'energy:..'"),
        ("energy@0.1.2", "got 'energy@0.1.2'"),
        ("energy:inf", "got 'energy:inf'"),
        ("energy:1e999", "expected a weight above 0, got 'energy:1e999'"),
        ("energy:0", "expected a weight above 0, got 'energy:0'"),
        ("energy@0.5-0.5", "expected 0 <= START < END <= 1, got 'energy@0.5-0.5'"),
        ("energy@0.5-0.2", "expected 0 <= START < END <= 1"),
        ("energy@0-1.5", "expected 0 <= START < END <= 1"),
        ("energi", "expected one of .*, got 'energi'; did you mean energy?"),
        ("zzz", f"expected one of {', '.join(LOSSES)}, got 'zzz'$"),
        ("energy,energy:2", "expected each loss once, got 'energy,energy:2'; leave one out"),
        ("energy@0.2", "expected a loss at every time, got none from 0 to 0.2; add one"),
        ("energy@0-0.3,commutator@0.5", "got none from 0.3 to 0.5"),
        ("energy@0-0.75", "got none from 0.75 to 1"),
    ],
)
def test_what_is_no_mix_is_said(text, words):
    with pytest.raises(ValueError, match=words):
        parse_loss(text)
