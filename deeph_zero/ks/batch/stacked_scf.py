"""SCF of a padded stack of molecules: every cycle's work in one go, one copy to the host for it.

Each molecule's iteration decides on the host, from a few numbers; what it asks for is done for
all that ask for the same. Matrices it holds are rows of stacks, padded to one size: an iteration
only adds them up, and never looks inside.
"""

import dataclasses
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from deeph_zero.ks.batch.dielectric import USUAL_PRODUCTS, dielectric_steps
from deeph_zero.ks.batch.padded import PaddedBucket, PaddedOrbitals
from deeph_zero.ks.batch.table import Table, add_kind, numbers_of, state_of
from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.ks.occupation import smallest_gap
from deeph_zero.ks.response.dielectric import MAX_PRODUCTS
from deeph_zero.ks.scf.iteration import (
    Correction,
    Ended,
    Given,
    Moved,
    Request,
    SecondOrder,
    State,
    Wanted,
    finished,
    result_of,
    shifted,
)
from deeph_zero.ks.scf.result import SCFResult, SCFSettings
from deeph_zero.ks.scf.solve import Solution, estimate_steps, steps
from deeph_zero.ks.terms.build import FockBuild
from deeph_zero.ks.terms.padding import Padding, widened
from deeph_zero.ks.terms.term import Density
from deeph_zero.types import MoleculeMatrix, SpinMatrix

Answers = Callable[[Mapping[int, Request]], Mapping[int, Any]]
T = TypeVar("T")


def in_step(runs: Mapping[int, Generator[Request, Any, T]], answers: Answers) -> dict[int, T]:
    """Run iterations until each has stopped by itself.

    Args:
        runs: The iterations by position, none of them begun.
        answers: Does what some of them ask for.

    Returns:
        Where each ended.
    """
    ended: dict[int, T] = {}
    found: Mapping[int, Any] = dict.fromkeys(runs)
    while found:
        asked: dict[int, Request] = {}
        for k, one in found.items():
            try:
                asked[k] = next(runs[k]) if one is None else runs[k].send(one)
            except StopIteration as end:
                ended[k] = end.value
        found = answers(asked) if asked else {}
    return {k: ended[k] for k in runs}


class _Group(NamedTuple):
    """Molecules whose builds on one grid are made together."""

    members: list[int]
    bucket: PaddedBucket


class StackedSCF:
    """The SCF of molecules that are padded to one size."""

    def __init__(
        self,
        layers: Sequence[KohnShamLayer],
        settings: SCFSettings,
        padding: Padding | None = None,
    ) -> None:
        """Nothing is stacked yet.

        Args:
            layers: Molecules alike in functional, spin treatment, gap floor and device.
            settings: Tolerances and the iteration's knobs.
            padding: Padding of a stack of the same molecules, whose integrals are then shared.
        """
        self._layers = list(layers)
        self._settings = settings
        self._nao = max(layer.nao for layer in layers)
        self._nmo = max(layer.nmo for layer in layers)
        self._paddings: dict[tuple[int, ...], Padding] = {}
        if padding is not None:
            self._paddings[tuple(range(len(layers)))] = padding
        self._groups: dict[bool, _Group] = {}
        self._last: dict[tuple[bool, int], SpinMatrix] = {}
        # how many a dielectric step needs is known one cycle late
        self._products = USUAL_PRODUCTS
        self._known_orbitals: dict[int, tuple[Tensor, ...]] = {}

    def solve(
        self, dms: Sequence[MoleculeMatrix], first_builds: Sequence[FockBuild | None]
    ) -> list[SCFResult]:
        """Iterate; to be called under ``torch.no_grad``.

        Args:
            dms: Starting density matrices.
            first_builds: The builds there, where they exist already.

        Returns:
            The last iterates, in order.

        Raises:
            ComputationError: If a matrix is not finite.
        """
        starts = [widened(dm, self._nao, self._nao) for dm in dms]
        each = zip(self._layers, starts, first_builds, strict=True)
        runs = [steps(layer, dm, self._settings, built) for layer, dm, built in each]
        ended = in_step(dict(enumerate(runs)), self._answers)
        return self._results(list(ended.values()))

    def estimates(
        self, at: Mapping[int, tuple[MoleculeMatrix, MoleculeMatrix]]
    ) -> dict[int, Solution | None]:
        """:func:`~deeph_zero.ks.scf.solve.coarse_solution` of molecules that have a coarse grid.

        To be called under ``torch.no_grad``.

        Args:
            at: Density matrix and F (Eh) of those that are asked for, by position.

        Returns:
            The solution of each, with matrices of its own size.

        Raises:
            ComputationError: If a matrix is not finite.
        """
        runs: dict[int, Generator[Request, Any, Solution | None]] = {}
        for k, (dm, fock) in at.items():
            coarse = self._layers[k].coarse
            assert coarse is not None
            wide = [widened(one, self._nao, self._nao) for one in (dm, fock)]
            runs[k] = estimate_steps(self._layers[k], coarse, *wide)
        found = in_step(runs, self._answers)
        return {
            k: None if one is None else _own_solution(self._layers[k], one)
            for k, one in found.items()
        }

    def responses(
        self, at: Mapping[int, tuple[MoleculeMatrix, MoleculeMatrix]]
    ) -> dict[int, MoleculeMatrix]:
        """Derivatives of the coarse grid's Fock matrices; each counts as one build there.

        Args:
            at: Density matrix and a symmetric change of it, of those that are asked for, by
                position.

        Returns:
            dF of each, Eh.
        """
        layers: dict[int, KohnShamLayer] = {}
        for k in at:
            coarse = self._layers[k].coarse
            assert coarse is not None
            coarse.fock_builds += 1
            layers[k] = coarse
        members = sorted(at)
        bucket = PaddedBucket([layers[k] for k in members], self._padding(members), self._nmo)
        self._groups[True] = _Group(members, bucket)
        dms, directions = (bucket.padding.stack([at[k][i] for k in members]) for i in (0, 1))
        for k, dm in zip(members, dms, strict=True):  # an idle member's build is made there
            self._last[True, k] = dm
        found = bucket.padding.split(bucket.response(dms, directions))
        return dict(zip(members, found, strict=True))

    def _answers(self, asked: Mapping[int, Request]) -> dict[int, Any]:
        builds: dict[bool, dict[int, Wanted]] = {False: {}, True: {}}
        corrections: dict[int, Correction] = {}
        given: dict[int, Given] = {}
        out: dict[int, Any] = {}
        for k, one in asked.items():
            if isinstance(one, Wanted):
                builds[one.layer is not self._layers[k]][k] = one
            elif isinstance(one, Given):
                given[k] = one
            elif isinstance(one, Correction):
                corrections[k] = one
            else:
                out[k] = self._second_order(one)
        if corrections:
            out |= self._moved(corrections)
        if given:
            out |= self._known(given)
        for coarse, wanted in builds.items():
            if wanted:
                out |= self._built(wanted, coarse=coarse)
        return out

    # ---- builds ----------------------------------------------------------------------------------

    def _built(self, wanted: Mapping[int, Wanted], *, coarse: bool) -> dict[int, State]:
        """One build for each that wants one."""
        layers = {k: one.layer for k, one in wanted.items()}
        members, bucket = self._gathered(layers, coarse=coarse)
        dm, used = self._densities(members, bucket, wanted, coarse=coarse)
        found, electrons = bucket.total(Density(dm, factored=False))
        energy = torch.stack([*torch.broadcast_tensors(*found.parts.values())]).sum(0)
        fock = found.fock
        shifts = [wanted[k].layer.shift if k in wanted else None for k in members]
        if any(shift is not None for shift in shifts):
            zero = torch.zeros_like(fock[0])
            shift = torch.stack([zero if one is None else one for one in shifts])
            energy, fock = energy + (shift * dm).sum((-3, -2, -1)), fock + shift
        error = bucket.commutator(fock, dm)
        table = Table()
        table.add("energy", energy)
        table.add("electrons", electrons)
        table.add("used", used)
        self._add_products(table, members, wanted, error.reshape(len(members), -1))
        orbitals = None
        if any(one.levels for one in wanted.values()):
            orbitals = bucket.orbitals(fock, self._settings.degeneracy_tol)
            table.add("levels", orbitals[0])
        if any(one.start for one in wanted.values()):
            add_kind(table, bucket, dm)
        numbers = table.read()
        if "used" in numbers:
            most = max(row[0] for row in numbers["used"])
            self._products = min(MAX_PRODUCTS, max(2, int(most) + 1))
        states: dict[int, State] = {}
        for row, k in enumerate(members):
            self._last[coarse, k] = dm[row]
            if k in wanted:
                wanted[k].layer.fock_builds += 1
                own = {name: values[row] for name, values in numbers.items()}
                states[k] = state_of(wanted[k], own, (fock[row], dm[row], error[row]))
                if orbitals is not None:
                    self._known_orbitals[k] = (states[k].fock, *(one[row] for one in orbitals))
        return states

    def _gathered(self, wanted: Mapping[int, KohnShamLayer], *, coarse: bool) -> _Group:
        """The group of those that want a build, or one that is at most twice as large.

        Stacking anew costs something.
        """
        group = self._groups.get(coarse)
        fits = group is not None and set(wanted) <= set(group.members)
        if group is None or not fits or 2 * len(wanted) <= len(group.members):
            members = sorted(wanted)
            layers = [wanted[k] for k in members]
            bucket = PaddedBucket(layers, self._padding(members), self._nmo)
            group = self._groups[coarse] = _Group(members, bucket)
        return group

    def _padding(self, members: Sequence[int]) -> Padding:
        """One for both grids: they share the integrals of J and K."""
        key = tuple(members)
        if key not in self._paddings:
            kept = {tuple(group.members) for group in self._groups.values()}
            self._paddings = {old: one for old, one in self._paddings.items() if old in kept}
            naos = [self._layers[k].nao for k in members]
            self._paddings[key] = Padding(naos, self._nao)
        return self._paddings[key]

    def _densities(
        self,
        members: Sequence[int],
        bucket: PaddedBucket,
        wanted: Mapping[int, Wanted],
        *,
        coarse: bool,
    ) -> tuple[SpinMatrix, Tensor | None]:
        """Densities to build at, of an idle member the last, and products of dielectric steps."""
        mixed = {k: one for k, one in wanted.items() if one.mixture is not None}
        dms = [wanted[k].dm if k in wanted else self._last[coarse, k] for k in members]
        if not mixed:
            return torch.stack([dm for dm in dms if dm is not None]), None
        anything = next(iter(mixed.values()))  # for rows that are not asked for
        fock, used = self._mixed(bucket, [mixed.get(k, anything) for k in members])
        found = bucket.aufbau(fock, self._settings.degeneracy_tol)
        if len(mixed) < len(members):
            found = torch.stack([found[k] if dm is None else dm for k, dm in enumerate(dms)])
        return found, used

    def _mixed(
        self, bucket: PaddedBucket, wanted: Sequence[Wanted]
    ) -> tuple[SpinMatrix, Tensor | None]:
        """What to diagonalise, and products of dielectric steps."""
        mixtures = [one.mixture for one in wanted if one.mixture is not None]
        size = max(len(one.weights) for one in mixtures)
        # a flag behind the weights: one copy to the device
        numbers = [[*_filled(one.weights, size, 0.0), float(one.dielectric)] for one in mixtures]
        given = torch.tensor(numbers, dtype=torch.float64).to(bucket.ovlp.device)
        fock = _mean([one.focks for one in mixtures], given[:, :-1])
        used = None
        if any(one.dielectric for one in mixtures):
            dm = _mean([one.dms for one in mixtures], given[:, :-1])
            orbitals = bucket.orbitals(fock, self._settings.degeneracy_tol)
            step, used = dielectric_steps(bucket, fock, dm, self._products, orbitals)
            fock = torch.addcmul(fock, step, given[:, -1].reshape(-1, 1, 1, 1))
        raised = [one.raised for one in wanted if one.raised is not None]
        if raised:
            fock = shifted(fock, torch.stack(raised), bucket.ovlp, self._settings.level_shift)
        return fock, used

    def _add_products(
        self, table: Table, members: Sequence[int], wanted: Mapping[int, Wanted], error: Tensor
    ) -> None:
        """Inner products of every error with those its iteration remembers, and with itself."""
        remembered = [wanted[k].errors if k in wanted else () for k in members]
        size = max(len(errors) for errors in remembered)
        if size:
            own = [
                _filled(errors, size, one) for errors, one in zip(remembered, error, strict=True)
            ]
            table.add("products", (_stacked(own) @ error.unsqueeze(-1)).squeeze(-1))
        table.add("square", error.square().sum(-1))

    # ---- what is rarer ---------------------------------------------------------------------------

    def _known(self, asked: Mapping[int, Given]) -> dict[int, State]:
        """What builds say that were made already."""
        orbitals, given = self._orbitals(list(asked)), list(asked.values())
        fock = orbitals.padding.stack([one.fock for one in given])
        dm = orbitals.padding.stack([one.dm for one in given])
        error = orbitals.commutator(fock, dm)
        table = Table()
        table.add("energy", numbers_of([one.energy for one in given], fock))
        if all(one.built is not None for one in given):
            counts = [one.built.n_electrons for one in given if one.built is not None]
            table.add("electrons", numbers_of(counts, fock))
        table.add("square", error.square().sum((-3, -2, -1)))
        if given[0].layer.unrestricted:  # an iteration asks for the gap
            table.add("levels", orbitals.orbitals(fock)[0])
        add_kind(table, orbitals, dm)
        numbers = table.read()
        states: dict[int, State] = {}
        for row, (k, one) in enumerate(asked.items()):
            own = {name: values[row] for name, values in numbers.items()}
            wanted = Wanted(layer=one.layer)
            states[k] = state_of(wanted, own, (fock[row], dm[row], error[row]))
        return states

    def _moved(self, asked: Mapping[int, Correction]) -> dict[int, Moved]:
        """The problems of the coarse grid with new constants."""
        corrections = list(asked.values())
        orbitals = self._orbitals(list(asked))
        change = torch.stack([one.fine.fock for one in corrections])
        change = change - torch.stack([one.coarse.fock for one in corrections])
        dm = torch.stack([one.fine.dm for one in corrections])
        zero = torch.zeros_like(dm[0])
        old = [one.layer.shift for one in corrections]
        shift = change
        if any(one is not None for one in old):
            shift = change + torch.stack([zero if one is None else one for one in old])
        table = Table()
        table.add("energy", (change * dm).sum((-3, -2, -1)))
        size = max(len(one.mixer) for one in corrections)
        focks, errors = [dm[:, None]] * 2
        if size:
            focks = _stacked([_filled(one.mixer.focks, size, zero) for one in corrections])
            dms = _stacked([_filled(one.mixer.dms, size, zero) for one in corrections])
            focks = focks + change.unsqueeze(1)
            swapped = orbitals.commutator(focks.transpose(0, 1), dms.transpose(0, 1))
            errors = swapped.transpose(0, 1).reshape(len(asked), size, -1)
            table.add("gram", (errors @ errors.mT).reshape(len(asked), -1))
        numbers = table.read()
        out: dict[int, Moved] = {}
        for row, (k, one) in enumerate(asked.items()):
            n = len(one.mixer)
            flat = numbers["gram"][row] if size else []
            out[k] = Moved(
                shift=shift[row],
                energy=numbers["energy"][row][0],
                focks=focks[row].unbind()[:n],
                errors=errors[row].unbind()[:n],
                gram=[flat[i * size : i * size + n] for i in range(n)],
            )
        return out

    def _second_order(self, asked: SecondOrder) -> tuple[State, int]:
        """Steps of one molecule by itself."""
        state, taken = dataclasses.replace(asked, start=_own(asked.layer, asked.start)).take()
        wide = self._nao, self._nao
        fock, dm = widened(state.fock, *wide), widened(state.dm, *wide)
        return dataclasses.replace(state, fock=fock, dm=dm), taken

    def _orbitals(self, members: Sequence[int]) -> PaddedOrbitals:
        layers = [self._layers[k] for k in members]
        return PaddedOrbitals(layers, Padding([one.nao for one in layers], self._nao), self._nmo)

    def _results(self, ended: Sequence[Ended]) -> list[SCFResult]:
        """Results with orbitals, of all at once where nothing else is left to do."""
        out: dict[int, SCFResult] = {}
        plain: dict[int, Ended] = {}
        for k, one in enumerate(ended):
            own = dataclasses.replace(one, state=_own(one.layer, one.state))
            if one.cycles[1] or self._settings.leave_saddles:
                out[k] = finished(own, self._settings)
            else:
                plain[k] = own
        rest = [k for k in plain if not self._knows(k, ended[k].state)]
        levels: dict[int, Tensor] = {}
        if rest:
            focks = torch.stack([ended[k].state.fock for k in rest])
            tol = self._settings.degeneracy_tol
            stacks = self._orbitals(rest).orbitals(focks, tol)
            levels = dict(zip(rest, stacks[0].cpu(), strict=True))
            for row, k in enumerate(rest):
                self._known_orbitals[k] = (focks[row], *(one[row] for one in stacks))
        for k, one in plain.items():
            n, nmo = one.layer.nao, one.layer.nmo
            energy, coeff, occ = self._known_orbitals[k][1:]
            gap = one.state.gap
            if k in levels or gap is None:
                gap = smallest_gap(levels[k][:, :nmo], one.layer.nelec)
            own = energy[:, :nmo], coeff[:, :n, :nmo], occ[:, :nmo]
            out[k] = result_of(one, own, degenerate=gap < one.layer.degeneracy_tol)
        return [out[k] for k in range(len(ended))]

    def _knows(self, k: int, state: State) -> bool:
        """Whether orbitals and gap of an iterate were made with its build."""
        known = self._known_orbitals.get(k)
        return known is not None and known[0] is state.fock and state.gap is not None


def _own(layer: KohnShamLayer, state: State) -> State:
    """With matrices of the molecule's own size."""
    n, nmo = layer.nao, layer.nmo
    fock, dm = state.fock[:, :n, :n].contiguous(), state.dm[:, :n, :n].contiguous()
    error = None if state.error is None else state.error[:, :nmo, :nmo]
    return dataclasses.replace(state, fock=fock, dm=dm, error=error)


def _own_solution(layer: KohnShamLayer, found: Solution) -> Solution:
    """With matrices of the molecule's own size."""
    n = layer.nao
    return Solution(found.dm[:, :n, :n], found.fock[:, :n, :n], found.change)


def _filled(values: Sequence[T], size: int, more: T) -> list[T]:
    """As many as asked for; their products are left out or have no weight."""
    return [*values, *[more] * (size - len(values))]


def _stacked(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """[nmol, n, ...] of equal numbers of tensors."""
    flat = torch.stack([one for row in rows for one in row])
    return flat.reshape(len(rows), -1, *flat.shape[1:])


def _mean(rows: Sequence[Sequence[Tensor]], weights: Tensor) -> Tensor:
    """Σ_k c_k M_k of every molecule."""
    size = weights.shape[1]
    stacked = _stacked([_filled(row, size, row[0]) for row in rows])
    if size == 1:
        return stacked.squeeze(1)
    flat = weights.unsqueeze(1) @ stacked.reshape(*weights.shape, -1)
    return flat.reshape(stacked.shape[0], *stacked.shape[2:])
