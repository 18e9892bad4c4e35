"""32-bit PV guests through libxenguest: saved and restored on the stub, each page and vcpu as it was."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from peer.conftest import Peer
from peer.image import differences

pytestmark = pytest.mark.toolchain

PAGES = 4096
GUESTS = {
    "list": "pv32:mem=16M,seed=7",
    "both": "pv32:mem=16M,seed=8,tree=both,vcpus=3",
    "tree": "pv32:mem=16M,seed=9,tree=only",
    "smp": "pv32:mem=16M,seed=10,vcpus=8,offline_vcpus=2+5",
    "holes": "pv32:mem=16M,seed=11,holes=0.3",
    "list across a GiB": "pv32:mem=16M,seed=12,p2m_vaddr=0x7fffe000",
    "no xsave": "pv32:mem=16M,seed=13,xsave=0,msrs=0",
    "busy tables": "pv32:mem=16M,seed=14,pt_updates=12,writes=200",
}


def vcpus(guest: str) -> int:
    return next((int(x[6:]) for x in guest.split(",") if x.startswith("vcpus=")), 1)


def save(peer: Peer, folder: Path, guest: str, live: bool, by: str = "libxenguest") -> dict[str, Any]:
    files = {"stream": folder / "stream", "image": folder / "saved.json"}
    done = peer("save", by, guest=guest, live=live, judge=True, **files).ok
    assert (done["rc"], done["wrong"], done["leaks"]) == (0, None, {}), done
    return dict(json.loads(files["image"].read_text()))


def restore(peer: Peer, folder: Path, leaves: Any, **request: Any) -> dict[str, Any]:
    request = {"by": "libxenguest", "vcpus": 1, "machine": {"seed": 99}, **request}
    files = {"stream": folder / "stream", "image": folder / "restored.json"}
    return peer("restore", request.pop("by"), leaves=leaves, pages=PAGES, kind="pv32", **files, **request).ok


@pytest.mark.parametrize("live", [True, False], ids=["live", "non-live"])
@pytest.mark.parametrize("name", GUESTS)
def test_the_guest_is_as_it_was(peer: Peer, tmp_path: Path, name: str, live: bool) -> None:
    """Every page, vcpu, the p2m, TSC, shared_info, start_info; its kernel finds itself again and is saved once more."""
    guest = GUESTS[name]
    saved = save(peer, tmp_path, guest, live)
    assert saved["width"] == 4
    again = {"adopt": str(tmp_path / "again"), "again": "libxenguest"}
    done = restore(peer, tmp_path, saved["leaves"], vcpus=vcpus(guest), **again)
    assert (done["rc"], done["left"], done["wrong"], done["leaks"]) == (0, 0, None, {}), done
    restored = json.loads((tmp_path / "restored.json").read_text())
    assert len(restored["pages"]) > PAGES // 2
    assert differences(saved, restored)[:5] == []


def test_a_xen_without_them_refuses(peer: Peer, tmp_path: Path) -> None:
    save(peer, tmp_path, GUESTS["list"], live=False)
    done = restore(peer, tmp_path, [], machine={"pv32": False})
    assert (done["rc"], done["errno"], done["leaks"]) == (-1, errno.EOPNOTSUPP, {})
