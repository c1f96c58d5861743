"""``deeph-zero models``: the models that come with the package, and their cards."""

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import rich_click as click

from deeph_zero.cli.options import Invocation, common_options, reporter_for, runtime_values
from deeph_zero.cli.show import WIDE
from deeph_zero.errors import InputError
from deeph_zero.host.files import to_json
from deeph_zero.host.reporting import Reporter
from deeph_zero.settings.config import RuntimeConfig

if TYPE_CHECKING:
    from deeph_zero.model_files.card import Card, Errors, Measured

# field of Errors, words, factor from hartree (or debye, a count, a fraction), format
_QUANTITIES = (
    ("fock", "H / uEh", 1e6, ".0f"),
    ("rebuilt", "H~ / uEh", 1e6, ".0f"),
    ("energy", "energy / uEh", 1e6, ".1f"),
    ("homo", "HOMO / mEh", 1e3, ".2f"),
    ("lumo", "LUMO / mEh", 1e3, ".2f"),
    ("gap", "gap / mEh", 1e3, ".2f"),
    ("dipole", "dipole / D", 1.0, ".3f"),
    ("energy_estimate", "energy, estimated / nEh", 1e9, ".1f"),
    ("homo_estimate", "HOMO, estimated / uEh", 1e6, ".3f"),
    ("lumo_estimate", "LUMO, estimated / uEh", 1e6, ".3f"),
    ("gap_estimate", "gap, estimated / uEh", 1e6, ".3f"),
    ("coverage", "energy in interval / %", 100.0, ".1f"),
    ("coverage_homo", "HOMO in interval / %", 100.0, ".1f"),
    ("coverage_lumo", "LUMO in interval / %", 100.0, ".1f"),
    ("coverage_gap", "gap in interval / %", 100.0, ".1f"),
    ("fine_builds", "SCF from it, builds", 1.0, ".2f"),
    ("fine_builds_standard", "SCF from atoms, builds", 1.0, ".2f"),
)
_IN_LIST = {"rebuilt": True, "homo": True, "lumo": False, "energy": False}
"""Quantities of the list, and whether a narrow terminal has room for them."""
_LABEL = 16
"""Columns of what a line of a card is about."""
_QUANTITY = max(len(words) for _, words, *_ in _QUANTITIES)
_COSTS = {"labels_cpu_hours": "labels", "training_cpu_hours": "training"}


@click.command()
@click.argument("name", required=False, default=None)
@common_options
@click.pass_obj
def models(invocation: Invocation, **options: Any) -> int:
    """List the models that come with the package, or show the card of the one called NAME.

    A name stands wherever a command takes MODEL. The models are files of the package; nothing is
    fetched. A card says how the model was made, what it was trained on, its measured errors, and
    what it does not know.

    \b
    Example:
      deeph-zero models
      deeph-zero models organic-pbe
      deeph-zero models --json
    """  # noqa: D301  (\b is click's mark)
    from deeph_zero.model_files import registry

    config = RuntimeConfig.parse(runtime_values(options, invocation.started))
    reporter = reporter_for(config, options)
    name = options["name"]
    if name is not None:
        if not name.strip():
            raise InputError(
                f"NAME: expected a model's name, got {name!r}; leave it out for a list"
            )
        found = registry.card(name)
        if options["as_json"]:
            click.echo(to_json(_entry(found)))
        else:
            _show(found, reporter)
        return 0
    cards = [registry.card(known) for known in registry.names()]
    if options["as_json"]:
        click.echo(to_json({"models": [_entry(known) for known in cards]}))
    elif cards:
        _list(cards, reporter)
    else:
        reporter.message("no model comes with this version of the package")
    return 0


def _entry(card: "Card") -> dict[str, Any]:
    """A card as JSON, with where its model is."""
    from deeph_zero.model_files import registry

    return card.model_dump(mode="json") | {"folder": str(registry.shipped_folder(card.name))}


def _width() -> int:
    return shutil.get_terminal_size((160, 24)).columns


def _list(cards: "Sequence[Card]", reporter: Reporter) -> None:
    wide = _width() >= WIDE
    shown = [q for q in _QUANTITIES if wide or _IN_LIST.get(q[0])]
    shown = [q for q in shown if q[0] in _IN_LIST]
    head = ["model", "elements", "method", "atoms", "MB"][: 5 if wide else 4]
    rows = []
    for card in cards:
        errors = card.errors[0].errors if card.errors else None
        facts = [
            card.name,
            " ".join(card.domain.elements),
            f"{card.method.xc}/{card.method.basis}",
            f"to {card.domain.atoms}",
            f"{card.bytes / 1e6:.1f}",
        ]
        rows.append([*facts[: len(head)], *(_cell(errors, quantity) for quantity in shown)])
    title = "models that come with the package; mean absolute errors"
    reporter.table(title, [*head, *(words for _, words, *_ in shown)], rows)
    sets = dict.fromkeys(
        f"{c.errors[0].name} ({c.errors[0].structures})" for c in cards if c.errors
    )
    if sets:
        reporter.message(f"errors of {', '.join(sets)}, none of them trained on")
    reporter.message(f"more: deeph-zero models {cards[0].name}")


def _show(card: "Card", reporter: Reporter) -> None:
    """The whole card."""
    room = max(_width(), 2 * _LABEL) - _LABEL
    rows = [
        ["" if k else label, line]
        for label, text in _lines(card)
        for k, line in enumerate(textwrap.wrap(text, room))
    ]
    reporter.table(f"{card.name}: {card.title}", ("", ""), rows)
    for title, sets in (
        ("mean absolute errors", card.errors),
        ("by number of atoms", card.errors_by_atoms),
        ("by element", card.errors_by_element),
    ):
        for part in _fitting(sets, _width()):
            reporter.table(title, *_table(part))
    reporter.message(f"next: deeph-zero predict {card.name} STRUCTURES")


def _lines(card: "Card") -> list[tuple[str, str]]:
    domain, training = card.domain, card.training
    few, most = training.atoms
    elements = ", ".join(f"{n} with {symbol}" for symbol, n in training.with_element.items())
    return [
        ("method", _method(card)),
        ("elements", " ".join(domain.elements)),
        ("state", ", ".join(f"charge {c}, spin (2S) {s}" for c, s in domain.states)),
        ("atoms", f"{few} to {most} in training, errors checked up to {domain.atoms}"),
        ("reads", f"{card.inputs}; {card.parameters} parameters, {card.bytes / 1e6:.1f} MB"),
        ("trained", card.trained),
        ("data", card.data),
        ("structures", f"{training.structures}: {elements}"),
        ("cost", _cost(card)),
        ("recipe", ", ".join(card.recipe)),
        ("intervals", _intervals(card)),
        ("licence", card.license),
        *(("" if k else "does not know", text) for k, text in enumerate(card.unknown)),
    ]


def _method(card: "Card") -> str:
    how = card.method
    fitting = f", fitted with {how.auxbasis}" if how.density_fit else ", four-centre integrals"
    return f"{how.xc}/{how.basis}{fitting}, grid level {how.grid_level}"


def _cost(card: "Card") -> str:
    parts = [f"{_COSTS.get(key, key)} {hours:.1f} CPU hours" for key, hours in card.cost.items()]
    return ", ".join(parts)


def _intervals(card: "Card") -> str:
    found = card.intervals
    if found is None:
        return "none: it was not calibrated"
    return f"{100 * found['coverage']:.0f} %, from {found['n']:.0f} structures kept out of training"


def _fitting(sets: "Sequence[Measured]", width: int) -> "Iterator[list[Measured]]":
    """The sets in parts whose columns fit beside each other."""
    part: list[Measured] = []
    used = _QUANTITY
    for one in sets:
        wide = max(len(one.name), 7) + 2
        if part and used + wide > width:
            yield part
            part, used = [], _QUANTITY
        part.append(one)
        used += wide
    if part:
        yield part


def _table(sets: "Sequence[Measured]") -> tuple[list[str], list[list[str]]]:
    """Headings and a row per quantity that any of the sets has."""
    shown = [q for q in _QUANTITIES if any(getattr(s.errors, q[0]) is not None for s in sets)]
    rows = [[quantity[1], *(_cell(s.errors, quantity) for s in sets)] for quantity in shown]
    counts = ["structures", *(str(s.structures) for s in sets)]
    return ["", *(s.name for s in sets)], [counts, *rows]


def _cell(errors: "Errors | None", quantity: tuple[str, str, float, str]) -> str:
    field, _, factor, form = quantity
    value = None if errors is None else getattr(errors, field)
    return "-" if value is None else format(factor * value, form)
