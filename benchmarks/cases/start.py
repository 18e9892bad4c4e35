"""Starts, beside that of Python itself: the package, the command, and the save helper, for which a guest's user waits.

What is compared is processor time. Python with nothing to do runs before and after each of the others; their mean is
what counts. The stub makes its machine and the guest within the helper's process, which libxl's guests need not: that
is measured apart, and subtracted.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from typing import Callable

from benchmarks.context import Context
from benchmarks.measure import Spread
from benchmarks.rows import Goal, Row, of_values
from benchmarks.starts import OPENING, ready, refused, script, spent, told

GUEST = "pv64:mem=1048576"
IMPORT, COMMAND, HELPER, SECONDS = (Goal(x, least=False) for x in (1.4, 2.0, 2.0, 60.0))
BARE = [sys.executable, "-c", "pass"]
MAIN = "import sys; from pyxcsr.cli.main import main; sys.exit(main())"
PROGRAM = "import gc; gc.disable(); from pyxcsr.helper.main import program; program()"


def beside(repeats: int, start: Callable[[], float]) -> tuple[list[float], list[float]]:
    """The seconds of a start, and of bare Python round it, turn by turn. The first turn is not counted."""
    ours, bare = [], []
    for _ in range(repeats + 1):
        before, seconds, after = spent(BARE), start(), spent(BARE)
        ours.append(seconds)
        bare.append((before + after) / 2)
    return ours[1:], bare[1:]


def row(what: str, ours: list[float], bare: list[float], goal: Goal | None, note: str = "") -> Row:
    """How many times as long as bare Python it takes."""
    figures = {"bare Python ms": Spread.of(bare).median * 1e3, "ours ms": Spread.of(ours).median * 1e3}
    return of_values("start", f"{what}: to bare Python", [x / y for x, y in zip(ours, bare)], goal=goal,
                     figures=figures, note=note)  # fmt: skip


def run(context: Context) -> Iterator[Row]:
    """The rows."""
    context.say("import pyxcsr")
    yield row("import pyxcsr", *beside(context.repeats, lambda: spent([sys.executable, "-c", "import pyxcsr"])), IMPORT)
    command, installed = script("pyxcsr", MAIN)
    note = "" if installed else "not through an installed script"
    for option in ("--version", "--help"):
        context.say(f"pyxcsr {option}")
        figures = beside(context.repeats, lambda option=option: spent([*command, option]))  # type: ignore[misc]
        yield row(f"pyxcsr {option}", *figures, COMMAND, note)
    yield from _helper(context)


def _helper(context: Context) -> Iterator[Row]:
    command, installed = script("pyxcsr-save-helper", PROGRAM)
    note = "" if installed else "not through an installed script"
    context.say("the save helper, on the stub")
    stubs = [told(OPENING.format(guest=GUEST)) for _ in range(context.repeats)]
    stub = Spread.of(stubs).median
    whole, bare = beside(context.repeats, lambda: ready(command, GUEST))
    ours = [x - stub for x in whole]
    yield row("the save helper, ready to save, less the stub's machine", ours, bare, HELPER, note)
    yield of_values("start", "the save helper, ready to save, less the stub's machine", [x * 1e3 for x in ours],
                    unit="ms", goal=SECONDS)  # fmt: skip
    yield row("the save helper, ready to save, with the stub's machine", whole, bare, None)
    yield of_values("start", "the stub's machine and guest", [x * 1e3 for x in stubs], unit="ms")
    if importlib.util.find_spec("pyxcsr._xen") is None:
        return
    context.say("the save helper, on Xen, as far as it comes here")
    yield row("the save helper, until libxenctrl has refused", *beside(context.repeats, lambda: refused(command)), None)
