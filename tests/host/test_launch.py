"""What torchrun says to a process, complete or refused."""

import pytest

from deeph_zero.errors import InputError
from deeph_zero.host.launch import Launch, launch

STARTED = {"RANK": "3", "WORLD_SIZE": "8", "MASTER_ADDR": "a", "MASTER_PORT": "1"}


@pytest.fixture
def variables(monkeypatch):
    for name in (*STARTED, "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)

    def put(**values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, Launch(3, 8, 1)),
        ({"LOCAL_WORLD_SIZE": "4"}, Launch(3, 8, 4)),
        ({"LOCAL_WORLD_SIZE": "0"}, Launch(3, 8, 1)),
        ({"WORLD_SIZE": "1"}, None),
    ],
)
def test_a_place_among_the_started_processes(variables, more, expected):
    assert launch() is None
    variables(**STARTED | more)
    assert launch() == expected


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "RANK: expected MASTER_ADDR, MASTER_PORT beside it"),
        (STARTED | {"RANK": "first"}, "RANK: expected a number, .* got 'first'; unset"),
        (STARTED | {"RANK": "8"}, "RANK: expected 0 to 7 of the 8 processes in WORLD_SIZE, got 8"),
        (STARTED | {"RANK": "-1"}, "RANK: expected 0 to 7"),
        (STARTED | {"WORLD_SIZE": "all"}, "WORLD_SIZE: expected a number, .* got 'all'"),
        (
            STARTED | {"LOCAL_WORLD_SIZE": "some"},
            "LOCAL_WORLD_SIZE: expected a number, .*'some'",
        ),
    ],
)
def test_half_of_what_torchrun_says_is_refused(variables, values, words):
    variables(**values)
    with pytest.raises(InputError, match=words):
        launch()
