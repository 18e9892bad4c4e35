"""The code with one rule broken: built once with switches in the C sources, and run with one of them on.

``build(tree)`` makes the package with switches from a copy of the sources. ``python -m model.broken RULE``, with that
package to import, breaks a rule, which has the name of the model's macro, and saves the guest of that rule. It prints
what is wrong with the stream as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyxcsr

ROOT = Path(__file__).parents[2]

SWITCH = """
#include <stdlib.h>
#include <string.h>
static inline int broken(const char *rule)
{
    const char *is = getenv("PYXCSR_BROKEN");
    return is && !strcmp(is, rule);
}
"""

IN_C = {
    "PV_NO_FORMER": ("save/former.c", "return was != now &&", 'return !broken("PV_NO_FORMER") && was != now &&'),
    "PV_NO_RETURNED": (
        "save/follow.c",
        "    if (was == now + SENT_BIAS) {\n",
        '    if (was == now + SENT_BIAS && broken("PV_NO_RETURNED"))\n        return;\n'
        "    if (was == now + SENT_BIAS) {\n",
    ),
    "PV_NO_VANISHED": (
        "save/follow.c",
        "    mark(w, pfn);\n    if (was == SENT_NEVER)",
        '    if (!broken("PV_NO_VANISHED"))\n        mark(w, pfn);\n    if (was == SENT_NEVER)',
    ),
    "PV_NO_ALL_TABLES": (
        "save/follow.c",
        "    if (w.frames_moved)\n",
        '    if (w.frames_moved && !broken("PV_NO_ALL_TABLES"))\n',
    ),
    "PV_NO_RECENT_TABLES": (
        "save/follow.c",
        "    else if (out->pages_written ||",
        '    else if (!broken("PV_NO_RECENT_TABLES") && (out->pages_written ||',
    ),
    "HVM_NO_HOLES_BY_LOOKS": (
        "save/physmap.c",
        "if (!is_page && sparse_add(",
        'if (!is_page && !broken("HVM_NO_HOLES_BY_LOOKS") && sparse_add(',
    ),
    "HVM_NO_MARKED_ASKED": (
        "save/physmap.c",
        "|| !s->all_marked)",
        '|| (!s->all_marked && (!broken("HVM_NO_MARKED_ASKED") || !dirty_has(s, *from))))',
    ),
    "HVM_NO_UNTRACKED_LOOKS": (
        "save/physmap.c",
        "    int rc = physmap_untracked(s, gfn);\n",
        '    int rc = broken("HVM_NO_UNTRACKED_LOOKS") ? 0 : physmap_untracked(s, gfn);\n',
    ),
}
"""Rule: file in csrc/, what is there, what is to be there."""


def build(tree: Path) -> None:
    """The package with the stub alone, and switches in it. AssertionError if the code has not what is to be broken."""
    for source in (ROOT / "csrc", Path(pyxcsr.__file__).parent, ROOT / "tests"):
        shutil.copytree(source, tree / source.name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("build_ffi.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, tree)
    for rule, (name, old, new) in IN_C.items():
        path = tree / "csrc" / name
        text = path.read_text()
        assert text.count(old) == 1, f"{rule}: csrc/{name} does not have what is to be broken: {old!r}"
        text = text.replace(old, new)
        if rule == "PV_NO_RECENT_TABLES":
            text = text.replace("out->vanished || out->moved)\n", "out->vanished || out->moved))\n")
        path.write_text(text if SWITCH in text else SWITCH + text)
    flags = tree / "build_ffi.py"
    flags.write_text(flags.read_text().replace('"-O2",', '"-O0",'))
    command = [sys.executable, "-c", "import setuptools; setuptools.setup()", "-q", "build_ext", "--inplace"]
    environment = {**os.environ, "PYXCSR_BACKENDS": "stub", "PYTHONPATH": ""}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


# -- rules of the Python code


def _no_sweep() -> None:
    from pyxcsr.guest.pv.following import P2mFollowing

    P2mFollowing.sweep = lambda self, final: 0  # type: ignore[method-assign]


def _no_record() -> None:
    from pyxcsr.guest.pv.changes import FollowedChanges

    FollowedChanges._whole = lambda self: (0, 0, ())  # type: ignore[method-assign]


def _no_last_look() -> None:
    from pyxcsr.guest.pv.changes import FollowedChanges

    def look_last(self: Any) -> Iterator[Any]:
        self._is_final = True
        return iter(())

    FollowedChanges.look_last = look_last  # type: ignore[method-assign]


def _no_watch() -> None:
    from pyxcsr.guest.pv.p2m.follow import FollowedP2m

    FollowedP2m.note_written = lambda self, written: None  # type: ignore[method-assign]


def _no_looks() -> None:
    from pyxcsr.guest.hvm.following import PhysmapFollowing

    PhysmapFollowing._compare = lambda self: 0  # type: ignore[method-assign]


def _never(name: str) -> None:
    """A note of Moves that is never taken."""
    from pyxcsr.guest.hvm.moves import Moves

    setattr(Moves, name, property(lambda self: False, lambda self, value: None))


IN_PYTHON = {
    "PV_NO_SWEEP": _no_sweep,
    "PV_NO_RECORD": _no_record,
    "PV_NO_LAST_LOOK": _no_last_look,
    "PV_NO_WATCH": _no_watch,
    "HVM_NO_LOOKS": _no_looks,
    "HVM_NO_FIRST": lambda: _never("_once"),
    "HVM_NO_UNSETTLED": lambda: _never("_unsettled"),
}


def main(rule: str) -> None:
    import pyxcsr
    from model import guests
    from pyxcsr.guest.hvm import following
    from pyxcsr.hypervisor import saving

    saving.BATCHES_US, following.REST = 0, 0  # when things happen is told by the calls, and not by the clock
    if rule in IN_PYTHON:
        IN_PYTHON[rule]()
    elif rule in IN_C:
        os.environ["PYXCSR_BROKEN"] = rule
    guest = guests.OF_RULE[rule.removeprefix("AS_IT_IS:")]
    hv: Any
    with tempfile.TemporaryDirectory() as folder, pyxcsr.open_hypervisor("stub") as hv:
        print(json.dumps(guest(hv, Path(folder) / "s")))


if __name__ == "__main__":
    main(sys.argv[1])
