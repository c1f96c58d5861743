"""The settings of every command: names, defaults, allowed ranges."""

import dataclasses
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from deeph_zero.method import FINEST_GRID, Method
from deeph_zero.molecule import State
from deeph_zero.settings.base import Settings
from deeph_zero.settings.crystal_config import (
    CrystalConfig,
    SmearedCrystalConfig,
    TrainingCrystalConfig,
)
from deeph_zero.settings.effects import unread_in_prediction
from deeph_zero.settings.loss_terms import LOSSES
from deeph_zero.settings.value_types import (
    Basis,
    Charge,
    CloseContacts,
    Cube,
    Duration,
    EngineName,
    FileName,
    FrameCharge,
    FrameSpin,
    HeldOut,
    Loss,
    Name,
    NotNegative,
    Spin,
    Workers,
)

FORCE_TOL = 1e-6
"""Orbital-gradient norm (Eh) to refine to before forces, when no other was asked for: the error of
a force is of first order in what is left of it."""

LEAST_GRADIENT = 1e-11
"""Least orbital-gradient norm (Eh) to ask of an SCF, which rounding in double precision ends soon
below: HCN (PBE/def2-SVP) is at 2e-12 after nine cycles, and not at 1e-15 after a hundred."""

FEWEST_CALIBRATION = 19
"""No finite interval of 95 % coverage comes from fewer structures: n >= 1 / 0.05 - 1."""


class MethodConfig(Settings):
    """What is solved: the discretised Kohn-Sham problem."""

    basis: Basis = Field(default=Method.basis, description="Orbital basis set that PySCF knows.")
    xc: Name = Field(
        default=Method.xc, description="Exchange-correlation functional, a name PySCF knows."
    )
    auxbasis: Basis | None = Field(
        default=None,
        description="Fitting basis; none means PySCF's choice for this basis and functional.",
    )
    density_fit: bool = Field(
        default=Method.density_fit, description="Density fitting (four-centre integrals if off)."
    )
    grid_level: int = Field(
        default=3, ge=0, le=FINEST_GRID, description="PySCF grid level, 0 (coarse) to 9."
    )
    charge: Charge = 0
    spin: Spin = 0
    unrestricted: bool = Field(
        default=False, description="Unrestricted Kohn-Sham even when spin is 0."
    )
    break_symmetry: bool = Field(
        default=Method.break_symmetry,
        description="Start from a perturbed guess that breaks spin and spatial symmetry.",
    )
    two_grids: bool = Field(
        default=Method.two_grids,
        description="Iterate on a coarse grid and correct it on the target grid: the same answer "
        "for a third of the fine Fock builds. Off iterates on the target grid alone.",
    )

    def as_method(self) -> Method:
        """The problem; a broken symmetry needs two spins."""
        names = {field.name for field in dataclasses.fields(Method)}
        given: dict[str, Any] = {k: v for k, v in self if k in names}
        given["unrestricted"] = True if self.unrestricted or self.break_symmetry else None
        return Method(**given)

    @property
    def state(self) -> State:
        """Charge and 2S of structures that state none."""
        return State(self.charge, self.spin)


class RuntimeConfig(Settings):
    """How it is run: device, threads, seed, time."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = Field(
        default="auto",
        description="auto, cpu, cuda or cuda:INDEX.",
        examples=["auto, cpu, cuda or cuda:1"],
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="CPU threads for torch, PySCF and workers together.",
    )
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Seed of every random number.")
    max_time: Duration | None = Field(
        default=None,
        description="Wall time for the whole command, seconds (or 10m, 1h).",
        examples=["a positive time such as 90 (seconds), 10m or 1h"],
    )
    verbose: int = Field(
        default=0, ge=-1, le=9, description="-1 quiet, 0 normal, 1 or more detailed."
    )
    started: float | None = Field(
        default=None,
        exclude=True,
        description="time.monotonic() when the command began (max_time).",
    )


class ModelConfig(Settings):
    """The network, where it is a new one: ``init`` and ``--resume`` bring their own."""

    inputs: Literal["physics", "geometry"] = Field(
        default="physics",
        description="What the network reads: physics (matrices before any SCF, one Fock build) or "
        "geometry (elements and positions: faster, less accurate).",
    )
    interaction: Literal["so2", "tensor-product"] = Field(
        default="so2",
        description="How atoms exchange messages: so2 (linear maps in bond frames) or "
        "tensor-product (with spherical harmonics; slower).",
    )
    size: Literal["tiny", "small", "medium", "large"] = Field(
        default="small", description="Widths and depth of a new network."
    )
    cutoff: float = Field(
        default=14.0, gt=0, le=100, description="Pairs further apart get no correction, bohr."
    )
    dtype: Literal["float32", "float64"] = Field(
        default="float32", description="Number format of the network's weights."
    )
    elements: tuple[str, ...] = Field(
        default=(),
        description="Elements for which the network keeps room, so that a later run with init can "
        "add them; needed for those with more shells than any element of the structures.",
    )


class DataConfig(Settings):
    """What is trained on."""

    train: tuple[FileName, ...] = Field(default=(), description="Structure files to train on.")
    labels: tuple[FileName, ...] = Field(
        default=(), description="Files of `deeph-zero label`, matched to the structures."
    )
    validation: HeldOut | None = Field(
        default=None,
        description="Structures to measure the model on while it trains: a file, or the fraction "
        "of the frames that is kept out for it. The run ends with the weights that were best at "
        "them.",
        examples=["a file, or a fraction above 0 and at most 0.5"],
    )
    allow_close_contacts: CloseContacts = False


class TrainingConfig(Settings):
    """How it is trained."""

    loss: Loss = Field(
        default="auto",
        description=f"{', '.join(LOSSES)}, or a mix NAME[:WEIGHT][@START[-END]],...",
    )
    epochs: int | None = Field(
        default=None, ge=1, description="Passes over the structures, at most."
    )
    steps: int | None = Field(default=None, ge=1, description="Optimiser steps, at most.")
    conv_tol_grad: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Orbital gradient (rms, Eh) at which a structure is converged; none means "
        "1e-5 for up to 8 structures, which stops the run, and 1e-3 for more.",
    )
    learning_rate: float | None = Field(
        default=None, gt=0, le=1, description="Peak learning rate; none means the engine's choice."
    )
    batch_size: int | None = Field(
        default=None, ge=1, description="Structures per step; none means the engine's choice."
    )
    devices: int = Field(
        default=1, ge=1, le=64, description="Processes that share the structures (CPU)."
    )
    workers: int = Field(
        default=0, ge=0, le=256, description="Processes that compute integrals ahead of need."
    )
    memory_mb: float | None = Field(
        default=None,
        gt=0,
        description="Memory for all geometries, MB; none means 60 % of what is free. Integrals "
        "that do not fit are computed again when needed.",
    )
    disk_mb: float = Field(
        default=0.0,
        ge=0,
        description="Disk space in the run folder for integrals that do not fit in memory, MB.",
    )
    jk_dtype: Literal["float32", "float64"] = Field(
        default="float64",
        description="Number format that fitted two-electron integrals are kept in while training; "
        "float32 takes a sixth of the memory. Certificates use float64.",
    )
    calibration: int | None = Field(
        default=None,
        ge=0,
        le=100_000,
        description="Frames kept out of training and refined at its end, for calibrated intervals; "
        "none means 20 of 100 or more, 0 none; 95 % intervals need 19. Of crystals with samples no "
        "frame is kept out: as many further copies are drawn and refined.",
    )
    init: FileName | None = Field(
        default=None,
        description="Model to start from: run folder, file, or the name of one that comes with the "
        "package. Basis, functional, fitting and grid are its own where none are stated.",
    )
    skip_bad: bool = Field(default=False, description="Leave bad frames out instead of stopping.")
    samples: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="Extra geometries displaced at random per structure.",
    )
    stream: bool = Field(
        default=False,
        description="Replace displaced copies by new ones while training; memory stays the same.",
    )
    stream_visits: int = Field(
        default=8, ge=1, le=10_000, description="Training steps that see a copy of a stream."
    )
    displace: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="Standard deviation of each displaced coordinate, angstrom.",
    )
    ema: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Decay of averaged weights at the peak learning rate, 0 for none; none means "
        "0.99 above 8 structures.",
    )
    budget: Literal["adaptive", "full"] = Field(
        default="adaptive",
        description="Builds for targets: only where they limit the network, or until confirmed.",
    )
    supervised_blocks: tuple[NotNegative, NotNegative, NotNegative] = Field(
        default=(0.0, 0.3, 0.0),
        description="Supervised loss: weights of the occ-occ, occ-virt and virt-virt block.",
    )
    closed_form: bool | None = Field(
        default=None,
        description="Where targets do not move with the network, solve its last linear maps in "
        "closed form at the end. Off keeps what the gradient found, with the loss's weights; none "
        "means on, but off where a model to start from knows the method and all elements.",
    )
    supervised_orbital_energy: float = Field(
        default=0.0, ge=0, description="Supervised loss: weight of the orbital energies."
    )
    sampling: Literal["displace", "normal-modes"] = Field(
        default="displace",
        description="How extra geometries are made: independent coordinates or thermal vibrations.",
    )
    temperature: float = Field(
        default=300.0, ge=0, le=10_000, description="Of vibrations (normal-modes), kelvin."
    )

    @pydantic.model_validator(mode="after")
    def _one_length(self) -> "TrainingConfig":
        if self.epochs is not None and self.steps is not None:
            raise ValueError(
                "--epochs and --steps exclude each other; "
                f"got --epochs {self.epochs} and --steps {self.steps}; give one of them"
            )
        if self.stream and not self.samples:
            raise ValueError(
                "--stream: expected --samples N beside it, got 0; say how many copies of a "
                "structure there are at a time"
            )
        if self.stream and self.devices > 1:
            raise ValueError(
                f"--stream: expected one process, got {self.devices}; leave training.devices out"
            )
        if self.workers and self.devices > 1:
            raise ValueError(f"--workers: expected 0 with devices, got {self.workers}; drop one")
        if self.calibration is not None and 0 < self.calibration < FEWEST_CALIBRATION:
            raise ValueError(
                f"--calibration: expected 0, or {FEWEST_CALIBRATION} or more for 95 % intervals, "
                f"got {self.calibration}"
            )
        return self


class FitConfig(TrainingConfig):
    """Everything the training engine needs: how it is trained, what, and where."""

    method: MethodConfig = MethodConfig()
    crystal: TrainingCrystalConfig = TrainingCrystalConfig()
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    @property
    def solved(self) -> Method:
        """The problem that is solved."""
        return self.method.as_method()

    @property
    def smearing(self) -> float:
        """Width of a crystal's Fermi occupations, Eh."""
        return self.crystal.smearing

    @pydantic.model_validator(mode="after")
    def _one_process_validates(self) -> "FitConfig":
        if self.data.validation is not None and self.devices > 1:
            raise ValueError(
                f"data.validation: expected training.devices = 1 with it, got {self.devices}; "
                "leave one of them out"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _can_round(self) -> "FitConfig":
        if self.jk_dtype == "float32" and not self.method.density_fit:
            raise ValueError(
                "--jk-dtype: expected float64 with --no-density-fit, got float32; exact integrals "
                "are not rounded, leave one of them out"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _can_break_symmetry(self) -> "FitConfig":
        if self.method.break_symmetry and self.model.inputs == "geometry":
            raise ValueError(
                "--break-symmetry: expected --inputs physics with it, got geometry: elements and "
                "positions have the symmetry that is to be broken; leave one of them out"
            )
        return self


class PredictConfig(Settings):
    """Prediction with a trained model."""

    runtime: RuntimeConfig = RuntimeConfig()
    crystal: SmearedCrystalConfig = SmearedCrystalConfig()
    refine: float | None = Field(
        default=None,
        ge=LEAST_GRADIENT,
        le=1,
        description="Finish with SCF to this orbital gradient (conv_tol_grad), Eh; rounding "
        "lets none below 1e-11 be reached.",
    )
    certificate: bool = Field(
        default=True, description="One Fock build: energy, gradient, error estimate."
    )
    coupled: bool = Field(
        default=True, description="Coupled error estimate (one response build more)."
    )
    forces: bool = Field(
        default=False,
        description="Forces of the refined energy; refines to 1e-6 unless --refine says otherwise.",
    )
    response: bool = Field(
        default=False,
        description="Polarisability and dipole derivatives; with --refine those of the refined "
        "state, with frequencies and infrared intensities, else estimates with their errors.",
    )
    compare_start: bool = Field(
        default=False,
        description="With --refine: also count the SCF cycles from the standard start.",
    )
    chkfile: Name | None = Field(
        default=None, description="Write PySCF checkpoint files under this name."
    )
    molden: Name | None = Field(default=None, description="Write Molden files under this name.")
    cube: tuple[Cube, ...] = Field(
        default=(),
        description="Write a cube file: density, spin-density, homo or lumo (repeatable).",
        examples=["density, spin-density, homo or lumo"],
    )
    workers: Workers = Field(
        default=1,
        description="Processes that share the structures, and the threads; on a GPU those that "
        "make integrals for it (left out: as many as the threads allow).",
    )
    engine: EngineName = "local"
    charge: FrameCharge = None
    spin: FrameSpin = None
    allow_close_contacts: CloseContacts = False
    two_grids: bool = Field(
        default=True, description="Iterate on two grids, as MethodConfig has it."
    )

    @property
    def plain(self) -> bool:
        """No Fock build at a prediction is asked for."""
        return not (self.certificate or self.forces or self.refine is not None)

    @pydantic.model_validator(mode="after")
    def _belong_together(self) -> "PredictConfig":
        idle = unread_in_prediction(self)
        if idle is not None:
            raise ValueError(idle)
        return self


class LabelConfig(Settings):
    """Converged reference data from this package's own SCF."""

    method: MethodConfig = MethodConfig()
    crystal: CrystalConfig = CrystalConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    conv_tol: float = Field(default=1e-9, gt=0, le=1, description="Energy change to stop at, Eh.")
    conv_tol_grad: float | None = Field(
        default=None,
        ge=LEAST_GRADIENT,
        le=1,
        description="Orbital gradient to stop at, Eh; none means sqrt(conv_tol). Rounding lets "
        "none below 1e-11 be reached.",
    )
    max_cycle: int = Field(default=100, ge=1, le=10_000, description="SCF iterations at most.")
    init_guess: Literal["minao", "atom", "huckel", "core"] = Field(
        default="minao",
        description="Where the SCF starts: superposed atoms, atomic or Hückel orbitals, or the "
        "core Hamiltonian's.",
    )
    model: Name | None = Field(
        default=None,
        description="Start at this model's density instead (a run folder, a file, or the name of "
        "one that comes with the package).",
    )
    smearing: float = Field(
        default=0.0, ge=0, le=1, description="Width of Fermi occupations, Eh; 0 fills by aufbau."
    )
    level_shift: float = Field(
        default=0.0, ge=0, le=10, description="Raise virtual orbitals while iterating, Eh."
    )
    stability: bool = Field(
        default=False,
        description="Check each converged density and go down from saddle points.",
    )
    workers: Workers = Field(
        default=1,
        description="Processes that share the structures, and the threads; on a GPU those that "
        "make integrals for it (left out: as many as the threads allow).",
    )
    engine: EngineName = "local"
    skip_bad: bool = Field(default=False, description="Do not count bad frames as a failure.")
    allow_close_contacts: CloseContacts = False

    @property
    def solved(self) -> Method:
        """The problem that is solved."""
        return dataclasses.replace(self.method.as_method(), smearing=self.smearing)

    @pydantic.model_validator(mode="after")
    def _one_start(self) -> "LabelConfig":
        if self.model is not None and self.init_guess != "minao":
            raise ValueError(
                "--model and --init-guess exclude each other; "
                f"got --init-guess {self.init_guess}; give one of them"
            )
        if self.model is not None and self.method.break_symmetry:
            raise ValueError(
                "--model and --break-symmetry exclude each other: a model's density has the "
                "symmetry that is to be broken; give one of them"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _one_occupation(self) -> "LabelConfig":
        if self.smearing > 0 and self.stability:
            raise ValueError(
                "--smearing and --stability exclude each other: a smeared density is no "
                f"determinant; got --smearing {self.smearing:g}; give one of them"
            )
        return self
