"""What training starts from: a model's method taken over, or a model of the package suggested."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from deeph_zero.errors import InputError
from deeph_zero.molecule import Molecule
from deeph_zero.settings.base import option_name
from deeph_zero.settings.config import FitConfig, MethodConfig
from deeph_zero.settings.loss_terms import solvable

if TYPE_CHECKING:
    from deeph_zero.host.reporting import Reporter
    from deeph_zero.predict.crystal_model import CrystalModel

_CRYSTAL = ("kmesh", "kspacing", "pseudo", "ke_cutoff", "smearing")
_METHOD = ("basis", "xc", "density_fit", "grid_level")


class Known(NamedTuple):
    """What a model to start from is a model of.

    Attributes:
        crystals: Whether of crystals.
        elements: Atomic numbers; of molecules' models only.
    """

    crystals: bool
    elements: frozenset[int] = frozenset()


def starting_from(config: FitConfig, reporter: "Reporter") -> tuple[FitConfig, Known | None]:
    """The settings with the method of the model that training starts from, and what it knows.

    What was stated stands; where that is another method than the model's, a line says so.

    Args:
        config: Settings.
        reporter: Told what is taken, and what differs.

    Returns:
        The settings, those given where training starts from nothing; and what the model is one of,
        None without a model.

    Raises:
        InputError: If there is no such model, or its inputs cannot do what is asked.
    """
    if config.init is None:
        return config, None
    from deeph_zero import model
    from deeph_zero.ao.basis_text import label_of

    try:
        found = model.load_any(config.init)
    except InputError as error:
        raise InputError(f"--init {config.init}: {error}") from None
    if isinstance(found, model.CrystalModel):
        return _of_crystals(config, found, reporter), Known(crystals=True)
    if config.method.break_symmetry and found.network.spec.inputs == "geometry":
        raise InputError(
            f"--break-symmetry: expected a model with physics inputs, got --init {config.init}, "
            "which reads geometries: they have the symmetry that is to be broken; leave one out"
        )
    own = MethodConfig.parse(found.meta["method"])
    stated = config.method.model_fields_set
    taken = {name: getattr(own, name) for name in _METHOD if name not in stated}
    other = [name for name in _METHOD if name in stated and _differ(name, config.method, own)]
    if "basis" in other:
        raise InputError(
            f"--init {config.init}: expected a model for basis {label_of(config.method.basis)!r}, "
            f"got one for {label_of(own.basis)!r}; give --basis the same"
        )
    if "auxbasis" not in stated and not {"basis", "xc", "density_fit"} & {*other}:
        taken["auxbasis"] = own.auxbasis
    new = {k: v for k, v in taken.items() if v != getattr(config.method, k)}
    if new:
        reporter.message(f"taken from --init {config.init}: {_words(new)}")
    if other:
        theirs = {name: getattr(own, name) for name in other}
        mine = {name: getattr(config.method, name) for name in other}
        reporter.message(
            f"--init {config.init} was trained with {_words(theirs)}, this run has {_words(mine)} "
            "as stated: the network has to learn the difference"
        )
    changed: dict[str, Any] = {"method": config.method.model_copy(update=new)}
    if {"xc", "density_fit"} & {*other}:
        changed |= _new_problem(config)
    return config.model_copy(update=changed), Known(False, frozenset(found.elements))


def _new_problem(config: FitConfig) -> dict[str, Any]:
    """What is changed where a model to start from has to learn more than other molecules."""
    solves = config.closed_form is None and solvable(config.loss)
    return {"closed_form": True} if solves else {}


def with_elements(
    config: FitConfig, found: Known | None, molecules: Sequence[Molecule]
) -> FitConfig:
    """The settings with what depends on whether a model to start from knows all elements.

    Args:
        config: Settings.
        found: What the model knows; None without a model.
        molecules: What is trained on.

    Returns:
        With a readout in closed form where an element is new to the model.
    """
    if found is None or found.crystals:
        return config
    new = any({*one.numbers.tolist()} - found.elements for one in molecules)
    return config.model_copy(update=_new_problem(config)) if new else config


def check_kind(init: str | None, found: Known | None, *, crystals: bool) -> None:
    """See whether a model to start from is one of what is trained on.

    Args:
        init: The model; None is none.
        found: What it is a model of.
        crystals: Whether crystals are trained on.

    Raises:
        InputError: If it is not.
    """
    if init is None or found is None or found.crystals == crystals:
        return
    from deeph_zero import model
    from deeph_zero.predict.crystal_model import load_crystal_model

    try:  # whoever loads it for the other purpose says what is wrong
        if crystals:
            load_crystal_model(init)
        else:
            model.load(init)
    except InputError as error:
        raise InputError(f"--init {init}: {error}") from None


def _of_crystals(config: FitConfig, found: "CrystalModel", reporter: "Reporter") -> FitConfig:
    """Take over what a model of crystals has: basis, functional, pseudopotentials and grid."""
    own = found.settings()
    parts: dict[str, Any] = {}
    for part, names in (("method", ("basis", "xc")), ("crystal", _CRYSTAL)):
        mine, theirs = getattr(config, part), getattr(own, part)
        new = {
            n: getattr(theirs, n)
            for n in names
            if n not in mine.model_fields_set and getattr(theirs, n) != getattr(mine, n)
        }
        if {"kmesh", "kspacing"} & mine.model_fields_set:
            new = {n: v for n, v in new.items() if n not in ("kmesh", "kspacing")}
        if new:
            reporter.message(f"taken from --init {config.init}: {_words(new)}")
        parts[part] = mine.model_copy(update=new)
    return config.model_copy(update=parts)


def _differ(name: str, mine: MethodConfig, theirs: MethodConfig) -> bool:
    """Whether a setting means something else."""
    one, other = getattr(mine, name), getattr(theirs, name)
    if name == "basis":
        from deeph_zero.ao.basis_text import same_basis

        return not same_basis(one, other)
    if name == "xc":
        from deeph_zero.integrals.calculation import same_functional
        from deeph_zero.integrals.libxc import describe

        return not same_functional(describe(one), describe(other))
    return one != other


def _words(values: dict[str, Any]) -> str:
    from deeph_zero.ao.basis_text import label_of

    parts = []
    for name, value in values.items():
        if name == "density_fit":
            parts.append("--density-fit" if value else "--no-density-fit")
        else:
            text = label_of(value) if name in ("basis", "auxbasis") and value else value
            text = " ".join(map(str, text)) if isinstance(text, tuple) else text
            parts.append(f"{option_name(name)} {text}")
    return ", ".join(parts)


MANY = 100
"""Geometries from which on a model is for many predictions, and their Fock builds count."""


def suggest(config: FitConfig, molecules: Sequence[Molecule], reporter: "Reporter") -> None:
    """Name a better beginning in one line: a model of the package, or inputs that cost no build.

    Args:
        config: Settings; without ``init``.
        molecules: What is trained on.
        reporter: Told.
    """
    if config.init is not None or config.method.break_symmetry or config.method.unrestricted:
        return
    if config.model.inputs == "physics" and "inputs" in config.model.model_fields_set:
        return
    from deeph_zero.model_files import registry
    from deeph_zero.model_files.card import symbols

    try:
        elements = {symbol for molecule in molecules for symbol in symbols(molecule)}
        states = {(molecule.charge, molecule.spin) for molecule in molecules}
        name = registry.fitting(elements, states, config.solved)
    except InputError:  # a damaged package is no reason not to train
        return
    if name is not None:
        reporter.message(
            f"tip: --init {name} starts from a model that comes with the package and knows these "
            f"elements, {config.method.xc} and {config.method.basis} (deeph-zero models {name})"
        )
        return
    count = len(molecules) * (1 + config.samples)
    if config.model.inputs == "physics" and count >= MANY:
        reporter.message(
            f"tip: with {count} geometries to learn from, --inputs geometry predicts without a "
            "Fock build: six times faster than physics inputs (the default), errors two to three "
            "times as large"
        )
