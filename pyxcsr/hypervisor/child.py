"""What a backend holds in C for somebody, until closed. Part of the backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from pyxcsr.errors import UsageError

if TYPE_CHECKING:
    from pyxcsr.hypervisor.backend import Backend

WAIT_MS = 50
"""How long a stream may give or take nothing before signals and cancellation are looked at."""


class Child:
    """Released when closed, and at the latest before its backend's handle is."""

    over = "this has been closed"
    """What one who uses it afterwards is told."""

    def __init__(self, backend: Backend, cdata: Any, **facts: Any) -> None:
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
