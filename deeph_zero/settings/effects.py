"""Settings that others leave without effect: refused where a run would not be what was meant.

Otherwise one line of warning says so: a script may state more than a run needs.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from deeph_zero.settings.base import Settings, option_name
from deeph_zero.settings.loss_terms import solvable, terms_of

UNFITTED = "expected --density-fit with it, got --no-density-fit, which needs no fitting basis"
"""Said of a fitting basis that nothing is fitted in."""


class _Rule(NamedTuple):
    """Settings of one section, and when nothing reads them.

    Attributes:
        part: The section; "" is the training itself.
        names: The settings; none are all of the section.
        idle: Whether they have no effect.
        words: What was expected, and what came.
        cure: What to do on the command line; "" where the setting may stay, without effect.
    """

    part: str
    names: tuple[str, ...]
    idle: Callable[[Any], bool]
    words: str
    cure: str = ""


def _without(loss: str) -> Callable[[Any], bool]:
    return lambda config: all(term.name != loss for term in terms_of(config.loss))


_RULES = (
    *(
        _Rule(
            part,
            names,
            lambda config: not config.samples,
            "expected --samples N beside it",
            "say how many geometries",
        )
        for part, names in (
            ("", ("displace", "sampling", "temperature")),
            ("crystal", ("strain", "supercell")),
        )
    ),
    _Rule(
        "",
        ("displace",),
        lambda config: config.sampling == "normal-modes",
        "expected --sampling displace with it, got normal-modes, which go as far as --temperature "
        "says",
    ),
    _Rule(
        "",
        ("temperature",),
        lambda config: config.sampling == "displace",
        "expected --sampling normal-modes with it, got displace, which goes as far as --displace "
        "says",
    ),
    _Rule(
        "",
        ("stream_visits",),
        lambda config: not config.stream,
        "expected --stream with it",
    ),
    _Rule(
        "",
        ("supervised_blocks", "supervised_orbital_energy"),
        _without("supervised"),
        "expected --loss with supervised in it",
    ),
    _Rule(
        "",
        ("budget",),
        _without("fixed-point"),
        "expected --loss with fixed-point in it, whose targets are built",
    ),
    _Rule(
        "",
        ("closed_form",),
        lambda config: config.closed_form is True and not solvable(config.loss),
        "expected --loss of fixed-point and supervised alone, whose targets do not move with the "
        "network",
    ),
    _Rule(
        "model",
        (),
        lambda config: config.init is not None,
        "expected a new network, --init brings its own",
    ),
    _Rule(
        "method",
        ("auxbasis",),
        lambda config: not config.method.density_fit,
        UNFITTED,
    ),
)


def idle_option(config: Settings) -> str | None:
    """The first option of a command that was asked for, has no effect, and would be missed.

    Args:
        config: Every setting of a training.

    Returns:
        One line that names it and says what to do; None where there is none.
    """
    return next((f"{text}; {cure}" for text, cure in _idle(config, stated=True) if cure), None)


def unused_settings(config: Settings, *, stated: bool) -> list[str]:
    """What was asked for and has no effect.

    Args:
        config: Every setting of a training that is not refused.
        stated: Whether a setting that is set to its default was asked for: not in a file that has
            all of them, as every run keeps one.

    Returns:
        One line of warning for each.
    """
    return [f"{text}; it has no effect" for text, _ in _idle(config, stated=stated)]


def _idle(config: Settings, *, stated: bool) -> Iterator[tuple[str, str]]:
    """Lines about settings without effect, and their cures."""
    for rule in _RULES:
        section: Any = getattr(config, rule.part) if rule.part else config
        fields = type(section).model_fields
        for name in rule.names or fields:
            asked = name in section.model_fields_set and (
                stated or getattr(section, name) != fields[name].default
            )
            if asked and rule.idle(config):
                yield f"{option_name(name)}: {rule.words}", rule.cure


def unread_in_prediction(config: Any) -> str | None:
    """The first option of a prediction that has nothing to act on, and would be missed.

    Args:
        config: The settings of a prediction.

    Returns:
        One line that names it and says what to do; None where everything counts.
    """
    refines = config.refine is not None or config.forces
    if config.compare_start and not refines:
        return "--compare-start: expected --refine TOL with it; add it"
    if (config.chkfile or config.molden or config.cube) and not (config.certificate or refines):
        return "--no-certificate: orbitals for other programs need a Fock build; leave it out"
    return None


def unused_in_prediction(config: Any) -> list[str]:
    """What was asked of a prediction and has no effect.

    Args:
        config: The settings of a prediction.

    Returns:
        One line of warning for each.
    """
    refines = config.refine is not None or config.forces
    iterates = refines or config.response or (config.certificate and config.coupled)
    if config.two_grids or iterates:
        return []
    given = "--cheap-estimate" if config.certificate else "--no-certificate"
    line = f"--one-grid: expected something to iterate, got {given} without --refine TOL"
    return [f"{line}; it has no effect"]
