"""The challenge's figures, against scikit-learn, by hand, and against published results."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from trainer.metrics import MetricsError, auc_scores, bootstrap, interval
from trainer.metrics.bootstrap import harmonic_means, weighted_auc
from trainer.metrics.decisions import decision_quality


def test_a_domain_ranks_its_normals_against_the_anomalies_of_both() -> None:
    labels = ["normal", "normal", "anomaly", "anomaly"]
    domains = ["source", "target", "source", "target"]
    found = auc_scores(labels, domains, [0.1, 0.5, 0.4, 0.6])
    # Source normal lies below both anomalies; the target normal only below the target anomaly.
    assert found.auc_source == 1.0
    assert found.auc_target == 0.5
    assert found.hmean == pytest.approx(3 / (1 / 1.0 + 1 / 0.5 + 1 / found.pauc))


def test_pauc_takes_all_clips_and_chance_is_half() -> None:
    rng = np.random.default_rng(3)
    labels = ["normal"] * 60 + ["anomaly"] * 60
    domains = (["source"] * 30 + ["target"] * 30) * 2
    scores = rng.normal(size=120) + np.repeat([0, 0.7], 60)
    expected = roc_auc_score(np.repeat([0, 1], 60), scores, max_fpr=0.1)
    assert auc_scores(labels, domains, scores).pauc == pytest.approx(expected)
    constant = auc_scores(labels, domains, np.ones(120))
    assert constant.pauc == pytest.approx(0.5)
    assert constant.hmean == pytest.approx(0.5)


def test_a_zero_area_makes_the_harmonic_mean_zero() -> None:
    labels = ["normal", "anomaly", "normal"]
    found = auc_scores(labels, ["source", "source", "target"], [1.0, 0.5, 0.0])
    assert found.auc_source == 0.0
    assert found.hmean == 0.0


def test_without_domains_both_figures_take_all_normals() -> None:
    labels = ["normal", "normal", "anomaly", "anomaly"]
    found = auc_scores(labels, ["unknown"] * 4, [0.1, 0.5, 0.4, 0.6])
    assert found.auc_source == found.auc_target == 0.75


def test_an_absent_domain_has_no_figure_and_leaves_the_mean() -> None:
    labels = ["normal", "normal", "anomaly"]
    found = auc_scores(labels, ["source", "unknown", "target"], [0.1, 0.5, 0.4])
    assert found.auc_target is None
    # The normal of unknown domain (0.5) counts in pAUC alone.
    assert found.auc_source == 1.0
    assert found.pauc == pytest.approx(roc_auc_score([0, 0, 1], [0.1, 0.5, 0.4], max_fpr=0.1))
    assert found.hmean == pytest.approx(2 / (1 + 1 / found.pauc))


@pytest.mark.parametrize(
    ("labels", "domains", "scores", "said"),
    [
        (["normal", "normal"], ["source", "source"], [0, 1], "none of its 2 .* anomaly"),
        (["anomaly"], ["source"], [0], "normal"),
        (["normal", "anomaly"], ["source", "east"], [0, 1], "'east' is no domain"),
        (["normal", 1], ["source", "source"], [0, 1], "1 is no label"),
        (["normal", "anomaly"], ["source", "source"], [0, float("nan")], "clip 1 .* nan"),
        (["normal", "anomaly"], ["source", "source"], [0], "2 clips"),
    ],
)
def test_what_cannot_be_ranked_is_refused(labels, domains, scores, said) -> None:
    with pytest.raises(MetricsError, match=said):
        auc_scores(labels, domains, scores)


@pytest.mark.parametrize("max_fpr", [1.0, 0.1])
def test_weighted_area_equals_scikit_learn_on_repeated_clips(max_fpr) -> None:
    rng = np.random.default_rng(11)
    anomalous = rng.random(50) < 0.4
    scores = np.round(rng.normal(size=50) + anomalous, 1)  # rounded: many ties
    counts = rng.integers(0, 4, size=(20, 50)).astype(np.float64)
    found = weighted_auc(counts, anomalous, ~anomalous, scores, max_fpr=max_fpr)
    for row, area in zip(counts.astype(int), found, strict=True):
        drawn = np.repeat(np.arange(50), row)
        limit = None if max_fpr == 1 else max_fpr
        assert area == pytest.approx(
            roc_auc_score(anomalous[drawn], scores[drawn], max_fpr=limit), abs=1e-12
        )


def test_bootstrap_keeps_the_strata_and_repeats_with_its_seed() -> None:
    labels = ["normal"] * 3 + ["anomaly"] * 40
    domains = ["source"] * 3 + ["target"] * 40
    scores = np.arange(43.0)
    first = bootstrap(labels, domains, scores, resamples=200, seed=5)
    assert first.auc_target is None
    # Three normals below every anomaly: were they ever dropped from a resample, it would be NaN.
    assert first.auc_source is not None
    np.testing.assert_array_equal(first.auc_source, np.ones(200))
    again = bootstrap(labels, domains, scores, resamples=200, seed=5)
    np.testing.assert_array_equal(first.pauc, again.pauc)


def test_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    # d' of 1 gives a true AUC of Phi(1 / sqrt 2) = 0.7602.
    labels, domains = ["normal"] * 60 + ["anomaly"] * 60, ["source"] * 120
    covered = 0
    for trial in range(200):
        scores = rng.normal(size=120) + np.repeat([0, 1], 60)
        resampled = bootstrap(labels, domains, scores, resamples=300, seed=trial).auc_source
        assert resampled is not None
        low, high = interval(resampled)
        covered += low <= 0.7602 <= high
    assert 0.90 <= covered / 200 <= 0.985


def test_harmonic_means_of_resamples() -> None:
    found = harmonic_means([np.array([0.5, 0.0]), np.array([1.0, 1.0])])
    np.testing.assert_allclose(found, [2 / 3, 0.0])


def test_decisions_are_counted_in_each_domain_and_over_all() -> None:
    labels = ["normal", "normal", "anomaly", "anomaly", "normal"]
    domains = ["source", "source", "source", "target", "target"]
    found = decision_quality(labels, domains, np.array([True, False, True, False, False]))
    assert found["source"].precision == 0.5
    assert found["source"].recall == 1.0
    assert found["source"].f1 == pytest.approx(2 / 3)
    assert found["source"].false_alarm_rate == 0.5
    assert (found["target"].precision, found["target"].recall, found["target"].f1) == (0, 0, 0)
    assert found["all"].recall == 0.5
    assert found["all"].false_alarm_rate == pytest.approx(1 / 3)
