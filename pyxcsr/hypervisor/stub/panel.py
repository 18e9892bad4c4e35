"""The stub's control panel as C gives it: results that are negative errnos, and the text of the last refusal."""

from __future__ import annotations

import os

from pyxcsr.errors import UsageError, XcsrError
from pyxcsr.frames import Pfn
from pyxcsr.plain import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Optional

NO_PFN = (1 << 64) - 1
"""What the panel says where there is no pfn."""


class StubError(XcsrError):
    """The stub's control panel refused. Facts: errno, and what it was about."""


class Panel:
    """``ffi`` and ``lib`` of the module ``pyxcsr._stub``, and what every use of them needs."""

    def __init__(self, ffi: Any, lib: Any) -> None:
        self._ffi = ffi
        self._functions = lib
        self._pid = os.getpid()

    @property
    def _inherited(self) -> bool:
        """Whether this is a forked child, whose machine is another one than that which this panel was made for."""
        return os.getpid() != self._pid

    @property
    def _lib(self) -> Any:
        if self._inherited:
            raise UsageError(
                "this control panel of the stub was made in another process, whose machine is not this one's; "
                "open a hypervisor of your own after a fork"
            )
        return self._functions

    def _text(self, chars: Any) -> str:
        raw: bytes = self._ffi.string(chars)
        return raw.decode()

    def _check(self, rc: int, **facts: Any) -> int:
        if rc >= 0:
            return int(rc)
        text = self._text(self._lib.stub_error()) or os.strerror(-rc)
        raise StubError(text, errno=int(-rc), **facts)

    def _frame(self, mfn: int) -> tuple[int, Optional[Pfn], int]:
        """(owner, pfn, type) of a frame: a domid or DOMID_INVALID, None for no pfn, bits 31-28 >> 28."""
        info = self._ffi.new("stub_frame_info *")
        self._check(self._lib.stub_frame(mfn, info), mfn=mfn)
        return int(info.owner), None if info.pfn == NO_PFN else Pfn(int(info.pfn)), int(info.type) >> 28
