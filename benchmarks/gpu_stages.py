"""What every stage of a first run on a CUDA card measures; `bench_gpu.py` goes through them."""

import contextlib
import dataclasses
import functools
import json
import math
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import common
import numpy as np
import torch
from pyscf import gto
from structures import NEAR_MINIMA

from deeph_zero.cli.main import entry_point
from deeph_zero.kohnsham import KohnSham
from deeph_zero.kohnsham.batch import KohnShamBatch
from deeph_zero.ks.linalg import eigen
from deeph_zero.ks.linalg.purify import purified_density
from deeph_zero.ks.parallel.graphs import GRAPHS_HERE, SWITCH, WORTH

XCS = ("svwn", "pbe", "tpss", "r2scan", "scan", "pbe0", "b3lyp", "hse06", "wb97x", "camb3lyp")
XCS = (*XCS, "hf", "m06", "lc_wpbe", "wb97m-v")
"""Two of them are libxc's, evaluated on the processor; the last one has VV10."""

ENERGY_TOL, GRADIENT_TOL = 1e-9, 1e-8
TIMES = 3.0
"""As many builds per second as gpu4pyscf makes one by one are wanted."""
AFTER_FIT = 40.0
"""Seconds that are left to the certificates of a training and to what evaluates it."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large everything is.

    Attributes:
        basis: Of throughput and training.
        level: Grid level there.
        molecules: By name, of throughput.
        batches: Molecules in a batch.
        repeats: Of every timing.
        xcs: Functionals whose values are compared.
        matrices: Sizes of matrices to diagonalise.
        train: Frames to train on and to hold out.
        fit_seconds: Limit of the training.
        waters: Molecules of the SCF comparison.
    """

    basis: str = "def2-svp"
    level: int = 3
    molecules: tuple[str, ...] = ("water", "ethanol", "uracil")
    batches: tuple[int, ...] = (1, 4, 16, 64)
    repeats: int = 20
    xcs: tuple[str, ...] = XCS
    matrices: tuple[int, ...] = (24, 72, 132)
    train: tuple[int, int] = (24, 8)
    fit_seconds: int = 200
    waters: int = 16


SMALL = Sizes(
    basis="sto-3g",
    level=0,
    molecules=("hydrogen",),
    batches=(1, 2),
    repeats=1,
    xcs=("pbe", "hse06", "m06"),
    matrices=(6, 40),
    train=(2, 1),
    fit_seconds=20,
    waters=2,
)


class OutOfTimeError(BaseException):
    """A stage's time is over; like Ctrl-C nothing that a command catches."""


@dataclasses.dataclass
class Run:
    """What stages share.

    Attributes:
        sizes: How large everything is.
        device: Where.
        out: Results, one JSON object per line.
        references: Carried values, or None.
        count: Starts counting on the pretended device; None on a real card.
        threads: Of the processor.
        ends: When the stage's time is over, on the clock of ``time.monotonic``.
    """

    sizes: Sizes
    device: str
    out: Path | None
    references: dict[str, np.ndarray] | None
    count: Any = None
    threads: int = 1
    ends: float = math.inf

    def note(self, stage: str, **values: Any) -> None:
        """Write one result at once."""
        line = json.dumps({"stage": stage, **values})
        print(line, flush=True)
        if self.out is not None:
            with self.out.open("a") as file:
                file.write(line + "\n")

    def seconds(self, work: Callable[[], Any]) -> float:
        """Median of one call, the card waited for."""
        work()
        times = []
        for _ in range(self.sizes.repeats):
            self.wait()
            began = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - began)
        return float(np.median(times))

    def wait(self) -> None:
        """For the card, where there is a real one."""
        if self.count is None:
            torch.cuda.synchronize()


def molecule(name: str, basis: str, seed: int = 0, spin: int = 0) -> gto.Mole:
    """A molecule moved a little at random, or its cation."""
    atoms = {
        "hydrogen": "H 0 0 0; H 0 .1 .74",
        "hydrogen fluoride": "F 0 0 0; H .1 .2 .9",
        "water": "O 0 0 .1; H 0 .76 .58; H .05 -.74 .61",
    }
    mol = gto.M(atom=(atoms | NEAR_MINIMA)[name], basis=basis, charge=spin, spin=spin, verbose=0)
    shake = 0.03 * np.random.default_rng(seed).standard_normal((mol.natm, 3))
    return mol.set_geom_(mol.atom_coords() + shake, unit="bohr", inplace=False)


# ---- stages --------------------------------------------------------------------------------------


def start(run: Run) -> None:
    """Versions, card, memory, self-check."""
    cards = [torch.cuda.get_device_name(0), *map(int, torch.cuda.mem_get_info())]
    run.note("start", machine=common.machine(run.threads), cuda=torch.version.cuda, card=cards)
    with contextlib.redirect_stdout(sys.stderr):
        code = entry_point(["doctor", "--device", run.device, "--threads", str(run.threads)])
    run.note("start", doctor=code, passed=code == 0)


def references(sizes: Sizes, device: str, write: Callable[[str, np.ndarray], None]) -> None:
    """Energies, Fock matrices, responses, an SCF and gradients, as they are made on a device."""
    for xc in sizes.xcs:
        for spin in (0, 1):
            if xc == "wb97m-v" and spin:
                continue
            mol = molecule("hydrogen fluoride", "sto-3g", spin=spin)
            ks = KohnSham.from_pyscf(mol, xc=xc, grid_level=0, device=device)
            dm = ks.data.dm_guess
            built = ks.build(dm)
            write(f"{xc}/{spin}/energy", built.energy.cpu().numpy())
            write(f"{xc}/{spin}/fock", built.fock.cpu().numpy())
            if xc != "wb97m-v":
                write(f"{xc}/{spin}/response", ks.response(dm, dm).cpu().numpy())
    moles = [molecule("water", "sto-3g", seed) for seed in range(sizes.waters)]
    batch = KohnShamBatch.from_pyscf(moles, xc="pbe", grid_level=0, device=device)
    write("scf/energy", np.array([one.energy for one in batch.scf(conv_tol_grad=1e-7)]))
    ks = batch.layers[0]
    fock = ks.build(ks.data.dm_guess).fock.clone().requires_grad_()
    energy, rebuilt = ks(ks.density(fock))
    (grad,) = torch.autograd.grad(energy + (fock - rebuilt).square().sum(), fock)
    write("gradient", grad.cpu().numpy())


def values(run: Run) -> None:
    """The card against the processor."""
    known = run.references
    if known is None:
        known = {}
        references(run.sizes, "cpu", known.__setitem__)

    def compare(name: str, found: np.ndarray) -> None:
        if name not in known:
            run.note("values", name=name, missing="in the file of references", passed=False)
            return
        error = float(np.abs(found - known[name]).max())
        limit = GRADIENT_TOL if name in ("gradient", "scf/energy") else ENERGY_TOL
        run.note("values", name=name, error=error, passed=error <= limit)

    references(run.sizes, run.device, compare)


def micro(run: Run) -> None:
    """Prices that choose the policies."""
    one = torch.ones(1, device=run.device)

    def thousand() -> None:
        for _ in range(1000):
            one.add_(1.0)

    run.note("micro", what="launch", microseconds=1e3 * run.seconds(thousand))
    for n in run.sizes.matrices:
        for batch in run.sizes.batches:
            matrix, nocc = _orthogonal_fock(n, batch).to(run.device), torch.full((batch,), n // 3)
            nocc = nocc.to(run.device)
            ways: dict[str, Callable[[], Any]] = {
                "torch": lambda m=matrix: torch.linalg.eigh(m),
                "cupy": lambda m=matrix: eigen._cupy_eigh(m),  # noqa: SLF001
                "purify": lambda m=matrix, k=nocc: purified_density(m, k),
            }
            for name, work in ways.items():
                with _noted(run, "micro", what="eigen", way=name, n=n, batch=batch):
                    run.note("micro", what="eigen", way=name, n=n, batch=batch, s=run.seconds(work))
    for xc in ("pbe", "hse06"):
        ks = _layer(run, "water" if len(run.sizes.molecules) > 1 else "hydrogen", xc)
        functional, npoints = ks.data.functional, 32768 if run.sizes.repeats > 1 else 64
        assert functional is not None
        rho = torch.rand(1, 4, npoints, dtype=torch.float64).to(run.device) + 0.1
        work = functools.partial(functional.gradient, rho)
        with _without_graphs():
            run.note("micro", what="functional", xc=xc, points=npoints, s=run.seconds(work))
        for _ in range(WORTH):
            work()
        about = {"what": "functional as a graph", "xc": xc, "graphs": len(GRAPHS_HERE)}
        run.note("micro", **about, s=run.seconds(work))


def _orthogonal_fock(n: int, batch: int) -> torch.Tensor:
    """Matrices with the levels of a molecule: a third occupied, a gap of 0.4 Eh."""
    occupied = torch.linspace(-20.0, -0.3, n // 3, dtype=torch.float64)
    levels = torch.cat([occupied, torch.linspace(0.1, 4.0, n - n // 3, dtype=torch.float64)])
    turn = torch.linalg.qr(torch.randn(batch, n, n, dtype=torch.float64)).Q
    made = (turn * levels) @ turn.mT
    return 0.5 * (made + made.mT)


def _without_graphs() -> Any:
    """Functionals operation by operation."""
    return mock.patch.dict(os.environ, {SWITCH: "0"})


def _layer(run: Run, name: str, xc: str = "pbe") -> KohnSham:
    mol = molecule(name, run.sizes.basis)
    return KohnSham.from_pyscf(mol, xc=xc, grid_level=run.sizes.level, device=run.device)


def throughput(run: Run) -> None:
    """Builds per second, AO values kept, and what the first one with new AO values takes."""
    for name in run.sizes.molecules:
        for xc in ("pbe", "pbe0"):
            with _noted(run, "throughput", molecule=name, xc=xc):
                _throughput(run, name, xc)


def _throughput(run: Run, name: str, xc: str) -> None:
    """Of one molecule: it is prepared once, the batches take the first of its geometries."""
    batches = [n for n in run.sizes.batches if name != "uracil" or n <= 16]
    moles = [molecule(name, run.sizes.basis, seed) for seed in range(max(batches))]
    settings = {"xc": xc, "grid_level": run.sizes.level, "device": run.device}
    began = time.perf_counter()
    layers = KohnShamBatch.from_pyscf(moles, **settings).layers
    about = {"molecule": name, "xc": xc}
    prepared = (time.perf_counter() - began) / len(moles)
    run.note("throughput", **about, prepare_s=prepared)
    for n in batches:
        with _noted(run, "throughput", **about, batch=n):
            batch = KohnShamBatch(layers[:n])
            dms = [one.data.dm_guess for one in batch.layers]
            if run.count is None:
                torch.cuda.reset_peak_memory_stats()
            began = time.perf_counter()
            batch.build(dms)
            run.wait()
            first = time.perf_counter() - began
            seconds = run.seconds(functools.partial(batch.build, dms))
            peak = torch.cuda.max_memory_allocated() if run.count is None else 0
            more = {"first_s": first, "builds_per_s": n / seconds, "peak_mb": peak / 1e6}
            run.note("throughput", **about, batch=n, **more)


def others(run: Run) -> None:
    """gpu4pyscf, one molecule after another, and both SCFs."""
    moles = [molecule("water", run.sizes.basis, seed) for seed in range(run.sizes.waters)]
    settings = {"xc": "pbe", "grid_level": run.sizes.level, "device": run.device}
    batch = KohnShamBatch.from_pyscf(moles, **settings)
    dms = [one.data.dm_guess for one in batch.layers]
    rate = len(moles) / run.seconds(lambda: batch.build(dms))
    run.note("others", what="build", of="deeph-zero", n=len(moles), builds_per_s=rate)
    began = time.perf_counter()
    ours = batch.scf(conv_tol=1e-9)
    run.wait()
    seconds = time.perf_counter() - began
    cycles = [one.iterations for one in ours]
    run.note("others", what="scf", of="deeph-zero", s=seconds, n=len(moles), cycles=cycles)
    with _noted(run, "others", of="gpu4pyscf"):
        from gpu4pyscf import dft  # pyright: ignore[reportMissingImports]

        energies, spent = [], 0.0
        for k, mol in enumerate(moles):
            mf = dft.RKS(mol, xc="pbe").density_fit(auxbasis=batch.layers[k].info.auxbasis)
            mf.grids.level = run.sizes.level
            if k == 0:
                mf.kernel()
                dm = mf.make_rdm1()
                build = run.seconds(lambda mf=mf, dm=dm, mol=mol: mf.get_veff(mol, dm * 1.0))
                times = rate * build
                about = {"what": "build", "of": "gpu4pyscf", "builds_per_s": 1 / build}
                run.note("others", **about, times=times, passed=times >= TIMES)
            began = time.perf_counter()
            energies.append(float(mf.kernel()))
            spent += time.perf_counter() - began
        off = max(abs(a - b.energy) for a, b in zip(energies, ours, strict=True))
        run.note("others", what="scf", of="gpu4pyscf", s=spent, off=off, passed=off <= 1e-8)


def training(run: Run) -> None:
    """Label-free training, and held-out frames against labels."""
    name = "uracil" if run.sizes.repeats > 1 else "hydrogen"
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for file, first, n in (
            ("train.xyz", 0, run.sizes.train[0]),
            ("test.xyz", 1000, run.sizes.train[1]),
        ):
            moles = [molecule(name, "sto-3g", seed) for seed in range(first, first + n)]
            Path(file).write_text("".join(mol.tostring("xyz") + "\n" for mol in moles))
        method = ["--basis", run.sizes.basis, "--grid-level", str(run.sizes.level), "--xc", "pbe"]
        on = ["--device", run.device, "--threads", str(run.threads)]
        steps: Sequence[list[str]] = (
            ["label", "test.xyz", "-o", "labels.h5", *method],
            ["fit", "train.xyz", "-o", "run", *method],
            ["evaluate", "run", "labels.h5", "-o", "errors.json"],
        )
        for words in steps:
            if words[0] == "fit":  # labels are made before, so that they are not what is cut off
                left = run.ends - time.monotonic() - AFTER_FIT
                words += ["--max-time", f"{max(1, int(min(left, run.sizes.fit_seconds)))}s"]
            began = time.perf_counter()
            with contextlib.redirect_stdout(sys.stderr):
                code = entry_point([*words, *on])
            spent = time.perf_counter() - began
            # training that was told when to stop need not have converged
            run.note("training", command=words[0], code=code, s=spent, passed=code in (0, 1))
        summary = json.loads(Path("run/summary.json").read_text())
        found = json.loads(Path("errors.json").read_text())["errors"]
        run.note("training", fock_builds=summary["fock_builds"], errors=found)


def profile(run: Run) -> None:
    """Kernels of a batch's build and SCF, without graphs: a card's, and those counted before."""
    n = run.sizes.waters
    moles = [molecule("water", "sto-3g", seed) for seed in range(n)]
    batch = KohnShamBatch.from_pyscf(moles, xc="pbe", grid_level=0, device=run.device)
    dms = [one.data.dm_guess for one in batch.layers]
    batch.build(dms)
    for what, work in (("build", lambda: batch.build(dms)), ("scf", batch.scf)):
        if run.count is not None:
            run.count.reset()
            with _without_graphs():
                work()
            kernels = run.count.launches
        else:
            kinds = [torch.profiler.ProfilerActivity.CUDA]
            with _without_graphs(), torch.profiler.profile(activities=kinds) as found:
                work()
                run.wait()
            spent: Counter[str] = Counter()
            kernels = 0
            for one in found.events() or []:
                if str(one.device_type).endswith("CUDA") and not one.name.startswith("Mem"):
                    kernels += 1
                    spent[one.name[:80]] += one.time_range.elapsed_us()
            run.note("profile", what=what, microseconds=dict(spent.most_common(10)))
        known = (run.references or {}).get(f"launches/{what}/{n}")
        run.note(
            "profile",
            what=what,
            n=n,
            kernels=kernels,
            counted=None if known is None else int(known),
        )


STAGES = (start, values, micro, throughput, others, training, profile)


@contextlib.contextmanager
def _noted(run: Run, stage: str, **about: Any) -> Iterator[None]:
    """What fails in here is a line of the results, and the stage goes on."""
    try:
        yield
    except Exception as error:  # whatever a card or another program meets
        run.note(stage, **about, failed=f"{type(error).__name__}: {error}"[:300])
