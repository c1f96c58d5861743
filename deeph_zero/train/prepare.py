"""Before training: integrals and F[P₀] of every geometry, and the network."""

import torch

from deeph_zero.ao.shells import BasisLayout
from deeph_zero.config import FitConfig
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.integrals.mole import build_mole, place
from deeph_zero.model import load
from deeph_zero.molecule import Molecule
from deeph_zero.nn.model import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.predict.record import failure
from deeph_zero.train.labels import LabelStore, label_for, wanted_method
from deeph_zero.train.problem import AO_MEMORY_MB, basis_layout, make_problem
from deeph_zero.train.resume import Run
from deeph_zero.train.sampling import displaced
from deeph_zero.train.team_module import AbsentProblem


class TimeIsUpError(Exception):
    """The deadline passed before training began; the message says how far it came."""


def prepare(run: Run, *, trained: bool) -> FockNetwork:
    """Fill ``run.problems`` and choose the network.

    Args:
        run: The run.
        trained: Go on with the model in the run folder.

    Returns:
        The network, on the run's device.

    Raises:
        InputError: If a structure cannot be used.
        ComputationError: If no geometry could be prepared, or one could not and ``skip_bad`` is
            off.
        TimeIsUpError: If the deadline passed first.
    """
    config = run.config
    moles = [build_mole(m, basis=config.method.basis) for m in run.molecules]
    layout = basis_layout(moles)
    network = _network(run, layout, trained=trained)
    labels = LabelStore(config.data.labels) if config.data.labels else None
    used = [k for k in range(len(moles)) if k not in set(run.held_out)]
    frames, moles = [run.molecules[k] for k in used], [moles[k] for k in used]
    everything = [*frames, *displaced(frames, config, (config.runtime.seed,))]
    with run.reporter.task("integrals", len(everything)) as task:
        for k, molecule in enumerate(everything):
            if run.runtime.deadline.expired():
                raise TimeIsUpError(f"{k} of {len(everything)} geometries were prepared")
            if run.team is not None and not run.team.owns(k):
                run.problems.append(AbsentProblem(molecule))
                continue
            try:
                problem = make_problem(
                    molecule,
                    config.method,
                    network.spec.layout,
                    cutoff=network.spec.cutoff,
                    dtype=network.dtype,
                    device=run.runtime.device,
                    ao_memory_mb=AO_MEMORY_MB / len(everything),
                    mol=moles[k] if k < len(moles) else None,
                    inputs=network.spec.inputs,
                )
                if labels is not None:
                    wanted = wanted_method(config.method, problem.ks.info.auxbasis)
                    problem.label = label_for(labels, molecule, wanted, problem.fock0.shape)
                run.problems.append(problem)
            except (ComputationError, InputError) as error:
                _leave_out(run, molecule, error, asked_for=k < len(frames))
            task.advance()
    if not run.problems:
        raise ComputationError("no geometry could be prepared; see the warnings above")
    _report_degenerate(run)
    return network


def _network(run: Run, layout: BasisLayout, *, trained: bool) -> FockNetwork:
    """The network in the run folder, the one to start from, or a new one."""
    config = run.config
    if trained:
        network = load(run.out).network
    elif config.init is not None:
        network = _initial(config)
        network.spec.layout.with_elements(dict(layout.shells))
    else:
        torch.manual_seed(run.runtime.seed)
        new = config.model
        spec = default_spec(layout, new.size, cutoff=new.cutoff, inputs=new.inputs)
        network = FockNetwork(spec).to(getattr(torch, new.dtype))
    return network.to(run.runtime.device).train()


def _leave_out(run: Run, molecule: Molecule, error: Exception, *, asked_for: bool) -> None:
    """Record a geometry that fails, or stop at it; a displaced copy is not the user's frame."""
    if asked_for or run.team is not None:
        # several processes have to agree on the list
        if not run.config.skip_bad or run.team is not None:
            raise error
        run.failed.append(failure(molecule, error))
    run.reporter.warning(f"{place(molecule)}left out: {failure(molecule, error)['error']}")


def _initial(config: FitConfig) -> FockNetwork:
    assert config.init is not None
    model = load(config.init)
    if model.method.basis != config.method.basis:
        raise InputError(
            f"--init {config.init}: expected a model for basis {config.method.basis!r}, got one "
            f"for {model.method.basis!r}; give --basis {model.method.basis}"
        )
    return model.network


def _report_degenerate(run: Run) -> None:
    if run.config.method.break_symmetry:
        return
    here = [p for p in run.problems if not isinstance(p, AbsentProblem)]
    found = [p for p in here if p.ks.orbitals(p.fock0).degenerate]
    if found:
        first = place(found[0].molecule)
        run.reporter.warning(
            f"{first}the ground state is degenerate ({len(found)} of {len(run.problems)} "
            "geometries): its frontier level is filled evenly, which is not a single determinant; "
            "use --break-symmetry for the symmetry-broken state"
        )
