"""The result as a picture: each ratio as a bar, and the goal it is held to as a mark."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

MET, NOT_MET, NO_GOAL = "#2a7f62", "#b8452f", "#8a8f98"


def check() -> None:
    """Ends the program if nothing can be drawn."""
    try:
        import matplotlib
    except ImportError:
        sys.exit("--plot needs matplotlib: pip install 'pyxcsr[bench]', or apt-get install python3-matplotlib")
    matplotlib.use("Agg")


def _colour(row: dict[str, Any]) -> str:
    return NO_GOAL if row["met"] is None else MET if row["met"] else NOT_MET


def _panel(axes: Any, case: str, rows: list[dict[str, Any]]) -> None:
    """The ratios of one case."""
    places = range(len(rows))
    values = [x["value"] for x in rows]
    spread = [[x["value"] - x["low"] for x in rows], [x["high"] - x["value"] for x in rows]]
    axes.barh(places, values, xerr=spread, color=[_colour(x) for x in rows], ecolor="#333333", height=0.7)
    for place, row in zip(places, rows):
        if row["goal"]:
            axes.plot([float(row["goal"].split()[1])] * 2, [place - 0.45, place + 0.45], color="black", linewidth=2)
    axes.set_yticks(list(places), [x["what"] for x in rows], fontsize=7)
    axes.set_xscale("log")
    axes.axvline(1, color="#333333", linewidth=0.7)
    axes.invert_yaxis()
    axes.set_title(case, fontsize=9, loc="left")
    axes.tick_params(axis="x", labelsize=7)
    axes.grid(axis="x", linewidth=0.3)


def draw(result: dict[str, Any], path: Path) -> None:
    """Writes the picture: a panel for each case that has ratios."""
    from matplotlib import pyplot

    ratios = [x for x in result["rows"] if x["unit"] == "x"]
    cases = list(dict.fromkeys(x["case"] for x in ratios))
    by_case = [[x for x in ratios if x["case"] == case] for case in cases]
    heights = [len(x) + 2 for x in by_case]
    figure, panels = pyplot.subplots(
        len(cases), 1, figsize=(9, 0.22 * sum(heights) + 1), squeeze=False, height_ratios=heights
    )
    for axes, case, rows in zip(panels[:, 0], cases, by_case):
        _panel(axes, case, rows)
    machine = result["machine"]
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['kernel']}"
    title = f"How many times faster pyxcsr is (black line: goal). {where}"
    figure.suptitle(title, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
