"""SCF of a padded stack of molecules: every cycle's work in one go, one copy to the host for it.

Each molecule's iteration decides on the host, from a few numbers; what it asks for is done for
all that ask for the same. Matrices it holds are rows of stacks, padded to one size: an iteration
only adds them up, and never looks inside.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from deeph_zero.errors import ComputationError
from deeph_zero.ks.batch.dielectric import dielectric_steps
from deeph_zero.ks.batch.padded import PaddedBucket, PaddedOrbitals
from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.ks.linalg.eigen import NOT_FINITE
from deeph_zero.ks.occupation import occupations, smallest_gap
from deeph_zero.ks.response.orbital_rotation import IDEMPOTENT_TOL, INTEGER_TOL
from deeph_zero.ks.scf.iteration import (
    Correction,
    Ended,
    Moved,
    Request,
    SecondOrder,
    State,
    Steps,
    Wanted,
    finished,
    result_of,
    shifted,
)
from deeph_zero.ks.scf.result import SCFResult, SCFSettings
from deeph_zero.ks.scf.solve import steps
from deeph_zero.ks.terms.padding import Padding, widened
from deeph_zero.ks.terms.term import Density
from deeph_zero.types import MoleculeMatrix, SpinMatrix

FIRST_PRODUCTS = 6
MAX_PRODUCTS = 20
"""Coulomb matrices of a dielectric step: so many at first, then one more than the last one needed,
for how many are needed is known one cycle late; molecules take two to four."""

Answers = Callable[[Mapping[int, Request]], Mapping[int, Any]]
T = TypeVar("T")


def in_step(runs: Sequence[Steps], answers: Answers) -> list[Ended]:
    """Run iterations until each has stopped by itself.

    Args:
        runs: The iterations, none of them begun.
        answers: Does what some of them ask for, by position.

    Returns:
        Where each ended.
    """
    ended: dict[int, Ended] = {}
    found: Mapping[int, Any] = dict.fromkeys(range(len(runs)))
    while found:
        asked: dict[int, Request] = {}
        for k, one in found.items():
            try:
                asked[k] = next(runs[k]) if one is None else runs[k].send(one)
            except StopIteration as end:
                ended[k] = end.value
        found = answers(asked) if asked else {}
    return [ended[k] for k in range(len(runs))]


class _Group(NamedTuple):
    """Molecules whose builds on one grid are made together."""

    members: list[int]
    bucket: PaddedBucket


class StackedSCF:
    """The SCF of molecules that are padded to one size."""

    def __init__(self, layers: Sequence[KohnShamLayer], settings: SCFSettings) -> None:
        """Nothing is stacked yet.

        Args:
            layers: Molecules alike in functional, spin treatment, gap floor and device.
            settings: Tolerances and the iteration's knobs; integer occupations.
        """
        self._layers = list(layers)
        self._settings = settings
        self._nao = max(layer.nao for layer in layers)
        self._nmo = max(layer.nmo for layer in layers)
        self._paddings: dict[tuple[int, ...], Padding] = {}
        self._groups: dict[bool, _Group] = {}
        self._last: dict[tuple[bool, int], SpinMatrix] = {}
        self._products = FIRST_PRODUCTS

    def solve(self, dms: Sequence[MoleculeMatrix]) -> list[SCFResult]:
        """Iterate; to be called under ``torch.no_grad``.

        Args:
            dms: Starting density matrices.

        Returns:
            The last iterates, in order.

        Raises:
            ComputationError: If a matrix is not finite.
        """
        starts = [widened(dm, self._nao, self._nao) for dm in dms]
        pairs = zip(self._layers, starts, strict=True)
        return self._results(in_step([steps(*one, self._settings) for one in pairs], self._answers))

    def _answers(self, asked: Mapping[int, Request]) -> dict[int, Any]:
        builds: dict[bool, dict[int, Wanted]] = {False: {}, True: {}}
        corrections: dict[int, Correction] = {}
        out: dict[int, Any] = {}
        for k, one in asked.items():
            if isinstance(one, Wanted):
                builds[one.layer is not self._layers[k]][k] = one
            elif isinstance(one, Correction):
                corrections[k] = one
            else:
                out[k] = self._second_order(one)
        if corrections:
            out |= self._moved(corrections)
        for coarse, wanted in builds.items():
            if wanted:
                out |= self._built(wanted, coarse=coarse)
        return out

    # ---- builds ----------------------------------------------------------------------------------

    def _built(self, wanted: Mapping[int, Wanted], *, coarse: bool) -> dict[int, State]:
        """One build for each that wants one."""
        members, bucket = self._gathered(wanted, coarse=coarse)
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
        table = _Table()
        table.add("energy", energy)
        table.add("electrons", electrons)
        table.add("used", used)
        self._add_products(table, members, wanted, error.reshape(len(members), -1))
        if any(one.levels for one in wanted.values()):
            table.add("levels", bucket.orbitals(fock)[0])
        if any(one.start for one in wanted.values()):
            _add_kind(table, bucket, dm)
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
                states[k] = _state(wanted[k], own, (fock[row], dm[row], error[row]))
        return states

    def _gathered(self, wanted: Mapping[int, Wanted], *, coarse: bool) -> _Group:
        """The group of those that want a build, or one that is at most twice as large.

        Stacking anew costs something.
        """
        group = self._groups.get(coarse)
        fits = group is not None and set(wanted) <= set(group.members)
        if group is None or not fits or 2 * len(wanted) <= len(group.members):
            members = sorted(wanted)
            layers = [wanted[k].layer for k in members]
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
        found = bucket.aufbau(fock)
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
            step, used = dielectric_steps(bucket, fock, dm, self._products)
            fock = torch.addcmul(fock, step, given[:, -1].reshape(-1, 1, 1, 1))
        raised = [one.raised for one in wanted if one.raised is not None]
        if raised:
            fock = shifted(fock, torch.stack(raised), bucket.ovlp, self._settings.level_shift)
        return fock, used

    def _add_products(
        self, table: "_Table", members: Sequence[int], wanted: Mapping[int, Wanted], error: Tensor
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

    def _moved(self, asked: Mapping[int, Correction]) -> dict[int, Moved]:
        """The problems of the coarse grid with new constants."""
        corrections = list(asked.values())
        orbitals = self._orbitals(list(asked))
        change = torch.stack([one.fine.fock - one.coarse.fock for one in corrections])
        dm = torch.stack([one.fine.dm for one in corrections])
        zero = torch.zeros_like(dm[0])
        old = [one.layer.shift for one in corrections]
        shift = change + torch.stack([zero if one is None else one for one in old])
        table = _Table()
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
        if plain:
            focks = torch.stack([ended[k].state.fock for k in plain])
            stacks = self._orbitals(list(plain)).orbitals(focks)
            levels = stacks[0].cpu()
            for row, (k, one) in enumerate(plain.items()):
                n, nmo = one.layer.nao, one.layer.nmo
                own = stacks[0][row, :, :nmo], stacks[1][row, :, :n, :nmo], stacks[2][row, :, :nmo]
                tol = one.layer.degeneracy_tol
                _, degenerate = occupations(levels[row, :, :nmo], one.layer.nelec, tol)
                out[k] = result_of(one, own, degenerate=degenerate)
        return [out[k] for k in range(len(ended))]


class _Table:
    """Numbers of every molecule that come to the host together."""

    def __init__(self) -> None:
        self._columns: dict[str, Tensor] = {}

    def add(self, name: str, values: Tensor | None) -> None:
        """Some numbers of each molecule, [nmol] or [nmol, n]; nothing for None."""
        if values is not None:
            self._columns[name] = values.reshape(len(values), -1)

    def read(self) -> dict[str, list[list[float]]]:
        """The rows of each; the host waits for the device."""
        whole = torch.cat(list(self._columns.values()), dim=1).cpu()
        if not bool(torch.isfinite(whole).all()):
            raise ComputationError(NOT_FINITE)
        widths = [values.shape[1] for values in self._columns.values()]
        parts = whole.split(widths, dim=1)
        return {name: one.tolist() for name, one in zip(self._columns, parts, strict=True)}


def _add_kind(table: _Table, bucket: PaddedBucket, dm: SpinMatrix) -> None:
    """How far a density is from a determinant's."""
    ps = dm @ bucket.ovlp
    table.add("count", ps.diagonal(dim1=-2, dim2=-1).sum(-1))
    table.add("excess", (ps @ dm - bucket.per_orbital * dm).abs().amax((-3, -2, -1)))


def _state(
    wanted: Wanted, own: Mapping[str, list[float]], matrices: tuple[Tensor, Tensor, Tensor]
) -> State:
    """What the numbers of one molecule say."""
    fock, dm, error = matrices
    square = own["square"][0]
    gap = determinant = None
    if "levels" in own:
        layer = wanted.layer
        levels = torch.tensor(own["levels"], dtype=torch.float64).reshape(layer.nspin, -1)
        gap = smallest_gap(levels[:, : layer.nmo], layer.nelec)
    if "excess" in own:
        nelec = wanted.layer.nelec
        want = nelec if wanted.layer.unrestricted else [2 * nelec[0]]
        off = max(abs(n - m) for n, m in zip(own["count"], want, strict=True))
        determinant = off <= INTEGER_TOL and own["excess"][0] < IDEMPOTENT_TOL
    return State(
        energy=own["energy"][0],
        fock=fock,
        dm=dm,
        gradient_norm=(0.5 * square) ** 0.5,
        error=error,
        n_electrons=own["electrons"][0],
        products=[*own.get("products", [])[: len(wanted.errors)], square],
        gap=gap,
        determinant=determinant,
    )


def _own(layer: KohnShamLayer, state: State) -> State:
    """With matrices of the molecule's own size."""
    n, nmo = layer.nao, layer.nmo
    fock, dm = state.fock[:, :n, :n].contiguous(), state.dm[:, :n, :n].contiguous()
    error = None if state.error is None else state.error[:, :nmo, :nmo]
    return dataclasses.replace(state, fock=fock, dm=dm, error=error)


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
