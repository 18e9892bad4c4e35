"""Checkpointed streams of ours and of libxenguest's, restored by either from what is left of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import hvm_truth
from support.remus import places

from peer.conftest import Peer
from peer.image import differences
from pyxcsr.stream.format import RecordType

pytestmark = pytest.mark.toolchain

GUESTS = {
    "pv64": "pv64:mem=8M,seed=7,writes=40,pt_updates=4,vcpus=2",
    "pv32": "pv32:mem=8M,seed=10,writes=40,pt_updates=4,vcpus=2",
    "pvh": "pvh:mem=6M,seed=8,writes=40,compact=yes",
    "hvm": "hvm:mem=6M,seed=9,writes=20,compact=yes,devmodel=4,vram=1M",
}
PAIRS = [("pyxcsr", "libxenguest"), ("libxenguest", "libxenguest"), ("libxenguest", "pyxcsr"), ("pyxcsr", "pyxcsr")]
CHECKPOINTS = 4


def wrong(saved: dict[str, Any], restored: dict[str, Any]) -> list[str]:
    """Gfns that a stream said were gone are no difference between the restorers: libxenguest keeps their pages."""
    if "context" in saved:
        return hvm_truth.differences(saved, restored)[0]
    return differences(saved, restored)


@pytest.mark.parametrize("name", GUESTS)
@pytest.mark.parametrize("pair", PAIRS, ids=["-to-".join(x) for x in PAIRS])
def test_the_last_whole_checkpoint(peer: Peer, tmp_path: Path, pair: tuple[str, str], name: str) -> None:
    saver, restorer = pair
    stream = tmp_path / "stream"
    done = peer(
        "protect", saver, guest=GUESTS[name], stream=stream, images=tmp_path / "images", checkpoints=CHECKPOINTS
    ).ok
    assert (done["rc"], done["checkpoints"], done["leaks"]) == (0, CHECKPOINTS, {})
    assert done["state"]["running"], "whoever ended it, the guest goes on"
    images = json.loads((tmp_path / "images").read_text())
    data = stream.read_bytes()
    ends = [x.end for x in places(data) if x.code == RecordType.CHECKPOINT]
    assert len(ends) == CHECKPOINTS
    for whole, cut in ((1, ends[0]), (2, ends[2] - 5000), (3, ends[3] - 8), (4, len(data))):
        stream.write_bytes(data[:cut])
        saved = images[whole - 1]
        back = peer(
            *("restore", restorer),
            stream=stream,
            image=tmp_path / "restored.json",
            leaves=saved.get("leaves"),
            pages=4096,
            kind=name,
            vcpus=2 if name in ("pv64", "pv32") else 1,
            machine={"seed": 99},
            checkpointed=True,
        ).ok
        assert back["rc"] == 0, back
        assert wrong(saved, json.loads((tmp_path / "restored.json").read_text()))[:5] == [], f"cut at {cut}"
        assert back["leaks"] == {}
