"""What benchmarks reckon from their figures: slopes with intervals, choices without a machine."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def script(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look for their module there
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


def test_a_power_and_what_each_further_unit_costs():
    fit = script("growth_fit")
    work = np.array([1, 2, 4, 8, 16.0])
    exact = fit.power(work, 3 * work**2)
    assert (exact.value, exact.low, exact.high) == pytest.approx((2, 2, 2))
    assert fit.each_further(work, 100 + 7.5 * work).value == pytest.approx(7.5)
    assert fit.power(work, 100 + 7.5 * work).value < 0.5
    with pytest.raises(ValueError, match="takes 3 sizes"):
        fit.power([1, 2], [1, 2])


def test_the_interval_of_a_slope_holds_the_true_one_as_often_as_it_says():
    fit, random = script("growth_fit"), np.random.default_rng(0)
    work = np.array([1, 2, 4, 8, 16.0])
    held = 0
    for _ in range(400):
        slope = fit.power(work, work**0.8 * np.exp(random.normal(0, 0.1, 5)))
        held += slope.low <= 0.8 <= slope.high
    assert 0.92 < held / 400 < 0.98


def test_a_form_is_chosen_by_the_other_machines():
    losses = {
        "a": {"short": 5.0, "half": 0.5},
        "b": {"short": 0.0, "half": 0.2},
        "c": {"short": 0.5, "half": 3.0},
    }
    cost = {"short": 1.0, "half": 2.0}
    found = {one.machine: one for one in script("left_out_forms").left_out(losses, cost, 1.0)}
    assert (found["a"].form, found["a"].loss) == ("short", 5.0), "a's own loss is not looked at"
    assert (found["b"].form, found["b"].loss) == ("", 0.0), "the others lose too much by either"
    assert (found["c"].form, found["c"].loss) == ("half", 3.0)
