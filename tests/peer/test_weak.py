"""What libxenguest 4.17 gets wrong where we do not: the reasons why the two may differ. See docs/peer.md."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from peer.conftest import Peer
from pyxcsr.frames import PageType
from pyxcsr.stream.image import MemoryImage

pytestmark = pytest.mark.toolchain

GUEST = "pv64:mem=16M,seed=7,writes=0,pt_updates=0"


def save(peer: Peer, folder: Path, **request: Any) -> dict[str, Any]:
    request.setdefault("guest", GUEST)
    return peer("save", "libxenguest", stream=folder / "s", **request).ok


def ours(peer: Peer, folder: Path, **request: Any) -> dict[str, Any]:
    request.setdefault("guest", GUEST)
    return peer("save", "pyxcsr", stream=folder / "ours", **request).ok


def with_content(path: Path) -> set[int]:
    with open(path, "rb") as stream:
        return {pfn for pfn, entry in MemoryImage(stream.fileno()).entries.items() if entry.offset is not None}


def test_a_list_across_l2_entries_is_cut(peer: Peer, tmp_path: Path) -> None:
    """A list that begins in an L2 slot other than 0 and spans several is taken to end at 1 GiB.

    Here a page of the list itself lies above, so it fails; where none does it drops the guest's tail, rc 0.
    """
    request = {"guest": "pv64:mem=32M,span=1280M,p2m_vaddr=0xffffc90000200000,writes=0", "live": False}
    done = peer("save", "libxenguest", stream=tmp_path / "s", **request)
    assert done.ok["rc"] == -1 and "max_pfn 0x3ffff" in done.said
    assert ours(peer, tmp_path, **request)["rc"] == 0
    mine = with_content(tmp_path / "ours")
    assert len(mine) == 8192 and max(mine) >= 1 << 18


def test_a_table_with_a_bad_entry_becomes_an_empty_page(peer: Peer, tmp_path: Path) -> None:
    """Found in the last pass the whole table is sent as XTAB, rc 0; ours refuses."""
    bad = ["corrupt_pte", ["first L1TAB", 9, 0x67 | 5 << 12]]
    request: dict[str, Any] = {"live": False, "before": [["shut_down", [2]], bad]}
    assert save(peer, tmp_path, **request)["rc"] == 0
    sent = with_content(tmp_path / "s")
    with open(tmp_path / "s", "rb") as stream:
        entries = MemoryImage(stream.fileno()).entries
    assert [entries[x].type for x in set(range(4096)) - sent] == [PageType.XTAB]
    refused = ours(peer, tmp_path, **request)
    assert refused["rc"] == -1 and "0x5" in refused["error"]


def test_a_p2m_cr3_below_a_page_ends_the_saver(peer: Peer, tmp_path: Path) -> None:
    request: dict[str, Any] = {"guest": GUEST, "before": [["poke_shared_info", ["p2m_cr3", 0x800]]]}
    done = peer("save", "libxenguest", stream=tmp_path / "s", **request)
    assert done.answer is None and done.signal == signal.SIGABRT
    assert "Assertion" in done.said
    assert ours(peer, tmp_path, **request)["rc"] == -1


def test_a_p2m_that_changes_is_noticed_in_a_live_save_only(peer: Peer, tmp_path: Path) -> None:
    """A p2m page is replaced after it was mapped: live it fails, otherwise the old page's entries count."""
    replaced = ["replace_leaf", [0]]
    done = peer("save", "libxenguest", guest=GUEST, stream=tmp_path / "s", hooks=[["xc_logdirty_control", 1, *replaced]])
    assert done.ok["rc"] == -1 and "p2m generation count changed" in done.said
    request: dict[str, Any] = {"live": False, "hooks": [["xc_get_pfn_type_batch", 1, *replaced]]}
    assert save(peer, tmp_path, **request)["rc"] == 0
    assert ours(peer, tmp_path, **request)["rc"] == -1


def test_an_odd_generation_is_accepted(peer: Peer, tmp_path: Path) -> None:
    """The guest says that it is changing its p2m at this very moment."""
    request: dict[str, Any] = {"live": False, "before": [["shut_down", [2]], ["set_generation", [1]]]}
    assert save(peer, tmp_path, **request)["rc"] == 0
    assert ours(peer, tmp_path, **request)["rc"] == -1
