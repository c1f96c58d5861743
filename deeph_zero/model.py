"""A trained model: load it, predict with it, hand its density to PySCF."""

import dataclasses
import pathlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pyscf import gto, scf
from torch import Tensor

from deeph_zero.ao.basis_text import label_of
from deeph_zero.errors import InputError, refuse_unknown
from deeph_zero.host.runtime import resolve_device
from deeph_zero.integrals.mole import build_mole, molecule_of
from deeph_zero.integrals.portable import Portable
from deeph_zero.integrals.supported import check_molecule
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.batch.ks_batch import gains_together
from deeph_zero.ks.given import by_spin
from deeph_zero.ks.parallel.room import TOGETHER, Room
from deeph_zero.ks.response.nuclear import FockGradient
from deeph_zero.method import Method
from deeph_zero.model_files import registry
from deeph_zero.model_files.card import Card
from deeph_zero.model_files.meta import default_state, is_of_crystals
from deeph_zero.model_files.network import mismatch, read_network
from deeph_zero.molecule import Molecule
from deeph_zero.nn.network import FockNetwork
from deeph_zero.predict import agreement, meanfield, single
from deeph_zero.predict.answer import Asked, At, answer
from deeph_zero.predict.crystal_model import CrystalModel
from deeph_zero.predict.intervals import Calibration
from deeph_zero.predict.model_gradient import model_gradient
from deeph_zero.predict.single import Prediction
from deeph_zero.predict.together import check_predicted, predict_together
from deeph_zero.prepared.molecule import Means, Prepared, prepare
from deeph_zero.prepared.several import Several
from deeph_zero.settings.config import MethodConfig
from deeph_zero.types import AOMatrix

_SETTINGS = [field.name for field in dataclasses.fields(Asked)]


def load(path: str | pathlib.Path, *, device: str | torch.device = "cpu") -> "Model":
    """Load a trained model of molecules; runs no code from its files, nothing from a network.

    Args:
        path: Run folder, its ``model.safetensors``, or the name of a model that comes with the
            package (``deeph-zero models`` lists them) where nothing is called so in this folder.
        device: Where the network and the integrals go.

    Returns:
        The model.

    Raises:
        InputError: If it is not a model this version can read; one line says why.
    """
    found = load_any(path, device=device)
    if isinstance(found, CrystalModel):
        raise InputError(
            f"expected a model of molecules, got one of crystals in {path}; predict, evaluate and "
            "bands take it, with crystals"
        )
    return found


def load_any(
    path: str | pathlib.Path, *, device: str | torch.device = "cpu"
) -> "Model | CrystalModel":
    """Load a trained model, of molecules or of crystals; runs no code from its files.

    Args:
        path: As for :func:`load`.
        device: Where a model of molecules goes; one of crystals works on the CPU.

    Returns:
        The model.

    Raises:
        InputError: If it is not a model this version can read; one line says why.
    """
    where = resolve_device(device)
    network, meta = read_network(path)
    if is_of_crystals(meta):
        return CrystalModel(network, meta)
    card = registry.card(str(path)) if registry.given_by_name(path) else None
    try:
        method = MethodConfig.parse(meta["method"]).as_method()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise mismatch(path, error) from error
    return Model(network.to(where), method, meta, device=where, card=card)


class Model:
    """A trained network and the Kohn-Sham problem it was trained on.

    Attributes:
        network: The network, in evaluation mode.
        method: What is solved.
        meta: Contents of ``model.json`` except the architecture.
        state: Charge and 2S of structures that state none: those it was trained on.
        calibration: What intervals are made from; None if the model was not calibrated.
        card: What a model that comes with the package was made from and knows; None of others.

    Examples:
        >>> model = dz.load("run/")
        >>> result = model.predict(mol)
        >>> mf.kernel(dm0=model.guess(mf))
    """

    def __init__(
        self,
        network: FockNetwork,
        method: Method,
        meta: Mapping[str, Any] | None = None,
        *,
        device: str | torch.device = "cpu",
        card: Card | None = None,
    ) -> None:
        """Put network and problem together; most people use :func:`load`.

        Args:
            network: The network, on ``device``.
            method: What it was trained on.
            meta: Further facts.
            device: Where to compute.
            card: What it knows, if it comes with the package.
        """
        self.card = card
        self.network = network
        self.method = method
        self.meta = dict(meta or {})
        self.state = default_state(self.meta)
        found = self.meta.get("calibration")
        self.calibration = None if found is None else Calibration.from_dict(found)
        self.device = torch.device(device)
        self.room = Room(TOGETHER)

    def __repr__(self) -> str:
        """What it solves, and for which elements."""
        return f"Model({self.method.xc}/{label_of(self.method.basis)}, elements={self.elements})"

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers the model knows."""
        return self.network.spec.elements

    def predict(
        self,
        molecule: object,
        *,
        refine: float | None = None,
        certificate: bool = True,
        coupled: bool = True,
        forces: bool = False,
        compare_start: bool = False,
        response: bool = False,
        allow_close_contacts: bool = False,
    ) -> Prediction:
        """Electronic structure of one molecule.

        Args:
            molecule: A built ``pyscf.gto.Mole`` in the model's basis, an ``ase.Atoms`` (charge and
                spin as it states them, else :attr:`state`), or a
                :class:`~deeph_zero.molecule.Molecule`.
            refine: Finish with SCF until the norm of the orbital gradient (PySCF's
                ``conv_tol_grad``, Eh) is below this and the energy's last change is too.
            certificate: Spend one Fock build on energy, orbital gradient and error estimate.
            coupled: Spend a response build on a better error estimate.
            forces: Nuclear forces of the refined energy; refines to 1e-6 unless ``refine`` says
                otherwise, because forces of an unconverged energy are not its derivative.
            compare_start: With ``refine``, also converge from the superposed atoms and count.
            response: Polarisability and dipole derivatives; of a refined state also frequencies
                and infrared intensities, without ``refine`` as estimates with their errors.
            allow_close_contacts: Take atoms nearer to each other than in any molecule.

        Returns:
            The prediction.

        Raises:
            InputError: If the molecule has elements the model does not know, another basis, other
                pseudopotentials or nuclei, or is impossible.
            ComputationError: If the network's output is not finite, or forces or responses were
                asked for and the refinement did not converge.
        """
        result, _ = self._predict(
            self._checked_molecule(molecule, allow_close_contacts),
            self.method,
            True,
            refine=refine,
            certificate=certificate,
            coupled=coupled,
            forces=forces,
            compare_start=compare_start,
            response=response,
        )
        return result

    def predict_layer(
        self, molecule: Molecule, *, portable: Portable | None = None, **settings: Any
    ) -> tuple[Prediction, KohnSham]:
        """The prediction, and the Kohn-Sham layer it was made with for further work.

        Args:
            molecule: The structure.
            portable: Its integrals, if they were made before.
            **settings: As in :meth:`predict`.

        Returns:
            Prediction and layer; the layer's counter holds the builds spent.

        Raises:
            InputError: As :meth:`predict`.
            ComputationError: As :meth:`predict`.
        """
        return self._predict(molecule, self.method, portable=portable, **settings)

    def fock_gradient(
        self, molecule: object, *, atoms: Any = None, allow_close_contacts: bool = False
    ) -> FockGradient:
        """dH/dR and dS/dR of a ``geometry`` model's own Fock matrix, without a Fock build.

        Automatic differentiation through network, base and integrals: the derivatives of
        ``predict(molecule, certificate=False).fock``. See :func:`.model_gradient`.

        Args:
            molecule: As in :meth:`predict`.
            atoms: Which atoms to move, from 0; None: all of them.
            allow_close_contacts: As in :meth:`predict`.

        Returns:
            By atom and direction, on the CPU; the same as ``ks.scf().fock_gradient()`` has of a
            converged state.

        Raises:
            InputError: As in :meth:`predict`, if the model reads a Fock build, or there is no such
                atom.
        """
        given = self._checked_molecule(molecule, allow_close_contacts)
        return model_gradient(self.network, given, self.method, atoms)

    def guess(self, mf: Any) -> np.ndarray:
        """Starting density for ``mf.kernel(dm0=...)``; costs one Fock build with physics inputs.

        Another functional or fitting set, a solvent, a field and the like only make the start less
        good. In another basis set the density is projected. Each brings a warning that names it.

        Args:
            mf: RKS, UKS, ROKS or the Hartree-Fock counterparts.

        Returns:
            [nao, nao], or [2, nao, nao] where ``mf`` is unrestricted.

        Raises:
            InputError: If the molecule has elements the model does not know, or is impossible, or
                the object is of another kind or has other electrons (a pseudopotential).
            ComputationError: If the network's output is not finite.
        """
        agreement.check_startable(mf)
        molecule, mole = self._rebuilt(mf.mol)
        if electrons := agreement.other_electrons(mf.mol, mole):
            raise InputError(f"guess expected the electrons of the model's molecule: {electrons}")
        different = agreement.differences(mf, self.method, mole, numerical=False)
        different += [] if self.card is None else self.card.outside(molecule)
        result, _ = self._predict(molecule, self._method_for(mf), certificate=False)
        if different:
            text = "; ".join(different)
            warnings.warn(f"mean-field object differs from the model: {text}", stacklevel=2)
        dms = by_spin(result.dm.numpy(), 2)
        if len(dms) == 1 and isinstance(mf, scf.uhf.UHF):
            dms = np.concatenate([0.5 * dms, 0.5 * dms])
        if agreement.other_functions(mf.mol, mole):
            dms = np.stack([scf.addons.project_dm_nr2nr(mole, dm, mf.mol) for dm in dms])
        return dms if len(dms) == 2 else dms[0]

    def as_scf(self, mf: Any, *, refine: float | None = None) -> Any:
        """Fill a PySCF mean-field object with the prediction.

        Sets ``mo_coeff``, ``mo_energy``, ``mo_occ``, ``e_tot`` and ``converged``. The orbitals span
        the predicted density and are canonical in the rebuilt Fock matrix within the occupied and
        within the virtual space, so that ``mf.make_rdm1()`` is the density of ``e_tot``.

        Args:
            mf: RKS or UKS (or Hartree-Fock) object of the model's own problem: basis, functional,
                fitting and grid, and nothing besides (no solvent, field, other nuclei, ...).
            refine: As in :meth:`predict`; ``converged`` can be true only then.

        Returns:
            ``mf`` itself.

        Raises:
            InputError: If the object's energy is not the model's, with what differs, or the object
                is of another kind.
            ComputationError: If the network's output is not finite.
        """
        agreement.check_startable(mf)
        if isinstance(mf, scf.rohf.ROHF):
            raise InputError(
                f"as_scf expects an RKS or UKS object, got {type(mf).__name__}; use model.guess(mf)"
            )
        molecule = self._as_molecule(mf.mol)
        different = agreement.differences(mf, self.method, self._mole(molecule), numerical=True)
        if different:
            raise InputError(
                f"as_scf expects the model's own problem, the object differs: "
                f"{'; '.join(different)}; start it with mf.kernel(dm0=model.guess(mf)), or take "
                "model.predict_mean_field(mf.mol)"
            )
        result, ks = self._predict(molecule, self._method_for(mf), refine=refine, coupled=False)
        return meanfield.fill(mf, *meanfield.orbitals_of(result, ks))

    def iterate_on(self, *, two_grids: bool) -> None:
        """Choose how later SCFs and error estimates are made; the answers stay the same.

        Args:
            two_grids: With a coarse grid beside the target one, or on the target grid alone.
        """
        self.method = dataclasses.replace(self.method, two_grids=two_grids)

    def predict_mean_field(
        self, molecule: object, *, allow_close_contacts: bool = False, **settings: Any
    ) -> tuple[Prediction, Any]:
        """A prediction and the PySCF object that holds it, made with the model's own method.

        Args:
            molecule: As in :meth:`predict`.
            allow_close_contacts: As in :meth:`predict`.
            **settings: As in :meth:`predict`.

        Returns:
            The prediction, and an RKS or UKS object filled as by :meth:`as_scf`.

        Raises:
            InputError: As in :meth:`predict`.
            ComputationError: As in :meth:`predict`.
        """
        refuse_unknown("predict_mean_field", settings, _SETTINGS)
        given = self._checked_molecule(molecule, allow_close_contacts)
        result, ks = self._predict(given, self.method, **settings)
        mf = meanfield.mean_field(given, self.method, unrestricted=ks.unrestricted)
        return result, meanfield.fill(mf, *meanfield.orbitals_of(result, ks))

    def _predict(
        self,
        molecule: Molecule,
        method: Method,
        once: bool = False,
        portable: Portable | None = None,
        **settings: Any,
    ) -> tuple[Prediction, KohnSham]:
        asked = Asked(**settings)
        prepared, fock = self._network_fock(molecule, method, asked.builds, portable)
        ks = prepared.ks
        # with geometry inputs no F0 was built
        if once and asked.once and asked.builds and self.network.spec.inputs == "geometry":
            single.builds_once(ks)
        dm = ks.density(fock)
        # one build serves the certificate and the first iteration of the refinement
        at = At(ks, dm, ks.build(dm) if asked.builds else None)
        known = self.calibration, self.card
        return answer(prepared, fock, at, asked, method=method, known=known), ks

    def predict_all(
        self, molecules: Iterable[object], *, allow_close_contacts: bool = False, **settings: Any
    ) -> list[Prediction]:
        """:meth:`predict` of several molecules; on a GPU as many launches as a few of them alone.

        At most 64 at once; of those that do not fit a device together halves, from then on.

        Args:
            molecules: Each as in :meth:`predict`.
            allow_close_contacts: As in :meth:`predict`.
            **settings: As in :meth:`predict`, for all of them.

        Returns:
            One prediction per molecule, in order, each as it would be alone, to rounding.

        Raises:
            InputError: As :meth:`predict`.
            ComputationError: As :meth:`predict`.
        """
        refuse_unknown("predict_all", settings, _SETTINGS)
        from deeph_zero.predict.given import several

        given = [self._checked_molecule(one, allow_close_contacts) for one in several(molecules)]
        for one in given:
            agreement.check_elements(one, self.elements)
        if len(given) < 2 or not self.gains_together:
            return [self._predict(one, self.method, True, **settings)[0] for one in given]
        return self.room.over(lambda some: self.predict_batch(some, Asked(**settings))[0], given)

    def predict_batch(
        self, molecules: Sequence[Molecule], asked: Asked, portables: Sequence[Portable | None] = ()
    ) -> tuple[list[Prediction], Several]:
        """Predictions of molecules from one call, whatever the device, and what was made for them.

        Args:
            molecules: The structures, of elements the model knows.
            asked: What is asked for.
            portables: Integrals of each that were made before.

        Returns:
            One prediction per molecule, and their layers.

        Raises:
            ComputationError: As :meth:`predict`.
        """
        more: dict[str, Any] = {"method": self.method, "known": (self.calibration, self.card)}
        more |= {"device": self.device, "room": self.room, "portables": portables}
        return predict_together(self.network, molecules, asked, **more)

    @property
    def gains_together(self) -> bool:
        """Whether several molecules cost less in one call: on a GPU."""
        return gains_together(self.device)

    def starting_layer(
        self, molecule: Molecule, method: Method, portable: Portable | None = None
    ) -> tuple[KohnSham, AOMatrix]:
        """A layer for an SCF, and the network's density as its start.

        Args:
            molecule: The structure.
            method: The SCF's, with the functional, basis and fitting of the model.
            portable: Its integrals, if they were made before.

        Returns:
            The layer (a model with ``physics`` inputs has spent one Fock build) and P(H).

        Raises:
            InputError: If the model does not know an element.
            ComputationError: If the network's output is not finite.
        """
        trained_on = dataclasses.replace(method, smearing=self.method.smearing)
        prepared, fock = self._network_fock(molecule, trained_on, True, portable)
        dm = prepared.ks.density(fock)
        return prepared.ks.smeared(method.smearing) if method.smearing else prepared.ks, dm

    def check_starts(self, method: Method) -> None:
        """See whether the model's densities are starts for SCFs of a method.

        Args:
            method: The SCF's.

        Raises:
            InputError: If functional, basis or fitting differ.
        """
        agreement.check_starts(self.method, method)

    def _network_fock(
        self, molecule: Molecule, method: Method, builds: bool, portable: Portable | None
    ) -> tuple[Prepared, Tensor]:
        """H, and the problem it was predicted for; ``builds`` says whether it will make any."""
        agreement.check_elements(molecule, self.elements)
        reading, means = self.network.reading, Means(self.device)
        prepared = prepare(molecule, method, reading, means, builds=builds, portable=portable)
        with torch.no_grad():
            (correction,) = self.network(prepared.inputs)
            fock = prepared.predicted(correction, self.network.scales.seen_corrections)
        check_predicted(molecule, fock)
        return prepared, fock

    def _checked_molecule(self, given: object, insist: bool) -> Molecule:
        from deeph_zero.predict.given import checked_contacts

        return checked_contacts(self._as_molecule(given), insist=insist)

    def _as_molecule(self, given: object) -> Molecule:
        if isinstance(given, Molecule):
            return given
        if hasattr(given, "get_atomic_numbers"):
            from deeph_zero.predict.given import atoms_in_state

            return atoms_in_state(given, self.state)  # pyright: ignore[reportArgumentType]
        if hasattr(given, "atom_coords"):
            molecule, mole = self._rebuilt(given)
            agreement.check_molecule_is(given, mole, label_of(self.method.basis))
            return molecule
        from deeph_zero.predict.given import no_molecule

        raise no_molecule(given)

    def _mole(self, molecule: Molecule) -> gto.Mole:
        return build_mole(molecule, basis=self.method.basis)

    def _rebuilt(self, mol: Any) -> tuple[Molecule, gto.Mole]:
        """A user's molecule as the model takes it, and as it would build it."""
        molecule = molecule_of(mol)
        agreement.check_elements(molecule, self.elements)
        check_molecule(mol)
        return molecule, self._mole(molecule)

    def _method_for(self, mf: Any) -> Method:
        unrestricted = isinstance(mf, scf.uhf.UHF) or mf.mol.spin != 0
        broken = unrestricted and self.method.break_symmetry
        return dataclasses.replace(self.method, unrestricted=unrestricted, break_symmetry=broken)
