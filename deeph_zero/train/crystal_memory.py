"""What a run of crystals solved, kept on disk until its end for ``--resume``."""

from pathlib import Path

import torch

from deeph_zero.errors import InputError
from deeph_zero.host.tensor_files import read_pair, write_pair
from deeph_zero.molecule import Molecule
from deeph_zero.prepared.crystal import PreparedCrystal
from deeph_zero.train.crystals import TaughtCrystal
from deeph_zero.train.resume import fingerprint

KIND = "deeph-zero solved crystal, its constant included"


class Memory:
    """Files ``checkpoints/crystal_N``."""

    def __init__(self, out: Path) -> None:
        """Nothing is read yet.

        Args:
            out: Run folder.
        """
        self._folder = out / "checkpoints"

    def keep(self, k: int, molecule: Molecule, taught: TaughtCrystal) -> None:
        """Write what was solved.

        Args:
            k: Position of the geometry.
            molecule: The geometry.
            taught: It solved.

        Raises:
            ComputationError: If the disk refuses.
        """
        fock = taught.fock
        tensors = {
            "correction": taught.correction.values.contiguous(),
            "fock": (torch.view_as_real(fock) if fock.is_complex() else fock).contiguous(),
        }
        document = {"kind": KIND, "crystal": fingerprint(molecule), "complex": fock.is_complex()}
        write_pair(self._folder, f"crystal_{k}", tensors, document)

    def recall(self, k: int, molecule: Molecule, ready: PreparedCrystal) -> TaughtCrystal | None:
        """What an earlier attempt solved; None where there is nothing of this geometry.

        Args:
            k: Position of the geometry.
            molecule: The geometry.
            ready: It prepared.

        Returns:
            It solved, for no build.
        """
        if not (self._folder / f"crystal_{k}.json").is_file():
            return None
        try:
            tensors, document = read_pair(
                self._folder, f"crystal_{k}", what="solved crystal", check=lambda _: None
            )
            if (document.get("kind"), document.get("crystal")) != (KIND, fingerprint(molecule)):
                return None
            fock = tensors["fock"]
            fock = torch.view_as_complex(fock) if document["complex"] else fock
            correction = ready.inputs.patterns[0]
            if fock.shape != ready.fock0.shape or tensors["correction"].shape[-1] != correction.nel:
                return None
        except (InputError, KeyError, RuntimeError):
            return None  # damaged: it is solved once more
        return TaughtCrystal(
            prepared=ready,
            correction=ready.ovlp.with_values(tensors["correction"]),
            fock=fock,
            fock_builds=0,
        )

    def forget(self) -> None:
        """Remove the files."""
        for path in self._folder.glob("crystal_*"):
            path.unlink(missing_ok=True)
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()
