"""From one format to another, structure by structure, with only one of them in memory."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deeph_zero.data.formats.labels import FORMAT_VERSION
from deeph_zero.data.formats.proof import settled_order
from deeph_zero.data.formats.protocol import Record, Source, read_record
from deeph_zero.data.formats.registry import check_target, open_sink
from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.errors import InputError
from deeph_zero.host.files import json_beside, remove_abandoned, write_json
from deeph_zero.host.version import __version__

Say = Callable[[str], None]

_NAMED = 20
"""Bad structures that get a line each."""


@dataclasses.dataclass
class Transfer:
    """What came of it.

    Attributes:
        written: Structures in the output.
        order: The order the source's functions are in.
        order_deviation: How far the first structure's overlaps are from turning with their bonds;
            None where it could not be told.
        failed: Structures that could not be read ({file, frame, error}).
        methods: Every "functional/basis" that was stated.
        stopped_by: "max_time" where the time was over first.
    """

    written: int = 0
    order: str = ""
    order_deviation: float | None = None
    failed: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    methods: set[str] = dataclasses.field(default_factory=set)
    stopped_by: str | None = None

    def summary(self, out: Path) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "written": str(out),
            "n_structures": self.written,
            "ao_order": self.order,
            "order_deviation": self.order_deviation,
            "failed": self.failed,
            "stopped_by": self.stopped_by,
        }


def transfer(
    source: Source,
    path: Path,
    out: Path,
    *,
    formats: tuple[str, str],
    first: int | None,
    overwrite: bool,
    say: Say,
    expired: Callable[[], bool] = lambda: False,
    complete: Callable[[Record], Record] | None = None,
) -> Transfer:
    """Write the structures of a source in another format.

    A structure that cannot be read is left out and noted; one that the format cannot hold stops
    everything, and nothing is written.

    Args:
        source: What is read.
        path: Its name, for messages.
        out: What is written.
        formats: Names of both formats.
        first: Number of structures; None takes all.
        overwrite: Replace what is there.
        say: Where warnings go.
        expired: Tells whether a time limit is over; what is written by then is kept.
        complete: Adds what can be computed of a record.

    Returns:
        What came of it.

    Raises:
        InputError: If no structure can be read, or one cannot be written.
        ComputationError: If the disk refuses.
    """
    count = len(source) if first is None else min(first, len(source))
    check_target(out, formats[1], overwrite=overwrite, count=count)
    remove_abandoned(out)
    done = Transfer(order=source.order)
    _settle(source, count, done, say)
    with open_sink(out, formats[1], count=count, source=formats[0]) as sink:
        for index in range(count):
            if done.written and expired():
                done.stopped_by = "max_time"
                break
            record = _read(source, path, index, done)
            if record is None:
                continue
            try:
                sink.write(complete(record) if complete else record)
            except InputError as error:
                raise InputError(f"{source.place(index)}: {error}") from None
            done.written += 1
            facts = record.matrices.facts
            if "xc" in facts or "basis" in facts:
                done.methods.add(f"{facts.get('xc', '?')}/{facts.get('basis', '?')}")
        if not done.written:
            raise InputError(f"{source.place(0)}: {done.failed[0]['error']}")
    for entry in done.failed[:_NAMED]:
        say(f"{source.place(entry['frame'])}: {entry['error']}")
    if len(done.failed) > _NAMED:
        say(f"and {len(done.failed) - _NAMED} more structures that cannot be read")
    if formats[1] == "labels":
        remove_abandoned(json_beside(out))
        facts = {"version": __version__, "format_version": FORMAT_VERSION, "source": str(path)}
        write_json(json_beside(out), facts | {"source_format": formats[0]} | done.summary(out))
    return done


def _settle(source: Source, count: int, done: Transfer, say: Say) -> None:
    """Prove the order on the first structure that can be read."""
    if source.order == "pyscf" and count:
        return  # of this package, or proven by the Fock builds behind it
    for index in range(min(count, 10)):
        try:
            if source.matrices(index).facts.get("folded"):
                say(
                    f"{source.place(index)}: interactions with other cells were folded into one; "
                    "these matrices are those of k = 0 only (SIESTA: ForceAuxCell true)"
                )
                return
            done.order, done.order_deviation = settled_order(source, index)
        except WholeFileError:
            raise
        except InputError as error:
            if index + 1 == count or "in no known order" in str(error):
                raise InputError(f"{source.place(index)}: {error}") from None
            continue
        if done.order != source.order:
            say(
                f"{source.place(index)}: the functions are in the order {done.order!r}, not "
                f"{source.order!r} as in this format; that is what is used"
            )
        return


def _read(source: Source, path: Path, index: int, done: Transfer) -> Record | None:
    try:
        return read_record(source, index, order=done.order)
    except InputError as error:
        text = str(error).removeprefix(f"{source.place(index)}: ")
        done.failed.append({"file": str(path), "frame": index, "error": text})
        return None
