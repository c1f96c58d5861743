"""How figures look: ticks of logarithmic axes, colours that follow the page, files."""

import re

import matplotlib as mpl
import pytest

from deeph_zero.report import figures


@pytest.mark.parametrize("ends", [(8.4, 12.3), (1.6e-4, 1.9e-4), (3e-7, 4e-6), (1e-9, 2.0)])
def test_a_logarithmic_axis_has_ticks_whatever_its_range(ends):
    with figures.style():
        _, axes = figures.new_axes()
        axes.plot([1, 2], ends)
        axes.set_yscale("log")
        axes.set_ylim(*ends)
        figures.log_ticks(axes.yaxis, *ends)
        ticks = [tick for tick in axes.get_yticks() if ends[0] <= tick <= ends[1]]
        labels = [axes.yaxis.get_major_formatter()(tick) for tick in ticks]
    assert 2 <= len(ticks) <= 9
    assert len(set(labels)) == len(labels)
    for tick, label in zip(ticks, labels, strict=True):
        plain = label.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-"))
        mantissa, power = (
            re.fullmatch(r"(?:([\d.]+)·)?10(-?\d+)", plain).groups()
            if (plain != label)
            else (plain, "0")
        )
        assert float(mantissa or 1) * 10.0 ** int(power) == pytest.approx(tick, rel=1e-2)


@pytest.fixture
def figure():
    with figures.style():
        made, axes = figures.new_axes()
        axes.plot([1, 2, 3], [1, 4, 9], color=figures.BLUE, label="α")
        axes.fill_between([1, 2], [0, 1], hatch="/")  # has a definition that is referred to
        axes.set_title("title")
    return made


def test_two_figures_of_a_page_share_no_identifier(figure):
    texts = [figures.inline_svg(figure, "a", prefix) for prefix in ("one", "two")]
    ids = [set(re.findall(r' id="([^"]+)"', text)) for text in texts]
    assert ids[0]
    assert not ids[0] & ids[1]
    for text, own in zip(texts, ids, strict=True):
        assert set(re.findall(r"(?:url\(#|href=\"#)([\w-]+)", text)) <= own


def test_colours_are_those_of_the_page_and_the_label_is_text(figure):
    text = figures.inline_svg(figure, '<b> & "c"', "x")
    assert text.startswith('<svg role="img" aria-label="&lt;b> &amp; &quot;c&quot;"')
    assert figures.BLUE not in text
    assert "var(--blue)" in text
    assert figures.INK not in text
    assert "<metadata" not in text
    assert ">title</text>" in text, "letters stay letters"


def test_the_same_figure_is_the_same_file(figure, tmp_path):
    (tmp_path / "again").mkdir()
    first = figures.save(figure, tmp_path, "plot")
    again = figures.save(figure, tmp_path / "again", "plot")
    assert [p.name for p in first] == ["plot.svg", "plot.png"]
    assert first[0].read_bytes() == again[0].read_bytes()
    assert b"date" not in first[0].read_bytes().lower()[:2000]
    assert first[1].read_bytes()[:4] == b"\x89PNG"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "plot.png", "plot.svg"]


def test_the_look_ends_with_its_block():
    before = dict(mpl.rcParams)
    with figures.style():
        assert mpl.rcParams["svg.fonttype"] == "none"
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-3, "10⁻³"), (2e-3, "2·10⁻³"), (1.5e-12, "1.5·10⁻¹²"), (0.1, "0.1"), (1.0, "1"),
     (500.0, "500"), (1e3, "10³"), (3e10, "3·10¹⁰")],
)  # fmt: skip
def test_powers_of_ten_are_plain_text(value, text):
    assert figures._power(value) == text
