"""Everything that can be found wrong before a command creates anything."""

import os
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from deeph_zero.data.reading.state import log_warning
from deeph_zero.data.structures import BadFrame, chemical_symbols, read_structures, time_is_over
from deeph_zero.errors import InputError
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule, State
from deeph_zero.settings.bands_config import BandsConfig
from deeph_zero.settings.base import option_name
from deeph_zero.settings.config import FitConfig, LabelConfig, PredictConfig
from deeph_zero.settings.crystal_method import CrystalSettings
from deeph_zero.settings.evaluate_config import EvaluateConfig

if TYPE_CHECKING:
    from deeph_zero.host.reporting import Reporter
    from deeph_zero.host.runtime import Deadline
    from deeph_zero.model import Model
    from deeph_zero.predict.crystal_model import CrystalModel


def read_and_check(
    structures: Sequence[str],
    method: Method,
    state: State,
    *,
    stated: Collection[str] = (),
    elements: Collection[int] | None = None,
    allow_close_contacts: bool = False,
    deadline: "Deadline | None" = None,
    crystals: CrystalSettings | None = None,
    sparse: Callable[[Molecule], bool] | None = None,
    molecules_too: bool = True,
    notes: dict[str, list[str]] | None = None,
) -> tuple[list[Molecule], list[BadFrame]]:
    """Read all frames and check each against basis, charge and spin.

    Args:
        structures: Files.
        method: What is solved.
        state: Charge and spin of frames that state none.
        stated: Settings that a user gave; frames that say otherwise than a charge or spin among
            them are warned about, a zero included.
        elements: Atomic numbers a model knows; None means any.
        allow_close_contacts: Take atoms nearer to each other than in any molecule.
        deadline: When all have to be read; None is no limit.
        crystals: What is solved of crystals; None refuses them.
        sparse: Which crystals are large ones that get sparse blocks; None means none.
        molecules_too: Whether molecules are taken beside them.
        notes: Gets what is to be said of crystals before they are computed, with their places; see
            :func:`say_notes`.

    Returns:
        Usable structures and bad frames, both in input order.

    Raises:
        InputError: If the functional is not supported, or no frame at all can be used.
        ComputationError: If the time is over before the last frame is checked.
    """
    from deeph_zero.integrals.libxc import describe

    describe(method.xc)
    _say_repeats(structures)
    expired = None if deadline is None else deadline.expired
    molecules, bad = read_structures(
        structures,
        charge=state.charge if state.charge or "charge" in stated else None,
        spin=state.spin if state.spin or "spin" in stated else None,
        allow_close_contacts=allow_close_contacts,
        expired=expired,
        crystals=crystals is not None,
        dimension=None if crystals is None else crystals.crystal.dimension,
    )
    good: list[Molecule] = []
    # coordinates were checked while reading: what is left depends on this key only
    known: set[tuple[bytes, int, int]] = set()
    for molecule in molecules:
        if expired is not None and expired():
            raise time_is_over(f"checking structures, {len(good)} of {len(molecules)} were checked")
        key = (molecule.numbers.tobytes(), molecule.charge, molecule.spin)
        try:
            _check_wanted(molecules_too or molecule.periodic)
            _check_elements(molecule, elements)
            if molecule.periodic:
                _check_crystal(molecule, crystals, sparse, notes)
            elif key not in known:
                _check_electrons_and_basis(molecule, method)
                known.add(key)
            good.append(molecule)
        except InputError as error:
            bad.append(bad_frame(molecule, error))
    bad = _in_order(bad, structures)
    if not good:
        raise InputError(_first_of(bad, "no structure can be used"))
    return good, bad


def read_for_model(
    structures: Sequence[str],
    model: "Model | CrystalModel",
    config: PredictConfig | EvaluateConfig | BandsConfig,
    reporter: "Reporter",
    deadline: "Deadline",
    *,
    notes: dict[str, list[str]] | None = None,
) -> tuple[list[Molecule], list[BadFrame]]:
    """Check frames for a model, whose charge and spin are those of frames that state none.

    Args:
        structures: Files.
        model: The model.
        config: Charge and spin that were asked for, and whether close contacts are taken.
        reporter: Told of the charge and spin that are the model's.
        deadline: When all have to be read.
        notes: As for :func:`read_and_check`.

    Returns:
        Usable molecules and bad frames.

    Raises:
        InputError: As :func:`read_and_check`.
    """
    from deeph_zero.model_files.meta import asked_state, state_line

    line = state_line(model.state, charge=config.charge, spin=config.spin)
    if line is not None:
        reporter.message(line)
    return read_and_check(
        structures,
        model.method,
        asked_state(model.state, charge=config.charge, spin=config.spin),
        stated=config.model_fields_set,
        elements=model.elements,
        allow_close_contacts=config.allow_close_contacts,
        deadline=deadline,
        notes=notes,
        **_of_crystals(model, config),
    )


def say_outside(model: "Model", molecules: Sequence[Molecule], reporter: "Reporter") -> None:
    """One line about the structures that the card of a starting model does not speak of.

    Args:
        model: Gives the starts.
        molecules: What is solved.
        reporter: Told.
    """
    if model.card is None:
        return
    found = [(m, model.card.outside(m)) for m in molecules if not m.periodic]
    outside = [(m, reasons) for m, reasons in found if reasons]
    if outside:
        first, reasons = outside[0]
        count = f"{len(outside)} of {len(molecules)} structures: " if len(molecules) > 1 else ""
        reporter.warning(
            f"{first.where}{count}outside what {model.card.name} was checked on, its start may be "
            f"poor, the converged result is not: {'; '.join(reasons)}"
        )


def _of_crystals(
    model: "Model | CrystalModel", config: PredictConfig | EvaluateConfig | BandsConfig
) -> dict[str, Any]:
    """What a model of crystals needs of its structures."""
    from deeph_zero.predict.crystal_model import CrystalModel

    if not isinstance(model, CrystalModel):
        return {}
    if isinstance(config, EvaluateConfig):
        return {"crystals": model.settings(), "molecules_too": False}
    bare = isinstance(config, BandsConfig) or config.plain
    sparse = model.is_large if bare else None
    return {"crystals": model.settings(config.crystal), "sparse": sparse, "molecules_too": False}


def _say_repeats(structures: Sequence[str]) -> None:
    """A file under two names, or given twice, is taken twice: say so."""
    known: dict[str, str] = {}
    for name in structures:
        path = os.path.realpath(name)
        first = known.get(path)
        known.setdefault(path, name)
        if first is not None:
            what = "is given twice" if name == first else f"is {first} once more"
            log_warning(f"{name} {what}: its frames count twice; leave one out if not meant")


def refuse_bad(bad: Sequence[BadFrame]) -> None:
    """Stop at a bad frame.

    Args:
        bad: Bad frames; at least one good frame exists beside them.

    Raises:
        InputError: If there is one.
    """
    if bad:
        them = "it" if len(bad) == 1 else "them"
        raise InputError(f"{_first_of(bad, 'bad structures')}; or leave {them} out with --skip-bad")


def check_training_labels(config: FitConfig, molecules: Sequence[Molecule]) -> None:
    """See whether the labels belong to the structures and to the method.

    Args:
        config: Settings; ``data.labels`` has the files, ``loss`` says whether they are needed.
        molecules: Structures to train on.

    Raises:
        InputError: If labels are missing, of another method, or given to a loss without use.
    """
    from deeph_zero.data.labels import LabelStore, check_labels
    from deeph_zero.settings.loss_terms import terms_of

    names = {term.name for term in terms_of(config.loss)}
    files = config.data.labels
    if "supervised" in names and not files:
        raise InputError(
            "data.labels: the supervised loss needs data.labels; name files of `deeph-zero label`"
        )
    if not files:
        return
    if "supervised" not in names:
        raise InputError(
            f"data.labels: expected training.loss with supervised in it, got {config.loss!r}; "
            'set for example loss = "supervised", or leave the labels out'
        )
    if config.samples and names == {"supervised"}:
        raise InputError(
            f"--samples: expected 0 with the supervised loss alone, got {config.samples}; "
            "displaced copies have no labels: mix in a label-free loss, or leave them out"
        )
    found = check_labels(LabelStore(files), molecules, config.solved)
    if found == 0 or (found < len(molecules) and names == {"supervised"}):
        raise InputError(
            f"data.labels: expected a label for every structure, got {found} for "
            f"{len(molecules)}; label them, or mix in a label-free loss"
        )


def check_room(config: FitConfig) -> None:
    """See whether the elements that a network keeps room for exist in the basis.

    Args:
        config: Settings; ``model.elements`` counts.

    Raises:
        InputError: If one is no element, or has no functions.
    """
    if not config.model.elements:
        return
    from deeph_zero.integrals import mole

    for atom in mole.free_atoms(config.model.elements):
        try:
            mole.build_mole(atom, basis=config.method.basis)
        except InputError as error:
            raise InputError(f"[model] elements: {error}") from None


def bad_frame(molecule: Molecule, error: Exception) -> BadFrame:
    """A failed molecule as an entry of ``failed``; its place is not said twice."""
    text = " ".join(str(error).splitlines()).removeprefix(molecule.where)
    return BadFrame(molecule.file, molecule.frame, text)


def _first_of(bad: Sequence[BadFrame], what: str) -> str:
    rest = f" ({what}: this and {len(bad) - 1} more)" if len(bad) > 1 else ""
    return f"{bad[0]}{rest}"


def _in_order(bad: Sequence[BadFrame], structures: Sequence[str]) -> list[BadFrame]:
    """As the files were given, and as their frames stand in them."""
    order = {str(name): k for k, name in reversed(list(enumerate(structures)))}
    return sorted(bad, key=lambda b: (order.get(b.file, 0), -1 if b.frame is None else b.frame))


def _check_elements(molecule: Molecule, elements: Collection[int] | None) -> None:
    if elements is None:
        return
    strange = [int(z) for z in molecule.numbers if int(z) not in elements]
    if strange:
        known = ", ".join(chemical_symbols[z] for z in elements)
        raise InputError(
            f"expected elements of the model ({known}), got {chemical_symbols[strange[0]]}; use a "
            "model that was fitted to it"
        )


def _check_wanted(molecules_too: bool) -> None:
    if not molecules_too:
        raise InputError(
            "expected a crystal (a cell and pbc) for a model of crystals, got a molecule; give the "
            "cell, or use a model of molecules"
        )


def _check_crystal(
    molecule: Molecule,
    config: CrystalSettings | None,
    sparse: Callable[[Molecule], bool] | None,
    notes: dict[str, list[str]] | None,
) -> None:
    from deeph_zero.jobs.crystals import check_crystal

    def say(text: str) -> None:
        if notes is not None:
            notes.setdefault(text, []).append(molecule.where)

    assert config is not None
    check_crystal(molecule, config, sparse=sparse is not None and sparse(molecule), say=say)


def say_notes(notes: dict[str, list[str]], reporter: "Reporter") -> None:
    """Say what :func:`read_and_check` noted, once however many crystals it is about.

    Args:
        notes: Lines, and the places each is about.
        reporter: Told.
    """
    for text, places in notes.items():
        count = f" ({len(places)} structures)" if len(places) > 1 else ""
        reporter.warning(f"{places[0]}{text}{count}")


_OF_MOLECULES = {
    "method": ("auxbasis", "density_fit", "grid_level", "break_symmetry"),
    "": ("init_guess", "model", "level_shift", "stability"),
}
"""Settings that crystals do not have."""


def check_kinds(config: LabelConfig, molecules: Sequence[Molecule]) -> None:
    """See whether there are structures of the kind that each option is for.

    Args:
        config: Settings, with what was asked for.
        molecules: The structures.

    Raises:
        InputError: If an option has nothing to act on.
    """
    if not any(molecule.periodic for molecule in molecules):
        wrong = sorted(config.crystal.model_fields_set)
        there, wanted = "molecules only", "a crystal (a cell and pbc)"
    elif all(molecule.periodic for molecule in molecules):
        own = {"method": config.method, "": config}
        wrong = [
            n
            for part, names in _OF_MOLECULES.items()
            for n in names
            if n in own[part].model_fields_set
        ]
        there, wanted = "crystals only, which have no such setting", "a molecule"
    else:
        return
    if wrong:
        raise InputError(
            f"{option_name(wrong[0])}: expected {wanted} among the structures, "
            f"got {there}; leave it out"
        )


def _check_electrons_and_basis(molecule: Molecule, method: Method) -> None:
    from deeph_zero.integrals import mole

    mole.build_mole(molecule, basis=method.basis)
    if isinstance(method.auxbasis, str) and method.density_fit:
        mole.valid_auxbasis(method.auxbasis, molecule.numbers, where=molecule.where)
