"""The PYXCSR_* variables that there are: one that is misspelt would be a limit that does not hold, and nobody knew."""

from __future__ import annotations

from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_OTHERS = (
    "PYXCSR_BACKEND", "PYXCSR_BACKENDS", "PYXCSR_CONFIG", "PYXCSR_EVENTS", "PYXCSR_HANDED_OVER", "PYXCSR_LIBXENCTRL",
    "PYXCSR_P2M_CHANGES", "PYXCSR_RESTORE", "PYXCSR_RESUME", "PYXCSR_RUN_DIR", "PYXCSR_SAVE", "PYXCSR_STOCK_HELPER",
    "PYXCSR_STUB_GUEST", "PYXCSR_WITHOUT",
)  # fmt: skip


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Warnings: a line for each PYXCSR_* variable that means nothing."""
    from pyxcsr.limits.words import WORDS

    known = {*_OTHERS, *(word.variable for word in WORDS)}
    unknown = sorted(x for x in environ if x.startswith("PYXCSR_") and x not in known)
    return [f"{name} is no setting of pyxcsr's: it changes nothing" for name in unknown]
