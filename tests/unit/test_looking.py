"""Whether attention looks at the image: by hand, and for planted answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score
from statsmodels.stats.proportion import proportion_confint

from pipeline.statistics.estimates import balancing_weights
from pipeline.statistics.looking import Intervention, Looks, intervention, looking

CLASSES, MARGIN = 10, 0.5


def planted(
    kind: str, seed: int, images: int = 1000, runs: int = 3
) -> tuple[Intervention, Intervention]:
    """Return what is found of answers that are right for 90 %, frozen and shuffled.

    Attention that decides gets 3 and 5 points less without the image. Frozen attention answers
    the same. A random gate moves 5 % of the answers this way and that, to no effect on average.
    """
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, CLASSES, images)

    def moved(answers: np.ndarray, share: float, right: float) -> np.ndarray:
        wrong = (labels + generator.integers(1, CLASSES, images)) % CLASSES
        given = np.where(generator.random(images) < right, labels, wrong)
        return np.where(generator.random(images) < share, given, answers)

    intact = [moved(labels, 1, 0.9) for _ in range(runs)]
    # of the share that is answered again 90 % were right
    change = {"decides": ((0.06, 0.4), (0.1, 0.4)), "frozen": ((0, 1), (0, 1))}
    frozen, shuffled = change.get(kind, ((0.05, 0.9), (0.05, 0.9)))
    found = [
        intervention(intact, [moved(one, *how) for one in intact], [labels] * runs, True)
        for how in (frozen, shuffled)
    ]
    return found[0], found[1]


def test_loss_and_its_interval_by_hand() -> None:
    labels = np.zeros(400, int)
    intact, frozen = labels.copy(), labels.copy()
    intact[:8] = 1  # 8 wrong
    frozen[4:24] = 1  # 4 of them right now, 16 others wrong
    found = intervention([intact], [frozen], [labels], True)
    gains = np.repeat([-1, 1, 0], [4, 16, 380])
    # as if two images more had been answered, of which one was gained and one was lost
    error = 100 * np.sqrt(gains.var(ddof=1) / 400 + 2 / 400**2)
    half = stats.t.ppf(0.975, 399) * error
    assert found.loss == pytest.approx(3.0)
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half))
    assert (found.changed, found.answers) == (20, 400)
    upper = proportion_confint(20, 400, alpha=0.1, method="beta")[1]
    assert found.most_changed == pytest.approx(upper)


def test_an_image_counts_once_however_many_seeds_answered_it() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, CLASSES, 500)
    intact, other = (generator.integers(0, CLASSES, 500) for _ in range(2))
    alone = intervention([intact], [other], [labels], True)
    again = intervention([intact] * 5, [other] * 5, [labels] * 5, True)
    assert (again.low, again.high) == pytest.approx((alone.low, alone.high))
    assert again.answers == 5 * alone.answers


def test_folds_have_images_of_their_own() -> None:
    generator = np.random.default_rng(0)
    labels = [generator.integers(0, CLASSES, size) for size in (90, 110)]
    intact, other = ([generator.integers(0, CLASSES, len(of)) for of in labels] for _ in range(2))
    found = intervention(intact, other, labels, False)
    together = intervention(*([np.concatenate(of)] for of in (intact, other, labels)), True)
    assert found == together


def test_loss_of_balanced_accuracy_counts_classes_alike() -> None:
    labels = np.repeat([0, 1], [380, 20])
    intact, frozen = labels.copy(), labels.copy()
    frozen[380:390] = 0  # half of the rare class
    found = intervention([intact], [frozen], [labels], True, [balancing_weights(labels)])
    assert found.loss == pytest.approx(100 * (1 - balanced_accuracy_score(labels, frozen)))
    assert found.changed == 10


@pytest.mark.parametrize(("kind", "looks"), [("decides", "yes"), ("frozen", "no")])
def test_planted_attention_is_told_apart(kind: str, looks: Looks) -> None:
    verdicts = [looking(*planted(kind, seed), MARGIN).looks for seed in range(100)]
    assert verdicts.count(looks) >= 95
    if kind == "frozen":
        assert "yes" not in verdicts


def test_uniform_attention_that_costs_accuracy_does_not_show_that_the_image_is_looked_at() -> None:
    decides, frozen = planted("decides", 0), planted("frozen", 0)
    assert looking(*decides, MARGIN, "self_attention").looks == "unknown"
    assert looking(*frozen, MARGIN, "self_attention").looks == "no"


def test_a_random_gate_is_hardly_ever_said_to_look() -> None:
    verdicts = [looking(*planted("random", seed), MARGIN).looks for seed in range(200)]
    assert verdicts.count("yes") <= 5
    verdicts = [looking(*planted("random", seed, 10_000), MARGIN).looks for seed in range(40)]
    assert verdicts.count("no") >= 38


def test_unchanged_answers_of_few_images_prove_nothing() -> None:
    assert looking(*planted("frozen", 0, 200), MARGIN).looks == "unknown"
    assert looking(*planted("frozen", 0, 360), MARGIN).looks == "no"
