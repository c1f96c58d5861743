"""The blocks of the documentation run: Python and commands, a page at a time, in its own folder.

Commands that train or label get options that make them short (:data:`QUICK`); what they say, write
and leave for the blocks after them is the real thing.
"""

import contextlib
import dataclasses
import io
import re
import shlex
import shutil
import warnings
from pathlib import Path

import pytest
import yaml

from deeph_zero.cli.main import entry_point

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
GENERATED = {"commands.md"}
"""Its command lines are examples of --help, checked in tests/cli/test_page.py."""
RUNS = {
    "deeph-zero fit examples/water.xyz": "water_run",
    "deeph-zero fit examples/water_frames.xyz -o frames_run": "frames_run",
}
"""Made once for all pages."""
GRID = ["--grid-level", "0"]
QUICK = {"fit": [*GRID, "--tol", "1e-2", "--steps", "2"], "label": GRID}
QUICK_TOML = {"epochs = 40": "epochs = 1", "[training]": "[method]\ngrid_level = 0\n\n[training]"}
QUICK_PYTHON = {"conformers = 1000": "conformers = 2"}
N_FRAMES = 9
"""Of examples/water_frames.xyz; more than eight make one model for many."""
MAX_NOT_RUN = 13
STARTS = (ROOT, ROOT / "deeph_zero", ROOT / "tests")
FOLDERS = {
    f.name
    for start in STARTS
    for f in start.iterdir()
    if f.is_dir() and (start == ROOT or any(f.glob("*.py")))
}
"""First part of a path that is the repository's own, not a user's."""


@dataclasses.dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, its title, why it is not run."""

    language: str
    text: str
    title: str = ""
    not_run: str = ""


def blocks_of(text: str) -> list[Block]:
    pattern = r"(?:<!-- not run: ([^\n]*?) -->\n)?^```([a-z]*)([^\n]*)\n(.*?)^```$"
    found = re.finditer(pattern, text, re.DOTALL | re.MULTILINE)
    return [
        Block(m[2], m[4], (re.search(r'title="([^"]+)"', m[3]) or [""] * 2)[1], m[1] or "")
        for m in found
    ]


def runnable(path: Path) -> list[Block]:
    return [b for b in blocks_of(path.read_text()) if b.language in {"python", "bash"}]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def command(line: str) -> None:
    """Run one command line in this process; ``> FILE`` is understood."""
    line, _, target = line.partition("  #")[0].partition(" > ")
    words = shlex.split(line, comments=True)
    assert words[0] == "deeph-zero", line
    quick = [] if "--kmesh" in words else QUICK.get(words[1], [])
    if "--samples" in words:
        quick = [*quick, "--samples", "2"]
    for option in {word for word in quick if word.startswith("--")} & {*words}:  # given once
        del words[words.index(option) : words.index(option) + 2]
    if "--print-config" not in words:
        quick = [*quick, "-q", "--threads", "1"]
    errors, printed = io.StringIO(), io.StringIO()
    with warnings.catch_warnings():
        # what a library tells its developers; the program silences it the same way
        warnings.simplefilter("ignore")
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(printed):
            code = entry_point([*words[1:], *quick])
    if target:
        Path(target.strip()).write_text(printed.getvalue())
    short = words[1] in {"fit", "train"} and "not converged" in errors.getvalue()
    assert code == (1 if short else 0), f"{line}\n{errors.getvalue()}"


def quickened(toml: str) -> str:
    for old, new in QUICK_TOML.items():
        assert toml.count(old) == 1
        toml = toml.replace(old, new)
    return toml


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trained models, as the pages make them."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(ROOT / "examples", folder / "examples")
    frames = (folder / "examples/water_frames.xyz").read_text().splitlines(keepends=True)
    (folder / "examples/water_frames.xyz").write_text("".join(frames[: 5 * N_FRAMES]))
    shutil.copy(ROOT / "examples/water.xyz", folder / "examples/caffeine.xyz")  # as good, and small
    with contextlib.chdir(folder):
        for line, name in RUNS.items():
            command(line)
            for file in ("model.safetensors", "model.json", "summary.json", "report.html"):
                assert (folder / name / file).exists()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in PAGES if runnable(p)], ids=relative)
def test_the_blocks_of_a_page_run(path: Path, runs: Path, tmp_path: Path, monkeypatch):
    # the shared runs have theirs and pages call `report`; one after every fit is half the time
    monkeypatch.setattr("deeph_zero.cli.fit.report_run", lambda *_: None)
    shutil.copytree(runs, tmp_path, dirs_exist_ok=True)
    names: dict[str, object] = {"__name__": "page"}
    with contextlib.chdir(tmp_path):
        for block in blocks_of(path.read_text()):
            if block.title:
                Path(block.title).write_text(quickened(block.text))
            elif block.not_run or block.language not in {"python", "bash"}:
                continue
            elif block.language == "bash":
                for line in block.text.replace("\\\n", "").splitlines():
                    if line.split("  #")[0].strip() not in {"", *RUNS}:
                        command(line)
            elif path.name != "README.md":  # tests/test_public_api.py runs that one
                text = block.text
                for slow, quick in QUICK_PYTHON.items():
                    text = text.replace(slow, quick)
                exec(compile(text, str(path), "exec"), names)


def test_few_blocks_are_not_run_and_each_says_why():
    skipped = [b.not_run for p in PAGES for b in blocks_of(p.read_text()) if b.not_run]
    assert len(skipped) <= MAX_NOT_RUN
    assert sum(p.read_text().count("<!-- not run") for p in PAGES) == len(skipped)
    assert all(len(reason) > 5 for reason in skipped)
    assert sum(len(runnable(p)) for p in PAGES) > 30


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_no_block_hides_from_running(path: Path):
    """A command or an import stands in a block with a language that is run."""
    assert path.read_text().count("\n```") == 2 * len(blocks_of(path.read_text()))
    for block in blocks_of(path.read_text()):
        assert block.language in {"", "bash", "json", "python", "text", "toml"}
        if block.language in {"", "text"} and path.name not in GENERATED:
            assert not re.search(r"^(deeph-zero |import )", block.text, re.MULTILINE), block.text


def test_blocks_are_found_with_title_and_reason():
    text = 'a\n<!-- not run: no GPU -->\n```bash\nx\n```\n```toml title="c.toml"\ny = 1\n```\n'
    assert blocks_of(text) == [
        Block("bash", "x\n", not_run="no GPU"),
        Block("toml", "y = 1\n", title="c.toml"),
    ]


def test_a_failing_block_is_noticed(tmp_path: Path):
    with (
        contextlib.chdir(tmp_path),
        pytest.raises(AssertionError, match="nowhere, which does not exist"),
    ):
        command("deeph-zero predict nowhere nothing.xyz")


def test_every_page_is_in_the_navigation_and_the_site_loads_nothing():
    text = (ROOT / "mkdocs.yml").read_text()
    config = yaml.safe_load(text)
    listed = set(re.findall(r"[\w./-]+\.md", str(config["nav"])))
    pages = {str(p.relative_to(ROOT / "docs")) for p in PAGES if p.name != "README.md"}
    assert pages | {"adr/README.md"} == listed
    assert config["strict"] is True
    assert config["theme"]["font"] is False
    assert "extra_javascript" not in config
    assert "extra_css" not in config


@pytest.mark.parametrize(
    "path",
    [
        p
        for p in (*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md")
        if "adr" not in p.parts
    ],
    ids=relative,
)
def test_files_that_a_page_names_exist(path: Path):
    """`ks/layer.py` and `ks/terms/` are meant from the package, the repository or tests on."""
    named = re.findall(
        r"`((?:[a-z_0-9]+/)+(?:[a-z_0-9]+\.(?:py|md|toml))?)(?:::\w+)?`", path.read_text()
    )
    ours = [n for n in named if n.split("/")[0] in FOLDERS]
    missing = [n for n in ours if not any((start / n).exists() for start in STARTS)]
    assert not missing
