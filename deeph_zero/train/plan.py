"""How long, how fast and on what loss to train: every default of ``fit`` in one place."""

import dataclasses
import math

from deeph_zero.settings.config import FitConfig
from deeph_zero.settings.loss_terms import Term, solvable, terms_of, written_out
from deeph_zero.train.budget import Budget
from deeph_zero.train.losses import MatchWeights

STEPS_ALONE = 10
"""Steps per epoch of a single geometry: between two of them the teacher spends one build."""

MAX_CHECKED = 8
"""Up to so many geometries, training stops as soon as all of them are converged."""


RATE = 5e-3
"""Peak learning rate."""

RATE_OF_INIT = 1e-3
"""... where a trained model is adapted: with 5e-3 and a readout in closed form ten ethanols made
organic-pbe worse for other ethanols (docs/benchmarks.md)."""

TOL_SOLVE = 1e-5
"""Orbital-gradient rms (Eh) of a solved molecule: energy within 1e-6 Eh up to benzene's size."""

TOL_MODEL = 1e-3
"""Orbital-gradient rms (Eh) of one model of many geometries, whose errors cannot all vanish."""


ERROR_RATIO = 0.1
"""Expected error of a target, as a part of the network's, above which it is improved."""

EMA_DECAY = 0.99
"""Decay of the averaged weights of a model of many geometries, while steps are largest."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """The schedule of a run.

    Attributes:
        loss: As text, for the record.
        terms: The loss in parts.
        budget: When a teacher's build is worth its cost.
        match: Weights of the supervised loss.
        epochs: Passes over the geometries, at most.
        max_steps: Optimiser steps, at most; -1 for no limit.
        total_steps: Length of the learning-rate schedule.
        batch_size: Geometries per step.
        repeats: How often an epoch visits each geometry.
        learning_rate: Peak of the schedule.
        warmup: Steps of linear warm-up.
        ema: Decay of the averaged weights, which are the ones evaluated and saved, at the peak
            learning rate; 0 for none.
        tol: Orbital-gradient rms at which a geometry is converged, Eh.
        check: Stop as soon as every geometry is converged.
        limit: What ends the run otherwise, for ``stopped_by``.
        ridge: Regularisation of the closed-form readout; None trains by gradient alone.
    """

    loss: str
    terms: tuple[Term, ...]
    budget: Budget
    match: MatchWeights
    epochs: int
    max_steps: int
    total_steps: int
    batch_size: int
    repeats: int
    learning_rate: float
    warmup: int
    ema: float
    tol: float
    check: bool
    limit: str
    ridge: float | None

    def rate(self, step: int) -> float:
        """Learning rate of a step as a part of its peak: a warm-up, then a cosine to a hundredth.

        Args:
            step: Optimiser steps before this one.

        Returns:
            The factor, above 0.
        """
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = min(1.0, (step - self.warmup) / max(1, self.total_steps - self.warmup))
        return 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * done))


def make_plan(config: FitConfig, n_geometries: int) -> Plan:
    """Resolve the settings of a run for its number of geometries.

    Args:
        config: What the user asked for.
        n_geometries: Geometries that could be prepared.

    Returns:
        The plan; the same settings and number give the same plan.
    """
    loss = written_out(config.loss)
    terms = terms_of(loss)
    few = n_geometries <= MAX_CHECKED
    batch_size = min(config.batch_size or 10, n_geometries)
    repeats = STEPS_ALONE if few else 1
    per_epoch = -(-n_geometries * repeats // batch_size)
    # matrices to match that do not move with H can be fitted by the readout in closed form
    closed_form = solvable(loss)
    if config.steps is not None:
        epochs = -(-config.steps // per_epoch)
    elif config.epochs is not None:
        epochs = config.epochs
    elif few:
        # targets that are fitted in closed form need few epochs, gradients alone need many
        epochs = 60 if closed_form else 300
    else:
        epochs = min(300, max(40, 6000 // per_epoch))
    total = epochs * per_epoch if config.steps is None else config.steps
    ridge = None
    # what a model knows of other molecules is lost in long steps and in a readout for a few
    gentle = config.init is not None and not few and not config.closed_form
    if closed_form and not gentle and config.closed_form is not False:
        ridge = 1e-10 if few else 1e-8
    return Plan(
        loss=loss,
        terms=terms,
        budget=_budget(config, terms, n_geometries),
        match=MatchWeights(
            **dict(
                zip(("occ_occ", "occ_virt", "virt_virt"), config.supervised_blocks, strict=True)
            ),
            orbital_energy=config.supervised_orbital_energy,
        ),
        epochs=epochs,
        max_steps=-1 if config.steps is None else config.steps,
        total_steps=total,
        batch_size=batch_size,
        repeats=repeats,
        learning_rate=config.learning_rate or (RATE_OF_INIT if gentle else RATE),
        warmup=min(20, total),
        ema=(0.0 if few else EMA_DECAY) if config.ema is None else config.ema,
        tol=config.conv_tol_grad or (TOL_SOLVE if few else TOL_MODEL),
        check=few,
        limit="epochs" if config.steps is None else "steps",
        ridge=ridge,
    )


def _budget(config: FitConfig, terms: tuple[Term, ...], n_geometries: int) -> Budget:
    """Rationed only where many geometries are taught: nobody waits for builds that are not made."""
    taught = any(term.name == "fixed-point" for term in terms)
    if n_geometries <= MAX_CHECKED or config.budget == "full" or not taught:
        return Budget()
    return Budget(ratio=ERROR_RATIO)


def resolved(config: FitConfig, plan: Plan) -> FitConfig:
    """The settings with what the plan chose written out; they give the same plan again.

    Args:
        config: What the user asked for.
        plan: What became of it.

    Returns:
        Settings to keep with the run.
    """
    chosen = {
        "loss": plan.loss,
        "epochs": plan.epochs if config.steps is None else None,
        "batch_size": plan.batch_size,
        "learning_rate": plan.learning_rate,
        "conv_tol_grad": plan.tol,
        "ema": plan.ema,
    }
    return config.model_copy(update=chosen)
