"""The card of a model that comes with the package: what it was made from and what it knows."""

from typing import Annotated, Literal

import ase.data
import numpy as np
import pydantic
from jaxtyping import Float
from pydantic import Field
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform

from deeph_zero.molecule import Molecule
from deeph_zero.settings.base import Settings
from deeph_zero.units import BOHR_IN_ANGSTROM

CARD_VERSION = 1

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]
Range = Annotated[tuple[int, int], Field(description="fewest and most")]


class Errors(Settings):
    """Mean absolute errors against converged references, hartree; None was not measured.

    ``fock`` is H and ``rebuilt`` F[P(H)]; levels are those of the latter, and ``..._estimate`` what
    the certificate makes of them. ``coverage`` is of the intervals, ``fine_builds`` counts.
    """

    fock: float | None = None
    rebuilt: float | None = None
    energy: float | None = None
    energy_estimate: float | None = None
    homo: float | None = None
    lumo: float | None = None
    gap: float | None = None
    homo_estimate: float | None = None
    lumo_estimate: float | None = None
    gap_estimate: float | None = None
    dipole: float | None = None
    fine_builds: float | None = None
    fine_builds_standard: float | None = None
    coverage: float | None = None
    coverage_homo: float | None = None
    coverage_lumo: float | None = None
    coverage_gap: float | None = None


class Measured(Settings):
    """Errors over structures that were not trained on."""

    name: Text
    structures: Count
    atoms: Range | None = None
    errors: Errors


class Training(Settings):
    """What the run was."""

    structures: Count
    atoms: Range
    with_element: dict[str, int]
    epochs: int | None = None
    steps: int | None = None
    seed: int | None = None
    wall_time_s: float | None = None


class Domain(Settings):
    """Where the errors of the card say something.

    Attributes:
        elements: Symbols.
        states: Pairs of charge and 2S.
        atoms: The largest molecule that its errors and intervals were checked on.
        separation: How far apart, at most, parts of a structure were, angstrom: its longest step
            from atom to atom.
    """

    elements: tuple[Text, ...]
    states: tuple[tuple[int, int], ...]
    atoms: Annotated[int, Field(ge=1)]
    separation: Positive | None = None


class SolvedBy(Settings):
    """The method, as resolved."""

    xc: Text
    basis: Text
    auxbasis: str | None = None
    density_fit: bool = True
    grid_level: int = 3


class Card(Settings):
    """The content of ``card.json``."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["deeph-zero card"]
    format_version: Annotated[int, Field(ge=1, le=CARD_VERSION)]
    name: Text
    title: Text
    license: Text
    method: SolvedBy
    inputs: Literal["geometry", "physics"]
    parameters: Count
    bytes: Count
    trained: Text
    data: Text
    recipe: tuple[Text, ...] = ()
    cost: dict[str, float] = Field(default_factory=dict)
    training: Training
    domain: Domain
    intervals: dict[str, float] | None = None
    errors: tuple[Measured, ...] = ()
    errors_by_atoms: tuple[Measured, ...] = ()
    errors_by_element: tuple[Measured, ...] = ()
    unknown: tuple[Text, ...] = ()

    def outside(self, molecule: Molecule) -> list[str]:
        """Why the card's errors say nothing of a molecule; unknown elements are an error elsewhere.

        Args:
            molecule: The structure.

        Returns:
            One phrase per reason; none if it is of the kind that the card speaks of.
        """
        domain, reasons = self.domain, []
        state = (molecule.charge, molecule.spin)
        if state not in domain.states:
            known = ", ".join(f"charge {c} and spin {s}" for c, s in domain.states)
            reasons.append(f"charge {state[0]} and spin {state[1]}, {self.name} knows {known} only")
        if len(molecule.numbers) > domain.atoms:
            reasons.append(
                f"{len(molecule.numbers)} atoms, {self.name} was checked on {domain.atoms} at most"
            )
        longest = longest_step(molecule.coords) * BOHR_IN_ANGSTROM
        if domain.separation is not None and longest > domain.separation:
            reasons.append(
                f"parts {longest:.1f} angstrom apart, {self.name} was trained on "
                f"{domain.separation:.1f} at most"
            )
        return reasons


def longest_step(coords: Float[np.ndarray, "natm 3"]) -> float:
    """The longest of the shortest steps that lead from atom to atom through a structure.

    A bond's length in a molecule; in a pair of molecules the distance between the two.

    Args:
        coords: Any unit.

    Returns:
        The length, in that unit; 0 for an atom.
    """
    if len(coords) < 2:
        return 0.0
    tree = minimum_spanning_tree(squareform(pdist(np.asarray(coords))))
    return float(tree.data.max(initial=0.0))


def symbols(molecule: Molecule) -> list[str]:
    """Elements of a molecule, each once, by atomic number."""
    return [ase.data.chemical_symbols[z] for z in sorted({int(z) for z in molecule.numbers})]
