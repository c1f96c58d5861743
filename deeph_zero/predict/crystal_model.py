"""A trained model of crystals: predict with it, hand its blocks and bands on."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import torch

from deeph_zero.ao.basis_text import label_of
from deeph_zero.errors import InputError, argument
from deeph_zero.method import CrystalMethod, Method
from deeph_zero.model_files.document import CrystalDocument
from deeph_zero.model_files.meta import default_state, is_of_crystals
from deeph_zero.model_files.network import read_network
from deeph_zero.molecule import Molecule
from deeph_zero.nn.network import FockNetwork
from deeph_zero.predict.agreement import check_elements
from deeph_zero.predict.answer import check_refine
from deeph_zero.predict.crystal import CrystalPrediction, predict_crystal
from deeph_zero.predict.crystal_intervals import with_crystal_intervals
from deeph_zero.predict.crystal_sparse import LARGE, SparsePrediction
from deeph_zero.predict.given import crystal_in_state
from deeph_zero.predict.intervals import Calibration
from deeph_zero.prepared.constant import LevelConstant
from deeph_zero.prepared.crystal import PreparedCrystal, prepare_structure
from deeph_zero.prepared.sparse import prepare_sparse_structure
from deeph_zero.settings.config import FORCE_TOL, MethodConfig
from deeph_zero.settings.crystal_config import SmearedCrystalConfig
from deeph_zero.settings.crystal_method import ModelCrystals, crystal_method


def load_crystal_model(path: str | pathlib.Path) -> "CrystalModel":
    """Load a trained model of crystals; runs no code from its files.

    Args:
        path: Run folder or its ``model.safetensors``.

    Returns:
        The model.

    Raises:
        InputError: If it is not a model this version can read, or one of molecules.
    """
    network, meta = read_network(path)
    if not is_of_crystals(meta):
        raise InputError(
            f"expected a model of crystals, got one of molecules in {path}; give one that "
            "`deeph-zero fit` made of structures with a cell and pbc"
        )
    return CrystalModel(network, meta)


class CrystalModel:
    """A trained network and the Kohn-Sham problem of crystals it was trained on.

    Attributes:
        network: The network, in evaluation mode.
        meta: Contents of ``model.json`` except the architecture.
        state: Charge and 2S of structures that state none: those it was trained on.
        constant: What it says of the average potential.
        calibration: What intervals are made from; None if the model was not calibrated.

    Examples:
        >>> model = dz.load("graphene_run/")
        >>> result = model.predict(atoms)
        >>> result.certificate.energy_error_estimate, result.bands("GMKG").energies
    """

    def __init__(self, network: FockNetwork, meta: Mapping[str, Any]) -> None:
        """Put network and problem together; most people use :func:`deeph_zero.load`.

        Args:
            network: The network, on the CPU.
            meta: As :func:`~deeph_zero.model_files.meta.crystal_meta` makes it.
        """
        self.network = network
        self.meta = dict(meta)
        self.state = default_state(self.meta)
        self._config = MethodConfig.parse(self.meta["method"])
        self._crystal = CrystalDocument.parse(self.meta["crystal"])
        known = self._crystal.constant
        self.constant = LevelConstant() if known is None else LevelConstant(**dict(known))
        made = self.meta.get("calibration")
        self.calibration = None if made is None else Calibration.from_dict(made)

    def __repr__(self) -> str:
        """What it solves, and for which elements."""
        problem = f"{self._config.xc}/{label_of(self._config.basis)}"
        return f"CrystalModel({problem}, elements={self.elements})"

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers the model knows."""
        return self.network.spec.elements

    @property
    def method(self) -> Method:
        """What is solved, but for the k-points, which depend on the cell."""
        pseudo = None if self._crystal.pseudo.lower() == "none" else self._crystal.pseudo
        return Method(
            xc=self._config.xc,
            basis=self._config.basis,
            density_fit=False,
            grid_level=None,
            unrestricted=True if self._config.unrestricted else None,
            smearing=self._crystal.smearing,
            crystal=CrystalMethod(pseudo=pseudo, ke_cutoff=self._crystal.ke_cutoff),
        )

    def iterate_on(self, *, two_grids: bool) -> None:
        """Choose how later SCFs are made; the answers stay the same.

        Args:
            two_grids: With a coarse grid beside the target one, or on the target grid alone.
        """
        self._config = self._config.model_copy(update={"two_grids": two_grids})

    def settings(self, asked: SmearedCrystalConfig | None = None) -> ModelCrystals:
        """The model's settings with what a user asks in their place.

        Args:
            asked: k-points, cutoff, dimension, smearing; what was not set is the model's.

        Returns:
            What is solved.
        """
        given = set() if asked is None else asked.model_fields_set
        over = {} if asked is None else {name: getattr(asked, name) for name in given}
        own = SmearedCrystalConfig(
            **{name: getattr(self._crystal, name) for name in SmearedCrystalConfig.model_fields}
        )
        if given & {"kmesh", "kspacing"} or own.kmesh is not None:
            over = {"kmesh": None, "kspacing": None} | over
        crystal = own.model_copy(update=over)
        return ModelCrystals(
            method=self._config,
            crystal=crystal,
            smearing=crystal.smearing,
            spacings=self._crystal.spacings,
        )

    def predict(
        self,
        crystal: object,
        *,
        kmesh: tuple[int, int, int] | None = None,
        refine: float | None = None,
        certificate: bool = True,
        coupled: bool = True,
        forces: bool = False,
    ) -> CrystalPrediction:
        """Electronic structure of one crystal.

        Args:
            crystal: An ``ase.Atoms`` with a cell and pbc, a built ``pbc.gto.Cell`` (its atoms and
                lattice; basis and pseudopotentials are the model's), or a
                :class:`~deeph_zero.molecule.Molecule` with a lattice.
            kmesh: k-points; None: as dense as in training.
            refine: Finish with SCF until the norm of the orbital gradient is below this (Eh).
            certificate: Spend one Fock build on energy, orbital gradient and error estimate.
            coupled: Spend a response build on a better error estimate.
            forces: Nuclear forces of the refined energy; refines to 1e-6 unless ``refine`` says
                otherwise.

        Returns:
            The prediction.

        Raises:
            InputError: If it is no crystal, has elements the model does not know, or cannot be
                computed.
            ComputationError: If the network's output is not finite.
        """
        asked = None if kmesh is None else SmearedCrystalConfig.parse({"kmesh": kmesh})
        return self.predict_structure(
            crystal_in_state(crystal, self.state),
            self.settings(asked),
            refine=refine,
            certificate=certificate,
            coupled=coupled,
            forces=forces,
        )

    def predict_structure(
        self,
        molecule: Molecule,
        settings: ModelCrystals,
        *,
        refine: float | None = None,
        certificate: bool = True,
        coupled: bool = True,
        forces: bool = False,
        say: Callable[[str], None] | None = None,
    ) -> CrystalPrediction:
        """Predict a structure that was read, with settings of :meth:`settings`.

        Args:
            molecule: With a lattice.
            settings: What is solved.
            refine: As in :meth:`predict`.
            certificate: As in :meth:`predict`.
            coupled: As in :meth:`predict`.
            forces: As in :meth:`predict`.
            say: Takes a warning of one line.

        Returns:
            The prediction.

        Raises:
            InputError: As in :meth:`predict`.
            ComputationError: As in :meth:`predict`.
        """
        if forces and refine is None:
            refine = FORCE_TOL
        check_refine(refine)
        method = crystal_method(molecule, settings)
        found = predict_crystal(
            self.network,
            self.prepare(molecule, method, say=say),
            molecule,
            method,
            refine=refine,
            certificate=certificate,
            coupled=coupled,
            forces=forces,
        )
        return with_crystal_intervals(found, self.calibration, self._crystal.smearing)

    def predict_sparse(
        self, crystal: object, *, say: Callable[[str], None] | None = None
    ) -> SparsePrediction:
        """A crystal of any size: H and S as sparse blocks, at a cost linear in atoms.

        No k-point, density or Fock build: levels come from the blocks, by sparse factorisations.

        Args:
            crystal: As in :meth:`predict`.
            say: Takes a warning of one line.

        Returns:
            The prediction.

        Raises:
            InputError: If the model reads more than the geometry, or as in :meth:`predict`.
        """
        molecule = crystal_in_state(crystal, self.state)
        return self.predict_sparse_structure(molecule, self.settings(), say=say)

    def is_large(self, molecule: Molecule) -> bool:
        """Whether a crystal is one for :meth:`predict_sparse`: dense H(k) would be too large.

        Args:
            molecule: With a lattice.

        Returns:
            True for neutral ones beyond :data:`~deeph_zero.predict.crystal_sparse.LARGE` functions,
            of a model with geometry inputs.
        """
        spec = self.network.spec
        if spec.inputs != "geometry" or molecule.charge:
            return False
        check_elements(molecule, self.elements)
        return sum(spec.layout.sizes([int(z) for z in molecule.numbers])) > LARGE

    def predict_sparse_structure(
        self,
        molecule: Molecule,
        settings: ModelCrystals,
        *,
        say: Callable[[str], None] | None = None,
    ) -> SparsePrediction:
        """Sparse blocks of a structure that was read, with settings of :meth:`settings`.

        Args:
            molecule: With a lattice.
            settings: What is solved.
            say: Takes a warning of one line.

        Returns:
            The prediction.

        Raises:
            InputError: As in :meth:`predict_sparse`.
        """
        spec = self.network.spec
        if spec.inputs != "geometry":
            raise InputError(
                f"expected a model with geometry inputs for sparse blocks, got {spec.inputs} "
                f"inputs; train one with {argument('inputs', 'geometry')}, or use predict"
            )
        check_elements(molecule, self.elements)
        method = crystal_method(molecule, settings)
        ready = prepare_sparse_structure(
            molecule, method, spec.layout, cutoff=spec.cutoff, dtype=self.network.dtype, say=say
        )
        ready = ready.with_constant(self.constant.of(molecule.numbers.tolist(), ready.volume))
        with torch.no_grad():
            correction = self.network(ready.inputs)[0]
        return SparsePrediction(
            molecule=molecule,
            method=method,
            prepared=ready,
            hamiltonian=ready.hamiltonian(correction),
        )

    def prepare(
        self, molecule: Molecule, method: Method, say: Callable[[str], None] | None = None
    ) -> PreparedCrystal:
        """A crystal as the network reads it; spends no Fock build.

        Args:
            molecule: With a lattice.
            method: What is solved.
            say: Takes a warning of one line.

        Returns:
            The prepared crystal.

        Raises:
            InputError: If the model does not know an element, or it cannot be computed.
        """
        check_elements(molecule, self.elements)
        spec = self.network.spec
        ready = prepare_structure(
            molecule,
            method,
            spec.layout,
            cutoff=spec.cutoff,
            dtype=self.network.dtype,
            features=spec.inputs,
            say=say,
        )
        return ready.with_constant(self.constant.of(molecule.numbers.tolist(), ready.volume))
