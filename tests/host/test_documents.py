"""Small documents, read whole or refused."""

import os

import pytest

from deeph_zero.errors import InputError
from deeph_zero.host.documents import parse_json, read_document, read_regular


def test_a_document_is_read_up_to_a_size(tmp_path):
    path = tmp_path / "settings.json"
    path.write_bytes(b"12345")
    assert read_document(path, largest=5) == b"12345"
    assert read_regular(path, 3) == b"123"
    with pytest.raises(InputError, match=r"settings.json: expected at most .* MB"):
        read_document(path, largest=4)


def test_a_pipe_is_not_waited_for(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(InputError, match="pipe"):
        read_document(path)


def test_json_that_is_nested_without_end_is_an_error_of_values():
    assert parse_json('{"a": [1, null]}') == {"a": [1, None]}
    with pytest.raises(ValueError, match="nested too deep"):
        parse_json("[" * 200_000)
