"""``python -m benchmarks.growing``: how a live save's pause, memory and calls grow with the guest, as a picture.

Sizes above 64 GiB do not fit: their pause is the model's (model.py), fitted to what was measured. Of the runs of each
saver the least counts, because others only ever add time.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Callable

from benchmarks import BUILD, peer

DIRTY = 50
MANY = 10_000
SIZES = ("1G", "4G", "16G", "32G", "64G")
PREDICTED = (128, 256, 512, 1024)
"""GiB."""

COLOURS = {"pyxcsr": "#2a7f62", "libxenguest": "#b8452f"}
Figures = dict[str, dict[str, list[float]]]


def _context(turns: int) -> Any:
    """libxenguest must be loaded before the core that runs beside it is."""
    folder = None if peer.missing() else peer.standin()
    if folder:
        peer.load(folder)
    from benchmarks.context import Context

    return Context(peer.libxenguest(folder) if folder else None, turns, False, BUILD, folder)


def measured(context: Any, size: str, turns: int) -> dict[str, dict[str, float]]:
    """By saver: the pause in us with few and with many dirty pages, the peak in KiB, the calls of a live save."""
    from benchmarks import sinks
    from benchmarks.cases.memory import _measure
    from benchmarks.guests import describe, machine
    from benchmarks.savers import Ours, Saver, Theirs
    from benchmarks.switched import Dirtier, SwitchedOurs, SwitchedTheirs, anywhere

    found: dict[str, dict[str, float]] = {}
    with machine(size) as hv, sinks.opened("socketpair") as fd:
        domid = hv.stub.create(describe(size))
        savers: dict[str, Any] = {"pyxcsr": SwitchedOurs(hv, domid)}
        if context.library:
            savers["libxenguest"] = SwitchedTheirs(hv, domid, context.library)
        for dirty in (DIRTY, MANY):
            dirtier = Dirtier(savers["pyxcsr"].guest, anywhere(savers["pyxcsr"].guest, size, dirty))
            for _ in range(turns):
                for name, saver in savers.items():
                    seconds = float(saver.switched(fd, dirtier).paused)
                    one = found.setdefault(name, {})
                    one[f"us {dirty}"] = min(one.get(f"us {dirty}", 1e12), seconds * 1e6)
        plain: dict[str, Callable[[], Saver]] = {"pyxcsr": lambda: Ours(hv, domid)}
        if context.library:
            plain["libxenguest"] = lambda: Theirs(hv, domid, context.library)
        with sinks.null() as null:
            for name, make in plain.items():
                hv.stub.clear_calls()
                make().save(null, live=True)
                found[name]["calls"] = float(sum(hv.stub.calls().values()))
        hv.stub.destroy(domid)
    for by, peak in _measure(context, size).items():
        found["pyxcsr" if by == "ours" else "libxenguest"]["KiB"] = peak
    return found


def predicted(sizes: list[str], figures: Figures) -> dict[str, list[float]]:
    """The pause in us of the sizes that do not fit, by saver."""
    from benchmarks.guests import pages_of
    from benchmarks.model import fit

    out = {}
    for name, one in figures.items():
        points = [
            (float(pages_of(size)), float(dirty), us)
            for dirty in (DIRTY, MANY)
            for size, us in zip(sizes, one[f"us {dirty}"])
        ]
        found = fit(points)
        out[name] = [found.seconds(gib << 18, DIRTY) for gib in PREDICTED]
    return out


def draw(result: dict[str, Any], path: Path) -> None:
    """Writes the picture."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "pyxcsr", "svg.fonttype": "none"})
    from matplotlib import pyplot

    from benchmarks.guests import pages_of

    gib = [pages_of(x) / (1 << 18) for x in result["sizes"]]
    pause = f"us {DIRTY}", f"paused, {DIRTY} dirty pages: us"
    wanted = (pause, ("KiB", "memory at the peak: KiB"), ("calls", "calls"))
    figure, panels = pyplot.subplots(1, 3, figsize=(10, 3.2))
    for axes, (key, title) in zip(panels, wanted):
        for name, one in result["figures"].items():
            axes.plot(gib, one[key], "o-", color=COLOURS[name], label=name, markersize=3)
            if key.startswith("us") and name in result["predicted"]:
                ends = [gib[-1], *PREDICTED], [one[key][-1], *result["predicted"][name]]
                axes.plot(*ends, "--", color=COLOURS[name])
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("GiB of guest", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(linewidth=0.3)
    panels[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growing", description=__doc__)
    parser.add_argument("--picture", type=Path, metavar="FILE", help=".svg or .png (needs matplotlib)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--turns", type=int, default=5, help="runs of each saver (default 5)")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), metavar="SIZE")
    options = parser.parse_args()
    context = _context(options.turns)
    figures: Figures = {}
    for size in options.sizes:
        print(f"  {size}", file=sys.stderr, flush=True)
        for name, one in measured(context, size, options.turns).items():
            for key, value in one.items():
                figures.setdefault(name, {}).setdefault(key, []).append(value)
    enough = len(options.sizes) > 1
    result = {"sizes": options.sizes, "figures": figures, "predicted": {}}
    if enough:
        result["predicted"] = predicted(options.sizes, figures)
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    if options.picture:
        draw(result, options.picture)


if __name__ == "__main__":
    main()
