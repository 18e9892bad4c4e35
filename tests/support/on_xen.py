"""The stub as if it were Xen, whose guests other programs save, and which have QEMUs."""

from __future__ import annotations

from typing import Any

from pyxcsr.hypervisor.open import StubBackend


class OnXen:
    """The stub, as if it were Xen."""

    backend = "xen"

    def __init__(self, hv: StubBackend) -> None:
        self._hv = hv

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hv, name)

    def __enter__(self) -> OnXen:
        return self

    def __exit__(self, *_: object) -> None:
        pass
