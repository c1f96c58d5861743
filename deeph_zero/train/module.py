"""The training step: network → H → label-free loss, with the teacher's builds between epochs."""

import logging
import math
from collections.abc import Callable, MutableSequence, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.errors import ComputationError, argument
from deeph_zero.host import runtime
from deeph_zero.host.runtime import Deadline
from deeph_zero.ks.counts import Builds, total
from deeph_zero.nn.inputs import NetworkInputs, collate
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.readout import solve_readout
from deeph_zero.nn.spectral_bound import eigenvalue_range
from deeph_zero.prepared.molecule import TRAINING_GAP_FLOOR
from deeph_zero.train.average import WeightAverage
from deeph_zero.train.budget import Lessons
from deeph_zero.train.examples import MadeWhenAsked
from deeph_zero.train.flat import FlatWeights
from deeph_zero.train.losses import LossMix, LossValue
from deeph_zero.train.plan import Plan
from deeph_zero.train.step import Read, Step, step
from deeph_zero.train.stream import Stream
from deeph_zero.train.taught import Absent, Problem, here

_log = logging.getLogger("deeph_zero")

MAX_BAD_STEPS = 20
"""Steps in a row without a finite gradient before training gives up."""
GRADIENT_CLIP = 10.0
"""Largest gradient norm, as a multiple of its running average."""


class FitModule(pl.LightningModule):
    """Trains a Fock network on its geometries without labels.

    Attributes:
        reads_at_once: Whether a step's numbers are read before the backward pass on a device, too.
    """

    reads_at_once = False

    def __init__(
        self,
        network: FockNetwork,
        problems: MutableSequence[Problem | Absent],
        plan: Plan,
        stream: Stream | None = None,
    ) -> None:
        """Bind network and geometries.

        Args:
            network: The model.
            problems: Its geometries, calibrated and with started teachers.
            plan: Loss and schedule.
            stream: What replaces some of the geometries on the way.
        """
        super().__init__()
        self.stream = stream
        self.look_ahead: Callable[[list[int]], None] = lambda _: None
        self.network = network
        self.plan = plan
        self._problems = problems  # a stream replaces some of them
        self.mix = LossMix(plan.terms, plan.match)
        self._loss = self.mix
        self._open: Step | None = None
        self._collated: dict[tuple[int, ...], NetworkInputs] = {}
        self._flat = FlatWeights(network)
        self.average = WeightAverage([self._flat.vector], plan.ema)
        self._metrics: dict[str, Any] = {}
        self.lessons = Lessons(self._problems, plan.budget)
        self._mean_norm = 0.0
        self._bad_in_a_row = 0
        self._gap_warned = False
        self.skipped_steps = 0
        self.converged = False
        self.earlier_builds = Builds()
        self.build_seconds = 0.0
        self.remote_builds = Builds()

    def _problem(self, k: int) -> Problem:
        return here(self._problems[k])

    def here(self) -> list[int]:
        """Positions of the geometries that this process has: all of them."""
        return list(range(len(self._problems)))

    def share(self, batch: list[int]) -> list[int]:
        """The part of a batch that this process computes: all of it."""
        return batch

    def start(self, *, calibrate: bool, deadline: Deadline | None = None) -> bool:
        """First build of every teacher; from them the network's input and output scales.

        Args:
            calibrate: Set the scales; false for a network that was trained before.
            deadline: When to give up.

        Returns:
            Whether it was done; false when the time was up.
        """
        if not self._first_builds(deadline):
            return False
        self._set_scales(calibrate=calibrate)
        return True

    def _first_builds(self, deadline: Deadline | None) -> bool:
        """First Fock build of every teacher; false when the time was up."""
        begin, before = runtime.now(), self.fock_builds
        for k in self.here():
            self.mix.check(self._problem(k))
        taught = any(term.name != "supervised" for term in self.plan.terms)
        members = sorted({*self.lessons.members(0.0)} & {*self.here()}) if taught else []
        members = [k for k in members if not self._problem(k).teacher.started]
        size = self.plan.batch_size if self.lessons.together else 1
        for start in range(0, len(members), size):
            self.lessons.advance(members[start : start + size])
            if deadline is not None and deadline.expired():
                return False
        spent = max(1, self.fock_builds - before)
        self.build_seconds = (runtime.now() - begin) / spent
        return True

    def _set_scales(self, *, calibrate: bool) -> None:
        """Scales, which a trained network keeps, and the size of corrections."""
        if calibrate:
            self.network.calibrate(*self._examples(), self._other_inputs())
        for low, high in self._ranges():
            self.network.scales.widen(low, high)

    def _ranges(self) -> list[tuple[float, float]]:
        """Range of the eigenvalues of the corrections to reproduce, Eh."""
        keys = self._example_keys()
        return [eigenvalue_range(self._correction(k), self._problem(k).ks.x) for k in keys]

    def _example_keys(self) -> list[int]:
        """Geometries for which there is a ΔH to reproduce."""
        own = set(self.here())
        return [
            k
            for k in self.lessons.members(self.progress)
            if k in own and self._is_example(self._problem(k))
        ]

    def _is_example(self, problem: Problem) -> bool:
        return problem.teacher.started or (self._uses_labels and problem.label is not None)

    @property
    def _uses_labels(self) -> bool:
        return any(term.name == "supervised" for term in self.plan.terms)

    def _correction(self, k: int) -> Tensor:
        """ΔH to reproduce: the label's where the loss uses labels, or the teacher's."""
        p = self._problem(k)
        label = p.label if self._uses_labels else None
        return (p.teacher.target if label is None else label.fock.to(p.fock0)) - p.fock0

    def _examples(self) -> tuple[Sequence[NetworkInputs], Sequence[BlockMatrix]]:
        """Inputs and what the network has to predict from them."""
        keys = self._example_keys()
        inputs = MadeWhenAsked(keys, lambda k: self._problem(k).inputs)
        return inputs, MadeWhenAsked(
            keys, lambda k: self._problem(k).in_blocks(self._correction(k))
        )

    def _other_inputs(self) -> Sequence[NetworkInputs]:
        """Inputs of the geometries that are no examples yet."""
        keys = sorted(set(self.here()) - set(self._example_keys()))
        return MadeWhenAsked(keys, lambda k: self._problem(k).inputs)

    @property
    def progress(self) -> float:
        """Fraction of the planned steps that is done."""
        if self._trainer is None:
            return 0.0
        return min(1.0, self.global_step / max(1, self.plan.total_steps))

    @property
    def remaining(self) -> float:
        """Visits that a geometry will still have."""
        return (1.0 - self.progress) * self.plan.epochs

    def refit(self) -> None:
        """Solve the readout in closed form for the teachers' present targets."""
        if self.plan.ridge is not None:
            solve_readout(self.network, *self._examples(), ridge=self.plan.ridge)

    @property
    def problems(self) -> Sequence[Problem | Absent]:
        """The geometries, in input order."""
        return self._problems

    @property
    def builds(self) -> Builds:
        """Every build so far, those before a resume included."""
        return self.earlier_builds + total(self._problem(k).ks.builds for k in self.here())

    @property
    def fock_builds(self) -> int:
        """Fock builds on the target grid."""
        return self.builds.fine

    def on_train_epoch_start(self) -> None:
        """A new round of teacher's builds."""
        self.lessons.new_round()

    def _teach(self, batch: list[int]) -> None:
        """Teacher's builds for a batch.

        Not all at the start of the epoch: Ctrl-C and the deadline are acted on between steps.
        """
        if "fixed-point" not in self.mix.active(self.progress):
            return
        self.lessons.teach(batch, self._predict)

    @torch.no_grad()
    def _predict(self, batch: list[int]) -> list[Tensor]:
        """H of some geometries, with the averaged weights: they are the better ones."""
        with self.average.applied():
            corrections = self.network(self._inputs(batch))
        return [self._problem(k).hamiltonian(c) for k, c in zip(batch, corrections, strict=True)]

    def training_step(self, batch: list[int], batch_idx: int) -> Tensor | None:
        """Mean loss of a batch of geometries; None (no update) when it is not finite.

        Args:
            batch: Positions of the geometries.
            batch_idx: Not used.

        Returns:
            The loss.
        """
        del batch_idx
        batch = self.share(self.lessons.batch(batch, self.progress))
        self.look_ahead(batch)
        if self.stream is not None:
            self.stream.visit(batch, self.lessons, self.remaining)
        self._teach(batch)
        batch = [k for k in batch if k not in self.lessons.dropped]
        if not batch:
            return None
        corrections = self.network(self._inputs(batch))
        problems = [self._problem(k) for k in batch]
        found = step(
            batch,
            corrections,
            problems,
            mix=self.mix,
            loss=self._loss,
            lessons=self.lessons,
            progress=self.progress,
        )
        if found is None:
            self._skip()
            return None
        if found.loss.is_cuda and not self.reads_at_once:
            self._open = found  # numbers are read with the gradient's norm
            return found.loss
        if not self._learn(found.read()):
            self._skip()
            return None
        return found.loss

    def _learn(self, read: Read | None) -> bool:
        """Remember and log what a step found; false where it did not find anything."""
        if read is None:
            return False
        for k, value in read.values.items():
            self.lessons.errors[k] = float(value.gradient)
            self._look_at_gap(k, value)
        self._log_step(read.mean, list(read.values.values()))
        return True

    def _value(self, k: int, correction: BlockMatrix) -> LossValue:
        problem = self._problem(k)
        return self._loss(problem, problem.hamiltonian(correction), self.progress)

    def _look_at_gap(self, k: int, value: LossValue) -> None:
        """Warn once where derivatives are not exact."""
        if value.gap < TRAINING_GAP_FLOOR and not self._gap_warned:
            self._gap_warned = True
            _log.warning(
                "%sthe gap of the network's H closed to %.1e Eh: derivatives of the density are "
                "floored there",
                self._problem(k).molecule.where,
                value.gap,
            )

    def note(self, name: str, value: float, count: int = 1) -> None:
        """Give a number of this step to what shows and writes them.

        Lightning's own ``log`` does the same and costs more than the step of a small network.

        Args:
            name: Its name.
            value: The number.
            count: Geometries that it is the mean of.
        """
        del count
        self._metrics[name] = value

    def on_train_start(self) -> None:
        """Find where Lightning's callbacks read numbers."""
        self._metrics = self.trainer.callback_metrics

    def _log_step(self, loss: float, values: list[LossValue]) -> None:
        self.note("loss", loss, len(values))
        for name in ("residual", "gradient", "energy_error"):
            mean = sum(getattr(v, name) for v in values) / len(values)
            self.note(name, mean, len(values))
        self.note("fock_builds", float(self.fock_builds))
        self.note("skipped_steps", float(self.skipped_steps))
        gap = min(float(v.gap) for v in values)
        if math.isfinite(gap):
            self.note("gap", gap)
        if "fixed-point" in self.mix.active(self.progress):
            members = {*self.lessons.members(self.progress)} & {*self.here()}
            residuals = [self._problem(k).teacher.residual for k in members]
            self.note("teacher", max(residuals, default=-math.inf))

    def _inputs(self, batch: list[int]) -> NetworkInputs:
        key = tuple(batch)
        if key in self._collated:
            return self._collated[key]
        inputs = collate([self._problem(k).inputs for k in batch])
        if len(self._problems) <= len(batch):
            self._collated[key] = inputs  # few geometries: the same batch every step
        return inputs

    def on_train_epoch_end(self) -> None:
        """With few geometries: refit, and stop when every orbital gradient is small enough."""
        if not self.plan.check:
            return
        if self.plan.ridge is not None:
            self.refit()
            self._measure()
        if max(self.lessons.errors) <= self.plan.tol and self._confirm():
            self.converged = True
            self.trainer.should_stop = True

    def on_train_end(self) -> None:
        """Say what did not go into the weights."""
        if self.skipped_steps:
            _log.warning(
                "%d of %d training steps had no finite gradient and were skipped",
                self.skipped_steps,
                self.global_step,
            )

    def _measure(self) -> None:
        """Residual and estimated gradient of every geometry, without a build."""
        with torch.no_grad():
            corrections = self.network(self._inputs(list(range(len(self._problems)))))
            for k, correction in enumerate(corrections):
                problem, value = self._problem(k), self._value(k, correction)
                # an unconfirmed target says nothing below its own residual
                known = 0.0 if problem.label is not None else problem.teacher.residual
                self.lessons.errors[k] = max(float(value.gradient), known)

    def _confirm(self) -> bool:
        """One build per geometry at the density of the present weights, whatever the loss saw."""
        with torch.no_grad():
            corrections = self.network(self._inputs(list(range(len(self._problems)))))
        done = True
        for k, correction in enumerate(corrections):
            problem = self._problem(k)
            dm = problem.ks.density(problem.hamiltonian(correction))
            built = problem.ks.build(dm)
            done = done and problem.teacher.rms(built.fock, dm) <= self.plan.tol
            problem.teacher.offer(dm, built.fock, float(built.energy))
        return done

    def configure_optimizers(self) -> Any:
        """Adam with a warm-up and a cosine decay to a hundredth, advanced per step."""
        if self._flat.moved:
            self._flat = FlatWeights(self.network)
            self.average.weights = [self._flat.vector]
        optimizer = torch.optim.Adam(
            [self._flat.vector],
            lr=self.plan.learning_rate,
            betas=(0.9, 0.99),
            eps=1e-16,
            fused=True,
        )
        # a plain function: attributes of anything else would be saved with a checkpoint
        rate: Callable[[int], float] = lambda step: self.plan.rate(step)  # noqa: E731, PLW0108
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        scheduled = {"scheduler": schedule, "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": scheduled}

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, *args: Any) -> None:
        """A step, then its weights enter the average (before anything can save a checkpoint)."""
        rate = optimizer.param_groups[0]["lr"] / self.plan.learning_rate
        super().optimizer_step(epoch, batch_idx, optimizer, *args)
        self.average.update(rate)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip to a multiple of the running norm; a gradient with NaN or infinity is dropped."""
        del optimizer, gradient_clip_val, gradient_clip_algorithm
        gradient = self._flat.collect()
        norms = [] if gradient is None else [gradient.norm()]
        norm = sum(self._read(norms))
        if not math.isfinite(norm):
            self._flat.vector.grad = None  # Adam leaves weights without a gradient alone
            self._skip()
            return
        self._bad_in_a_row = 0
        limit = GRADIENT_CLIP * self._mean_norm
        if gradient is not None and 0.0 < limit < norm:
            gradient.mul_(limit / norm)
            norm = limit
        self._mean_norm = norm if self._mean_norm == 0.0 else 0.9 * self._mean_norm + 0.1 * norm

    def _read(self, norms: Sequence[Tensor]) -> list[float]:
        """Numbers, with those that the step left open; NaN where it found nothing finite."""
        found, self._open = self._open, None
        if found is None:
            return [float(one) for one in norms]
        read = found.read(*norms)
        return list(read.others) if read is not None and self._learn(read) else [math.nan]

    def _skip(self) -> None:
        self.skipped_steps += 1
        self._bad_in_a_row += 1
        if self._bad_in_a_row >= MAX_BAD_STEPS:
            raise ComputationError(
                f"{MAX_BAD_STEPS} training steps in a row had no finite gradient; "
                f"leave out unusual geometries, or try {argument('loss', 'fixed-point')}"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the teachers' memory and the counters."""
        checkpoint["fit"] = {
            "lessons": self.lessons.state(),
            "average": self.average.state(),
            "stream": None if self.stream is None else self.stream.state(),
            "mean_norm": self._mean_norm,
            "skipped": self.skipped_steps,
            "fock_builds": self.builds.fine,
            "coarse_builds": self.builds.coarse,
            "build_seconds": self.build_seconds,
            "converged_to": self.plan.tol if self.converged else None,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Undo :meth:`on_save_checkpoint`."""
        state = checkpoint["fit"]
        if self.stream is not None:
            self.stream.restore(state["stream"])
        self.lessons.restore(state["lessons"])
        average = state["average"]
        if len(average["mean"]) > 1:  # one per weight, from a version before 0.2
            average = {**average, "mean": [self._flat.joined(average["mean"])]}
        self.average.restore(average)
        for optimizer in checkpoint.get("optimizer_states", []):
            self._flat.join_state(optimizer)
        self._mean_norm = state["mean_norm"]
        self.skipped_steps = state["skipped"]
        # builds made since this process started are counted where they are made
        self.earlier_builds = Builds(state["fock_builds"], state.get("coarse_builds", 0))
        self.build_seconds = state["build_seconds"]
