"""Charts: positions of values, labels, and the same marks as SVG and PNG."""

from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from curation.pages.rendering import STYLE
from distill.charts.chart import CURVES, Area, Axis, Chart, Lettering, Line, Series, draw
from distill.charts.intervals import DrawnDifference, draw_differences
from distill.charts.palette import CARD, CURVE_COLOURS, INK, LINE, MUTED
from distill.charts.png import png
from distill.charts.svg import svg, svg_file

SVG = "{http://www.w3.org/2000/svg}"


def chart(curves: int = 1, **more: object) -> Chart:
    x = np.array([1e-4, 1e-2, 1.0])
    series = [
        Series(f"curve {n}", x, np.array([0.2, 0.5, 1.0]) - n / 100, n) for n in range(curves)
    ]
    return Chart("a title", Axis("x", 1e-4, 1, is_log=True), Axis("y", 0, 1), series, **more)


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (Axis("", 0, 1), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (Axis("", 0.83, 1), ["0.85", "0.90", "0.95", "1.00"]),
        (Axis("", -0.4, 0.6), ["-0.4", "-0.2", "0.0", "0.2", "0.4", "0.6"]),
        (Axis("", 0, 0.086), ["0.00", "0.02", "0.04", "0.06", "0.08"]),
        (Axis("", 1.4e-6, 1, is_log=True), ["1", "1e-1", "1e-2", "1e-3", "1e-4", "1e-5"]),
        (Axis("", 1e-3, 1, is_log=True), ["1", "1e-1", "1e-2", "1e-3"]),
        (Axis("", 1e-12, 1, is_log=True), ["1", "1e-2", "1e-4", "1e-6", "1e-8", "1e-10", "1e-12"]),
    ],
)
def test_ticks_are_round_numbers(axis: Axis, expected: list[str]):
    assert [text for _, text in axis.ticks()] == expected
    places = axis.places(np.array([value for value, _ in axis.ticks()]))
    assert (places >= 0).all()
    assert (places <= 1).all()


def test_values_are_within_the_ends_and_others_at_them():
    assert Axis("", 2, 4).places(np.array([1, 2, 3, 5])).tolist() == [0, 0, 0.5, 1]
    log = Axis("", 1e-4, 1, is_log=True)
    assert log.places(np.array([0, 1e-4, 1e-2, 1, 10])) == pytest.approx([0, 0, 0.5, 1, 1])


def test_a_curve_is_drawn_from_corner_to_corner():
    drawing = draw(chart(), legend=False)
    (curve,) = (m for m in drawing.marks if isinstance(m, Line) and m.look == "curve")
    axis = next(m for m in drawing.marks if isinstance(m, Line) and m.look == "axis")
    (left, top), (_, bottom), (right, _) = axis.points
    assert curve.points[0].tolist() == pytest.approx([left, bottom - 0.2 * (bottom - top)])
    assert curve.points[1].tolist() == pytest.approx([(left + right) / 2, (top + bottom) / 2])
    assert curve.points[2].tolist() == pytest.approx([right, top])


def test_more_curves_than_colours_differ_in_their_dashes():
    lines = [m for m in draw(chart(20), legend=False).marks if isinstance(m, Line)]
    curves = [(m.colour, m.dash) for m in lines if m.look == "curve"]
    assert len(set(curves)) == 20
    assert {colour for colour, _ in curves} == set(range(CURVES))


def test_a_separate_chart_names_its_curves():
    words = [m.text for m in draw(chart(3)).marks if isinstance(m, Lettering)]
    assert [each for each in words if each.startswith("curve")] == ["curve 0", "curve 1", "curve 2"]
    assert "a title" in words
    assert draw(chart(3)).height > draw(chart(1)).height > draw(chart(), legend=False).height


def test_filled_curves_stand_on_the_axis():
    filled = Series("", np.array([1e-2, 1e-1]), np.array([0.5, 0.5]), 0, is_filled=True)
    drawing = draw(
        Chart("", Axis("", 1e-3, 1, True), Axis("", 0, 1), [filled], edges=[1e-2]), False
    )
    (area,) = (mark for mark in drawing.marks if isinstance(mark, Area))
    axis = next(m for m in drawing.marks if isinstance(m, Line) and m.look == "axis")
    assert area.points[:, 1].max() == axis.points[1, 1]
    (edge,) = (m for m in drawing.marks if isinstance(m, Line) and m.look == "edge")
    assert sorted(edge.points[:, 1]) == sorted(axis.points[:2, 1])


def test_untrusted_names_are_text_in_an_svg():
    evil = 'a<script>alert(1)</script>&"\x1b[31m\u202e'
    series = [Series(evil, np.array([0.1, 1]), np.array([0.1, 1]), 0)]
    drawing = draw(Chart(evil, Axis(evil, 0, 1), Axis(evil, 0, 1), series))
    for text in (svg(drawing), svg_file(drawing)):
        root = ElementTree.fromstring(text)
        assert [each for each in root.iter() if each.tag.endswith("script")] == []
        assert "\u202e" not in text
        assert any("<script>" in (each.text or "") for each in root.iter(f"{SVG}text"))


def test_an_svg_has_no_style_that_a_policy_would_refuse():
    root = ElementTree.fromstring(svg(draw(chart(10))))
    assert not any("style" in each.attrib for each in root.iter())
    assert not list(root.iter(f"{SVG}style"))
    assert list(ElementTree.fromstring(svg_file(draw(chart()))).iter(f"{SVG}style"))


def test_the_colours_are_those_of_the_pages():
    sheet = STYLE.read_text("utf-8")
    named = {"card": CARD, "ink": INK, "muted": MUTED, "line": LINE}
    named |= {f"curve-{n}": colours for n, colours in enumerate(CURVE_COLOURS, 1)}
    assert len(CURVE_COLOURS) == CURVES
    for name, (light, dark) in named.items():
        assert f"--{name}: light-dark({light}, {dark});" in sheet


def test_a_png_shows_every_curve_in_its_colour():
    drawing = draw(chart(9))
    pixels = cv2.imdecode(np.frombuffer(png(drawing), np.uint8), cv2.IMREAD_COLOR)
    assert pixels.shape == (2 * drawing.height, 2 * drawing.width, 3)
    for light, _ in CURVE_COLOURS:
        assert (pixels == list(bytes.fromhex(light[1:])[::-1])).all(axis=2).sum() > 100


def test_a_dashed_line_leaves_gaps_in_a_png():
    counts = []
    for colour in (0, CURVES):
        flat = Series("", np.array([0.0, 1.0]), np.array([0.55, 0.55]), colour)
        picture = png(draw(Chart("", Axis("", 0, 1), Axis("", 0, 1), [flat]), legend=False))
        pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
        blue = list(bytes.fromhex(CURVE_COLOURS[0][0][1:])[::-1])
        counts.append((pixels == blue).all(axis=2).sum())
    assert 0.3 * counts[0] < counts[1] < 0.9 * counts[0]


def test_letters_beyond_latin_do_not_stop_a_png():
    name = Series("李雷", np.array([0.0, 1.0]), np.array([0.0, 1.0]), 0)
    assert png(draw(Chart("Модель", Axis("", 0, 1), Axis("", 0, 1), [name]))).startswith(b"\x89PNG")


def test_differences_are_drawn_with_a_line_at_zero():
    rows = [
        DrawnDifference("lfw: accuracy", 0.01, -0.01, 0.03),
        DrawnDifference("better", 0.05, 0.02, 0.08),
        DrawnDifference("worse", -0.02, -0.03, -0.01),
    ]
    drawing = draw_differences("b minus a", "a hint", rows)
    lines = [mark for mark in drawing.marks if isinstance(mark, Line)]
    (zero,) = (mark.points[0, 0] for mark in lines if mark.look == "axis")
    bars = [mark for mark in lines if mark.look == "whisker"]
    assert [mark.colour for mark in bars] == [None, 2, 1]
    assert bars[0].points[0, 0] < zero < bars[0].points[1, 0]
    assert zero < bars[1].points[0, 0]
    assert bars[2].points[1, 0] < zero
    points = [mark.points[0, 0] for mark in lines if mark.look == "curve"]
    assert points[2] < zero < points[0] < points[1]
    words = [mark.text for mark in drawing.marks if isinstance(mark, Lettering)]
    assert {"b minus a", "a hint", "worse", "0.00"} <= set(words)


def test_networks_that_are_level_can_be_drawn():
    rows = [DrawnDifference("same", 0.0, 0.0, 0.0)]
    assert png(draw_differences("", "", rows)).startswith(b"\x89PNG")
    ElementTree.fromstring(svg_file(draw_differences("", "", rows)))
    ElementTree.fromstring(svg_file(draw_differences("", "", [])))
