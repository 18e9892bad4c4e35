"""Streams of ours restored by libxenguest, its own by itself, and its by us: the guest is as it was at suspend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import pyxcsr
from peer.conftest import Peer
from peer.image import differences

pytestmark = pytest.mark.toolchain

PAGES = 4096
GUESTS = {
    "plain": "pv64:mem=16M,seed=7",
    "smp": "pv64:mem=16M,seed=8,vcpus=8,offline_vcpus=2+5",
    "holes": "pv64:mem=16M,seed=9,holes=0.3",
    "unaligned list": "pv64:mem=16M,seed=10,p2m_vaddr=0xffffc90012345000",
    "no xsave": "pv64:mem=16M,seed=11,xsave=0,msrs=0",
    "busy tables": "pv64:mem=16M,seed=12,pt_updates=12,writes=200",
    "32 bits": "pv32:mem=16M,seed=13,vcpus=8,offline_vcpus=2+5,holes=0.1,pt_updates=4",
    "32 bits, both": "pv32:mem=16M,seed=14,tree=both,p2m_vaddr=0x7fffe000",
    "32 bits, tree": "pv32:mem=16M,seed=15,tree=only",
}
PAIRS = [("pyxcsr", "libxenguest"), ("libxenguest", "libxenguest"), ("libxenguest", "pyxcsr"), ("pyxcsr", "pyxcsr")]


def vcpus(guest: str) -> int:
    """Of a guest's description."""
    return 8 if "vcpus=8" in guest else 1


def save(peer: Peer, folder: Path, by: str, guest: str, live: bool) -> dict[str, Any]:
    files = {"stream": folder / "stream", "image": folder / "saved.json"}
    done = peer("save", by, guest=guest, live=live, **files).ok
    assert (done["rc"], done["leaks"]) == (0, {})
    return dict(json.loads(files["image"].read_text()))


def restore(peer: Peer, folder: Path, by: str, saved: dict[str, Any], guest: str) -> dict[str, Any]:
    """Into a machine that hands out other frames."""
    if by == "pyxcsr" and not hasattr(pyxcsr, "restore"):
        pytest.skip("pyxcsr has no restore yet")
    return peer(
        "restore",
        by,
        stream=folder / "stream",
        image=folder / "restored.json",
        leaves=saved["leaves"],
        pages=PAGES,
        vcpus=vcpus(guest),
        machine={"seed": 99},
        adopt=str(folder / "again"),
    ).ok


CASES = [(name, True) for name in GUESTS] + [("plain", False), ("32 bits", False)]


@pytest.mark.parametrize(("name", "live"), CASES, ids=[name if live else f"{name} non-live" for name, live in CASES])
@pytest.mark.parametrize("pair", PAIRS, ids=["-to-".join(x) for x in PAIRS])
def test_the_guest_is_as_it_was(peer: Peer, tmp_path: Path, pair: tuple[str, str], name: str, live: bool) -> None:
    """Every page, vcpu, the p2m, TSC, shared_info, start_info; and its kernel goes on and is saved again."""
    saver, restorer = pair
    saved = save(peer, tmp_path, saver, GUESTS[name], live)
    done = restore(peer, tmp_path, restorer, saved, GUESTS[name])
    assert done["rc"] == 0, done
    assert done["left"] == 0
    restored = json.loads((tmp_path / "restored.json").read_text())
    assert len(restored["pages"]) > PAGES // 2
    assert differences(saved, restored)[:5] == []
    assert done["wrong"] is None
    assert done["leaks"] == {}
