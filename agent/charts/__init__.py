"""What draws interactive charts in a browser, for the device's page and for reports.

`uplot.js` is uPlot, as its authors publish it (https://github.com/leeoniya/uPlot, MIT, see
`uplot.LICENSE`); `chart.js` gives it this house's colours, axes, readout and keyboard.
"""

from __future__ import annotations

from pathlib import Path

#: What a browser gets.
FOLDER = Path(__file__).parent / "static"
UPLOT_VERSION = "1.6.32"
# Of the files as published: another version is taken on purpose, never by accident.
UPLOT_SHA256 = {
    "uplot.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uplot.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}
