"""The written house rules that no linter knows."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 60
SHORT_MODULE_LINES = 50
MODULES = sorted((ROOT / "deeph_zero").rglob("*.py"))
SCRIPTS = sorted(p for f in ("examples", "benchmarks", "tools/*") for p in ROOT.glob(f"{f}/*.py"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")])
TEXT = {".py", ".md", ".toml", ".txt", ".cff", ".yaml", ".xyz", ""}

FORBIDDEN = {
    "host of a package registry": r"pypi\.org|pythonhosted|download\.pytorch|npmjs|anaconda\.org",
    "path of one machine": r"(?<![\w.])/(work|root|home|Users|tmp/(venv|prompts))/",
    "data beside the repository": r"(?<![\w-])shared/",
    "unfinished text": r"\b(TODO|FIXME|XXX|TBD)\b",
    "how the text was made": r"\b(AI|coding|software|language[- ]model) (agents?|assistants?)\b"
    r"|\b(this|another|previous|next|earlier) (session|agent|helper)\b|\bsub-?agents?\b",
}


OPTION = re.compile(r"(?<![-\w(])(--[a-z-]{2,}|-o)(?![\w-])")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tracked_text_files() -> list[Path]:
    """Files git knows, or every file of interest where there is no git (an unpacked archive)."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode == 0:
        paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    else:
        folders = ("deeph_zero", "basis", "tests", "examples", "benchmarks", "tools", "docs")
        paths = [*ROOT.glob("*"), *(p for f in folders for p in (ROOT / f).rglob("*"))]
    return [p for p in paths if p.is_file() and p.suffix in TEXT and p != Path(__file__)]


def long_functions(tree: ast.Module) -> list[str]:
    """Functions whose body, docstring included, does not fit a screen."""
    return [
        f"{node.name}: {length} lines"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.body[0].lineno + 1) > MAX_FUNCTION_LINES
    ]


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=relative)
def test_module_is_small_and_described(path: Path):
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module starts with one sentence saying what it is for"
    assert text.count("\n") <= MAX_MODULE_LINES
    assert long_functions(tree) == []


def test_the_limits_bite():
    body = "\n".join(["    x = 1"] * (MAX_FUNCTION_LINES + 1))
    assert long_functions(ast.parse(f"def f():\n{body}\n")) == ["f: 61 lines"]
    assert long_functions(ast.parse(f"def f():\n{body[:-10]}\n")) == []


def texts_with_options(tree: ast.AST) -> list[str]:
    """Strings that name an option: docstrings, whole commands and ``option="--x"`` may."""
    nodes = list(ast.walk(tree))
    allowed = {n.value for n in nodes if isinstance(n, ast.Expr)}
    allowed |= {n.value for n in nodes if isinstance(n, ast.keyword) and n.arg == "option"}
    texts = [n for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    found = [n.value for n in texts if n not in allowed and OPTION.search(str(n.value))]
    return [text for text in found if isinstance(text, str) and "deeph-zero " not in text]


def test_library_messages_name_arguments():
    # errors.argument() turns them into options on the command line
    folder = ROOT / "deeph_zero"
    own = [p for p in MODULES if p.relative_to(folder).parts[0] not in ("cli", "settings")]
    found = {str(p.relative_to(folder)): texts_with_options(ast.parse(p.read_text())) for p in own}
    assert {name: texts for name, texts in found.items() if texts} == {}


def test_options_in_messages_are_found():
    code = (
        'f(f"add --spin {n}")\nf("in `deeph-zero fit --resume`")\nf("a", option="--to")\n"--doc"\n'
    )
    assert texts_with_options(ast.parse(code)) == ["add --spin "]


def test_every_module_has_tests_under_its_name():
    """Short ones, mostly tables and settings, may be tested from above."""
    own = [p for p in MODULES if p.read_text().count("\n") > SHORT_MODULE_LINES]
    places = {p: p.relative_to(ROOT / "deeph_zero").parent for p in own if p.stem != "__init__"}
    without = [
        relative(path)
        for path, place in places.items()
        if not any((ROOT / "tests" / f / f"test_{path.stem}.py").exists() for f in (place, "gpu"))
    ]
    assert without == []


HANGING = re.compile(r'^\s*("""|[a-z_]+: )?(Of |The same[.,]|Whoever )', re.MULTILINE)


def test_no_line_of_a_docstring_hangs_on_the_one_above():
    """ "seed: Seed of the moves", not "seed: Of the moves"."""
    found = {relative(p): HANGING.findall(p.read_text()) for p in MODULES}
    assert {name: lines for name, lines in found.items() if lines} == {}
    assert HANGING.search("    seed: Of the moves.")
    assert not HANGING.search("    seed: Seed of the moves.")


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_annotations_are_evaluated(path: Path):
    # the shape checks under pytest read annotations at run time
    assert "from __future__ import annotations" not in path.read_text()


def test_water_is_typed_once():
    typed = re.compile(r'"O 0 0 0?\.1; H 0 0?\.76 0?\.58; H 0?\.05 -0?\.74 0?\.61"')
    found = [relative(p) for p in (ROOT / "tests").rglob("*.py") if typed.search(p.read_text())]
    assert found == [], "deeph_zero.testing.WATER is this molecule"


def test_basis_folder_holds_data_only():
    assert [relative(p) for p in (ROOT / "basis").rglob("*.py")] == ["basis/__init__.py"]
    assert len(ast.parse((ROOT / "basis/__init__.py").read_text()).body) == 1


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_says(what: str):
    pattern = re.compile(FORBIDDEN[what])
    files = tracked_text_files()
    assert len(files) > 30, "the list of tracked files looks wrong"
    found = [
        f"{relative(path)}:{number}: {line.strip()[:80]}"
        for path in files
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("host of a package registry", "pip install --index-url https://pypi.org/simple"),
        ("path of one machine", 'read("/home/me/water.xyz")'),
        ("data beside the repository", 'Path("../shared/data/water.xyz")'),
        ("unfinished text", "# TODO: explain"),
        ("how the text was made", "the previous session left this"),
    ],
)
def test_the_forbidden_words_are_found(what: str, line: str):
    assert re.search(FORBIDDEN[what], line)
    innocent = 'scope="session"; a reducing agent; see docs/homework/x and ./work/water.xyz'
    assert not re.search(FORBIDDEN[what], innocent)


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_links_in_documents_lead_somewhere(path: Path):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (path.parent / link).exists()] == []


def test_benchmarks_stay_inside_the_repository():
    for path in ROOT.glob("benchmarks/*.py"):
        assert not re.search(r"parents\[[2-9]\]|\.parent\.parent\.parent|\.\./", path.read_text())


def test_every_decision_record_is_complete_and_listed():
    folder = ROOT / "docs/adr"
    index = (folder / "README.md").read_text()
    records = sorted(folder.glob("0*.md"))
    assert [int(p.name[:4]) for p in records] == list(range(1, len(records) + 1))
    for path in records:
        headings = re.findall(r"^## (.+)$", path.read_text(), flags=re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences"], path.name
        assert f"({path.name})" in index
