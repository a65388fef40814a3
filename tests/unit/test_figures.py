from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from pipeline.comparison.design import CROSS_VALIDATED, REPEATED
from pipeline.figures.accuracy import draw_accuracies
from pipeline.figures.class_differences import draw_class_differences, moved_most
from pipeline.figures.confusion import draw_confusion_matrices
from pipeline.figures.galleries import draw_mistakes
from pipeline.figures.learning_curves import draw_learning_curves
from pipeline.figures.reliability import draw_reliability
from pipeline.figures.style import colours, draw_runs, markers, save
from pipeline.figures.trade_off import draw_trade_off, pareto_front
from pipeline.report import tables
from pipeline.settings.schema import named
from tests.unit.made_runs import BASELINES, CLASSES, compared

# in what follows memory is drawn in MB, all else in the units of the table
COSTS = {"parameters": 1, "macs": 1, "latency_ms": 1, "training_seconds": 1}
COSTS |= {"inference_memory": 1e6, "training_memory": 1e6}


@pytest.fixture(scope="module")
def comparison():
    return compared()


def points(axes) -> list[tuple[float, float]]:
    """Return where single markers are drawn, in the order they were."""
    lines = [line for line in axes.get_lines() if len(line.get_xdata()) == 1]
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in lines]


def spans(axes, along: int) -> list[tuple[float, float]]:
    """Return the ends of the intervals that are drawn, along x (0) or y (1)."""
    found = [item for item in axes.collections if isinstance(item, LineCollection)]
    return [tuple(segment[:, along]) for item in found for segment in item.get_segments()]


def beaten(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Say whether `b`, a cost and an accuracy, beats `a`."""
    if b[0] > a[0] or b[1] < a[1]:
        return False
    return a != b


def architectures(comparison):
    """Return the rows of architectures of the table."""
    table = tables.comparison_table(comparison)
    return table[table["kind"] == "architecture"]


def test_pareto_front_agrees_with_brute_force():
    generator = np.random.default_rng(0)
    for count in range(1, 40):
        # Few different values, so that there are many ties.
        found = [tuple(point) for point in generator.integers(0, 8, (count, 2)).tolist()]
        expected = [not any(beaten(a, b) for b in found) for a in found]
        front = pareto_front(*zip(*found, strict=True))
        assert list(front) == expected
        assert any(front)


@pytest.mark.parametrize(
    ("costs", "accuracies", "front"),
    [
        ([1, 2, 3], [90, 95, 93], [True, True, False]),
        ([2, 2], [90, 91], [False, True]),
        ([1, 2], [90, 90], [True, False]),
        ([2, 2], [90, 90], [True, True]),
    ],
)
def test_point_is_on_the_front_unless_another_is_as_good_in_both(costs, accuracies, front):
    assert list(pareto_front(costs, accuracies)) == front


def test_trade_off_draws_the_numbers_of_the_table(comparison):
    table = architectures(comparison)
    panels = draw_trade_off(comparison).axes
    assert len(panels) == len(COSTS)
    for axes, (cost, unit) in zip(panels, COSTS.items(), strict=True):
        drawn = np.array(points(axes))
        np.testing.assert_allclose(drawn[:, 0], table[cost] / unit)
        np.testing.assert_allclose(drawn[:, 1], table["accuracy"])
        np.testing.assert_allclose(spans(axes, 1)[::2], table[["accuracy_low", "accuracy_high"]])


def test_trade_off_leads_from_each_baseline_to_its_candidate(comparison):
    accuracy = tables.comparison_table(comparison).set_index("model")["accuracy"]
    for axes in draw_trade_off(comparison).axes:
        arrows = [(text.xyann[1], text.xy[1]) for text in axes.texts]
        assert arrows == [
            pytest.approx((accuracy["cnn"], accuracy["ca_cnn"])),
            pytest.approx((accuracy["densenet"], accuracy["se_densenet"])),
        ]


def test_trade_off_steps_along_the_best_accuracy_for_the_cost(comparison):
    table = architectures(comparison)
    for axes, (cost, unit) in zip(draw_trade_off(comparison).axes, COSTS.items(), strict=True):
        (step,) = [line for line in axes.get_lines() if len(line.get_xdata()) > 1]
        for at, best in zip(step.get_xdata(), step.get_ydata(), strict=True):
            assert best == pytest.approx(table.loc[table[cost] / unit <= at, "accuracy"].max())


def test_costs_that_all_share_have_no_panel():
    # made costs grow with the length of a name
    assert draw_trade_off(compared({"cnn": None})) is None
    assert draw_trade_off(compared({"cnn": None, "ann": "cnn"})) is None
    wobbling = {"cnn": [1.0] * 9, "ann": [1.2] * 9}
    apart = draw_trade_off(compared({"cnn": None, "ann": "cnn"}, wobble=wobbling))
    labels = [axes.get_xlabel() for axes in apart.axes]
    assert labels == ["latency of one image (ms)", "training of one run (s)"]


def test_trade_off_draws_the_range_over_rounds():
    wobbling = {"cnn": [1.0, 1.1, 0.9] * 3, "ca_cnn": [1.0] * 9}
    axes = draw_trade_off(compared({"cnn": None, "ca_cnn": "cnn"}, wobble=wobbling)).axes[2]
    assert axes.get_xlabel() == "latency of one image (ms)"
    cnn, ca_cnn, *_ = spans(axes, 0)[1::2]
    assert cnn == pytest.approx((0.9 * 0.3, 1.1 * 0.3))
    assert ca_cnn == pytest.approx((0.6, 0.6))


def test_front_counts_costs_that_rounds_do_not_tell_apart_as_equal():
    steady = np.full(9, 10.0)
    barely = np.array([9.9, 10.1, 9.9, 10.1, 9.9, 10.1, 9.9, 10.1, 9.9])
    assert np.median(barely) < np.median(steady)
    assert list(pareto_front([steady, barely], [91, 90])) == [True, False]
    assert list(pareto_front([steady, 0.9 * steady], [91, 90])) == [True, True]
    assert list(pareto_front([10.0, 9.9], [91, 90])) == [True, True]  # counted, not measured


def test_costs_far_apart_are_drawn_on_a_logarithmic_scale():
    near = compared({"cnn": None, "ca_cnn": "cnn"}, seeds=1)
    far = compared({"cnn": None, "c" * 40: "cnn"}, seeds=1)
    assert {axes.get_xscale() for axes in draw_trade_off(near).axes} == {"linear"}
    assert {axes.get_xscale() for axes in draw_trade_off(far).axes} == {"log"}


def test_reliability_diagram_draws_the_numbers_of_the_table(comparison):
    table = tables.calibration_table(comparison)
    ece = tables.comparison_table(comparison).set_index("model")["ece"]
    panels = draw_reliability(comparison).axes
    diagrams, shares = panels[:4], panels[4:]
    for diagram, share, model in zip(diagrams, shares, BASELINES, strict=True):
        rows = table[(table["model"] == model) & (table["count"] > 0)]
        _, many, few, _ = diagram.get_lines()
        for line, expected in [(many, rows["count"] >= 20), (few, rows["count"] < 20)]:
            drawn = rows[expected]
            np.testing.assert_allclose(line.get_xdata(), 100 * drawn["confidence"])
            np.testing.assert_allclose(line.get_ydata(), 100 * drawn["accuracy"])
        assert diagram.get_title() == f"{model}\nECE {100 * ece[model]:.2f} %"
        heights = [bar.get_height() for bar in share.patches]
        assert sum(heights) == pytest.approx(100)
        assert max(heights) == pytest.approx(100 * rows["count"].max() / rows["count"].sum())


def test_class_differences_draw_the_table_the_largest_gain_first(comparison):
    table = tables.class_differences_table(comparison)
    for axes, model in zip(
        draw_class_differences(comparison).axes, ("ca_cnn", "se_densenet"), strict=True
    ):
        rows = table[table["model"] == model].sort_values(
            "difference", ascending=False, kind="stable"
        )
        drawn = points(axes)
        np.testing.assert_allclose([x for x, _ in drawn], rows["difference"])
        np.testing.assert_allclose(spans(axes, 0), rows[["difference_low", "difference_high"]])
        assert axes.get_yticklabels()[0].get_text()[:3] == rows["class"].iloc[0][:3]


def test_figures_of_a_single_seed_claim_no_interval_of_a_gain():
    made = compared(seeds=1)
    (legend,) = draw_class_differences(made).legends
    assert [entry.get_text() for entry in legend.get_texts()] == ["a single seed: no interval"]
    means, gains = draw_accuracies(made).axes
    assert "dot" not in means.get_title()
    assert gains.get_title() == "Gain, without interval"


def test_only_those_of_many_classes_that_moved_most_are_drawn():
    many = compared({"cnn": None, "ca_cnn": "cnn"}, classes=[f"class {k}" for k in range(100)])
    by_class = many.entries["ca_cnn"].pair.by_class
    differences = sorted((found.difference.mean for found in by_class), reverse=True)
    drawn = [found.difference.mean for found in moved_most(by_class)]
    assert drawn == pytest.approx(differences[:10] + differences[-10:])
    (axes,) = draw_class_differences(many).axes
    assert "20 of 100 classes" in axes.get_title()


def test_accuracies_draw_each_difference_with_its_verdict(comparison):
    rows = tables.comparison_table(comparison).dropna(subset=["verdict"])
    _, axes = draw_accuracies(comparison).axes
    np.testing.assert_allclose([x for x, _ in points(axes)], rows["difference"])
    np.testing.assert_allclose(spans(axes, 0), rows[["difference_low", "difference_high"]])
    words = [text.get_text() for text in axes.texts]
    assert [word for word in words if "margin" not in word] == list(rows["verdict"])


def test_no_dot_of_a_run_hides_another():
    axes = Figure(figsize=(7.5, 2)).subplots()
    axes.set(xlim=(-2, 2), ylim=(0.6, -0.6))
    draw_runs(axes, 0, [0.5, -1.0, 0.51, 0.5, 0.49, 1.5], "black")
    (line,) = axes.get_lines()
    dots = axes.transData.transform(line.get_xydata()) * 72 / axes.figure.dpi  # in points
    distances = np.linalg.norm(dots[:, None] - dots[None], axis=2)[~np.eye(6, dtype=bool)]
    assert sorted(line.get_xdata()) == [-1.0, 0.49, 0.5, 0.5, 0.51, 1.5]
    assert distances.min() > line.get_markersize()


def test_all_figures_can_be_drawn_of_every_kind_of_comparison(tmp_path):
    comparisons = {
        "one seed": compared(seeds=1),
        "one architecture": compared({"cnn": None}),
        "one of both": compared({"cnn": None}, seeds=1),
        "no pairs": compared({"cnn": None, "densenet": None}),
        "folds": compared(design=CROSS_VALIDATED),
    }
    for name, made in comparisons.items():
        classes = draw_class_differences(made)
        assert (classes is None) == (name in ("one architecture", "one of both", "no pairs"))
        figures = [draw_accuracies(made), draw_trade_off(made), draw_reliability(made), classes]
        for figure in figures:
            if figure is not None:
                save(figure, tmp_path / "figure.png")
                assert np.asarray(Image.open(tmp_path / "figure.png")).std() > 0


def test_legend_stays_within_a_figure_of_ten_architectures_with_long_names(tmp_path):
    names = [f"network_{k}_with_quite_a_long_name{k * 'x'}" for k in range(10)]
    many = compared({name: names[k - 1] if k % 2 else None for k, name in enumerate(names)}, 2)
    baselines = {name: named(many.architectures[name]["baseline"]) for name in names}
    curves = draw_learning_curves(many.runs, baselines, REPEATED, "cross_entropy")
    for figure in (draw_trade_off(many), curves, draw_reliability(many)):
        save(figure, tmp_path / "figure.png")
        box = figure.legends[0].get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
    # Colours repeat after eight, but not with the same marker.
    palette, shapes = colours(names), markers(names)
    assert len({(palette[name], shapes[name]) for name in names}) == 10


def test_figures_are_opaque_and_the_same_on_every_run(tmp_path, comparison):
    run = comparison.runs["ca_cnn"][0]
    images = np.zeros((len(run.labels), 8, 8, 1), np.uint8)
    made = {
        "accuracy": lambda: draw_accuracies(comparison),
        "trade_off": lambda: draw_trade_off(comparison),
        "reliability": lambda: draw_reliability(comparison),
        "class_differences": lambda: draw_class_differences(comparison),
        "confusion": lambda: draw_confusion_matrices(comparison.runs, CLASSES, REPEATED),
        "mistakes": lambda: draw_mistakes(
            run, images, np.arange(len(images)), CLASSES, np.ones((len(images), 2, 2), np.float16)
        ),
    }
    for name, draw in made.items():
        save(draw(), tmp_path / f"{name}.png")
        # A person's own settings must not reach the file.
        with matplotlib.rc_context({"savefig.transparent": True, "savefig.dpi": 50}):
            save(draw(), tmp_path / "again.png")
        assert (tmp_path / f"{name}.png").read_bytes() == (tmp_path / "again.png").read_bytes()
        pixels = np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGBA"))
        assert (pixels[..., 3] == 255).all()
