"""Pictures of reports: a save, pass by pass, over time; a dirty rate as a curve, and what was predicted from it."""

from __future__ import annotations

from typing import Any

from matplotlib import rc_context, ticker
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

RUNNING, PAUSED, DIRTY = "#2a7f62", "#b8452f", "#333f56"
MIB = 1 << 20


def draw(report: dict[str, Any], path: str, kind: str) -> None:
    """Draws a save's report, or a dirty rate's, into a file of that kind: svg or png."""
    figure = _save(report) if report.get("passes") else _rate(report)
    FigureCanvasAgg(figure)
    same: Any = {"svg.fonttype": "none", "svg.hashsalt": "pyxcsr"}  # text as text; the same report is the same file
    with rc_context(same):
        figure.savefig(path, format=kind, dpi=130, metadata={"Date": None} if kind == "svg" else None)


def _panels(number: int, height: float, title: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(8, height), layout="constrained")
    panels = figure.subplots(number, 1, squeeze=False)[:, 0]
    for axes in panels:
        axes.grid(linewidth=0.3)
        axes.tick_params(labelsize=8)
    figure.suptitle(title, fontsize=10)
    return figure, panels


# -- a save


def _save(report: dict[str, Any]) -> Figure:
    passes = report["passes"]
    paused = 1000 * report.get("seconds_paused", 0.0)
    title = (
        f"{'live' if report.get('live', True) else 'non-live'} save of domain {report.get('domid', '?')}: "
        f"{len(passes)} passes, {report.get('bytes', 0) / MIB:.0f} MiB in {report.get('seconds', 0.0):.2f} s, "
        f"paused for {paused:.1f} ms"
    )
    foreseen = any(x.get("predicted_pause") for x in [report, *passes])
    figure, (pages, rate, *pause) = _panels(2 + foreseen, 5.0 + 1.8 * foreseen, title)
    at = 0.0
    for one in passes:
        _pass(pages, rate, one, at)
        at += one["seconds"]
    if foreseen:
        _pause(pause[0], report)
    pages.set_ylabel("pages", fontsize=9)
    pages.set_yscale("symlog", linthresh=100)
    pages.set_ylim(bottom=0)
    pages.yaxis.set_major_formatter(ticker.ScalarFormatter())
    rate.set_ylabel("MiB a second", fontsize=9)
    rate.set_ylim(bottom=0)
    [*pause, rate][0].set_xlabel("seconds since the first pass began", fontsize=9)
    _legend(pages, passes)
    for axes in (pages, rate, *pause):
        axes.set_xlim(0, at or 1.0)
    return figure


def _pause(axes: Any, report: dict[str, Any]) -> None:
    """What was expected after each pass, and just before the guest was suspended; and what it was."""
    at, ends, foreseen = 0.0, [], []
    for one in report["passes"]:
        if one.get("suspended") and report.get("predicted_pause"):
            ends.append(at)
            foreseen.append(1000 * report["predicted_pause"])
        at += one["seconds"]
        if one.get("predicted_pause"):
            ends.append(at)
            foreseen.append(1000 * one["predicted_pause"])
    axes.plot(ends, foreseen, "o-", color=DIRTY, linewidth=1, markersize=4, label="predicted")
    if report.get("seconds_paused"):
        axes.axhline(1000 * report["seconds_paused"], color=PAUSED, linewidth=2, label="real")
    axes.set_ylabel("pause, ms", fontsize=9)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    low, high = axes.get_ylim()
    axes.set_ylim(low / 2, high * 2)  # so that there is a number at the axis in any case
    axes.legend(fontsize=8)


def _pass(pages: Any, rate: Any, one: dict[str, Any], at: float) -> None:
    """A bar as wide as the pass is long: what it sent, and how fast; a line: what it set out with."""
    colour, seconds = PAUSED if one.get("suspended") else RUNNING, one["seconds"]
    pages.bar(at, one["pages"], seconds, align="edge", color=colour, alpha=0.75, edgecolor="white", linewidth=0.5)
    pages.plot([at, at + seconds], [one["dirty"]] * 2, color=DIRTY, linewidth=2)
    if seconds > 0:
        height = one["bytes"] / MIB / seconds
        rate.bar(at, height, seconds, align="edge", color=colour, alpha=0.75, edgecolor="white", linewidth=0.5)


def _legend(axes: Any, passes: list[dict[str, Any]]) -> None:
    """Of what there is: a save that is not live has no pass of a running guest."""
    kinds = [("sent, guest running", RUNNING, False), ("sent, guest paused", PAUSED, True)]
    for text, colour, suspended in kinds:
        if any(bool(x.get("suspended")) is suspended for x in passes):
            axes.bar(0, 0, 0, color=colour, alpha=0.75, label=text)
    axes.plot([], [], color=DIRTY, linewidth=2, label="dirty when it began")
    axes.legend(fontsize=8)


# -- a dirty rate


def _rate(report: dict[str, Any]) -> Figure:
    rate = report.get("pages_per_second", 0.0)
    title = f"domain {report.get('domid', '?')}: {rate:.0f} pages a second, {report.get('distinct', 0)} dirtied in all"
    has_ranges = bool(report.get("ranges"))
    figure, panels = _panels(2 if has_ranges else 1, 5.0 if has_ranges else 3.0, title)
    rows = sorted(report["windows"], key=lambda x: x["seconds"])
    lengths = [x["seconds"] for x in rows]
    panels[0].plot(lengths, [x["pages"] for x in rows], "o-", color=DIRTY, markersize=4, label="on an average")
    panels[0].plot(lengths, [x["most"] for x in rows], "^", color=PAUSED, markersize=4, label="most")
    panels[0].set_xscale("log", base=2)
    panels[0].xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _at: f"{x:.3g}"))
    panels[0].set_ylim(bottom=0)
    panels[0].set_xlabel("length of the window in seconds", fontsize=9)
    panels[0].set_ylabel("distinct pages", fontsize=9)
    panels[0].legend(fontsize=8)
    if has_ranges:
        panels[1].stairs(report["ranges"], fill=True, color=RUNNING)
        panels[1].set_ylim(bottom=0)
        panels[1].set_xlim(0, len(report["ranges"]))
        panels[1].set_xlabel(f"ranges of {report.get('per_range', '?')} pfns", fontsize=9)
        panels[1].set_ylabel("pages dirtied", fontsize=9)
    return figure
