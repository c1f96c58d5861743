"""A folder with structures, a real (untrained) model, and engines that only record their call."""

import dataclasses
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from deeph_zero.cli.main import entry_point
from deeph_zero.host.reporting import SilentReporter

WATER = "3\n{}\nO 0 0 0.1\nH 0 0.76 0.58\nH 0.05 -0.74 0.61\n"


@dataclasses.dataclass
class Outcome:
    """What a person in front of the terminal sees."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A run folder with an untrained network for hydrogen and oxygen in STO-3G."""
    from pyscf import gto

    from deeph_zero.kohnsham import KohnSham
    from deeph_zero.model_files.folder import save_model
    from deeph_zero.model_files.meta import model_meta
    from deeph_zero.nn.network import FockNetwork
    from deeph_zero.nn.spec import default_spec
    from deeph_zero.prepared.molecule import basis_layout
    from deeph_zero.settings.config import MethodConfig
    from deeph_zero.testing import WATER

    mol = gto.M(atom=WATER, basis="sto-3g", verbose=0)
    with torch.random.fork_rng(devices=[]):
        network = FockNetwork(default_spec(basis_layout([mol]), "tiny"))
    method = MethodConfig(basis="sto-3g", grid_level=0)
    info = KohnSham.from_pyscf(mol, grid_level=0).info
    run = tmp_path_factory.mktemp("trained") / "run"
    save_model(run, network, model_meta(method, info, network.spec))
    return run


@pytest.fixture
def folder(tmp_path, monkeypatch, trained) -> Path:
    """Working folder with ``good.xyz``, ``frames.xyz`` and the model ``model/``."""
    place = tmp_path / "work"
    place.mkdir()
    (place / "good.xyz").write_text(WATER.format(""))
    (place / "frames.xyz").write_text(WATER.format("") * 3)
    shutil.copytree(trained, place / "model")
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def run(capfd) -> Callable[..., Outcome]:
    """Run ``deeph-zero`` in this process and look at both streams."""

    def call(*args: str) -> Outcome:
        capfd.readouterr()
        code = entry_point(args)
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return call


def record(file: str, frame: int = 0, **values: Any) -> dict[str, Any]:
    entry = {
        "file": file, "frame": frame, "energy": -76.321, "energy_error_estimate": 1e-7,
        "energy_estimate": -76.3210001, "orbital_gradient_rms": 2e-6, "residual_mae": 3e-5,
        "homo": -0.24, "lumo": 0.03, "gap": 0.27, "dipole": [0.0, 0.0, 1.9], "n_electrons": 10.0,
        "converged": True,
    }  # fmt: skip
    return entry | values


def summary(structures: list[dict[str, Any]], **values: Any) -> dict[str, Any]:
    plain = {
        "xc": "pbe", "basis": "def2-svp", "converged": True, "stopped_by": "converged",
        "wall_time_s": 1.25, "fock_builds": 7, "structures": structures, "failed": [],
    }  # fmt: skip
    return plain | values


class Engine:
    """Stands in for run_fit, run_predict and run_label: records the call, returns a summary."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.result: Callable[..., dict[str, Any]] | None = None
        self.error: BaseException | None = None

    def fit(self, config, molecules, failed, out, *, resume, reporter, command, validation):
        assert list(validation) == []
        (out / "model.json").write_text("{}")
        (out / "checkpoints").mkdir(exist_ok=True)
        return self._call(config, molecules, failed, out, reporter, command, resume=resume)

    def predict(
        self, model_path, molecules, failed, out, config, *, model, reporter, command, **again
    ):
        del model
        more = {"model": model_path} | again
        return self._call(config, molecules, failed, out, reporter, command, **more)

    def label(self, config, molecules, failed, out, *, reporter, command, **again):
        return self._call(config, molecules, failed, out, reporter, command, **again)

    def _call(self, config, molecules, failed, out, reporter, command, **more):  # noqa: PLR0917
        self.calls.append(
            {"config": config, "molecules": molecules, "failed": failed, "out": out,
             "command": command} | more
        )  # fmt: skip
        if self.error is not None:
            raise self.error
        with reporter.task("working", len(molecules)) as task:
            task.advance(len(molecules), loss=0.5)
        entries = [record(m.file, m.frame) for m in molecules]
        default = summary(entries, failed=failed)
        return self.result(entries, failed) if self.result else default


@pytest.fixture
def engine(monkeypatch) -> Engine:
    """Replace the engines."""
    fake = Engine()
    monkeypatch.setattr("deeph_zero.train.crystal_fit.run_crystal_fit", fake.fit)
    for module, name in (
        ("deeph_zero.train.fit", "fit"),
        ("deeph_zero.jobs.predict", "predict"),
        ("deeph_zero.jobs.label", "label"),
    ):
        stand_in = types.ModuleType(module)
        setattr(stand_in, f"run_{name}", getattr(fake, name))
        monkeypatch.setitem(sys.modules, module, stand_in)
    return fake


class Recorder(SilentReporter):
    """Keeps what a person would read."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.warnings: list[str] = []
        self.tables: list[tuple[str, list[str], list[list[str]]]] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def table(self, title, columns, rows) -> None:
        self.tables.append((title, list(columns), [list(row) for row in rows]))

    @property
    def cells(self) -> dict[str, list[str]]:
        """What stands behind the first cell of every line."""
        return {row[0]: row[1:] for _, _, rows in self.tables for row in rows}


@pytest.fixture
def said() -> Recorder:
    return Recorder()


@pytest.fixture
def make_summary():
    return summary
