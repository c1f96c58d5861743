"""The coupled-perturbed equations against SCFs of the changed Hamiltonian."""

import dataclasses

import pytest
import torch
from pyscf import gto

import deeph_zero as dz
from deeph_zero.errors import InputError
from deeph_zero.ks.response import coupled
from deeph_zero.ks.response.coupled import CoupledPerturbed
from deeph_zero.ks.terms.field import ElectricField

STEP = 1e-3


@pytest.fixture(scope="module", params=[0, 1])
def solved(request):
    """LiH and its cation in Hartree-Fock, and two operators that do not commute with F."""
    spin = request.param
    mol = gto.M(atom="Li 0 0 .1; H .3 .2 1.7", basis="sto-3g", charge=spin, spin=spin, verbose=0)
    ks = dz.KohnSham.from_pyscf(mol, xc="hf", unrestricted=bool(spin))
    done = ks.scf(conv_tol=1e-13)
    generator = torch.Generator().manual_seed(2)
    noise = 0.05 * torch.randn(2, ks.nao, ks.nao, generator=generator, dtype=torch.float64)
    return mol, ks, done, noise + noise.mT


def density_with(solved, operator):
    """Of an SCF with the operator added, from the solution without."""
    _, ks, done, _ = solved
    added = (ElectricField(operator, 0.0),)
    other = ks.on(dataclasses.replace(ks.data, added=added))
    return other.scf(done.dm, conv_tol=1e-13, conv_tol_grad=1e-9).dm


def test_densities_follow_operators(solved, monkeypatch):
    _, ks, done, operators = solved
    spins = ks.layer.nspin
    dm, fock = (x.reshape(spins, ks.nao, ks.nao) for x in (done.dm, done.fock))
    solver = CoupledPerturbed(ks.layer, dm, fock)
    found = solver.solve(operators.unsqueeze(1).expand(-1, spins, -1, -1).contiguous())
    for k, operator in enumerate(operators):
        ends = [density_with(solved, t * STEP * operator) for t in (1, -1)]
        wanted = (ends[0] - ends[1]) / (2 * STEP)
        assert float(wanted.abs().max()) > 0.01
        torch.testing.assert_close(found.dm[k].reshape(wanted.shape), wanted, rtol=0, atol=2e-6)
        response = ks.response(done.dm, found.dm[k].reshape(wanted.shape))
        torch.testing.assert_close(
            found.fock[k].reshape(wanted.shape), operator + response, rtol=0, atol=1e-8
        )
    monkeypatch.setattr(coupled, "GROUP", 1)
    again = solver.solve(operators.unsqueeze(1).expand(-1, spins, -1, -1).contiguous())
    torch.testing.assert_close(again.dm, found.dm, rtol=0, atol=1e-7)


def test_fields_are_solved_once_for_all_who_ask(solved):
    _, ks, done, _ = solved
    dm, fock = (ks.to_layer(x) for x in (done.dm, done.fock))
    solver = CoupledPerturbed(ks.layer, dm, fock)
    found = solver.in_fields(1e-6)
    before = ks.fock_builds
    assert solver.in_fields(1e-5) is found
    assert ks.fock_builds == before
    fields = ks.data.dipole.unsqueeze(1).expand(-1, ks.layer.nspin, -1, -1).contiguous()
    tight = solver.in_fields(1e-9)
    assert tight is not found
    torch.testing.assert_close(tight.dm, solver.solve(fields).dm, rtol=0, atol=1e-10)


def test_smeared_densities_are_refused(solved):
    mol, ks, done, _ = solved
    warm = dz.KohnSham.from_pyscf(mol, xc="hf", unrestricted=ks.unrestricted, smearing=0.01)
    shape = (warm.layer.nspin, ks.nao, ks.nao)
    with pytest.raises(InputError, match=r"smearing 0.01; leave smearing out"):
        CoupledPerturbed(warm.layer, done.dm.reshape(shape), done.fock.reshape(shape))
