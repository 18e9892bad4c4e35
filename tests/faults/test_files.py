"""The n-th of each call by which `pyxcsr save` makes its file fails, for all n: no file, or a complete one."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
from support.judge import judge_rules

from pyxcsr.cli import checksum, main, output
from pyxcsr.hypervisor.open import StubBackend

GUEST = "pv64:mem=2M,writes=4"
FILE_CALLS = {
    "open": (errno.ENOSPC, errno.EACCES, errno.EMFILE),
    "fsync": (errno.EIO, errno.ENOSPC, errno.EDQUOT),
    "link": (errno.EIO, errno.ENOSPC, errno.EPERM),
    "replace": (errno.EIO, errno.ENOSPC),
    "rename": (errno.EIO, errno.ENOSPC),
    "write": (errno.ENOSPC, errno.EIO),
    "pread": (errno.EIO,),
    "close": (errno.EIO, errno.ENOSPC),
    "unlink": (errno.EIO,),
}
OPTIONS: dict[str, list[str]] = {"new": [], "force": ["--force"], "checksum": ["--checksum"],
                                 "force and checksum": ["--force", "--checksum"]}  # fmt: skip


class FaultyOs:
    """Stands in for the module ``os`` where files are made: counts calls, and fails the n-th of one."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.point: tuple[str, int, int] = ("", 0, 0)
        self.real: dict[str, Callable[..., Any]] = {x: getattr(os, x) for x in FILE_CALLS}

    def __getattr__(self, name: str) -> Any:
        return self.wrapped(name) if name in FILE_CALLS else getattr(os, name)

    def wrapped(self, name: str) -> Callable[..., Any]:
        """The function, failing at its time. A close that fails has closed all the same, as on Linux."""

        def call(*args: Any, **options: Any) -> Any:
            self.calls[name] = self.calls.get(name, 0) + 1
            if self.point[:2] == (name, self.calls[name]):
                if name == "close":
                    self.real[name](*args)
                raise OSError(self.point[2], os.strerror(self.point[2]))
            return self.real[name](*args, **options)

        return call


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyOs]:
    faulty = FaultyOs()
    monkeypatch.setattr(output, "os", faulty)
    monkeypatch.setattr(checksum, "os", faulty)
    for name in ("replace", "unlink", "rename"):  # Path's methods call these by the module
        monkeypatch.setattr(os, name, faulty.wrapped(name))
    yield faulty


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the guest runs, whenever the command closes its hypervisor."""
    seen: list[bool] = []
    close = StubBackend.close

    def look(self: StubBackend) -> None:
        if self._handle is not None:
            state = self.stub.guest(self.stub.domains[-1]).state()
            seen.append(state.running and not state.logdirty and self.stub.leaks() == {})
        close(self)

    monkeypatch.setattr(StubBackend, "close", look)
    return seen


def save(folder: Path, options: list[str]) -> int:
    folder.mkdir()
    if "--force" in options:
        (folder / "s").write_bytes(b"an older one")
    return main.main(["save", "--backend", "stub", GUEST, os.fspath(folder / "s"), "--quiet", *options])


@pytest.mark.parametrize("how", OPTIONS)
def test_each_call_that_makes_a_file(how: str, tmp_path: Path, files: FaultyOs, states: list[bool]) -> None:
    if "--checksum" in OPTIONS[how]:
        pytest.importorskip("xxhash")
    assert save(tmp_path / "count", OPTIONS[how]) == 0
    counts, tried, failed = dict(files.calls), 0, 0
    assert {"open", "fsync", "close"} <= set(counts)
    for function, total in counts.items():
        for nth in range(1, total + 1):
            for error in FILE_CALLS[function]:
                files.calls, files.point = {}, (function, nth, error)
                folder = tmp_path / f"{function}{nth}-{error}"
                status = save(folder, OPTIONS[how])
                files.point = ("", 0, 0)
                judge(folder, OPTIONS[how], status, function)
                tried += 1
                failed += status != 0
    assert states == [True] * (tried + 1), "the guest did not go on"
    assert tried > 8 and failed > 5


def judge(folder: Path, options: list[str], status: int, function: str) -> None:
    """With status 0 the file is complete; else there is none, or the older one, and nothing half-made."""
    assert status in (0, 1, 2), folder.name
    left = {x.name for x in folder.iterdir()}
    if status == 0:
        judge_rules(folder / "s", xen=False)
        assert "s" in left
        return
    partial = {x for x in left if x.endswith((".partial", ".partial.xxh128"))}
    assert not partial or function == "unlink", f"{folder.name}: {left}"
    assert "s" in left or "s.xxh128" not in left, f"{folder.name}: a checksum of nothing"
    if (folder / "s").exists():
        whole = (folder / "s").read_bytes() == b"an older one"
        if not whole:  # only the directory's own sync, or what comes after the name, has failed
            judge_rules(folder / "s", xen=False)
        assert whole or "--force" in options or function in ("unlink", "close"), f"{folder.name}: {left}"
