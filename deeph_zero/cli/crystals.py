"""Options that crystals, or models of them, do not have: each is refused in one line."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deeph_zero.errors import InputError
from deeph_zero.settings.base import option_name
from deeph_zero.settings.config import FitConfig, PredictConfig
from deeph_zero.settings.evaluate_config import EvaluateConfig

if TYPE_CHECKING:
    from deeph_zero.molecule import Molecule

_TRAINING: Mapping[str, tuple[str, ...]] = {
    "method": ("auxbasis", "density_fit", "grid_level", "break_symmetry"),
    "model": ("elements",),
    "": (
        "stream", "sampling", "temperature", "calibration", "workers", "memory_mb", "disk_mb",
        "jk_dtype", "devices", "budget", "ema", "supervised_blocks", "supervised_orbital_energy",
        "stream_visits",
    ),
}  # fmt: skip
_PREDICTING = ("response", "compare_start", "chkfile", "molden", "cube")
_LOSSES = ("auto", "supervised")


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
    _check_labels(config, molecules)
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
                if name == "calibration" and section.calibration == 0:
                    continue
                raise InputError(
                    f"{option_name(name)}: expected a molecule, got crystals, which have no such "
                    "setting; leave it out"
                )
    if config.loss not in _LOSSES:
        raise InputError(
            f"--loss: expected auto or supervised with crystals, got {config.loss}; auto learns "
            "from their own SCF, without labels"
        )
    if config.runtime.device.startswith("cuda"):
        raise InputError(
            f"--device: expected cpu with crystals, got {config.runtime.device}; their networks "
            "work on the CPU"
        )


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
    missing = [m for m in molecules if labels.index(m) is None]
    if missing:
        raise InputError(
            f"{missing[0].where}expected a label for every crystal, got none for "
            f"{len(missing)} of {len(molecules)}; label them first"
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
        if config.runtime.device.startswith("cuda"):
            raise InputError(
                f"--device: expected cpu with crystals, got {config.runtime.device}; their "
                "networks work on the CPU"
            )
    else:
        wrong = sorted(config.crystal.model_fields_set)
        wanted, got = "a model of crystals", "one of molecules"
    if wrong:
        raise InputError(f"{option_name(wrong[0])}: expected {wanted}, got {got}; leave it out")


def check_evaluating(config: EvaluateConfig) -> None:
    """See whether the options of an evaluation are for models of crystals.

    Args:
        config: Settings.

    Raises:
        InputError: If the computation is asked for on a GPU.
    """
    if config.runtime.device.startswith("cuda"):
        raise InputError(
            f"--device: expected cpu with crystals, got {config.runtime.device}; their networks "
            "work on the CPU"
        )
