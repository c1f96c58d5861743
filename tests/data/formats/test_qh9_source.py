"""QH9's database as a source and a sink."""

import dataclasses

import numpy as np
import pytest
import torch

from deeph_zero.data.formats.protocol import Record, read_record
from deeph_zero.data.formats.qh9_source import QH9Sink, QH9Source
from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.errors import InputError

from .conftest import SHELLS


def shells_of(numbers, basis):
    assert basis == "made"
    return tuple(SHELLS[int(z)] for z in numbers)


def test_there_and_back(tmp_path, molecule):
    sink = QH9Sink(tmp_path / "a.db")
    sink.write(molecule)
    turned = dataclasses.replace(molecule.structure, coords=molecule.structure.coords[:, [1, 2, 0]])
    sink.write(Record(turned, molecule.matrices))
    sink.close()
    source = QH9Source(tmp_path / "a.db", shells_of, "made")
    assert (len(source), source.order) == (2, "pyscf")
    assert source.place(1) == f"{tmp_path / 'a.db'} frame 1"
    for k, structure in enumerate((molecule.structure, turned)):
        found = read_record(source, k)
        assert found.structure.name == str(k)
        assert found.structure.numbers.tolist() == [6, 1, 6]
        np.testing.assert_allclose(found.structure.coords, structure.coords, atol=1e-14)
        wanted = molecule.matrices.fock.to_dense()
        torch.testing.assert_close(found.matrices.fock.to_dense(), wanted, rtol=0, atol=1e-15)
        assert found.matrices.overlap is None
        assert found.matrices.facts == {"basis": "made"}


def test_a_matrix_of_another_basis(tmp_path, molecule):
    sink = QH9Sink(tmp_path / "a.db")
    sink.write(molecule)
    sink.close()
    source = QH9Source(tmp_path / "a.db", lambda numbers, _: ((0,),) * len(numbers), "small")
    with pytest.raises(InputError, match="expected a Fock matrix of 3 functions, got 576 numbers"):
        source.matrices(0)


def test_what_the_layout_cannot_hold(tmp_path, molecule, crystal):
    sink = QH9Sink(tmp_path / "a.db")
    cation = Record(dataclasses.replace(molecule.structure, charge=1), molecule.matrices)
    for record in (cation, crystal):
        with pytest.raises(InputError, match="the layout of QH9 holds no other"):
            sink.write(record)
    sink.close()
    with pytest.raises(WholeFileError, match="the table data is empty"):
        QH9Source(tmp_path / "a.db", shells_of, "made")
