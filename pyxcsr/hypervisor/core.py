"""The handle, its errors, and what hangs on it: what the files that touch cdata have in common.

These are core, domains, memory, state, saving, building, backend and stub/. ``Core`` is generic over the module that it
was given: ``pyxcsr._xen`` or ``pyxcsr._stub``. Their objects never mix, because every handle is made by and holds on to
its own backend.
"""

from __future__ import annotations

import errno
import sys

from pyxcsr.errors import UsageError
from pyxcsr.hypervisor import faults
from pyxcsr.hypervisor.library import Library
from pyxcsr.plain import TYPE_CHECKING
from pyxcsr.plain_contexts import ExitStack

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from typing import Any, Callable

BLOB_ROOM = 16384
"""First guess for vcpu blobs; Xen says if it needs more."""

BLOB_TRIES = 4
"""How often a blob is asked for that each time has become larger than what Xen said before."""

WAIT_MS = 50
"""How long a stream may give or take nothing before signals and cancellation are looked at."""


class Core:
    """An open handle of the C core's."""

    def __init__(self, module: Any, name: str) -> None:
        self.backend = name
        self._ffi = module.ffi
        self._lib = Library(module.lib)
        self._handle: Any = None
        out, why = self._ffi.new("xcsr **"), self._ffi.new("xcsr_error *")
        rc = self._lib.xcsr_open(out, why)
        if rc:
            raise self._exception(why, {"backend": name})
        self._handle = out[0]
        self._children: dict[int, Child] = {}  # what must be released before the handle, in order of making

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.backend!r}, {'closed' if self._handle is None else 'open'}>"

    def __del__(self) -> None:
        # when Python ends nothing can be imported any more; the kernel closes what a process has left open
        if getattr(self, "_handle", None) is not None and not sys.is_finalizing():
            import warnings

            warnings.warn("a hypervisor was left open", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def close(self) -> None:
        """Releases everything that was made through it; waits for a call in progress in another thread."""
        with self._lib.releasing(), ExitStack() as stack:
            if self._handle is None:
                return
            stack.callback(self._close_handle)
            for child in list(self._children.values()):  # the last made goes first
                stack.callback(child.close)  # one that fails does not keep the others open

    def _close_handle(self) -> None:
        handle, self._handle = self._handle, None
        self._lib.xcsr_close(handle)
        self._lib.closed()

    def _adopt(self, child: Any) -> None:
        self._children[id(child)] = child

    def _releasing(self) -> AbstractContextManager[None]:
        return self._lib.releasing()

    def _disown(self, child: Any) -> None:
        self._children.pop(id(child), None)

    # -- errors

    def _exception(self, record: Any, facts: dict[str, Any]) -> Exception:
        numbers = {x: int(getattr(record, x)) for x in ("pfn", "mfn", "level", "index", "type")}
        text, op = self._text(record.text), self._text(record.op)
        return faults.exception(record.kind, record.err, op, text, numbers, facts)

    def _text(self, chars: Any) -> str:
        raw: bytes = self._ffi.string(chars)  # ours: always ends with NUL
        return raw.decode(errors="replace")

    def _check(self, rc: int, **facts: Any) -> None:
        """Returns if ``rc`` is 0; otherwise raises what the handle's error record describes."""
        if rc == 0:
            return
        if -rc in (faults.OTHER_PROCESS, faults.OTHER_THREAD):
            raise faults.misuse(rc)
        raise self._exception(self._lib.xcsr_error_of(self._h), facts)

    @property
    def _h(self) -> Any:
        if self._handle is None:
            raise UsageError("this hypervisor has been closed")
        return self._handle

    def _call(self, function: Callable[..., int], *args: Any, **facts: Any) -> None:
        self._check(function(self._h, *args), **facts)

    def _number(self, function: Callable[..., int], kind: str, *args: Any, **facts: Any) -> int:
        return self._receive(function, kind, self._h, *args, **facts)

    def _receive(self, function: Callable[..., int], kind: str, *args: Any, **facts: Any) -> int:
        """Calls a function whose last argument receives one number."""
        out = self._ffi.new(kind)
        self._check(function(*args, out), **facts)
        return int(out[0])

    # -- arguments

    def _blob(self, function: Callable[..., int], *args: Any, **facts: Any) -> bytes:
        """Calls a function that fills a buffer; again with the size it asks for, which may grow meanwhile."""
        room = BLOB_ROOM
        for _ in range(BLOB_TRIES):
            buffer, length = self._ffi.new("char[]", room), self._ffi.new("size_t *", room)
            rc = function(self._h, *args, buffer, length)
            if rc != -errno.ENOBUFS:
                break
            room = length[0]
        self._check(rc, **facts)
        return bytes(self._ffi.buffer(buffer, length[0]))

    def _frames(self, mfns: Sequence[int]) -> Any:
        from pyxcsr.plain_array import array

        return self._ffi.from_buffer("uint64_t[]", mfns if isinstance(mfns, array) else array("Q", mfns))


class Child:
    """Released when closed, and at the latest before its backend's handle is."""

    over = "this has been closed"
    """What one who uses it afterwards is told."""

    def __init__(self, backend: Core, cdata: Any, **facts: Any) -> None:
        self._backend, self._cdata = backend, cdata
        self._facts = facts  # that errors are to carry
        backend._adopt(self)

    def _free(self, cdata: Any) -> None:
        raise NotImplementedError

    def _live(self) -> Any:
        if self._cdata is None:
            raise UsageError(self.over)
        return self._cdata

    def _call(self, function: Callable[..., int], *args: Any) -> None:
        self._backend._check(function(self._live(), *args), **self._facts)

    def _number(self, function: Callable[..., int], kind: str, *args: Any) -> int:
        return self._backend._receive(function, kind, self._live(), *args, **self._facts)

    def close(self) -> None:
        """Again: nothing happens. An error in it leaves it closed."""
        with self._backend._releasing():
            if self._cdata is not None:
                cdata, self._cdata = self._cdata, None
                self._backend._disown(self)
                self._free(cdata)
