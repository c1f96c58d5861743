"""Options that crystals, or models of them, do not have: each is refused in one line."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deeph_zero.errors import InputError, argument
from deeph_zero.settings.base import option_name
from deeph_zero.settings.config import FitConfig, PredictConfig
from deeph_zero.settings.crystal_config import SmearedCrystalConfig
from deeph_zero.settings.crystal_method import crystal_method
from deeph_zero.settings.evaluate_config import EvaluateConfig

if TYPE_CHECKING:
    from deeph_zero.data.crystal_labels import CrystalLabels
    from deeph_zero.molecule import Molecule
    from deeph_zero.predict.crystal_model import CrystalModel

_TRAINING: Mapping[str, tuple[str, ...]] = {
    "method": ("auxbasis", "density_fit", "grid_level", "break_symmetry"),
    "model": ("elements",),
    "": (
        "stream", "sampling", "temperature", "workers", "memory_mb", "disk_mb",
        "jk_dtype", "devices", "budget", "ema", "supervised_blocks", "supervised_orbital_energy",
        "closed_form",
        "stream_visits",
    ),
}  # fmt: skip
_PREDICTING = ("response", "compare_start", "chkfile", "molden", "cube")
_LOSSES = ("auto", "supervised")
_AS_TRAINED = (
    "{} are as dense as in training: the network corrects matrices made there, errors grow with "
    "the difference"
)


def check_training_kind(config: FitConfig, molecules: "Sequence[Molecule]") -> bool:
    """See whether a run is of one kind of structures, and its options of the same.

    Args:
        config: Every setting.
        molecules: What is trained on.

    Returns:
        Whether they are crystals.

    Raises:
        InputError: If there are both kinds, or a setting is of the other one.
    """
    periodic = [m.periodic for m in molecules]
    if not any(periodic):
        _refuse_of_crystals(config)
        return False
    if not all(periodic):
        other = next(m for m in molecules if not m.periodic)
        raise InputError(
            f"{other.where}expected crystals only beside a crystal, got a molecule; train "
            "molecules and crystals in runs of their own"
        )
    _refuse_of_molecules(config)
    _check_functional(config.method.xc)
    _check_labels(config, molecules)
    _check_calibration(config, len(molecules))
    return True


def _refuse_of_crystals(config: FitConfig) -> None:
    default = type(config.crystal)()
    for name in sorted(config.crystal.model_fields_set):
        if getattr(config.crystal, name) != getattr(default, name):
            raise InputError(
                f"{option_name(name)}: expected a crystal (a cell and pbc) among the structures, "
                "got molecules only; leave it out"
            )


def _refuse_of_molecules(config: FitConfig) -> None:
    for part, names in _TRAINING.items():
        section: Any = getattr(config, part) if part else config
        for name in names:
            field = type(section).model_fields[name]
            if name in section.model_fields_set and getattr(section, name) != field.default:
                raise InputError(
                    f"{option_name(name)}: expected a molecule, got crystals, which have no such "
                    "setting; leave it out"
                )
    if config.loss not in _LOSSES:
        raise InputError(
            f"--loss: expected auto or supervised with crystals, got {config.loss}; auto learns "
            "from their own SCF, without labels"
        )
    _refuse_device(config.runtime.device)


def _refuse_device(device: str) -> None:
    if device.startswith("cuda"):
        raise InputError(
            f"--device: expected cpu with crystals, got {device}; their networks work on the CPU"
        )


def _check_functional(xc: str) -> None:
    from deeph_zero.integrals.libxc import describe
    from deeph_zero.integrals.periodic.exchange import has_exchange

    if has_exchange(describe(xc)):
        raise InputError(
            f"{argument('xc', xc)}: expected a semilocal functional for a network of crystals, got "
            "exact exchange; choose for example pbe"
        )


def _check_calibration(config: FitConfig, count: int) -> None:
    from deeph_zero.train.crystal_calibrate import frames_kept_out

    frames_kept_out(config, count)


def _check_labels(config: FitConfig, molecules: "Sequence[Molecule]") -> None:
    files = config.data.labels
    if (config.loss == "supervised") != bool(files):
        got = "labels" if files else "none"
        raise InputError(
            "data.labels: expected files of labels if and only if the loss is supervised, got "
            f"{got} with {config.loss}; change one of them"
        )
    if not files:
        return
    from deeph_zero.data.crystal_labels import CrystalLabels

    if config.samples:
        raise InputError(
            f"--samples: expected 0 with labels of crystals, got {config.samples}: displaced "
            "copies have no labels; leave one out"
        )
    labels = CrystalLabels(files)
    places = [labels.index(m) for m in molecules]
    if None in places:
        raise InputError(
            f"{molecules[places.index(None)].where}expected a label for every crystal, got none "
            f"for {places.count(None)} of {len(molecules)}; label them first"
        )
    for molecule, k in zip(molecules, places, strict=True):
        assert k is not None
        method = crystal_method(molecule, config)
        assert method.crystal is not None
        found = labels.label(k, method)
        if found.kmesh != method.crystal.kmesh:
            raise InputError(
                f"{molecule.where}expected a label at k-points {method.crystal.kmesh}, got "
                f"{found.kmesh}; give {argument('kmesh', ' '.join(map(str, found.kmesh)))}"
            )


def check_predicting(config: PredictConfig, *, crystals: bool) -> None:
    """See whether the options of a prediction are for this kind of model.

    Args:
        config: Settings.
        crystals: Whether the model is one of crystals.

    Raises:
        InputError: If one is not.
    """
    if crystals:
        wrong = [name for name in _PREDICTING if getattr(config, name)]
        wanted, got = "a model of molecules", "one of crystals"
        _refuse_device(config.runtime.device)
    else:
        wrong = sorted(config.crystal.model_fields_set)
        wanted, got = "a model of crystals", "one of molecules"
    if wrong:
        raise InputError(f"{option_name(wrong[0])}: expected {wanted}, got {got}; leave it out")


def say_other_kpoints(
    model: "CrystalModel",
    molecules: "Sequence[Molecule]",
    asked: SmearedCrystalConfig,
    say: Callable[[str], None],
    *,
    certificate: bool = True,
) -> None:
    """One line about k-points that are denser or sparser than those the network learnt at.

    Args:
        model: The model.
        molecules: What is predicted.
        asked: Settings of crystals that were asked for.
        say: Takes the line.
        certificate: Whether there will be one to look at.
    """
    stated = [name for name in ("kmesh", "kspacing") if name in asked.model_fields_set]
    if not stated:
        return
    for molecule in molecules:
        mine, its = (
            crystal_method(molecule, settings).crystal
            for settings in (model.settings(asked), model.settings())
        )
        if mine and its and mine.kmesh and its.kmesh and mine.kmesh != its.kmesh:
            look = "see the certificate, or " if certificate else ""
            say(
                f"{molecule.where}k-points {_shown(mine.kmesh)} are asked for, "
                f"{_AS_TRAINED.format(_shown(its.kmesh))}; {look}leave {argument(stated[0])} out"
            )
            return


def say_other_grids(
    model: "CrystalModel",
    molecules: "Sequence[Molecule]",
    labels: "CrystalLabels",
    say: Callable[[str], None],
) -> None:
    """Lines about labels at other k-points, or on another FFT grid, than the model's own.

    Args:
        model: The model.
        molecules: What is compared.
        labels: With what; a crystal may have none.
        say: Takes a line, one for each kind of grid.
    """
    from deeph_zero.integrals.periodic.cell import build_cell

    settings, left = model.settings(), {"kmesh", "fft"}
    cutoff = settings.crystal.ke_cutoff
    own = f"with {argument('ke_cutoff', f'{cutoff:g}')}" if cutoff else "without --ke-cutoff"
    for molecule in molecules:
        index = labels.index(molecule)
        if index is None or not left:
            continue
        method = crystal_method(molecule, settings)
        kmesh, fft = labels.check(index, method)
        its = method.crystal.kmesh if method.crystal else None
        if "kmesh" in left and kmesh and its and kmesh != its:
            left.remove("kmesh")
            say(
                f"{molecule.where}its label is at k-points {_shown(kmesh)}, "
                f"{_AS_TRAINED.format(_shown(its))}; label it at these to see the model's own"
            )
        if "fft" not in left or fft is None:
            continue
        rows = 3 if molecule.pbc[2] else 2  # the box of a layer is free
        mesh = tuple(int(n) for n in build_cell(molecule, method).mesh)
        if mesh[:rows] != fft[:rows]:
            left.remove("fft")
            say(
                f"{molecule.where}its label is of a grid of {_shown(fft)} points, the model's has "
                f"{_shown(mesh)}: errors contain what these differ by; label it {own}"
            )


def _shown(mesh: "Sequence[int]") -> str:
    return " ".join(map(str, mesh))


def check_evaluating(config: EvaluateConfig) -> None:
    """See whether the options of an evaluation are for models of crystals.

    Args:
        config: Settings.

    Raises:
        InputError: If the computation is asked for on a GPU.
    """
    _refuse_device(config.runtime.device)
