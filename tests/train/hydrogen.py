"""Hydrogen molecules without symmetry: everything of a training in a fraction of a second."""

import numpy as np
import torch

from deeph_zero.host.runtime import setup
from deeph_zero.integrals.mole import build_mole
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.reading import Reading
from deeph_zero.nn.spec import default_spec
from deeph_zero.prepared.molecule import Means, basis_layout
from deeph_zero.settings.config import FitConfig
from deeph_zero.testing import Listener
from deeph_zero.train.run import Run
from deeph_zero.train.taught import make_problem

BASIS = "6-31g"
METHOD = Method(xc="lda,vwn", basis=BASIS, grid_level=0)
CUTOFF = 8.0


def hydrogen(k=0, **changed):
    coords = np.array([[0.1, 0.0, 0.2], [0.3, 0.1 + 0.02 * k, 1.6 + 0.05 * k]])
    given = {"numbers": np.array([1, 1]), "coords": coords, "file": "h2.xyz", "frame": k}
    return Molecule(**given | changed)


def layout(molecule=None):
    return basis_layout([build_mole(molecule or hydrogen(), basis=BASIS)])


def problem(k=0, method=METHOD, *, device="cpu", **settings):
    reading = Reading(layout(), **{"cutoff": CUTOFF, "dtype": torch.float64} | settings)
    return make_problem(hydrogen(k), method, reading, Means(device))


def network(seed=0, **settings):
    """An untrained one: it predicts its base."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FockNetwork(default_spec(layout(), "tiny", cutoff=CUTOFF, **settings)).double()


def config(**values):
    given = {
        "method": {"xc": "lda,vwn", "basis": BASIS, "grid_level": 0},
        "model": {"size": "tiny", "dtype": "float64", "cutoff": CUTOFF},
        "runtime": {"device": "cpu", "threads": 1},
        "calibration": 0,
    }
    for name in ("method", "model", "runtime"):
        given[name] |= values.pop(name, {})
    return FitConfig.parse(given | values)


def run(out, molecules=None, **values):
    settings = config(**values)
    return Run(
        config=settings,
        runtime=setup(settings.runtime),
        reporter=Listener(),
        out=out,
        molecules=[hydrogen()] if molecules is None else molecules,
        command="deeph-zero fit h2.xyz",
    )
