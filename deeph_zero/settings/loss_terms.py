"""The text of ``--loss``: losses with weights and times, as in "energy:0.1,fixed-point@0.5"."""

import dataclasses
import difflib
import itertools
import math
import re

LOSSES = ("energy", "self-consistency", "fixed-point", "commutator", "supervised")
"""Names of the losses; docs/training.md says what each determines."""

DEFAULT_LOSS = "fixed-point"
"""What ``--loss auto`` means; docs/training.md has the measurement behind it."""

FADE = 0.05
"""Part of the training over which a term that starts or ends inside it fades in or out."""

_CURE = "write for example energy:0.5,self-consistency"
_TERM = re.compile(
    r"(?P<name>[a-z-]+)(:(?P<weight>[0-9.e+-]+))?(@(?P<start>[0-9.]+)(-(?P<end>[0-9.]+))?)?"
)


@dataclasses.dataclass(frozen=True)
class Term:
    """One loss of a mix.

    Attributes:
        name: One of :data:`LOSSES`.
        weight: Its factor, > 0.
        start: Fraction of the training after which it is on.
        end: Fraction of the training after which it is off again.
    """

    name: str
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0

    def factor(self, progress: float) -> float:
        """Weight at a point of the training; crossing terms add up to one while they fade.

        Args:
            progress: Fraction of the training that is done, 0 to 1.

        Returns:
            The weight, 0 while the term is off.
        """
        rise = 1.0 if self.start <= 0 else (progress - self.start) / FADE + 0.5
        fall = 1.0 if self.end >= 1 else (self.end - progress) / FADE + 0.5
        return self.weight * min(1.0, max(0.0, rise)) * min(1.0, max(0.0, fall))


def parse_loss(text: str) -> tuple[Term, ...]:
    """Terms of a comma-separated mix ``NAME[:WEIGHT][@START[-END]]``.

    Args:
        text: Such as "fixed-point", "energy:0.1,fixed-point" or
            "fixed-point@0-0.5,self-consistency@0.5"; START and END are fractions of the training.

    Returns:
        The terms in the order given; at every moment at least one is on.

    Raises:
        ValueError: If the text is no such mix.
    """
    terms = tuple(_term(part.strip()) for part in text.split(","))
    names = [term.name for term in terms]
    if len(set(names)) < len(names):
        raise ValueError(f"expected each loss once, got {text!r}; leave one out")
    marks = sorted({0.0, 1.0, *(t.start for t in terms), *(t.end for t in terms)})
    for low, high in itertools.pairwise(marks):
        if not any(t.start <= low and high <= t.end for t in terms):
            raise ValueError(
                f"expected a loss at every time, got none from {low:g} to {high:g}; add one"
            )
    return terms


def written_out(loss: str) -> str:
    """The mix that a setting means.

    Args:
        loss: "auto", or a mix.

    Returns:
        The mix; of "auto" :data:`DEFAULT_LOSS`.
    """
    return DEFAULT_LOSS if loss == "auto" else loss


def terms_of(loss: str) -> tuple[Term, ...]:
    """Terms of a setting.

    Args:
        loss: "auto", or a mix.

    Returns:
        The terms; of "auto" those of :data:`DEFAULT_LOSS`.
    """
    return parse_loss(written_out(loss))


def solvable(loss: str) -> bool:
    """Whether targets do not move with the network, so that a readout solves for them.

    Args:
        loss: "auto", or a mix.

    Returns:
        True where no other loss is in it.
    """
    return {term.name for term in terms_of(loss)} <= {"fixed-point", "supervised"}


def _term(text: str) -> Term:
    found = _TERM.fullmatch(text)
    if found is None:
        raise ValueError(f"expected NAME[:WEIGHT][@START[-END]], got {text!r}; {_CURE}")
    name = found["name"]
    if name not in LOSSES:
        near = difflib.get_close_matches(name, LOSSES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"expected one of {', '.join(LOSSES)}, got {name!r}{hint}")
    try:
        weight, start, end = (
            float(found[key]) if found[key] else default
            for key, default in (("weight", 1.0), ("start", 0.0), ("end", 1.0))
        )
    except ValueError:
        raise ValueError(f"expected NAME[:WEIGHT][@START[-END]], got {text!r}; {_CURE}") from None
    if not (math.isfinite(weight) and weight > 0):
        raise ValueError(f"expected a weight above 0, got {text!r}; {_CURE}")
    if not 0 <= start < end <= 1:
        raise ValueError(f"expected 0 <= START < END <= 1, got {text!r}; {_CURE}")
    return Term(name, weight, start, end)
