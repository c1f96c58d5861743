"""Begin a model of another functional: a trained network with its last linear maps solved anew.

    python tools/pretrain/transfer.py organic-pbe labels-b3lyp.h5 -o start-b3lyp

What the network has learned of molecules stays; its readout, which is linear, is fitted in closed
form to the labels. Training with ``init = "start-b3lyp"`` goes on from there.
"""

import argparse
import sys
from pathlib import Path

from deeph_zero.data.labels import Label, LabelStore
from deeph_zero.errors import DeephZeroError
from deeph_zero.host.runtime import set_threads
from deeph_zero.model import load
from deeph_zero.model_files.folder import save_model
from deeph_zero.model_files.meta import model_meta
from deeph_zero.nn.reading import Reading
from deeph_zero.nn.readout import solve_readout
from deeph_zero.prepared.molecule import Prepared
from deeph_zero.settings.config import MethodConfig
from deeph_zero.train.taught import Problem, labelled_problem

RIDGE = 1e-2
"""Relative, so that weights stay small enough to be trained on: with 1e-8 some were in the hundreds
and a step of training undid what they stood for."""


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("model", help="run folder or name, with geometry inputs")
    parser.add_argument("labels", help="file of `deeph-zero label`, of the other functional")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the new model")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    set_threads(given.threads)
    try:
        n = transfer(given.model, given.labels, given.out)
    except DeephZeroError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write(f"{given.out}: readout of {given.model} fitted to {n} labels\n")
    return 0


def transfer(name: str, labels: str, out: Path) -> int:
    """Write a model with its readout solved for labels of another functional.

    Args:
        name: Model with geometry inputs.
        labels: Label file.
        out: Folder.

    Returns:
        How many labels there were.

    Raises:
        DeephZeroError: If the model or the labels cannot be used.
    """
    model, store = load(name), LabelStore([labels])
    method, spec = store.method(0), model.network.spec
    problems = [_problem(model.network.reading, store, k) for k in range(len(store))]
    solve_readout(
        model.network,
        [p.inputs for p in problems],
        [p.in_blocks(p.teacher.target - p.fock0) for p in problems],
        ridge=RIDGE,
    )
    config = MethodConfig(basis=method.basis, xc=method.xc, grid_level=method.grid_level)
    save_model(out, model.network, model_meta(config, problems[0].ks.info, spec, store.molecules))
    return len(problems)


def _problem(reading: Reading, store: LabelStore, index: int) -> Problem:
    def label_of(prepared: Prepared) -> Label:
        return store.read(index, prepared.ks.info.method)

    return labelled_problem(store.molecules[index], store.method(index), reading, label_of)


if __name__ == "__main__":
    sys.exit(main())
