"""The conversation with QEMU, and every way in which it goes wrong."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from devicemodel.fake_qemu import FakeQemu, Reply
from pyxcsr.devicemodel.qemu import Qemu
from pyxcsr.errors import DeviceModelError

Start = Callable[..., FakeQemu]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a QEMU at tmp_path/qmp."""
    started: list[FakeQemu] = []

    def one(reply: Optional[Reply] = None, greet: bool = True) -> FakeQemu:
        started.append(FakeQemu(tmp_path / "qmp", reply, greet))
        return started[-1]

    yield one
    for qemu in started:
        qemu.close()


def ours(tmp_path: Path, seconds: float = 5.0) -> Qemu:
    return Qemu(7, str(tmp_path / "qmp"), seconds)


def test_each_command(start: Start, tmp_path: Path) -> None:
    qemu = start()
    model = ours(tmp_path)
    model.check()
    model.track(True)
    assert qemu.tracking
    model.stop()
    assert not qemu.running
    model.save_state(str(tmp_path / "state"))
    model.go_on()
    model.track(False)
    assert qemu.running and not qemu.tracking
    assert qemu.names() == [
        "xen-set-global-dirty-log", "stop", "xen-save-devices-state", "cont", "xen-set-global-dirty-log",
    ]
    assert qemu.commands[1][0] == "qmp_capabilities"
    saved = dict(qemu.commands)["xen-save-devices-state"]
    assert saved == {"filename": str(tmp_path / "state"), "live": False}


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(DeviceModelError, match="domain 7 has no device model that listens") as caught:
        ours(tmp_path).track(True)
    assert caught.value.facts["domid"] == 7 and caught.value.facts["op"] == "connect"


def test_a_socket_without_qemu(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bound:
        bound.bind(str(tmp_path / "qmp"))
    with pytest.raises(DeviceModelError, match="cannot be reached"):
        ours(tmp_path).track(True)


def test_busy_with_another_client(start: Start, tmp_path: Path) -> None:
    """The kernel accepts the connection, and QEMU does not look at it."""
    start(greet=False)
    with pytest.raises(DeviceModelError, match="busy with another client"):
        ours(tmp_path, 0.2).track(True)


def test_a_full_queue_is_busy_too(tmp_path: Path) -> None:
    """Then the kernel does not even take the connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as full:
        full.bind(str(tmp_path / "qmp"))
        full.listen(0)
        waiting = []
        try:
            for _ in range(8):
                waiting.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                waiting[-1].setblocking(False)
                if waiting[-1].connect_ex(str(tmp_path / "qmp")):
                    break
            with pytest.raises(DeviceModelError, match="busy with another client"):
                ours(tmp_path, 0.2).track(True)
        finally:
            for client in waiting:
                client.close()


def answers(*lines: bytes) -> Reply:
    """To the command, not to the negotiation."""

    def reply(name: str, arguments: dict[str, Any]) -> Optional[list[bytes]]:
        return None if name == "qmp_capabilities" else list(lines)

    return reply


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([b'{"error": {"class": "GenericError", "desc": "no such thing"}}\r\n'], "refused .*: no such thing"),
        ([b'{"error": "odd"}\r\n'], "refused .*: odd"),
        ([], "does not answer within 0 s"),
        ([b"not json\r\n"], "sent what is no message"),
        ([b"[1, 2]\r\n"], "sent what is no message"),
        ([b'{"QMP": ' + b"[" * 5000 + b"]" * 5000 + b"}\r\n"], "sent what is no message"),
        ([b'{"return": {}'], "does not answer"),
        ([b""], "closed the connection"),
        ([b'{"event": "' + b"x" * (2 << 20)], "does not end"),
    ],
)
def test_wrong_answers(start: Start, tmp_path: Path, lines: list[bytes], says: str) -> None:
    start(answers(*lines))
    with pytest.raises(DeviceModelError, match=says):
        ours(tmp_path, 0.3).track(True)


def test_events_come_in_between_and_in_pieces(start: Start, tmp_path: Path) -> None:
    event = b'{"event": "RTC_CHANGE", "data": {"offset": 1}}\r\n'
    qemu = start(answers(event, event[:10], event[10:], b'{"retu', b'rn": {}}\r\n'))
    ours(tmp_path).stop()
    assert qemu.names() == ["stop"]


def test_a_state_that_is_empty(start: Start, tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"")
    start(answers(b'{"return": {}}\r\n'))
    with pytest.raises(DeviceModelError, match="state has 0 bytes"):
        ours(tmp_path).save_state(str(tmp_path / "state"))
