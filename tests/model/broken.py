"""The code with one rule broken: built once with switches in the C sources, and run with one of them on.

``build(tree)`` makes the package with switches from a copy of the sources. ``python -m model.broken RULE...``, with
that package to import, breaks one rule after the other, which have the names of the model's macros, and saves the guest
of each. It prints what is wrong with the streams as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import pyxcsr
from model import guests
from pyxcsr.guest.hvm import following
from pyxcsr.guest.hvm.following import PhysmapFollowing
from pyxcsr.guest.hvm.moves import Moves
from pyxcsr.guest.hvm.save import HvmSaveOps
from pyxcsr.guest.pv.changes import FollowedChanges
from pyxcsr.guest.pv.following import P2mFollowing
from pyxcsr.guest.pv.p2m import follow
from pyxcsr.guest.pv.p2m.follow import FollowedP2m
from pyxcsr.hypervisor import saving

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

Change = tuple[str, str, str]
"""A file in csrc/, what is there, what is to be there."""

IN_C: dict[str, list[Change]] = {
    "PV_NO_FORMER": [("save/former.c", "return was != now &&", 'return !broken("PV_NO_FORMER") && was != now &&')],
    "PV_NO_KEPT": [
        ("save/former.c", "k->types[i] != TYPE_XTAB;", 'k->types[i] != TYPE_XTAB && !broken("PV_NO_KEPT");')
    ],
    "PV_NO_UNCLAIMED": [
        (
            "save/follow.c",
            "    if (now == XCSR_INVALID && !w->rc)",
            '    if (now == XCSR_INVALID && !w->rc && !broken("PV_NO_UNCLAIMED"))',
        )
    ],
    "PV_NO_RETURNED": [
        (
            "save/follow.c",
            "    if (was == now + SENT_BIAS) {\n",
            '    if (was == now + SENT_BIAS && broken("PV_NO_RETURNED"))\n        return;\n'
            "    if (was == now + SENT_BIAS) {\n",
        )
    ],
    "PV_NO_VANISHED": [
        (
            "save/follow.c",
            "    mark(w, pfn);\n    if (was == SENT_NEVER)",
            '    if (!broken("PV_NO_VANISHED"))\n        mark(w, pfn);\n    if (was == SENT_NEVER)',
        )
    ],
    "PV_NO_ALL_TABLES": [
        ("save/follow.c", "    if (w.frames_moved)\n", '    if (w.frames_moved && !broken("PV_NO_ALL_TABLES"))\n')
    ],
    "PV_NO_RECENT_TABLES": [
        (
            "save/follow.c",
            "    else if (out->pages_written ||",
            '    else if (broken("PV_NO_RECENT_TABLES"))\n        ;\n    else if (out->pages_written ||',
        )
    ],
    "PV_NO_FRESH_PAGES": [
        (
            "xen/p2m.c",
            "other->fresh[i] |= i >= p->nr_leaves ||",
            'other->fresh[i] |= broken("PV_NO_FRESH_PAGES") ? i < p->nr_leaves && p->fresh[i] : i >= p->nr_leaves ||',
        )
    ],
    "PV_NO_FRESH_GROWTH": [
        (
            "xen/p2m.c",
            "    if (p->nr_pfns < other->nr_pfns)",
            '    if (p->nr_pfns < other->nr_pfns && !broken("PV_NO_FRESH_GROWTH"))',
        )
    ],
    "PV_NO_SHRUNK": [
        ("save/follow.c", "pfn < w->s->nr_pfns; pfn++)", 'pfn < w->s->nr_pfns && !broken("PV_NO_SHRUNK"); pfn++)')
    ],
    "HVM_NO_VANISHED": [
        (
            "save/physmap.c",
            "    dirty_add(s, gfn);\n",
            '    if (is_page || !broken("HVM_NO_VANISHED"))\n        dirty_add(s, gfn);\n',
        )
    ],
    "HVM_NO_HOLES_BY_LOOKS": [
        (
            "save/physmap.c",
            "if (!is_page && sparse_add(",
            'if (!is_page && !broken("HVM_NO_HOLES_BY_LOOKS") && sparse_add(',
        )
    ],
    "HVM_NO_MARKED_ASKED": [
        (
            "save/physmap.c",
            "|| !s->all_marked)",
            '|| (!s->all_marked && (!broken("HVM_NO_MARKED_ASKED") || !dirty_has(s, *from))))',
        )
    ],
    "HVM_NO_UNTRACKED_LOOKS": [
        (
            "save/physmap.c",
            "    int rc = physmap_untracked(s, gfn);\n",
            '    bool kept = !broken("HVM_NO_UNTRACKED_LOOKS") && (is_page || !broken("HVM_NO_VANISHED"));\n'
            "    int rc = kept ? physmap_untracked(s, gfn) : 0;\n",
        )
    ],
    "HVM_NO_SETTLED": [
        (
            "save/logdirty.c",
            "    if (final)\n        mapper_settle",
            '    if (final && !broken("HVM_NO_SETTLED"))\n        mapper_settle',
        )
    ],
    "HVM_NO_NEW_IN_BATCH": [
        ("save/batch.c", "bool is_new = !s->p2m &&", 'bool is_new = !broken("HVM_NO_NEW_IN_BATCH") && !s->p2m &&')
    ],
}


def build(tree: Path) -> None:
    """The package with the stub alone, and switches in it. AssertionError if the code has not what is to be broken."""
    for source in (ROOT / "csrc", Path(pyxcsr.__file__).parent, ROOT / "tests"):
        shutil.copytree(source, tree / source.name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("build_ffi.py", "build_manual.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, tree)
    for rule, changes in IN_C.items():
        for name, old, new in changes:
            path = tree / "csrc" / name
            text = path.read_text()
            assert text.count(old) == 1, f"{rule}: csrc/{name} does not have what is to be broken: {old!r}"
            text = text.replace(old, new)
            path.write_text(text if SWITCH in text else SWITCH + text)
    flags = tree / "build_ffi.py"
    flags.write_text(flags.read_text().replace('"-O2",', '"-O0",'))
    command = [sys.executable, "-c", "import setuptools; setuptools.setup()", "-q", "build_ext", "--inplace"]
    environment = {**os.environ, "PYXCSR_BACKENDS": "stub", "PYTHONPATH": ""}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


# -- rules of the Python code


def _not_told_at_the_last_look(self: Any) -> Iterator[Any]:
    self._is_final = True
    return iter(())


def _by_generation_alone(self: Any) -> bool:
    self.announced = self._shared.generation() != self.generation
    return (self.announced or self._stale) and (self._take() or self.announced)


def _as_a_list(self: Any, written: Callable[[Any], bool]) -> None:
    self._stale = self._stale or self._walk is None or written(self._walk.read)


def _fetched_unasked(self: Any, pages: int) -> None:
    self._was_quiet, self._quiet, self._first = self._quiet, True, False


_all_again = Moves.all_again


def _once_only(self: Any) -> bool:
    if self._whole:
        self._unsettled = self._once = False
    return _all_again(self)


_note, _look_ends = Moves.note, Moves.look_ends


def _down_then_up_only(self: Any, pages: int) -> None:
    unsettled, falls = self._unsettled, pages < self.pages
    _note(self, pages)
    if falls:
        self._unsettled = unsettled


def _any_page_explains_all(self: Any, pages: int, appeared: int, vanished: int) -> None:
    self.note(pages)
    hidden = self._hidden_up or ((self._up or self._up_before) and not appeared)
    _look_ends(self, pages, appeared, vanished)
    self._hidden_up = hidden


def _never() -> property:
    """A note of Moves that is never taken."""
    return property(lambda self: False, lambda self, value: None)


IN_PYTHON: dict[str, tuple[Any, str, Any]] = {
    "PV_NO_SWEEP": (P2mFollowing, "sweep", lambda self, final: 0),
    "PV_NO_RECORD": (FollowedChanges, "_whole", lambda self: (0, 0, ())),
    "PV_NO_LAST_LOOK": (FollowedChanges, "look_last", _not_told_at_the_last_look),
    "PV_NO_HEAD": (FollowedP2m, "look", _by_generation_alone),
    "PV_NO_WAIT": (follow, "read_even", lambda shared, *_: shared.generation()),
    "PV_NO_WATCH": (FollowedP2m, "note_written", lambda self, written: None),
    "PV_NO_TREE_WALKS": (FollowedP2m, "note_written", _as_a_list),
    "HVM_NO_LOOKS": (PhysmapFollowing, "_compare", lambda self: 0),
    "HVM_NO_FIRST": (Moves, "_once", _never()),
    "HVM_NO_UNSETTLED": (Moves, "_unsettled", _never()),
    "HVM_NO_HIDDEN_UP": (Moves, "note", _down_then_up_only),
    "HVM_NO_OWED": (Moves, "look_ends", _any_page_explains_all),
    "HVM_NO_SECOND_TIME": (Moves, "all_again", _once_only),
    "HVM_NO_COUNT_AT_BITMAP": (Moves, "bitmap_fetched", _fetched_unasked),
    "HVM_NO_MODEL_TOLD": (HvmSaveOps, "switch_device_model", lambda self, on, alone=True: None),
}
"""Rule: where it is, its name there, what is to be in its place."""


TRIES = 10
"""Where two threads map and unmap, which of them runs when decides at times which rule is the one that counts."""


def wrong(rule: str) -> list[str]:
    """What is wrong with the stream of a rule's guest if the code lacks the rule, or (``AS_IT_IS:`` ahead) has it.

    Nothing is wrong only if nothing is in any of ten tries.
    """
    return next(filter(None, (wrong_once(rule) for _ in range(TRIES))), [])


def wrong_once(rule: str) -> list[str]:
    """The same of one try."""
    guest = guests.OF_RULE[rule.removeprefix("AS_IT_IS:")]
    hv: Any
    with ExitStack() as stack:
        if rule in IN_PYTHON:
            stack.enter_context(mock.patch.object(*IN_PYTHON[rule]))
        elif rule in IN_C:
            stack.enter_context(mock.patch.dict(os.environ, {"PYXCSR_BROKEN": rule}))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        hv = stack.enter_context(pyxcsr.open_hypervisor("stub"))
        hv.stub.reset(force=True)
        return guest(hv, Path(folder) / "s")


def main(rules: list[str]) -> None:
    saving.BATCHES_US, following.REST = 0, 0  # when things happen is told by the calls, and not by the clock
    print(json.dumps({rule: wrong(rule) for rule in rules}))


if __name__ == "__main__":
    main(sys.argv[1:])
