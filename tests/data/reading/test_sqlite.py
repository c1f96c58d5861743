"""Databases of strangers: plain tables only."""

from deeph_zero.data.structures import read_structures


def test_a_computed_table_is_refused(tmp_path):
    import sqlite3

    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute(
            "CREATE VIEW data AS WITH RECURSIVE c(N) AS (SELECT 1 UNION ALL SELECT N + 1 FROM c) "
            "SELECT N, N AS Z, N AS pos, N AS Ham FROM c"
        )
    molecules, bad = read_structures([tmp_path / "a.db"])
    assert molecules == []
    assert "plain tables" in str(bad[0])
