"""The strips below a score's graph, pixel by pixel, in a real browser: an alert has no gaps."""

from __future__ import annotations

import pytest
from support.browser import open_browser
from support.page import Running, page_config

pytestmark = pytest.mark.slow

# A graph of made-up past; the share of its strip's pixels from first to last that are painted.
_DRAW = """
const done = arguments[arguments.length - 1], data = arguments[0];
import(new URL("static/graph.js", document.baseURI)).then(({ Graph }) => {
  const node = document.createElement("div"), read = document.createElement("output");
  node.style.cssText = "width: 900px; height: 240px; position: fixed; inset: 0; z-index: 9";
  document.body.append(node, read);
  const graph = new Graph(node, read, { low: "low", middle: "mean", high: "high", threshold: "threshold" });
  graph.show(data);
  setTimeout(() => {
    const canvas = node.querySelector("canvas"), pen = canvas.getContext("2d");
    const colour = getComputedStyle(document.documentElement).getPropertyValue("--alert").trim();
    pen.save(); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); pen.restore();
    const [red, green, blue] = pen.getImageData(0, 0, 1, 1).data;
    const rows = [];
    for (let row = 1; row < canvas.height; row += 1) {
      const { data: line } = pen.getImageData(0, row, canvas.width, 1), at = [];
      for (let i = 0; i < canvas.width; i += 1) {
        if (line[4 * i] === red && line[4 * i + 1] === green && line[4 * i + 2] === blue) at.push(i);
      }
      if (at.length) rows.push([at.length, at[at.length - 1] - at[0] + 1]);
    }
    node.remove();
    done(rows);
  }, 400);
}).catch((fault) => done(String(fault)));
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory, tiny_bundle):
    browser = open_browser()
    with Running(page_config(tmp_path_factory.mktemp("p"), tiny_bundle, [(6, 440)])) as running:
        browser.get(running.url)
        yield browser
    browser.quit()


def past(times, level):
    count = len(times)
    return {
        "begin": 0, "end": 600, "step": 1, "time": times, "level": level,
        "state": ["running"] * count, "invalid": [""] * count, "mean": [0.5] * count,
        "low": [0.4] * count, "high": [0.6] * count, "threshold": [1.0] * count,
    }  # fmt: skip


# A window each second, each five, and both by turns, as `hop: auto` has it.
@pytest.mark.parametrize(
    "times",
    [list(range(600)), list(range(0, 600, 5)), [*range(0, 200, 5), *range(200, 300), *range(300, 600, 5)]],
    ids=["each second", "each five", "auto"],
)  # fmt: skip
def test_an_alert_is_a_strip_without_gaps_at_any_hop(page, times):
    rows = page.execute_async_script(_DRAW, past(times, ["alert"] * len(times)))
    assert rows, "no strip is drawn"
    painted, span = max(rows)
    assert span > 700
    assert painted == span


def test_where_nothing_was_heard_the_strip_is_interrupted(page):
    times = [*range(200), *range(400, 600)]
    rows = page.execute_async_script(_DRAW, past(times, ["alert"] * len(times)))
    painted, span = max(rows)
    assert 0.6 * span < painted < 0.75 * span
