"""`save --then destroy` on Xen: xl does it, which also removes what libxl has made for the guest."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional, cast

import pytest

from pyxcsr.cli import destroying
from pyxcsr.errors import UsageError, XcsrError


class Xen:
    """A guest of Xen. ``kind``: what libxl has noted of it; None: it has not made it."""

    backend = "xen"

    def __init__(self, kind: Optional[bytes]) -> None:
        self.kind, self.destroyed = kind, 0

    def xenstore_read(self, path: str) -> Optional[bytes]:
        assert path == "/libxl/7/type"
        return self.kind

    def domain_destroy(self, domid: int) -> None:
        assert domid == 7
        self.destroyed += 1


def xl(folder: Path, script: str) -> None:
    (folder / "xl").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "xl").chmod(0o755)


@pytest.fixture
def more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that PATH lacks."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(destroying, "FOLDERS", str(tmp_path))
    return tmp_path


def test_xl_is_found_where_path_lacks_it(more: Path) -> None:
    xl(more, f'echo "$@" > {more}/said')
    xen = Xen(b"pv")
    destroying.destroyer(cast(Any, xen), 7)()
    assert (more / "said").read_text() == "destroy 7\n" and not xen.destroyed


def test_without_xl_a_guest_of_libxls_is_not_destroyed(more: Path) -> None:
    xen = Xen(b"hvm")
    with pytest.raises(UsageError, match="no xl"):
        destroying.destroyer(cast(Any, xen), 7)
    assert not xen.destroyed
    destroying.destroyer(cast(Any, own := Xen(None)), 7)()
    assert own.destroyed == 1


def test_an_xl_that_fails_leaves_the_guest_suspended(more: Path) -> None:
    xl(more, "echo it is busy >&2; exit 1")
    with pytest.raises(XcsrError, match="stays suspended: it is busy"):
        destroying.destroyer(cast(Any, Xen(b"pv")), 7)()


def test_ctrl_c_does_not_end_it(more: Path) -> None:
    xl(more, f"read -r _ _ _ _ group _ < /proc/$$/stat; echo $group $$ > {more}/group")
    destroying.destroyer(cast(Any, Xen(b"pv")), 7)()
    group, pid = (more / "group").read_text().split()
    assert group == pid
