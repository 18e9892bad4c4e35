"""What libxenguest 4.17 gets wrong where we do not: the reasons why the two may differ. See docs/peer.md."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from support.image import MemoryImage

from peer.conftest import Done, Peer
from peer.image import differences
from peer.streams import rewrite, with_entry, without
from pyxcsr.frames import PageType

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
    request: dict[str, Any] = {"guest": GUEST, "hooks": [["xc_logdirty_control", 1, *replaced]]}
    done = peer("save", "libxenguest", stream=tmp_path / "s", **request)
    assert done.ok["rc"] == -1 and "p2m generation count changed" in done.said
    request = {"live": False, "hooks": [["xc_get_pfn_type_batch", 1, *replaced]]}
    assert save(peer, tmp_path, **request)["rc"] == 0
    assert ours(peer, tmp_path, **request)["rc"] == -1


def test_an_odd_generation_is_accepted(peer: Peer, tmp_path: Path) -> None:
    """The guest says that it is changing its p2m at this very moment."""
    request: dict[str, Any] = {"live": False, "before": [["shut_down", [2]], ["set_generation", [1]]]}
    assert save(peer, tmp_path, **request)["rc"] == 0
    assert ours(peer, tmp_path, **request)["rc"] == -1


# -- restoring


def tampered(peer: Peer, folder: Path, by: str, change: Any) -> Done:
    """Restores our stream of a guest, changed; ``change`` is made from the guest's image."""
    if not (folder / "saved.json").exists():
        ours(peer, folder, live=False, image=folder / "saved.json")
    image = saved(folder)
    rewrite(folder / "ours", folder / "tampered", change(image))
    stream = folder / "tampered"
    return peer(
        *("restore", by), stream=stream, image=folder / "restored.json", leaves=image["leaves"], pages=4096
    )


def saved(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "saved.json").read_text()))


def plain_data(image: dict[str, Any]) -> list[int]:
    """Data pages that hold neither the p2m nor start_info, nor anything a vcpu needs."""
    special = {*image["leaves"], image["start_info_pfn"]}
    return [int(pfn) for pfn, (kind, _) in image["pages"].items() if kind == "NOTAB" and int(pfn) not in special]


def first_table(image: dict[str, Any]) -> int:
    return next(int(pfn) for pfn, (kind, _) in image["pages"].items() if kind.startswith("L1TAB"))


def test_pages_that_are_missing_are_not_missed(peer: Peer, tmp_path: Path) -> None:
    """Pages that page tables refer to are not in the stream: rc 0, and other content in their place."""
    done = tampered(peer, tmp_path, "libxenguest", lambda image: without(set(plain_data(image)[100:200]))).ok
    assert done["rc"] == 0
    found = differences(saved(tmp_path), json.loads((tmp_path / "restored.json").read_text()))
    assert len([x for x in found if x.startswith("pfn")]) == 100
    refused = tampered(peer, tmp_path, "pyxcsr", lambda image: without(set(plain_data(image)[100:200]))).ok
    assert refused["rc"] == -1 and f"{plain_data(saved(tmp_path))[100]:#x}" in refused["error"]


def test_an_entry_beyond_max_pfn_ends_the_restorer(peer: Peer, tmp_path: Path) -> None:
    def change(image: dict[str, Any]) -> Any:
        return with_entry(first_table(image), 9, 0x67 | (4096 + 100) << 12)

    done = tampered(peer, tmp_path, "libxenguest", change)
    assert done.answer is None and done.signal == signal.SIGABRT and "Assertion" in done.said
    refused = tampered(peer, tmp_path, "pyxcsr", change).ok
    assert refused["rc"] == -1 and f"{4096 + 100:#x}" in refused["error"]
