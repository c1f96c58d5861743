"""Training checkpoints of Lightning as safetensors + JSON, in place of its pickles.

A checkpoint is a folder with ``state.safetensors`` + ``state.json``; one is kept per run,
``RUN/checkpoints/last.ckpt/``.
"""

import pathlib
import shutil
from typing import Any

from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO

from deeph_zero.errors import InputError, argument
from deeph_zero.host.tensor_files import read_pair, write_pair
from deeph_zero.host.version import __version__
from deeph_zero.model_files.folder import FORMAT_VERSION, check_kind
from deeph_zero.train.state_encoding import decode_state, encode_state

KEEP = pathlib.PurePosixPath("checkpoints") / "last.ckpt"
"""The one checkpoint a run keeps, relative to its folder: the latest, replaced atomically."""

_STATE_KIND = "deeph-zero checkpoint"
_STATE_STEM = "state"
_STATE: dict[str, type] = {
    "epoch": int, "global_step": int, "state_dict": dict, "loops": dict, "callbacks": dict,
    "optimizer_states": list, "lr_schedulers": list, "fit": dict,
}  # fmt: skip


class SafeCheckpointIO(CheckpointIO):
    """Lightning's checkpoints as a folder of safetensors + JSON, atomic, without pickle.

    Give it to the trainer: ``Trainer(plugins=[SafeCheckpointIO()])``; then ``save_checkpoint`` and
    ``fit(ckpt_path=...)`` use it.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | pathlib.Path,
        storage_options: object = None,
    ) -> None:
        """Write ``checkpoint`` into the folder ``path``; a crash leaves the old or the new one.

        Args:
            checkpoint: What Lightning collected.
            path: The checkpoint folder.
            storage_options: Not used.

        Raises:
            ComputationError: If the disk refuses.
            TypeError: If the checkpoint holds objects that only pickle could store.
        """
        del storage_options
        document, tensors = encode_state(checkpoint)
        header = {"kind": _STATE_KIND, "format_version": FORMAT_VERSION, "version": __version__}
        write_pair(pathlib.Path(path), _STATE_STEM, tensors, {**header, "state": document})

    def load_checkpoint(
        self,
        path: str | pathlib.Path,
        map_location: object = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read the folder ``path``; tensors come on the CPU and Lightning moves them.

        Args:
            path: The checkpoint folder.
            map_location: Not used.
            weights_only: Not used; reading never runs code.

        Returns:
            What was saved.

        Raises:
            InputError: If it is not a checkpoint, damaged, or newer than this package.
        """
        del map_location, weights_only
        folder = pathlib.Path(path)
        tensors, document = read_pair(
            folder,
            _STATE_STEM,
            what="checkpoint",
            check=lambda doc: check_kind(doc, _STATE_KIND, folder),
        )
        try:
            decoded = decode_state(document["state"], tensors)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError):
            decoded = None
        if not isinstance(decoded, dict):
            raise _no_state(folder, "got something else")
        return decoded

    def remove_checkpoint(self, path: str | pathlib.Path) -> None:
        """Delete the folder.

        Args:
            path: The checkpoint folder.
        """
        shutil.rmtree(path, ignore_errors=True)


def check_checkpoint(folder: pathlib.Path) -> None:
    """See whether a training can go on from a checkpoint, before anything of the run changes.

    Args:
        folder: The checkpoint folder.

    Raises:
        InputError: If it is damaged, or holds something else.
    """
    state = SafeCheckpointIO().load_checkpoint(folder)
    for name, kind in _STATE.items():
        if not isinstance(state.get(name), kind):
            raise _no_state(folder, f"there is no {name}" if name not in state else f"a bad {name}")


def _no_state(folder: pathlib.Path, what: str) -> InputError:
    return InputError(
        f"{folder / _STATE_STEM}.json: expected the state of a training, {what}; put the run's "
        f"own file back, or use {argument('overwrite', True)} to start again"
    )
