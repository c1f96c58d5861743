"""Files for other programs: where they go, what is refused at once, what a failure leaves."""

import pytest
from pyscf import dft, gto
from pyscf.scf import chkfile

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.jobs import export
from deeph_zero.predict import meanfield
from deeph_zero.settings.config import PredictConfig


def config(tmp_path, **asked):
    for name in ("chkfile", "molden"):
        if name in asked:
            asked[name] = str(tmp_path / asked[name])
    return PredictConfig.parse(asked)


def unheard(message):
    raise AssertionError(message)


@pytest.fixture(scope="module")
def hydrogen():
    mol = gto.M(atom="H 0 0 0; H 0.1 0.2 0.7", basis="sto-3g", verbose=0)
    mf = dft.RKS(mol, xc="lda,vwn")
    mf.grids.level = 0
    mf.kernel()
    return mf


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, False),
        ({"chkfile": "a.chk"}, True),
        ({"molden": "a.molden"}, True),
        ({"cube": ["density"]}, True),
    ],
)
def test_whether_anything_is_wanted(tmp_path, asked, expected):
    assert export.wanted(config(tmp_path, **asked)) is expected


@pytest.mark.parametrize(
    ("index", "names"),
    [
        (None, ["a.chk", "b.molden", "out_density.cube", "out_homo.cube"]),
        (3, ["a_0003.chk", "b_0003.molden", "out_0003_density.cube", "out_0003_homo.cube"]),
    ],
)
def test_names_have_the_number_of_the_structure_where_there_are_several(
    tmp_path, hydrogen, index, names
):
    asked = config(
        tmp_path, chkfile="a.chk", molden="b.molden", cube=["density", "homo", "density"]
    )
    export.export(hydrogen, asked, tmp_path / "out.h5", index, unheard)
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    kept = chkfile.load(str(tmp_path / names[0]), "scf/e_tot")
    assert kept == pytest.approx(hydrogen.e_tot, abs=1e-12)


def test_a_structure_that_fails_leaves_nothing_new(tmp_path, hydrogen, monkeypatch):
    """The next run would refuse to write over it; a file that was there stays."""
    (tmp_path / "a.chk").write_text("older")

    def full(_mf, _kind, path):
        path.write_text("half")
        raise ComputationError(f"cannot write {path} (No space left on device)")

    asked = config(tmp_path, chkfile="a.chk", molden="b.molden", cube=["density"])
    with monkeypatch.context() as patch:
        patch.setattr(meanfield, "write_cube", full)
        with pytest.raises(ComputationError, match="No space left"):
            export.export(hydrogen, asked, tmp_path / "out.h5", None, unheard)
    assert (tmp_path / "a.chk").exists()
    assert not (tmp_path / "b.molden").exists()


def test_a_cube_that_does_not_exist_is_said_and_the_others_are_written(tmp_path):
    """Hydride in a minimal basis has no empty orbital, and a closed shell no spin density."""
    mf = dft.RKS(gto.M(atom="H 0 0 0", basis="sto-3g", charge=-1, verbose=0), xc="lda,vwn")
    mf.grids.level = 0
    mf.kernel()
    (tmp_path / "out_lumo.cube").write_text("of an earlier run")
    said = []
    asked = config(tmp_path, cube=["lumo", "spin-density", "homo"])
    export.export(mf, asked, tmp_path / "out.h5", None, said.append)
    assert [p.name for p in tmp_path.iterdir()] == ["out_homo.cube"]
    assert said == [
        "cube='lumo': all of the 1 orbitals of the basis are occupied; there is no such cube",
        "cube='spin-density': expected an open shell, got a closed one; there is no such cube",
    ]


def check(tmp_path, count=1, *, overwrite=False, inputs=(), **asked):
    export.check(
        config(tmp_path, **asked), tmp_path / "out.h5", count, overwrite=overwrite, inputs=inputs
    )


def test_files_that_are_there_are_refused_unless_that_is_asked_for(tmp_path):
    (tmp_path / "a_0001.chk").write_text("mine")
    check(tmp_path, chkfile="a.chk")
    check(tmp_path, 1, chkfile="a.chk")
    with pytest.raises(InputError, match=r"a_0001\.chk exists; use overwrite=True"):
        check(tmp_path, 2, chkfile="a.chk")
    check(tmp_path, 2, chkfile="a.chk", overwrite=True)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"molden": "no/b.molden"}, r"molden=.*: the folder .*no does not exist; make it first"),
        ({"chkfile": "folder"}, r"chkfile=.*folder': expected a file, this is a folder"),
        ({"chkfile": "same", "molden": "same"}, "same"),
        ({"molden": "out.h5"}, r"out\.h5"),
        ({"molden": "out.json"}, r"out\.json"),
        ({"chkfile": "in.xyz"}, r"in\.xyz"),
    ],
)
def test_places_that_cannot_be_written_are_named(tmp_path, asked, words):
    (tmp_path / "folder").mkdir()
    (tmp_path / "in.xyz").write_text("1\n\nH 0 0 0\n")
    with pytest.raises(InputError, match=words) as caught:
        check(tmp_path, overwrite=True, inputs=[tmp_path / "in.xyz"], **asked)
    assert len(str(caught.value).splitlines()) == 1
