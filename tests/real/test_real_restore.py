"""Restoring on real Xen, behind an unmodified xl: each test boots the lab and runs one script of dom0/ there.

The lab's HVM guest has to be there: `tests/xenlab/build --hvm`. PYXCSR_REAL_REPEATS says how often each of the four
pairs {stock, pyxcsr} saver x {stock, pyxcsr} restorer has to carry the guest (10 on 4.17 and 3 on 4.20 by default; with
10, `xl save` and `xl migrate`, half an hour or more).
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from .conftest import IMAGES, NO_AVX, Lab, lab_of

pytestmark = pytest.mark.real
each_release = pytest.mark.parametrize("lab", ["4.17", "4.20"], indirect=True)
each_guest = pytest.mark.parametrize("guest", ["pulse", "smp"])
REPEATS = {"4.17": 10, "4.20": 3}
PVH = ("pvh", "pvh2")
HVM_REPEATS = 3
"""Of an HVM guest with a device model, whose every move takes a minute or two there."""


@each_release
@pytest.mark.parametrize("guest", ["pulse", "smp", "pv32", "pvh", "pvh2", "hvm"])
@pytest.mark.parametrize("way", ["save", "migrate"])
def test_pairs(lab: Lab, guest: str, way: str, tmp_path: Path) -> None:
    """Whoever saves, whoever restores: the heartbeat goes on, with the guest's memory clean. Kept beside the images."""
    times = int(os.environ.get("PYXCSR_REAL_REPEATS") or (HVM_REPEATS if guest == "hvm" else REPEATS[lab.release]))
    is_pv = guest in ("pulse", "smp", "pv32")
    needs_shadow = guest == "pv32" or (is_pv and way == "migrate")  # Debian's own hypervisor has no 32-bit guests
    out = lab.prove(
        "pairs.sh", guest, times, way, tmp_path=tmp_path, live_pv=needs_shadow, pvh=guest in PVH,
        seconds=600 + (300 if is_pv else 600) * times,
    )
    result = json.loads((out / "pairs.json").read_text())
    assert [(row["runs"], row["good"]) for row in result["table"]] == [(times, times)] * 4
    shutil.copy2(out / "pairs.json", IMAGES / f"pairs-{lab.release}-{guest}-{way}.json")


@each_release
@each_guest
def test_restore(lab: Lab, guest: str, tmp_path: Path) -> None:
    """Guests with holes, with vcpus offline, with a p2m that has grown, left paused; streams of `pyxcsr save`."""
    lab.prove("restore.sh", guest, tmp_path=tmp_path, live_pv=False)


@each_release
def test_containers(lab: Lab, tmp_path: Path) -> None:
    """`pyxcsr save --format xl`, then plain `xl restore`; `pyxcsr convert`; refusals before the guest is touched."""
    lab.prove("containers.sh", tmp_path=tmp_path, live_pv=False)


@each_release
def test_restore_errors(lab: Lab, tmp_path: Path) -> None:
    """Cut and tampered streams, too little memory, signals: clear messages, nothing left, nothing unpaused."""
    lab.prove("restore_errors.sh", tmp_path=tmp_path, live_pv=False, pvh=True)


@each_release
@pytest.mark.parametrize("guest", ["pulse", "pvh"])
def test_two_machines(lab: Lab, guest: str, tmp_path: Path) -> None:
    """Migrated live to another machine and back, by ours at both ends and at either."""
    is_pv = guest == "pulse"
    lab.prove("two.sh", guest, 2, tmp_path=tmp_path, live_pv=is_pv, pvh=not is_pv, pair=True, seconds=2400)


@pytest.mark.parametrize("lab", ["4.17"], indirect=True)
@pytest.mark.parametrize("guest", ["pulse", "smp", "pvh"])
def test_another_release(
    lab: Lab, guest: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Saved on 4.17 and restored on 4.20, and the other way round, by pyxcsr and by Xen's own helper."""
    labs = [lab, lab_of("4.20", tmp_path_factory)]
    cpu = NO_AVX if guest in PVH else ""  # the same on both, so that either takes what the other one's guests use
    for source, target in (labs, labs[::-1]):
        name = f"{source.release}-to-{target.release}"
        out = source.prove("carry_out.sh", guest, tmp_path=tmp_path / f"{name}-out", live_pv=False, cpu=cpu)
        carried = out.glob("*.xl")
        target.prove("carry_in.sh", guest, tmp_path=tmp_path / f"{name}-in", live_pv=False, carry=carried, cpu=cpu)
