"""Items that are made when they are asked for, and not before."""

import pytest

from deeph_zero.train.examples import MadeWhenAsked


@pytest.fixture
def made():
    return []


@pytest.fixture
def squares(made):
    def square(key):
        made.append(key)
        return key**2

    return MadeWhenAsked([3, 5, 2], square)


def test_nothing_is_made_before_it_is_asked_for(squares, made):
    assert len(squares) == 3
    iterator = iter(squares)
    assert made == []
    assert next(iterator) == 9
    assert made == [3]


def test_it_is_a_sequence(squares):
    assert list(squares) == [9, 25, 4]
    assert squares[1] == 25
    assert squares[-1] == 4
    assert squares[:2] == [9, 25]
    assert squares[::-1] == [4, 25, 9]
    assert list(reversed(squares)) == [4, 25, 9]
    assert 25 in squares
    with pytest.raises(IndexError):
        squares[3]


def test_items_are_not_kept(squares, made):
    assert squares[0] == squares[0]
    assert made == [3, 3]


def test_none_is_none(made):
    assert list(MadeWhenAsked([], made.append)) == []
    assert not MadeWhenAsked([], made.append)
