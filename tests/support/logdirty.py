"""Where in a save of a stub guest log-dirty mode is ended."""

from __future__ import annotations

from typing import Any


def call_that_ends_it(hv: Any, guest: Any) -> int:
    """Which xc_shadow_control that is, counted from 1, in a live save of a guest like this, which is made for it: the
    last one, after those that ask after each bitmap whether log-dirty mode is still on."""
    import pyxcsr  # not above: some users choose which core to load first

    domid = hv.stub.create(guest)
    hv.stub.clear_calls()
    with open("/dev/null", "wb") as out:
        pyxcsr.save(hv, domid, out, policy="libxc")  # as save_to does: its calls are the same each time
    number = int(hv.stub.calls()["xc_shadow_control"])
    hv.stub.destroy(domid)
    return number
