"""Clients that are slow, garbled or hostile: the save goes on, and its stream is byte for byte the same."""

from __future__ import annotations

import gc
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.anew import anew
from support.by_calls import ENDLESS
from support.same import check_same

import pyxcsr
from control.scene import Beside, save, sock, the_save, wait_for
from pyxcsr.control.folder import Folder
from pyxcsr.control.outlet import MOST, EventsFile
from pyxcsr.control.server import IDLE, MOST_CLIENTS, Client, Server
from pyxcsr.transfer.steering import Steering

QUIETLY = pyxcsr.StubGuest.pv64(mem="8M", writer="none", fixmap=False)
"""It does the same each time, whenever it is looked at."""


@pytest.fixture(autouse=True)
def without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stub's clock, which is in the stream, goes on with each call: so not even the guest's name is asked for."""
    monkeypatch.setattr(Steering, "guest_name", lambda self: None)


@pytest.fixture(autouse=True, scope="module")
def reads_the_bitmap() -> Iterator[None]:
    """A rehearsal does, too, however long that took before: one more call of Xen's."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("pyxcsr.transfer.outlook.SHORT", ENDLESS)
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, reads_the_bitmap: None) -> bytes:
    """The stream that it gives without any control."""
    path = tmp_path_factory.mktemp("undisturbed") / "s"
    with anew() as hv:
        save(hv, hv.stub.create(QUIETLY), path, None, bandwidth=None)
    return path.read_bytes()


def garbage(run_dir: Path) -> None:
    """All bytes there are, and lines that are nearly requests."""
    for data in (os.urandom(3000) + b"\n", bytes(range(256)) * 12 + b"\n", b"\n" * 4000, b"\0" * 4000 + b"\n",
                 b"[" * 4000 + b"\n", b'{"pyxcsr": 1, "do": "tune", "bandwidth": "' + b"9" * 4000 + b'"}\n',
                 b'{"pyxcsr": 1, "do": "tune", "timeout": "' + b"9" * 3000 + b'h"}\n',
                 b'{"pyxcsr": 1, "do": "tune", "timeout": "1us"}\n',
                 b'{"pyxcsr": 1, "do": "tune", "max_iterations": "1e9", "on_timeout": {}}\n'):  # fmt: skip
        with sock(run_dir) as client:
            client.sendall(data)
            assert b'"error"' in client.recv(1 << 16)


def no_end_of_line(run_dir: Path) -> None:
    """A line without an end: the client is shown out."""
    with sock(run_dir) as client, pytest.raises((BrokenPipeError, ConnectionResetError)):
        for _ in range(1000):
            client.sendall(b"x" * 4096)
            time.sleep(0.001)


def never_reads(run_dir: Path) -> None:
    """Asks and asks, and takes no answer: shown out as well."""
    with sock(run_dir) as client:
        client.setblocking(False)
        until = time.monotonic() + 20
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while time.monotonic() < until:
                try:
                    client.send(b'{"pyxcsr": 1, "do": "status"}\n' * 100)
                except BlockingIOError:
                    time.sleep(0.01)


def thousands(run_dir: Path) -> None:
    """Of connections, of which most are left open."""
    with ExitStack() as held:
        for _ in range(3000):
            client = held.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            try:
                client.connect(str(run_dir / "1.sock"))
            except BlockingIOError:
                client.close()
                time.sleep(0.0005)
            except (FileNotFoundError, ConnectionRefusedError):  # the save is over
                return


def comes_and_goes(run_dir: Path) -> None:
    """Half a request, and away."""
    for n in range(200):
        try:
            with sock(run_dir) as client:
                client.sendall(b'{"pyxcsr": 1, "do": "watch"}\n{"pyx'[: n % 36])
        except (ConnectionRefusedError, FileNotFoundError, BlockingIOError):
            return


HOSTILE = [garbage, no_end_of_line, never_reads, thousands, comes_and_goes]


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda x: x.__name__)
def test_the_stream_is_the_same(
    tmp_path: Path, run_dir: Path, undisturbed: bytes, hostile: Callable[[Path], None]
) -> None:
    """And the save takes no longer than its bandwidth makes it."""
    served: list[float] = []

    def act() -> None:
        wait_for((run_dir / "1.sock").exists)
        hostile(run_dir)
        served.append(time.monotonic())

    with anew() as hv:
        domid = hv.stub.create(QUIETLY)
        with Beside(act):
            report = save(hv, domid, tmp_path / "s", run_dir, bandwidth="1M")
            over = time.monotonic()
        assert hv.stub.guest(domid).suspended
    assert report.warnings == [] and report.seconds < 30
    check_same((tmp_path / "s").read_bytes(), undisturbed)
    assert served[0] < over or hostile is thousands, "it was over before the client had done its worst"
    assert list(run_dir.iterdir()) == []


def test_a_good_client_is_served_beside_them(tmp_path: Path, run_dir: Path) -> None:
    """While there is room for it."""
    def act() -> None:
        one = the_save(run_dir)
        with sock(run_dir) as slow, sock(run_dir) as bad:
            slow.sendall(b'{"pyxcsr": 1, "do": "watch"}\n')
            bad.sendall(b"x" * 100)
            assert one.status()["domid"] == 1 and one.tune(timeout="9h")["event"] == "tuned"
            assert one.cancel()["result"] == "cancelled"

    with anew() as hv:
        domid = hv.stub.create(QUIETLY)
        with Beside(act), pytest.raises(pyxcsr.Cancelled):
            save(hv, domid, tmp_path / "s", run_dir, bandwidth="1M")


def test_a_client_that_is_killed(tmp_path: Path, run_dir: Path, undisturbed: bytes) -> None:
    def act() -> None:
        wait_for((run_dir / "1.sock").exists)
        program = [sys.executable, "-m", "pyxcsr", "watch", "--json", "--run-dir", run_dir]
        with subprocess.Popen(program, stdout=subprocess.PIPE) as watch:
            assert watch.stdout is not None
            assert json.loads(watch.stdout.readline())["event"] == "status"
            watch.kill()

    with anew() as hv, Beside(act):
        report = save(hv, hv.stub.create(QUIETLY), tmp_path / "s", run_dir, bandwidth="1500K")
    assert report.warnings == []
    check_same((tmp_path / "s").read_bytes(), undisturbed)


# -- the bounds, one by one


def a_server(run_dir: Path, clock: Callable[[], float] = time.monotonic) -> tuple[Server, list[bytes]]:
    taken: list[bytes] = []

    def answer(client: Client, line: bytes) -> None:
        taken.append(line)
        client.out.put(b"answer\n")

    return Server(Folder(str(run_dir), make=True), 1, answer, clock), taken


def test_the_socket_is_ours_alone(run_dir: Path) -> None:
    before = os.umask(0)
    try:
        server, _ = a_server(run_dir)
    finally:
        os.umask(before)
    assert (run_dir / "1.sock").stat().st_mode & 0o777 == 0o600
    server.abandon()
    assert not (run_dir / "1.sock").exists()


def test_so_many_clients_and_no_more(run_dir: Path) -> None:
    server, _ = a_server(run_dir)
    with ExitStack() as held:
        clients = []
        for _ in range(MOST_CLIENTS + 4):
            clients.append(held.enter_context(sock(run_dir)))
            server.serve()
        for client in clients[:MOST_CLIENTS]:
            client.sendall(b"x\n")
        server.serve()
        assert [x.recv(100) for x in clients[:MOST_CLIENTS]] == [b"answer\n"] * MOST_CLIENTS
        for client in clients[MOST_CLIENTS:]:
            told = json.loads(client.recv(1000))
            assert told["event"] == "error" and told["message"] == "16 clients are connected already"
            assert client.recv(1000) == b""
    server.serve()
    with sock(run_dir) as client:
        client.sendall(b"x\n")
        server.serve()
        assert client.recv(100) == b"answer\n", "there is room again"
    server.abandon()


def test_no_client_stays_behind(run_dir: Path, tmp_path: Path) -> None:
    """Nothing looks for garbage in the save helper."""

    def kept() -> int:
        return sum(isinstance(x, (Client, EventsFile)) for x in gc.get_objects())

    server, _ = a_server(run_dir)
    gc.collect()
    before = kept()
    gc.disable()
    try:
        for _ in range(3):
            with sock(run_dir) as client:
                client.sendall(b"x\n")
                server.serve()
                assert client.recv(100) == b"answer\n" and kept() == before + 1
            server.serve()
        for where in (os.fspath(tmp_path / "e"), os.devnull):
            EventsFile(where).close()
        assert kept() == before
    finally:
        gc.enable()
        server.abandon()


def test_a_few_lines_at_a_time(run_dir: Path) -> None:
    server, taken = a_server(run_dir)
    with sock(run_dir) as client:
        client.sendall(b"x\n" * 1000)
        server.serve()
        assert len(taken) == 4
        server.serve()
        assert len(taken) == 8
    server.abandon()


def test_a_line_without_an_end(run_dir: Path) -> None:
    server, taken = a_server(run_dir)
    with sock(run_dir) as client:
        client.sendall(b"x" * 5000)
        for _ in range(3):
            server.serve()
        assert server._clients == [] and taken == []
    server.abandon()


def test_one_who_says_nothing(run_dir: Path) -> None:
    now = [0.0]
    server, _ = a_server(run_dir, lambda: now[0])
    with sock(run_dir) as client, sock(run_dir) as watcher:
        server.serve()
        for one in server._clients[1:]:
            one.watches = True
        now[0] = IDLE + 1
        server.serve()
        assert client.recv(1) == b"" and len(server._clients) == 1
        watcher.sendall(b"x\n")
        server.serve()
        assert watcher.recv(100) == b"answer\n"
    server.abandon()


def test_one_who_does_not_read(run_dir: Path) -> None:
    """What waits for it is bounded."""
    server, _ = a_server(run_dir)
    with sock(run_dir) as client:
        server.serve()
        (one,) = server._clients
        one.watches = True
        for _ in range(100000):
            server.tell(b"y" * 200 + b"\n")
            assert len(one.out._waiting) <= MOST
            server.flush()
            if not server._clients:
                break
        assert server._clients == []
        client.recv(100)
    server.abandon()


def test_the_last_word(run_dir: Path) -> None:
    """Is told to those, too, who were waiting to be let in."""
    server, _ = a_server(run_dir)
    with sock(run_dir) as client, sock(run_dir) as waiting:
        waiting.sendall(b"x\n")
        server.close(lambda: b"end\n")
        assert client.recv(100) == b"end\n" and waiting.recv(100) == b"end\n"
        with pytest.raises((FileNotFoundError, ConnectionRefusedError)):
            client.connect(str(run_dir / "1.sock"))
    assert list(run_dir.iterdir()) == []
