"""A page of the p2m becomes a page table while the guest is saved: no receiver could write its p2m there."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.judge import looks_complete, save_to

import pyxcsr
from pyxcsr.frames import PageType
from pyxcsr.hypervisor.open import StubBackend
from pyxcsr.policy import P2M_CHANGES
from pyxcsr.switches import ENDING, VARIABLE

CLEAN, TYPES = "xc_logdirty_control", "xc_get_pfn_type_batch"
MOMENTS = [
    ("xc_shadow_control", 1, True),
    (TYPES, 2, True),
    (CLEAN, 1, True),
    (CLEAN, 2, True),
    ("xs_write", 1, True),
    ("xs_write", 1, False),
]


@pytest.mark.parametrize("without", ["", ENDING])
@pytest.mark.parametrize("p2m_changes", P2M_CHANGES)
@pytest.mark.parametrize("kind", ["pv64", "pv32"])
@pytest.mark.parametrize(("function", "nth", "live"), MOMENTS)
def test_the_save_says_so(
    hv: StubBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, nth: int, live: bool, kind: str,
    p2m_changes: str, without: str,
) -> None:  # fmt: skip
    monkeypatch.setenv(VARIABLE, without)
    domid = hv.stub.create(pyxcsr.StubGuest.parse(f"{kind}:mem=8M,max_mem=64M,share_invalid=no,writes=5,pt_updates=0"))
    guest, seen = hv.stub.guest(domid), 0
    width = guest.state().width
    per_leaf = 4096 // width
    guest.resize_p2m(guest.nr_pfns + 3 * per_leaf)
    leaf = guest.leaf_pfns()[guest.nr_pfns // per_leaf - 1]
    nothing = ((1 << 8 * width) - 2).to_bytes(width, "little")  # no frame; as an entry of a table it is not present
    guest.write_page(leaf, nothing * per_leaf)

    def act(name: str, count: int) -> None:
        nonlocal seen
        seen += name == function
        if name == function and seen == nth and guest.running:
            guest.set_type(leaf, PageType.L1TAB)

    with hv.stub.hook(act), pytest.raises(pyxcsr.P2mError, match="level 1 page table, which nobody could restore"):
        save_to(hv, domid, tmp_path / "s", live=live, p2m_changes=p2m_changes)
    assert seen >= nth and guest.running and not looks_complete(tmp_path / "s")
