"""Training with several processes: each has its own geometries, all have the same weights.

A batch is the same list of geometries as with one process. Every process computes the losses of
those that are its own; gradients are sums of d(loss)/n over all n geometries of the batch, so each
counts once wherever it is and however unequal the shares are.
"""

from collections.abc import MutableSequence
from typing import Any

import torch
from torch import Tensor

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.errors import InputError
from deeph_zero.host.runtime import Deadline
from deeph_zero.ks.counts import total as total_builds
from deeph_zero.nn.inputs import NetworkInputs
from deeph_zero.nn.network import FockNetwork
from deeph_zero.train.module import FitModule
from deeph_zero.train.plan import Plan
from deeph_zero.train.taught import Absent, Problem
from deeph_zero.train.team import Team

_REDUCE = {"fock_builds": sum, "skipped_steps": max, "teacher": max, "gap": min}
"""How a logged number of the whole follows from those of the processes; others are means."""


class TeamModule(FitModule):
    """A :class:`FitModule` whose geometries are spread over processes."""

    reads_at_once = True  # all have to know whether one goes without a loss

    def __init__(
        self,
        network: FockNetwork,
        problems: MutableSequence[Problem | Absent],
        plan: Plan,
        team: Team,
    ) -> None:
        """Bind.

        Args:
            network: The model, the same at every process.
            problems: All geometries, :class:`~.taught.Absent` where another process has it.
            plan: Loss and schedule.
            team: The processes.

        Raises:
            InputError: If there are too few geometries.
        """
        if plan.check:
            raise InputError(
                f"training.devices: expected more than 8 geometries for {team.size} processes, got "
                f"{len(problems)}; leave devices out"
            )
        super().__init__(network, problems, plan)
        self._team = team
        self._logged: dict[str, tuple[float, int]] = {}

    def here(self) -> list[int]:
        """Positions of this process's geometries."""
        return [k for k, p in enumerate(self._problems) if isinstance(p, Problem)]

    def share(self, batch: list[int]) -> list[int]:
        """This process's part of a batch."""
        return [k for k in batch if self._team.owns(k)]

    def _first_builds(self, deadline: Deadline | None) -> bool:
        """First builds of all processes; false when the time was up in one of them."""
        return not self._team.any(not super()._first_builds(deadline))

    def _set_scales(self, *, calibrate: bool) -> None:
        """From the geometries of all processes."""
        scales = self.network.scales
        if calibrate:
            found = scales.moments(*super()._examples(), self._other_inputs())
            scales.set_from(self._team.gather(found))
        for ranges in self._team.gather(self._ranges()):
            for low, high in ranges:
                scales.widen(low, high)

    def _examples(self) -> tuple[list[NetworkInputs], list[BlockMatrix]]:
        """Examples of all processes, in input order."""
        inputs, corrections = super()._examples()
        own = list(zip(self._example_keys(), inputs, corrections, strict=True))
        found = sorted((e for part in self._team.gather(own) for e in part), key=lambda e: e[0])
        return [e[1] for e in found], [e[2] for e in found]

    def on_train_epoch_start(self) -> None:
        """A new round; geometries that one process had to leave out are left out by all."""
        super().on_train_epoch_start()
        for dropped in self._team.gather(self.lessons.dropped):
            self.lessons.dropped.update(dropped)

    def note(self, name: str, value: float, count: int = 1) -> None:
        """Keep a number of this process until all have theirs.

        Args:
            name: Its name.
            value: The number.
            count: Geometries that it is the mean of.
        """
        self._logged[name] = (value, count)

    def training_step(self, batch: list[int], batch_idx: int) -> Tensor | None:
        """This process's part of the mean loss over a batch; None where one was not finite.

        Args:
            batch: Positions of the geometries, those of other processes included.
            batch_idx: Not used.

        Returns:
            Sum of its losses divided by the number of geometries of the whole batch.
        """
        self._logged = {"fock_builds": (float(self.fock_builds), 1)}
        if "fixed-point" in self.mix.active(self.progress):
            own = [k for k in self.lessons.members(self.progress) if self._team.owns(k)]
            residuals = [self._problem(k).teacher.residual for k in own]
            self._logged["teacher"] = (max(residuals, default=-float("inf")), 1)
        skipped = self.skipped_steps
        loss = super().training_step(batch, batch_idx)
        bad = self.skipped_steps > skipped
        reports = self._team.gather((bad, self._logged, self.builds))
        self.remote_builds = total_builds(report[2] for report in reports) - self.builds
        if any(report[0] for report in reports):
            if not bad:
                self._skip()  # all count alike
            return None
        counts = [report[1]["loss"][1] if "loss" in report[1] else 0 for report in reports]
        total = sum(counts)
        if total == 0:
            return None
        self._log_all([report[1] for report in reports])
        if loss is None:  # no geometry of this batch is here
            return 0.0 * torch.stack([p.sum() for p in self.network.parameters()]).sum()
        return loss * (counts[self._team.rank] / total)

    def _log_all(self, parts: list[dict[str, tuple[float, int]]]) -> None:
        for name in dict.fromkeys(name for part in parts for name in part):
            values = [part[name] for part in parts if name in part]
            count = sum(n for _, n in values)
            if name in _REDUCE:
                result = _REDUCE[name](value for value, _ in values)
            else:
                result = sum(value * n for value, n in values) / count
            super().note(name, float(result), count)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Add up the gradients of all processes, then as :class:`FitModule`."""
        self._team.sum_gradients(self.network.parameters())
        super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the teachers' memory of every process."""
        super().on_save_checkpoint(checkpoint)
        parts = self._team.gather(checkpoint["fit"])
        checkpoint["fit"] = {"team": parts, "converged_to": None}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Undo :meth:`on_save_checkpoint`, each process its own part."""
        own = checkpoint["fit"]["team"][self._team.rank]
        states = checkpoint.get("optimizer_states", [])
        super().on_load_checkpoint({"fit": own, "optimizer_states": states})
