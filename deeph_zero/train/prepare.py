"""Before training: integrals and F[P₀] of every geometry, and the network."""

import functools
import itertools
from collections.abc import Hashable, Iterator, Sequence

import torch

from deeph_zero.ao.basis_text import label_of, same_basis
from deeph_zero.ao.shells import BasisLayout
from deeph_zero.data.labels import Label, LabelStore, label_for
from deeph_zero.errors import ComputationError, InputError, argument
from deeph_zero.integrals.ahead import Order
from deeph_zero.integrals.mole import build_mole, free_atoms
from deeph_zero.integrals.portable import Portable
from deeph_zero.ks.batch.ks_batch import gains_together
from deeph_zero.ks.protocol import KSData
from deeph_zero.model import load
from deeph_zero.molecule import Molecule
from deeph_zero.nn.extension import extended
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.reading import Reading
from deeph_zero.nn.spec import default_spec
from deeph_zero.predict.record import failure
from deeph_zero.prepared.molecule import (
    Means,
    Prepared,
    ao_memory,
    basis_layout,
    kohn_sham,
    same_data,
)
from deeph_zero.settings.config import FitConfig
from deeph_zero.settings.loss_terms import terms_of
from deeph_zero.train.calibrate import TOGETHER
from deeph_zero.train.plan import MAX_CHECKED
from deeph_zero.train.run import Run
from deeph_zero.train.sampling import displaced
from deeph_zero.train.store.cache import HeavyStore, memory_limit_mb
from deeph_zero.train.stream import Ahead, Stream
from deeph_zero.train.taught import Absent, Problem, labelled_problem, make_problem
from deeph_zero.train.team import Team
from deeph_zero.train.validation import advance_together, converge
from deeph_zero.types import AOMatrix


class TimeIsUpError(Exception):
    """The deadline passed before training began; the message says how far it came."""


def prepare(run: Run, *, trained: bool) -> FockNetwork:
    """Fill ``run.geometries`` and choose the network.

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
    network = _network(run, _layout(run), trained=trained)
    kept_out = {*run.roles.held_out, *run.roles.measuring}
    positions = [k for k in range(len(run.molecules)) if k not in kept_out]
    frames = [run.molecules[k] for k in positions]
    everything = [*frames, *displaced(_in_time(run, frames), config, (config.runtime.seed,))]
    share = ao_memory(run.runtime.device) / len(everything)
    run.geometries.store = store = _store(run)
    copies = _prepare_all(run, network, everything, positions, ao_memory_mb=share)
    if run.team is not None:
        _agree(run, run.team)
    if not run.geometries.present:
        raise ComputationError("no geometry could be prepared; see the warnings above")
    _prepare_validation(run, store, network)
    _report_degenerate(run)
    _report_memory(run, store)
    run.geometries.stream = _stream(run, network, frames, copies, share)
    if run.geometries.stream is None and store.holds_all:
        run.dismiss_workers()  # nothing is computed again
    return network


def _in_time(run: Run, frames: list[Molecule]) -> Iterator[Molecule]:
    """The frames, as long as there is time to make copies of them."""
    for k, frame in enumerate(frames):
        if run.runtime.deadline.expired():
            raise TimeIsUpError(f"copies of {k} of {len(frames)} structures were made")
        yield frame


def _layout(run: Run) -> BasisLayout:
    """Shells of all elements, from one molecule per new element: a thousand frames have few."""
    seen: set[int] = set()
    moles = []
    for molecule in run.molecules:
        if not seen.issuperset(molecule.numbers.tolist()):
            seen.update(molecule.numbers.tolist())
            moles.append(build_mole(molecule, basis=run.config.method.basis))
    return basis_layout(moles)


def _prepare_all(
    run: Run,
    network: FockNetwork,
    everything: list[Molecule],
    positions: Sequence[int],
    *,
    ao_memory_mb: float,
) -> dict[int, int]:
    """Integrals, network inputs and labels; the first ones are the user's, at ``positions``.

    What is returned has, for the number of a displaced copy among the problems, its number in
    ``everything``.
    """
    config, store = run.config, run.geometries.store
    assert store is not None
    labels = LabelStore(config.data.labels) if config.data.labels else None
    alone = _labels_alone(run, network, labels, everything)
    orders = {
        k: functools.partial(_order, run, m) for k, m in enumerate(everything) if alone[k] is None
    }
    problems, copies = run.geometries.problems, dict[int, int]()
    with run.reporter.task("integrals", len(everything)) as task:
        for k, molecule in enumerate(everything):
            if run.runtime.deadline.expired():
                raise TimeIsUpError(f"{k} of {len(everything)} geometries were prepared")
            if run.team is not None and not run.team.owns(k):
                problems.append(Absent(molecule))
                continue
            if store.ahead is not None:
                soon = range(k, k + store.ahead.limit)
                store.ahead.plan((j, orders[j]) for j in soon if j in orders)
            try:
                with run.costs.measured("integrals"):
                    problem = _problem(
                        run,
                        store,
                        network,
                        molecule,
                        ao_memory_mb=ao_memory_mb,
                        name=k,
                        labels=alone[k],
                    )
                if labels is not None and problem.label is None:
                    wanted = problem.ks.info.method
                    problem.label = label_for(labels, molecule, wanted, problem.fock0.shape)
                if k < len(positions):
                    problem.position = positions[k]
                else:
                    copies[len(problems)] = k
                problems.append(problem)
            except (ComputationError, InputError) as error:
                _leave_out(run, molecule, error, asked_for=k < len(positions))
                if run.team is not None:  # who has which geometry goes by its position
                    problems.append(Absent(molecule))
                    run.geometries.lost[k] = failure(molecule, error)["error"]
            task.advance()
    return copies


def _labels_alone(
    run: Run, network: FockNetwork, labels: LabelStore | None, molecules: Sequence[Molecule]
) -> list[LabelStore | None]:
    """The labels, at geometries that nothing else teaches: no Fock build is made there.

    A few geometries are trained until a build at each of them says that they are converged.
    """
    supervised = {term.name for term in terms_of(run.config.loss)} == {"supervised"}
    geometry = network.spec.inputs == "geometry"
    if labels is None or not supervised or not geometry or len(molecules) <= MAX_CHECKED:
        return [None] * len(molecules)
    return [None if labels.index(m) is None else labels for m in molecules]


def _stream(
    run: Run,
    network: FockNetwork,
    frames: list[Molecule],
    copies: dict[int, int],
    ao_memory_mb: float,
) -> Stream | None:
    """What replaces displaced copies, if that was asked for."""
    config, store = run.config, run.geometries.store
    if not config.stream:
        return None
    if len(run.geometries.problems) <= MAX_CHECKED:
        raise InputError(
            f"{argument('stream', True)}: expected more than {MAX_CHECKED} geometries at a time, "
            f"got {len(run.geometries.problems)}; give a larger {argument('samples')}"
        )
    assert store is not None
    one = config.model_copy(update={"samples": 1})

    def molecule_of(slot: int, generation: int) -> Molecule:
        copy = copies[slot]
        frame = frames[(copy - len(frames)) // config.samples]
        seed = (config.runtime.seed, copy, generation)
        return displaced([frame], one, seed)[0]

    def make(slot: int, generation: int) -> Problem:
        store.release(slot)  # what leaves and what comes are never both in memory
        return _problem(
            run,
            store,
            network,
            molecule_of(slot, generation),
            ao_memory_mb=ao_memory_mb,
            key=slot,
            name=(slot, generation),
        )

    def order(slot: int, generation: int) -> Ahead:
        return (slot, generation), lambda: _order(run, molecule_of(slot, generation))

    return Stream(run.geometries.problems, list(copies), make, config.stream_visits, order)


def _network(run: Run, layout: BasisLayout, *, trained: bool) -> FockNetwork:
    """The network in the run folder, the one to start from, or a new one."""
    config = run.config
    if trained:
        network = load(run.out).network
    elif config.init is not None:
        network = extended(_initial(config), dict(layout.shells))
    else:
        torch.manual_seed(run.runtime.seed)
        new = config.model
        spec = default_spec(
            _with_room(layout, new.elements, config.method.basis),
            new.size,
            cutoff=new.cutoff,
            inputs=new.inputs,
            interaction=new.interaction,
        )
        network = FockNetwork(spec).to(getattr(torch, new.dtype))
    return network.to(run.runtime.device).train()


def _with_room(layout: BasisLayout, symbols: Sequence[str], basis: str) -> BasisLayout:
    """The layout with slots for the shells of further elements."""
    if not symbols:
        return layout
    atoms = free_atoms(symbols)
    room = basis_layout([build_mole(atom, basis=basis) for atom in atoms])
    slots = [max(n) for n in itertools.zip_longest(layout.slots, room.slots, fillvalue=0)]
    return BasisLayout.from_shells(dict(layout.shells), slots=slots)


def _problem(
    run: Run,
    store: HeavyStore,
    network: FockNetwork,
    molecule: Molecule,
    *,
    ao_memory_mb: float,
    key: int | None = None,
    name: Hashable = None,
    labels: LabelStore | None = None,
) -> Problem:
    """A geometry whose large tensors are in the store, in the place of another one if ``key``.

    Workers know its integrals under ``name``. With ``labels`` its label alone teaches it.
    """
    jk_dtype = getattr(torch, run.config.jk_dtype)
    means = Means(run.runtime.device, ao_memory_mb=ao_memory_mb, jk_dtype=jk_dtype)
    method, reading = run.config.solved, network.reading
    if labels is not None:
        problem = _labelled(run, labels, molecule, reading, means)

        def bare() -> KSData:
            return kohn_sham(molecule, method, means, builds=False).data.plain()

        return store.adopt(problem, bare)
    ahead = store.ahead
    portable = None if ahead is None else ahead.take(name, _order(run, molecule))
    problem = make_problem(molecule, method, reading, means, portable=portable)

    def rebuild(again: Portable | None = None) -> KSData:
        return same_data(molecule, method, kept.ks.data.dm_guess, means, portable=again)

    def order() -> Order:
        return _order(run, molecule, kept.ks.data.dm_guess)

    kept = store.adopt(problem, rebuild, key, order)
    return kept


def _labelled(
    run: Run, labels: LabelStore, molecule: Molecule, reading: Reading, means: Means
) -> Problem:
    """A geometry that its label alone teaches."""

    def label_of(prepared: Prepared) -> Label:
        found = label_for(labels, molecule, prepared.ks.info.method, prepared.fock0.shape)
        assert found is not None
        return found

    return labelled_problem(molecule, run.config.solved, reading, label_of, means)


def _order(run: Run, molecule: Molecule, dm_guess: AOMatrix | None = None) -> Order:
    return Order(
        molecule=molecule,
        method=run.config.solved,
        jk_dtype=getattr(torch, run.config.jk_dtype),
        dm_guess=None if dm_guess is None else dm_guess.cpu(),
    )


def _prepare_validation(run: Run, store: HeavyStore, network: FockNetwork) -> None:
    """Solve the structures that measure."""
    others: list[tuple[int | None, Molecule]] = [(None, m) for m in run.roles.validation]
    wanted = [*others, *((k, run.molecules[k]) for k in run.roles.measuring)]
    if not wanted:
        return
    share = ao_memory(run.runtime.device) / len(wanted)
    size = TOGETHER if gains_together(run.runtime.device) else 1
    with run.reporter.task("validation", len(wanted)) as task:
        for start in range(0, len(wanted), size):
            made: list[tuple[int | None, Problem]] = []
            for k, (position, molecule) in enumerate(wanted[start : start + size], start):
                if run.runtime.deadline.expired():
                    raise TimeIsUpError(f"{k} of {len(wanted)} validation structures were solved")
                try:
                    problem = _problem(run, store, network, molecule, ao_memory_mb=share)
                    made.append((position, problem))
                except (ComputationError, InputError) as error:
                    _leave_out(run, molecule, error, asked_for=position is not None)
                    task.advance()
            if len(made) > 1 and store.holds_all:
                advance_together([problem for _, problem in made])
            for position, problem in made:
                _solve(run, position, problem)
                task.advance()


def _solve(run: Run, position: int | None, problem: Problem) -> None:
    """Take in a structure that measures, once it is solved."""
    try:
        converge(problem)
    except (ComputationError, InputError) as error:
        _leave_out(run, problem.molecule, error, asked_for=position is not None)
        return
    problem.position = position
    run.geometries.validators.append(problem)


def _store(run: Run) -> HeavyStore:
    config, processes = run.config, run.config.devices
    memory_mb = memory_limit_mb(config.memory_mb, run.runtime.device, processes)
    return HeavyStore(memory_mb, config.disk_mb / processes, run.out, run.hire_workers())


def _report_memory(run: Run, store: HeavyStore) -> None:
    """Say once what is done about geometries that do not fit."""
    if store.holds_all:
        return
    memory, needed = store.memory_bytes / 1e6, store.needed_bytes / 1e6
    disk = argument("disk_mb", option="--disk MB")
    how = f"computed again when they are used ({disk} writes them to a file)"
    if store.n_written:
        how = "read from disk when they are used, or computed again where the disk is full"
    run.reporter.message(
        f"integrals of {store.n_kept} of {len(store)} geometries fit in {memory:.0f} MB (all: "
        f"{needed:.0f} MB); the others are {how}"
    )
    if store.light_bytes > store.memory_bytes:
        run.reporter.warning(
            f"expected at least {store.light_bytes / 1e6:.0f} MB for inputs and matrices of "
            f"{len(store)} geometries, got {memory:.0f} MB; use fewer frames or a larger "
            f"{argument('memory_mb', option='--memory')}"
        )


def _leave_out(
    run: Run, molecule: Molecule, error: ComputationError | InputError, *, asked_for: bool
) -> None:
    """Record a geometry that fails, or stop at it; a displaced copy is not the user's frame."""
    if asked_for:
        if not run.config.skip_bad:
            where = molecule.where
            if str(error).startswith(where):
                raise error
            raise type(error)(f"{where}{error}") from error
        run.results.failed.append(failure(molecule, error))
    run.reporter.warning(f"{molecule.where}left out: {failure(molecule, error)['error']}")


def _agree(run: Run, team: Team) -> None:
    """All processes leave out what one of them could not prepare; process 0 records it."""
    reports = team.gather((run.geometries.lost, run.results.failed))
    for lost, failed in reports[1:] if team.leads else reports:
        run.geometries.lost.update(lost)
        if team.leads:
            run.results.failed += failed
            for entry in failed:
                run.reporter.warning(f"{entry['file']}: left out: {entry['error']}")


def _initial(config: FitConfig) -> FockNetwork:
    assert config.init is not None
    model = load(config.init)
    if not same_basis(model.method.basis, config.method.basis):
        raise InputError(
            f"{argument('init', config.init)}: expected a model for basis "
            f"{label_of(config.method.basis)!r}, got one for {label_of(model.method.basis)!r}; "
            f"give the same {argument('basis')}"
        )
    return model.network


def _report_degenerate(run: Run) -> None:
    if run.config.method.break_symmetry:
        return
    found = [p for p in run.geometries.present if p.ks.orbitals(p.fock0).degenerate]
    if found:
        first = found[0].molecule.where
        run.reporter.warning(
            f"{first}the ground state is degenerate ({len(found)} of "
            f"{len(run.geometries.problems)} geometries): its frontier level is filled evenly, "
            f"which is not a single determinant; {argument('break_symmetry', True)} gives the "
            "symmetry-broken state"
        )
