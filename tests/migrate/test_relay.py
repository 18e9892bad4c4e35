"""The relays of a compressed migration: nothing is lost or kept back while xl waits, and no end goes unnoticed."""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Optional

import pytest

from migrate.lab import Ends, no_zstd
from pyxcsr.migrate import probe, relay
from pyxcsr.migrate.chunks import END, FRAME_END, HEAD, LARGEST, MAGIC, PACKED, PLAIN
from pyxcsr.migrate.packing import SHORT
from pyxcsr.programs import FOLDERS

RELAY = [sys.executable, "-m", "pyxcsr.migrate.relay"]
with_zstd = pytest.mark.skipif(no_zstd, reason="there is no zstd: apt-get install zstd")
DIES = '[ "$1" != {mode} ] || {{ head -c {bytes} >/dev/null; exit 3; }}\nexec {zstd} "$@"'
TEXT = bytes(random.Random(1).choices(b"pages \0", k=1 << 16))


class Pair:
    """Both relays, joined by a pipe. ``path``: of a folder that PATH begins with."""

    def __init__(self, path: str = "", level: str = "1") -> None:
        env = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}"}
        link, theirs = os.pipe()
        self.pack = subprocess.Popen(
            [*RELAY, "pack", level], stdin=subprocess.PIPE, stdout=theirs, stderr=subprocess.PIPE, env=env, bufsize=0
        )
        self.unpack = subprocess.Popen(
            [*RELAY, "unpack"], stdin=link, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, bufsize=0
        )
        os.close(link)
        os.close(theirs)
        assert self.pack.stdin and self.unpack.stdout
        self.into, self.out = self.pack.stdin, self.unpack.stdout

    def arrives(self, nr_bytes: int, seconds: float = 30) -> bytes:
        """What comes out, until it is so much or the time is over."""
        data, until = b"", time.monotonic() + seconds
        while len(data) < nr_bytes and time.monotonic() < until:
            if select.select([self.out], [], [], 0.1)[0]:
                part = os.read(self.out.fileno(), nr_bytes - len(data))
                if not part:
                    break
                data += part
        return data

    def ended(self) -> tuple[int, int, str]:
        """Both statuses, and what was said."""
        assert self.pack.stderr and self.unpack.stderr
        if not self.into.closed:
            self.into.close()
        statuses = self.pack.wait(30), self.unpack.wait(30)
        said = self.pack.stderr.read() + self.unpack.stderr.read()
        for pipe in (self.out, self.pack.stderr, self.unpack.stderr):
            pipe.close()
        assert b"Traceback" not in said, said
        return *statuses, said.decode()


@with_zstd
@pytest.mark.parametrize("level", ["1", "-5", "3"])
def test_questions_and_answers(level: str) -> None:
    """xl writes, then waits: what it wrote has to come out, however long or short it is, with nothing after it."""
    pair = Pair(level=level)
    rng = random.Random(2)
    for nr_bytes in (1, 50, SHORT, SHORT + 1, 70_000, 300_000, 8, 1_500_000, 48):
        data = (TEXT * (nr_bytes // len(TEXT) + 1))[:nr_bytes] if rng.random() < 0.7 else rng.randbytes(nr_bytes)
        written = memoryview(data)
        came = b""
        while written:
            written = written[os.write(pair.into.fileno(), written[:60_000]) :]
            came += pair.arrives(0)
            while select.select([pair.out], [], [], 0)[0]:
                came += os.read(pair.out.fileno(), 1 << 20)
        came += pair.arrives(nr_bytes - len(came))
        assert came == data, f"{len(came)} of {nr_bytes} bytes"
    assert pair.ended()[:2] == (0, 0)


@with_zstd
def test_much_at_once_becomes_less() -> None:
    pair = Pair()
    size = 20 << 20
    feeder = subprocess.Popen([sys.executable, "-c", f"import os\nfor _ in range({size >> 16}): os.write(1, {TEXT!r})"],
                              stdout=pair.into)  # fmt: skip
    pair.into.close()
    data = pair.arrives(size, 120)
    assert feeder.wait(30) == 0 and data == TEXT * (size >> 16)
    _, _, said = pair.ended()
    nr_in, nr_out = (int(x) for x in said.split("carried ")[1].split()[:2])
    assert nr_in == size and nr_out < size // 4


def test_short_messages_need_no_zstd(tmp_path: Path) -> None:
    (tmp_path / "zstd").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "zstd").chmod(0o755)
    pair = Pair(str(tmp_path))
    for _ in range(3):
        os.write(pair.into.fileno(), b"domain is yours\0")
        assert pair.arrives(16) == b"domain is yours\0"
    assert pair.ended()[:2] == (0, 0)


@pytest.mark.parametrize("mode", ["-cq", "-dcq"])
@with_zstd
def test_a_zstd_that_dies(tmp_path: Path, mode: str) -> None:
    (tmp_path / "zstd").write_text(f"#!/bin/sh\n{DIES.format(mode=mode, bytes=9, zstd=shutil.which('zstd'))}\n")
    (tmp_path / "zstd").chmod(0o755)
    pair = Pair(str(tmp_path))
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    rest: Optional[memoryview] = memoryview(random.Random(3).randbytes(5 << 20))
    while rest:
        try:
            rest = rest[os.write(pair.into.fileno(), rest) :]
        except BrokenPipeError:
            break
    packed, unpacked, said = pair.ended()
    assert packed == 1 and unpacked == 1, said
    assert f"pyxcsr-relay: {'pack' if mode == '-cq' else 'unpack'}: zstd ended before its input did (status 3)" in said


def unpacked(data: bytes, **options: object) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run([*RELAY, "unpack"], input=data, capture_output=True, timeout=60, check=False, **options)  # type: ignore[call-overload]
    assert b"Traceback" not in done.stderr, done.stderr
    result: subprocess.CompletedProcess[bytes] = done
    return result


def chunk(kind: int, data: bytes = b"") -> bytes:
    return HEAD.pack(kind, len(data)) + data


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "cut off"),
        (b"xl migration receiver ready", "does not come from a relay of this kind"),
        (MAGIC, "cut off"),
        (MAGIC + chunk(PLAIN, b"x"), "cut off"),
        (MAGIC + HEAD.pack(PLAIN, LARGEST + 1), "a chunk of 1048577 bytes"),
        (MAGIC + HEAD.pack(PLAIN, 0xFFFFFFFF), "a chunk of 4294967295 bytes"),
        (MAGIC + HEAD.pack(PLAIN, 10) + b"x", "cut off"),
        (MAGIC + chunk(9, b"x"), "a chunk of kind 9"),
        (MAGIC + chunk(FRAME_END), "a chunk of kind 2"),
        (MAGIC + chunk(PACKED), "a chunk of kind 1"),
        (MAGIC + chunk(END, b"x"), "a chunk of kind 3"),
        pytest.param(MAGIC + chunk(PACKED, b"no zstd") + chunk(FRAME_END), "zstd ended", marks=with_zstd),
        pytest.param(MAGIC + chunk(PACKED, b"(\xb5/\xfd") + chunk(END), "kind 3", marks=with_zstd),
        pytest.param(MAGIC + chunk(PACKED, b"(\xb5/\xfd") + chunk(PLAIN, b"x"), "kind 0", marks=with_zstd),
    ],
)
def test_what_is_no_relays(data: bytes, said: str) -> None:
    done = unpacked(data)
    assert done.returncode == 1 and said in done.stderr.decode()


FOUND_IN = """
import sys
from pyxcsr.migrate import relay
relay.FOLDERS = sys.argv[1]
sys.exit(relay.main(sys.argv[2:]))
"""


def by_cron(folder: Path, mode: str, data: bytes) -> subprocess.CompletedProcess[bytes]:
    """A relay with a PATH in which nothing is, and ``folder`` as the place that is looked at besides."""
    words = [sys.executable, "-c", FOUND_IN, str(folder), *mode.split()]
    env = {**os.environ, "PATH": "/nowhere"}
    return subprocess.run(words, input=data, capture_output=True, env=env, timeout=60, check=False)


def test_no_zstd(tmp_path: Path) -> None:
    for mode, data in (("unpack", MAGIC + chunk(PACKED, b"x")), ("pack 1", bytes(9999))):
        done = by_cron(tmp_path, mode, data)
        assert done.returncode == 1 and b"zstd cannot be started" in done.stderr


def test_zstd_is_started_from_where_the_checks_look(tmp_path: Path) -> None:
    """PATH may be shorter than theirs: where cron runs it here, or ssh there."""
    (tmp_path / "zstd").write_text(f'#!/bin/sh\necho "$*" >"{tmp_path}/$1"\nexec /bin/cat\n')
    (tmp_path / "zstd").chmod(0o755)
    packed = by_cron(tmp_path, "pack 1", bytes(9999))
    done = by_cron(tmp_path, "unpack", packed.stdout)
    assert (packed.returncode, done.returncode, done.stdout) == (0, 0, bytes(9999)), packed.stderr + done.stderr
    assert (tmp_path / "-cq").read_text() == "-cq -1\n" and (tmp_path / "-dcq").exists()
    assert f"PATH=$PATH:{FOLDERS};" in probe.SCRIPT and relay.FOLDERS == FOLDERS


def test_an_end_that_goes_is_noticed() -> None:
    """With nothing to write, too: xl waits for the end of the other one's answers, which this process keeps open."""
    pair = Pair()
    os.write(pair.into.fileno(), b"x")
    assert pair.arrives(1) == b"x"
    pair.out.close()
    assert pair.unpack.wait(20) == 0  # all was delivered: nothing to complain of
    assert pair.pack.wait(20) == 1
    assert pair.pack.stderr and b"the connection to the other end has closed" in pair.pack.stderr.read()


@pytest.mark.parametrize("words", [[], ["pack"], ["pack", "x"], ["pack", "0"], ["pack", "99"], ["unpack", "1"], ["-h"]])
def test_usage(words: list[str]) -> None:
    done = subprocess.run([*RELAY, *words], capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
    assert done.returncode == 2 and b"pyxcsr-relay pack LEVEL" in done.stderr and not done.stdout


# -- in a migration


@with_zstd
def test_a_compressed_migration(ends: Ends) -> None:
    done = ends.migrate("--compress", "zstd:3", "--json", FAKE_BYTES="20000000")
    assert done.returncode == 0, done.stderr
    assert ends.names("there") == {"pulse": "-b----"}
    assert (ends.folder / "sent").read_text() == (ends.folder / "received").read_text()
    figures = json.loads(done.stdout)["compression"]
    assert figures["stream_bytes"] > 20_000_000 and figures["sent_bytes"] < 10_000_000
    assert float((ends.folder / "waited").read_text()) < 5
    assert f"{ends.relay} pack 3 | ssh other" in ends.read("migrate")[-1]


@with_zstd
@pytest.mark.parametrize(("mode", "status"), [("-cq", 1), ("-dcq", 4)])
def test_a_zstd_that_dies_in_a_migration(ends: Ends, mode: str, status: int) -> None:
    ends.program("zstd", DIES.format(mode=mode, bytes=99999, zstd=shutil.which("zstd")))
    done = ends.migrate("--compress", "zstd", FAKE_BYTES="20000000")
    assert done.returncode == status, done.stderr
    assert "zstd ended before its input did" in done.stderr and "it runs here (id 5)" in done.stderr
    assert ends.names("here") == {"pulse": "-b----"} and ends.names("there") == {}


@with_zstd
@pytest.mark.parametrize("play", ["save-fails", "receive-fails", "startup-fails"])
def test_failures_of_a_compressed_migration(ends: Ends, play: str) -> None:
    done = ends.migrate("--compress", "zstd", play=play, FAKE_BYTES="20000000")
    assert done.returncode == (1 if play == "save-fails" else 4), done.stderr
    assert ends.names("here") == {"pulse": "-b----"} and ends.names("there") == {}
