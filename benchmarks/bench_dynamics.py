"""Forces, an optimisation and 200 steps of dynamics with DeepHZero against PySCF's own.

    python benchmarks/bench_dynamics.py                # water, PBE/def2-SVP, grid level 3
    python benchmarks/bench_dynamics.py --grid-level 1 --steps 400 --json

A model is trained on --train thermally pushed copies of examples/water.xyz. Then:

forces   refined energies and forces of the model, at three pushed geometries, against central
         differences of the refined energies (step --displacement);
optimise BFGS to --fmax, from one pushed geometry, with `dz.ase.DeepHZero` and with PySCF (same
         functional, basis, fitting, grid and tolerances);
dynamics velocity Verlet from that geometry at --temperature: drift (slope of a straight line
         through the total energy) and fluctuation (standard deviation about it), SCF cycles and
         Fock builds a step.

PySCF runs as most scripts run it, with the minao start at every geometry, and again as the better
scripts do, with the density of the geometry before. Its gradients include the response of the
grid, as the package's do. Fock builds of DeepHZero are all of them, F0 included, and the response
of its certificate is left out by both.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import ase
import ase.io
import common
import numpy as np
import structures
from ase import units
from ase.calculators.calculator import Calculator, all_changes
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

import deeph_zero as dz
from deeph_zero.data.structures import from_atoms
from deeph_zero.integrals.mole import build_mole

BASIS = "def2-svp"


def parse() -> argparse.Namespace:
    """Options of this benchmark."""
    parser = common.options(__doc__)
    parser.add_argument("--train", type=int, default=60, help="training frames (default 60)")
    parser.add_argument("--epochs", type=int, help="passes over the training frames")
    parser.add_argument("--max-time", help="limit of the training, such as 20m")
    parser.add_argument("--model", type=Path, help="run folder; trained there unless it exists")
    parser.add_argument("--xc", default="pbe", help="functional (default pbe)")
    parser.add_argument("--grid-level", type=int, default=3, help="PySCF's (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="of pushes and velocities")
    parser.add_argument("--steps", type=int, default=200, help="of dynamics (default 200)")
    parser.add_argument("--timestep", type=float, default=0.5, help="femtoseconds (default 0.5)")
    parser.add_argument("--temperature", type=float, default=300.0, help="kelvin (default 300)")
    parser.add_argument("--fmax", type=float, default=0.01, help="eV/Å (default 0.01)")
    parser.add_argument("--tol", type=float, default=1e-6, help="conv_tol_grad (default 1e-6)")
    parser.add_argument("--displacement", type=float, default=1e-3, help="bohr (default 0.001)")
    given = common.parse(parser)
    if given.smoke:
        given.train, given.epochs, given.steps, given.grid_level = 5, 2, 3, 0
        given.model, given.fmax = None, 0.1
    return given


class PySCF(Calculator):
    """PySCF's energies and forces with this package's settings; counts what they take."""

    implemented_properties = ("energy", "forces")

    def __init__(self, given: argparse.Namespace, *, restart: bool) -> None:
        """Bind settings.

        Args:
            given: xc and grid_level.
            restart: Start from the density of the geometry before instead of minao.
        """
        super().__init__()
        self.given, self.restart, self.density = given, restart, None
        self.cycles: list[int] = []
        self.builds: list[int] = []

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Converge and differentiate."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        mol = build_mole(from_atoms(self.atoms), basis=BASIS)
        mf = common.mean_field(mol, self.given.xc, grid_level=self.given.grid_level)
        mf.conv_tol, mf.conv_tol_grad = self.given.tol, self.given.tol  # as a refinement ends
        mf.conv_check = False
        calls, veff = [], mf.get_veff
        mf.get_veff = lambda *args, **kwargs: (calls.append(1), veff(*args, **kwargs))[1]
        mf.kernel(dm0=self.density if self.restart else None)
        self.density = mf.make_rdm1()
        self.cycles.append(mf.cycles)
        self.builds.append(len(calls))
        gradient = mf.nuc_grad_method()
        gradient.grid_response = True
        self.results = {
            "energy": mf.e_tot * units.Hartree,
            "forces": -gradient.kernel() * (units.Hartree / units.Bohr),
        }


class Counted(dz.ase.DeepHZero):
    """The package's calculator, with a memory of what each geometry took."""

    def __init__(self, model: dz.Model, tol: float) -> None:
        """Bind a model and a tolerance."""
        super().__init__(model, refine=tol)
        self.cycles: list[int] = []
        self.builds: list[int] = []

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        """Compute and remember."""
        super().calculate(*args, **kwargs)
        self.cycles.append(self.results["scf_iterations"])
        self.builds.append(self.results["fock_builds"])


def pushed(count: int, seed: int, size: float = 0.05) -> list[ase.Atoms]:
    """Copies of water with every coordinate pushed, Å."""
    rng = np.random.default_rng(seed)
    first = ase.io.read(structures.EXAMPLES / "water.xyz")
    assert isinstance(first, ase.Atoms)
    frames = []
    for _ in range(count):
        atoms = ase.Atoms(first.numbers, first.positions)
        atoms.positions += rng.normal(scale=size, size=atoms.positions.shape)
        frames.append(atoms)
    return frames


def trained(given: argparse.Namespace, folder: Path) -> dz.Model:
    """A model for water, by the real command."""
    run = given.model or folder / "run"
    if not (run / "model.safetensors").exists():
        molecules = [from_atoms(atoms) for atoms in pushed(given.train, given.seed)]
        structures.write_frames(folder / "train.xyz", molecules)
        words: list[object] = ["fit", folder / "train.xyz", "-o", run, "--basis", BASIS]
        words += ["--xc", given.xc, "--grid-level", given.grid_level]
        words += ["--threads", given.threads]
        for name in ("epochs", "max_time"):
            value = getattr(given, name)
            words += [] if value is None else [f"--{name.replace('_', '-')}", value]
        common.command(*words)
    return dz.load(run)


def forces(model: dz.Model, given: argparse.Namespace) -> dict[str, Any]:
    """Largest difference between forces and central differences, Eh/bohr."""
    step, worst, largest = given.displacement * units.Bohr, 0.0, 0.0
    for atoms in pushed(1 if given.smoke else 3, given.seed + 1):
        atoms.calc = Counted(model, given.tol)
        analytic = atoms.get_forces() * (units.Bohr / units.Hartree)
        numeric = np.zeros_like(analytic)
        for k in np.ndindex(*analytic.shape):
            values = []
            for sign in (1, -1):
                moved = atoms.copy()
                moved.positions[k] += sign * step
                moved.calc = atoms.calc
                values.append(moved.get_potential_energy() / units.Hartree)
            numeric[k] = -(values[0] - values[1]) / (2 * given.displacement)
        worst = max(worst, float(np.abs(analytic - numeric).max()))
        largest = max(largest, float(np.abs(analytic).max()))
    return {"difference": worst, "largest_force": largest, "displacement": given.displacement}


def spent(calculator: Any, cpu: float, wall: float) -> dict[str, Any]:
    """Means per geometry."""
    n = len(calculator.cycles)
    return {
        "geometries": n,
        "cycles": float(np.mean(calculator.cycles)),
        "builds": float(np.mean(calculator.builds)),
        "cpu": (time.process_time() - cpu) / n,
        "wall": (time.perf_counter() - wall) / n,
    }


def optimise(calculator: Any, given: argparse.Namespace) -> dict[str, Any]:
    """BFGS from a pushed geometry."""
    (atoms,) = pushed(1, given.seed + 2, size=0.1)
    atoms.calc = calculator
    cpu, wall = time.process_time(), time.perf_counter()
    optimiser = BFGS(atoms, logfile=None)
    done = bool(optimiser.run(fmax=given.fmax, steps=60))
    return {
        "converged": done,
        "steps": optimiser.nsteps,
        "energy": atoms.get_potential_energy(),
        "lengths": [float(atoms.get_distance(0, k)) for k in (1, 2)],
        "angle": float(atoms.get_angle(1, 0, 2)),
        "spent": spent(calculator, cpu, wall),
    }


def dynamics(calculator: Any, given: argparse.Namespace) -> dict[str, Any]:
    """Velocity Verlet; total energies in eV."""
    (atoms,) = pushed(1, given.seed + 2, size=0.02)
    noise = np.random.default_rng(given.seed).normal(size=atoms.positions.shape)
    # half of the kinetic energy goes into the potential
    size = np.sqrt(2 * units.kB * given.temperature * atoms.get_masses())[:, None]
    momenta = size * noise
    atoms.set_momenta(momenta - momenta.mean(0))
    atoms.calc = calculator
    cpu, wall = time.process_time(), time.perf_counter()
    atoms.get_forces()
    energies = [atoms.get_total_energy()]
    driver = VelocityVerlet(atoms, timestep=given.timestep * units.fs)
    for _ in range(given.steps):
        driver.run(1)
        energies.append(atoms.get_total_energy())
    times = given.timestep * np.arange(len(energies))
    slope, start = np.polyfit(times, energies, 1)
    rest = np.array(energies) - (start + slope * times)
    return {
        "drift": float(slope * 1000),
        "fluctuation": float(rest.std()),
        "range": float(np.ptp(energies)),
        "kinetic": float(atoms.get_kinetic_energy()),
        "positions": atoms.positions.tolist(),
        "spent": spent(calculator, cpu, wall),
    }


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Everything, by section and calculator."""
    with tempfile.TemporaryDirectory() as folder:
        common.progress("training")
        model = trained(given, Path(folder))
    makers = {
        "DeepHZero": lambda: Counted(model, given.tol),
        "PySCF, minao": lambda: PySCF(given, restart=False),
        "PySCF, density before": lambda: PySCF(given, restart=True),
    }
    result: dict[str, Any] = {"machine": common.machine(given.threads)}
    common.progress("forces")
    result["forces"] = forces(model, given)
    for name, run in (("optimise", optimise), ("dynamics", dynamics)):
        result[name] = {}
        for who, make in makers.items():
            common.progress(f"{name}: {who}")
            result[name][who] = run(make(), given)
    return result


def cost(spent_: dict[str, Any]) -> list[str]:
    """Means per geometry as table cells."""
    return [f"{spent_[key]:.2f}" for key in ("cycles", "builds", "cpu")]


def describe(result: dict[str, Any], given: argparse.Namespace) -> str:
    """The result for people."""
    reference = "PySCF, minao"
    rows, md = [], []
    for who, r in result["optimise"].items():
        base = result["optimise"][reference]
        energy = 1e6 * (r["energy"] - base["energy"]) / units.Hartree
        length = np.abs(np.subtract(r["lengths"], base["lengths"])).max()
        cells = [f"{energy:+.4f}", f"{length:.1e}", f"{abs(r['angle'] - base['angle']):.1e}"]
        rows.append([who, str(r["steps"]), *cells, *cost(r["spent"])])
    for who, r in result["dynamics"].items():
        moved = np.subtract(r["positions"], result["dynamics"][reference]["positions"])
        cells = [f"{1e6 * r['drift']:+.2f}", f"{1e6 * r['fluctuation']:.2f}"]
        md.append([who, *cells, f"{np.abs(moved).max():.1e}", *cost(r["spent"])])
    f, costs = result["forces"], ("cycles", "Fock builds", "CPU s")
    heads = ("optimisation", "steps", "ΔE / µEh", "Δ length / Å", "Δ angle / °", *costs)
    md_heads = ("dynamics", "drift / µeV/ps", "fluctuation / µeV", "Δ position / Å", *costs)
    return (
        f"Water, {given.xc}/{BASIS}, fitted, grid level {given.grid_level}, SCF to a gradient of "
        f"{given.tol:g}; model trained on {given.train} pushed geometries. Differences are to "
        f"{reference}; cycles, Fock builds and CPU seconds are means per geometry.\n\n"
        f"Forces against central differences (step {f['displacement']:g} bohr): "
        f"{f['difference']:.1e} Eh/bohr, largest force {f['largest_force']:.2f}.\n\n"
        f"{common.table(heads, rows)}\n\n{common.table(md_heads, md)}\n\n"
        f"{given.steps} steps of {given.timestep:g} fs, drift per picosecond."
    )


def main() -> None:
    """Measure and print."""
    given = parse()
    result = measure(given)
    common.report(result, describe(result, given), as_json=given.json, smoke=given.smoke)


if __name__ == "__main__":
    common.run(main)
