"""Coverage and width of calibrated intervals, and what the certificate is worth, on unseen frames.

    python benchmarks/bench_intervals.py --epochs 60                 # vibrations of water
    python benchmarks/bench_intervals.py --data ethanol.npz --epochs 40 --test 300 --run ethanol_run
    python benchmarks/bench_intervals.py --data water_monomers_1k.xyz --unlike water_dimers_10.xyz

`fit` is the real command: it trains on --train frames, keeps --calibration of them out and
calibrates with those. Test frames are predicted and refined with the Python interface. The split is
a seeded random permutation of all frames. One calibration is one draw: beside the model's
own the table has the mean and the spread over calibrations drawn again and again from the test
frames, each tested on the rest. With --run the trained model is kept, or used if it is there.

Structures unlike the training set are test frames distorted or ionised and the frames of --unlike.
"""

import argparse
import dataclasses
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np
import structures

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.model import Model, load
from deeph_zero.molecule import Molecule
from deeph_zero.predict import single
from deeph_zero.predict.intervals import (
    REFINE_TOL,
    Calibration,
    calibrate,
    intervals,
    with_intervals,
)
from deeph_zero.predict.single import Prediction
from deeph_zero.units import BOHR_IN_ANGSTROM

QUANTITIES = ("energy", "homo", "lumo", "gap", "dipole")
UNITS = {"dipole": (1e3, "mD")} | dict.fromkeys(QUANTITIES[:-1], (1e6, "µEh"))
DRAWS = 200
SEEN_ENERGY = 1e-9
"""Errors below this, Eh, are the refinement's as much as the prediction's."""


def parse() -> argparse.Namespace:
    """Options of this benchmark; the short form calibrates with 19 of 40 frames."""
    parser = common.options(__doc__)
    structures.add_options(parser)
    parser.add_argument("--train", type=int, default=300, help="frames of fit (default 300)")
    parser.add_argument("--calibration", type=int, default=100, help="of these (default 100)")
    parser.add_argument("--test", type=int, default=700, help="test frames (default 700)")
    parser.add_argument("--unlike", type=Path, nargs="*", default=[], help="other structures")
    parser.add_argument("--distorted", type=int, default=50, help="distorted frames (default 50)")
    parser.add_argument("--seed", type=int, default=0, help="of the split and of the training")
    parser.add_argument("--basis", default="def2-svp", help="basis set (default def2-svp)")
    parser.add_argument("--xc", default="pbe", help="functional (default pbe)")
    parser.add_argument("--grid-level", type=int, default=1, help="PySCF's (default 1)")
    parser.add_argument("--epochs", type=int, help="passes over the training frames")
    parser.add_argument("--run", type=Path, help="run folder to keep, or to take the model from")
    options = common.parse(parser)
    if options.smoke:
        options.train, options.calibration, options.test = 40, 19, 30
        options.basis, options.grid_level, options.epochs = "sto-3g", 0, 2
        options.distorted = 3
    if options.calibration < 19:
        raise InputError(f"--calibration: expected 19 or more, got {options.calibration}")
    return options


def distort(molecules: Sequence[Molecule], size: float, seed: int) -> list[Molecule]:
    """Every coordinate pushed by a Gaussian of ``size`` Å."""
    rng = np.random.default_rng(seed)
    step = size / BOHR_IN_ANGSTROM
    return [
        dataclasses.replace(m, coords=m.coords + step * rng.normal(size=m.coords.shape))
        for m in molecules
    ]


def unlike(test: list[Molecule], options: argparse.Namespace) -> dict[str, list[Molecule]]:
    """Structures that the model was neither trained nor calibrated for, by name."""
    some = test[: options.distorted]
    found = {
        f"pushed by {size} Å": distort(some, size, seed)
        for seed, size in enumerate((0.1, 0.2, 0.3))
    }
    found["scaled by 1.3"] = [dataclasses.replace(m, coords=1.3 * m.coords) for m in some]
    found["cations"] = [dataclasses.replace(m, charge=1, spin=1) for m in some]
    return found | {path.stem: structures.read_molecules(path) for path in options.unlike}


def train(train_set: list[Molecule], out: Path, options: argparse.Namespace) -> Model:
    """Run ``deeph-zero fit`` unless its result is there already."""
    if not (out / "summary.json").exists():
        common.progress("training")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "train.xyz"
            structures.write_frames(path, train_set)
            words: list[object] = ["fit", path, "-o", out]
            for name in ("basis", "xc", "grid_level", "seed", "threads", "epochs", "calibration"):
                value = getattr(options, name)
                words += [] if value is None else [f"--{name.replace('_', '-')}", value]
            common.command(*words)
    model = load(out)
    if model.calibration is None:
        raise ComputationError(f"expected a calibrated model in {out}, got one without; go on with "
                               "`deeph-zero fit --resume`")  # fmt: skip
    return model


@dataclasses.dataclass(frozen=True)
class Case:
    """One structure: its refined prediction, and the cheap estimate beside it."""

    prediction: Prediction
    cheap: float

    @property
    def true_error(self) -> float:
        """E[P̂] - E_SCF, Eh."""
        assert self.prediction.energy is not None
        assert self.prediction.refined is not None
        return self.prediction.energy - self.prediction.refined.energy


def solve(model: Model, molecules: Sequence[Molecule]) -> tuple[list[Case], Counter[str]]:
    """Predict and refine.

    Args:
        model: Calibrated.
        molecules: What to solve.

    Returns:
        The converged ones, and how many were "refused" (with an error before any number) or
        "unconverged".
    """
    cases: list[Case] = []
    left_out: Counter[str] = Counter()
    for molecule in molecules:
        try:
            found, ks = model.predict_layer(molecule)
        except InputError:
            left_out["refused"] += 1
            continue
        assert found.fock_rebuilt is not None
        assert found.energy is not None
        cheap = ks.certificate(found.dm, found.fock_rebuilt, found.energy, coupled=False)
        done = single.refine(ks, found.dm, tol=REFINE_TOL)
        if not done.converged:
            left_out["unconverged"] += 1
            continue
        refined = dataclasses.replace(
            found, refined=done, refined_dipole=ks.dipole(done.dm).numpy()
        )
        cases.append(Case(refined, cheap.energy_error_estimate))
    return cases, left_out


def truth(prediction: Prediction) -> dict[str, np.ndarray]:
    """Converged values; levels per spin."""
    done = prediction.refined
    assert done is not None
    energy = done.mo_energy.numpy().reshape(-1, done.mo_energy.shape[-1])
    filled = done.mo_occ.numpy().reshape(energy.shape) > 0
    pairs = list(zip(energy, filled, strict=True))
    homo = np.array([e[f].max() for e, f in pairs])
    lumo = np.array([e[~f].min() for e, f in pairs])
    return {
        "energy": np.array([done.energy]),
        "homo": homo,
        "lumo": lumo,
        "gap": lumo - homo,
        "dipole": np.array([np.linalg.norm(prediction.refined_dipole)]),
    }


def inside(prediction: Prediction, found: dict[str, Any]) -> dict[str, tuple[bool, float]]:
    """Whether each interval holds the converged value (of every spin), and how wide it is."""
    out = {}
    for name, true in truth(prediction).items():
        low, high = np.array(found[name], dtype=float).reshape(-1, 2).T
        # a refinement stops at its tolerance, a prediction may lie below that
        slack = SEEN_ENERGY if name == "energy" else 0.0
        hit = bool(((low <= true) & (true <= high + slack)).all())
        out[name] = hit, float((high - low).max())
    return out


def coverage(cases: Sequence[Case], calibration: Calibration) -> dict[str, dict[str, float]]:
    """Share of structures inside, median and 90 % quantile of the width; NaN if there is none."""
    judged = [
        inside(case.prediction, found)
        for case in cases
        if (found := intervals(case.prediction, calibration)) is not None
    ]
    out = {}
    for name in QUANTITIES:
        hits, widths = (np.array([j[name][k] for j in judged]) for k in (0, 1))
        median, wide = np.quantile(widths, [0.5, 0.9]) if judged else (np.nan, np.nan)
        share = float(hits.mean()) if judged else np.nan
        out[name] = {"coverage": share, "width": float(median), "width_90": float(wide)}
    return out


def redrawn(cases: Sequence[Case], count: int, seed: int) -> dict[str, dict[str, float]]:
    """Mean and spread of the coverage over calibrations with ``count`` of the cases."""
    rng = np.random.default_rng(seed)
    shares: dict[str, list[float]] = {name: [] for name in QUANTITIES}
    widths: dict[str, list[float]] = {name: [] for name in QUANTITIES}
    for _ in range(DRAWS):
        order = rng.permutation(len(cases))
        made = calibrate([cases[k].prediction for k in order[:count]])
        for name, found in coverage([cases[k] for k in order[count:]], made).items():
            shares[name].append(found["coverage"])
            widths[name].append(found["width"])
    return {
        name: {
            "coverage": float(np.mean(shares[name])),
            "spread": float(np.std(shares[name])),
            "width": float(np.mean(widths[name])),
        }
        for name in QUANTITIES
    }


def ratios(cases: Sequence[Case], estimate: Callable[[Case], float]) -> dict[str, float]:
    """Estimate over true error, where there is an error to see."""
    seen = [c for c in cases if c.true_error > SEEN_ENERGY]
    if not seen:
        return {"n": 0}
    found = np.array([estimate(c) / c.true_error for c in seen])
    low, median, high = np.quantile(found, [0.025, 0.5, 0.975])
    return {
        "n": len(seen),
        "2.5%": float(low),
        "median": float(median),
        "97.5%": float(high),
        "within_factor_2": float(((found > 0.5) & (found < 2)).mean()),
    }


def estimates(cases: Sequence[Case]) -> dict[str, Any]:
    """Both error estimates against the truth, and how large that is."""
    errors = [c.true_error for c in cases]
    return {
        "coupled": ratios(cases, _coupled),
        "cheap": ratios(cases, lambda c: c.cheap),
        "error": np.quantile(errors, [0.5, 0.95, 1.0]).tolist() if errors else None,
    }


def _coupled(case: Case) -> float:
    assert case.prediction.certificate is not None
    return case.prediction.certificate.energy_error_estimate


def measure(out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train and calibrate, predict and refine, compare."""
    train_set, test_set = structures.split(options, options.train, options.test, seed=options.seed)
    model = train(train_set, out, options)
    assert model.calibration is not None
    common.progress("test frames")
    cases, left_out = solve(model, test_set)
    counts = sorted({n for n in (20, options.calibration) if 2 * n <= len(cases)})
    result = {
        "settings": {k: str(v) for k, v in vars(options).items()},
        "n": len(cases),
        "left_out": dict(left_out),
        "calibration": model.calibration.to_dict(),
        "intervals": coverage(cases, model.calibration),
        "redrawn": {n: redrawn(cases, n, options.seed) for n in counts},
        "estimates": estimates(cases),
        "flagged": sum(bool(c.prediction.out_of_distribution) for c in cases),
        "unlike": {},
    }
    for name, molecules in unlike(test_set, options).items():
        common.progress(name)
        strange, missing = solve(model, molecules)
        marked = [with_intervals(c.prediction, model.calibration) for c in strange]
        result["unlike"][name] = {
            "asked": len(molecules),
            "left_out": dict(missing),
            "flagged": sum(bool(p.out_of_distribution) for p in marked),
            "without_intervals": sum(p.intervals is None for p in marked),
            "intervals": coverage(strange, model.calibration),
            "estimates": estimates(strange),
        }
    return result


def tabulate(result: dict[str, Any]) -> str:
    """Intervals, estimates, and structures unlike the training set."""
    rows = []
    for name in QUANTITIES:
        factor, unit = UNITS[name]
        own = result["intervals"][name]
        row = [f"{name}, {unit}", f"{100 * own['coverage']:.1f} %"]
        row += [f"{factor * own[k]:.3g}" for k in ("width", "width_90")]
        for found in result["redrawn"].values():
            one = found[name]
            row.append(f"{100 * one['coverage']:.1f} ± {100 * one['spread']:.1f} %")
            row.append(f"{factor * one['width']:.3g}")
        rows.append(row)
    heads = ["quantity", "coverage", "width, median", "width, 90 %"]
    for n in result["redrawn"]:
        heads += [f"redrawn, n = {n}", "width, median"]
    parts = [common.table(heads, rows), _estimate_table(result), _unlike_table(result)]
    return "\n\n".join(parts)


def _estimate_table(result: dict[str, Any]) -> str:
    rows = []
    for name in ("coupled", "cheap"):
        found = result["estimates"][name]
        if found["n"]:
            spread = " / ".join(f"{found[k]:.3f}" for k in ("2.5%", "median", "97.5%"))
            rows.append([name, spread, f"{100 * found['within_factor_2']:.1f} %"])
    text = common.table(
        ("estimate / true error", "2.5 % / median / 97.5 %", "within a factor 2"), rows
    )
    seen = result["estimates"]["coupled"]["n"]
    sizes = " / ".join(f"{1e6 * e:.3g}" for e in result["estimates"]["error"])
    return (
        f"{text}\n\n{result['n']} test frames, {seen} with an error above {SEEN_ENERGY:g} Eh; true "
        f"energy error (median / 95 % / max) {sizes} µEh; "
        f"flagged as out of distribution: {result['flagged']}."
    )


def _unlike_table(result: dict[str, Any]) -> str:
    rows = []
    for name, found in result["unlike"].items():
        refused = found["left_out"].get("refused", 0)
        shares = [100 * found["intervals"][q]["coverage"] for q in QUANTITIES]
        ratio, errors = found["estimates"]["coupled"], found["estimates"]["error"]
        close = f"{100 * ratio['within_factor_2']:.0f} %" if ratio["n"] else "-"
        error = f"{1e6 * errors[0]:.3g}" if errors else "-"
        covered = " / ".join("-" if np.isnan(x) else f"{x:.0f}" for x in shares)
        flagged = f"{found['flagged'] + refused} of {found['asked']}"
        rows.append([name, flagged, error, close, covered])
    heads = ("structures", "flagged or refused", "median error, µEh", "estimate within 2")
    return common.table((*heads, "coverage, % (in the order above)"), rows)


def main() -> None:
    """Run it."""
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options.run or Path(folder) / "run", options)
    result["machine"] = common.machine(options.threads)
    common.report(result, tabulate(result), as_json=options.json, smoke=options.smoke)


if __name__ == "__main__":
    common.run(main)
