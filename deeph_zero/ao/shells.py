"""Which shells each element carries, and the universal padded slots they share.

Every element's AOs are placed in one common list of slots (for each l the largest number of shells
any element has, then m = -l..l in e3nn order), so blocks of all element pairs have one shape.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from deeph_zero.ao.convention import m_order
from deeph_zero.errors import InputError


@dataclasses.dataclass(frozen=True)
class BasisLayout:
    """Shells per element and the padded slots; hashable and JSON-able.

    Attributes:
        shells: ((Z, (l, l, ...)), ...) sorted by Z: the angular momenta of the contracted spherical
            shells in PySCF's order.
        slots: Number of shell slots for l = 0, 1, ..., max_l; at least what the elements need.
    """

    shells: tuple[tuple[int, tuple[int, ...]], ...]
    slots: tuple[int, ...]

    @classmethod
    def from_shells(
        cls, shells: Mapping[int, Sequence[int]], slots: Sequence[int] = ()
    ) -> "BasisLayout":
        """Build a layout.

        Args:
            shells: For each atomic number the l of its contracted shells, in PySCF order.
            slots: Slots per l to reserve beyond what ``shells`` needs, so that elements added
                later still fit; may be empty.

        Returns:
            The layout with the smallest slots that hold everything.

        Raises:
            InputError: If there is no element, an element without shells, or a negative l.
        """
        if not shells:
            msg = "a basis layout needs at least one element, got none; pass {Z: (l, ...)}"
            raise InputError(msg)
        for z, ls in shells.items():
            if not ls or min(ls) < 0:
                msg = f"element {z} needs shells with l >= 0, got {tuple(ls)}; check the basis"
                raise InputError(msg)
        max_l = max(*(max(ls) for ls in shells.values()), len(slots) - 1)
        reserve = [*slots, *[0] * (max_l + 1 - len(slots))]
        counts = [
            max(reserve[l], *(list(ls).count(l) for ls in shells.values()))
            for l in range(max_l + 1)
        ]
        ordered = tuple((int(z), tuple(int(l) for l in shells[z])) for z in sorted(shells))
        return cls(shells=ordered, slots=tuple(counts))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "BasisLayout":
        """Inverse of :meth:`to_dict`; accepts what JSON makes of it."""
        shells = {int(z): tuple(ls) for z, ls in data["shells"].items()}
        return cls.from_shells(shells, slots=data["slots"])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "shells": {str(z): list(ls) for z, ls in self.shells},
            "slots": list(self.slots),
        }

    def with_elements(self, shells: Mapping[int, Sequence[int]]) -> "BasisLayout":
        """The layout with more elements; raises InputError when they need new slots."""
        new = BasisLayout.from_shells({**dict(self.shells), **shells}, slots=self.slots)
        if new.slots != self.slots:
            msg = (
                f"the new elements need slots {new.slots} per l, the layout has {self.slots}; "
                "train a new model, with these elements in [model] elements"
            )
            raise InputError(msg)
        return new

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers, ascending."""
        return tuple(z for z, _ in self.shells)

    @property
    def max_l(self) -> int:
        """Largest angular momentum of a slot."""
        return len(self.slots) - 1

    @property
    def dim(self) -> int:
        """AO slots per atom: a full block is dim x dim."""
        return sum(n * (2 * l + 1) for l, n in enumerate(self.slots))

    @functools.cached_property
    def slot_shells(self) -> tuple[int, ...]:
        """Angular momentum of each slot shell, in slot order."""
        return tuple(l for l, n in enumerate(self.slots) for _ in range(n))

    @functools.cached_property
    def _ao_slots(self) -> dict[int, tuple[int, ...]]:
        starts: dict[tuple[int, int], int] = {}
        position = 0
        for l, count in enumerate(self.slots):
            for k in range(count):
                starts[l, k] = position
                position += 2 * l + 1
        table = {}
        for z, ls in self.shells:
            seen = [0] * len(self.slots)
            row: list[int] = []
            for l in ls:
                local = [0] * (2 * l + 1)
                for e3nn_index, pyscf_index in enumerate(m_order(l)):
                    local[pyscf_index] = starts[l, seen[l]] + e3nn_index
                row += local
                seen[l] += 1
            table[z] = tuple(row)
        return table

    def ao_slots(self, number: int) -> tuple[int, ...]:
        """Slot of each AO of an element, AOs in PySCF's order.

        Args:
            number: Atomic number.

        Returns:
            Slot indices, 0 <= slot < dim.

        Raises:
            InputError: If the element is not in the layout.
        """
        if number not in self._ao_slots:
            msg = (
                f"expected one of the elements {list(self.elements)}, got {number}; "
                "use a model trained with this element, or add it to the basis layout"
            )
            raise InputError(msg)
        return self._ao_slots[number]

    def nao(self, numbers: Sequence[int]) -> int:
        """Number of AOs of a molecule."""
        return sum(self.sizes(numbers))

    def sizes(self, numbers: Sequence[int]) -> tuple[int, ...]:
        """Number of AOs of each atom."""
        return tuple(len(self.ao_slots(int(z))) for z in numbers)
