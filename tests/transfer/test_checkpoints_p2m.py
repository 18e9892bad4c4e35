"""Between checkpoints a PV guest's p2m loses pages and gets them back: the page that was sent instead of them goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.remus import Protected

import pyxcsr
from pyxcsr.container.verify import verify_input
from pyxcsr.hypervisor.open import StubBackend


@pytest.mark.parametrize("kind", ["pv64", "pv32"])
@pytest.mark.parametrize("back", [0, -5, 3000])
@pytest.mark.parametrize("has_memory", [False, True])
def test_lost_and_got_back(hv: StubBackend, tmp_path: Path, kind: str, back: int, has_memory: bool) -> None:
    """``back``: by how much its size differs in the end from what it once was."""
    text = f"{kind}:mem=8M,max_mem=64M,writes=5,pt_updates=0,share_invalid=no"
    domid = hv.stub.create(pyxcsr.StubGuest.parse(text))
    inside = hv.stub.guest(domid)
    small = inside.nr_pfns
    large = small + 3 * (512 if kind == "pv64" else 1024)
    inside.resize_p2m(large)

    def change(done: pyxcsr.Checkpoint) -> None:
        if done.number == 1:
            inside.resize_p2m(small)
        if done.number == 2:
            inside.resize_p2m(large + back)
            if has_memory:
                inside.balloon_in(min(large, large + back) - 1)

    guest = Protected(hv, domid, tmp_path / "s")
    guest.run(4, checkpoint=change)
    with guest.path.open("rb") as stream:
        assert verify_input(stream, checkpointed=True).ok
    assert (large - 1 in inside.pfns_with_memory()) == (has_memory and back >= 0)
    guest.check_cut(guest.path.read_bytes(), tmp_path / "cut")
