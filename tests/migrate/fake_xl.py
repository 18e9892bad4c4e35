"""Plays xl, and the save helper that it starts, for tests: xl's own messages and its protocol over the link, no Xen.

    fake_xl.py xl WORDS...         `xl migrate`, `xl migrate-receive`
    fake_xl.py helper WORDS...     what LIBXL_SAVE_HELPER names

FAKE names a folder: SIDE.json has the domains of a side ("here", or "there" behind the fake ssh), SIDE.list the same as
`xl list` prints it. PLAY has what is to go wrong, as words.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn, Optional

FAKE, SIDE = Path(os.environ.get("FAKE", "")), os.environ.get("SIDE", "here")
PLAY = os.environ.get("PLAY", "").split()
BANNER = b"xl migration receiver ready, send binary domain data.\n"
READY = b"domain received, ready to unpause\0"
GO = b"domain is yours, you are cleared to unpause\0"
REPORT = b"my copy unpause results are as follows\0"
LENGTH = struct.Struct(">Q")

Row = tuple[str, int, int, int, str]


def say(text: str) -> None:
    os.write(2, f"{text}\n".encode())


def rows() -> list[Row]:
    found: list[Row] = json.loads((FAKE / f"{SIDE}.json").read_text())
    return found


def keep(found: list[Row]) -> None:
    (FAKE / f"{SIDE}.json").write_text(json.dumps(found))
    (FAKE / f"{SIDE}.list").write_text(listed(found))


def rename(old: str, new: str, state: Optional[str] = None) -> None:
    keep([(new if x[0] == old else x[0], *x[1:4], state or x[4]) if x[0] == old else x for x in rows()])


def drop(domid: int) -> None:
    keep([x for x in rows() if x[1] != domid])


def listed(found: list[Row]) -> str:
    """As `xl list` prints it."""
    lines = ["Name                                        ID   Mem VCPUs\tState\tTime(s)"]
    for name, domid, mem, vcpus, state in found:
        lines.append(f"{name:<40} {domid:5} {mem:5} {vcpus:5}     {state}  {12.5:8.1f}")
    return "\n".join(lines) + "\n"


def read_exactly(fd: int, nr_bytes: int) -> bytes:
    data = b""
    while len(data) < nr_bytes and (part := os.read(fd, nr_bytes - len(data))):
        data += part
    return data


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


# -- the sending end


class Sender:
    def __init__(self, guest: str, rune: str) -> None:
        self.row = next(x for x in rows() if str(x[1]) == guest or x[0] == guest)
        theirs, self.out = os.pipe()
        self.into, theirs_out = os.pipe()
        self.child = subprocess.Popen(["sh", "-c", rune], stdin=theirs, stdout=theirs_out)
        os.close(theirs)
        os.close(theirs_out)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        self.rune = rune

    def fixed(self, message: bytes, what: str) -> bool:
        found = read_exactly(self.into, len(message))
        if not found:
            say(f"libxl: error: libxl_utils.c:463:libxl_read_exactly: file/stream truncated reading {what} from "
                "migration receiver stream")  # fmt: skip
        elif found != message:
            say(f"migration receiver stream contained unexpected data instead of {what}")
            say(f"(command run was: {self.rune} )")
        return found == message

    def fail(self, last: str) -> NoReturn:
        os.close(self.out)
        try:
            status = self.child.wait(2)
            say(f"libxl: info: libxl_exec.c:117: migration transport process [1] exited with error status {status}")
        except subprocess.TimeoutExpired:
            say("migration child [1] not exiting, no longer waiting (exit status will be unreported)")
        say(last)
        sys.exit(1)

    def migrate(self) -> int:
        if not self.fixed(BANNER, "banner"):
            self.fail("")
        if "mute" not in PLAY:
            say("Saving to migration stream new xl format (info 0x3/0x0/919)")
        name = self.row[0].encode()
        write_all(self.out, LENGTH.pack(len(name)) + name)
        self.save()
        if not self.fixed(READY, "ready message"):
            self.resume("Migration failed, resuming at sender.")
        say("migration sender: Target has acknowledged transfer.")
        rename(self.row[0], f"{self.row[0]}--migratedaway")
        say("migration sender: Giving target permission to start.")
        try:
            write_all(self.out, GO)
        except OSError:
            self.badly()
        if not self.fixed(REPORT, "success/failure report message"):
            self.badly()
        if read_exactly(self.into, 1) != b"\0":
            say("migration sender: Target reports startup failure (status code 3).")
            if not self.fixed(GO, "permission for sender to resume"):
                self.badly()
            rename(f"{self.row[0]}--migratedaway", self.row[0])
            self.resume("Migration failed due to problems at target.")
        say("migration sender: Target reports successful startup.")
        drop(self.row[1])
        say("Migration successful.")
        return 0

    def resume(self, last: str) -> NoReturn:
        keep([(*x[:4], "-b----") if x[1] == self.row[1] else x for x in rows()])
        self.fail(last)

    def badly(self) -> NoReturn:
        self.fail("** Migration failed during final handshake **\nDomain state is now undefined !")

    def save(self) -> None:
        helper = os.environ["LIBXL_SAVE_HELPER"]
        words = [helper, "--save-domain", str(self.out), "-1", str(self.row[1]), "1", "0", "0"]
        done = subprocess.run(words, pass_fds=[self.out], stdout=subprocess.PIPE, check=False)
        keep([(*x[:4], "---ss-") if x[1] == self.row[1] else x for x in rows()])
        say("fake: the helper has ended")
        time.sleep(1 if "mute" in PLAY else 0)
        if done.returncode:
            why = done.stdout.decode() or "No such file or directory"
            say("libxl: error: libxl_stream_write.c:347:libxl__xc_domain_save_done: Domain 5:saving domain: domain did "
                f"not respond to suspend request: {why}")  # fmt: skip
            say("migration sender: libxl_domain_suspend failed (rc=-8)")
            self.resume("Migration failed, failed to suspend at sender.")


# -- the save helper of the sending end


def terminated(_number: int, _frame: Optional[FrameType]) -> None:
    say("pyxcsr: error: cancelled (SIGTERM): Operation canceled")
    failed("Operation canceled")


def failed(why: str) -> NoReturn:
    os.write(1, why.encode())
    os._exit(1)


def tells(domid: str) -> None:
    """Listens where a save listens, and tells what one tells: docs/control.md."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(f"{os.environ['PYXCSR_RUN_DIR']}/{domid}.sock")
        listening.listen()
        other, _ = listening.accept()
        head = {"pyxcsr": 1, "event": "progress", "time": 1.5, "domid": int(domid), "phase": "pass"}
        for done in range(0, 10_000_000, 1000):
            facts = {"iteration": 3, "pages_done": done, "pages_total": 2 * done + 1, "bytes_written": 4096 * done}
            more = {"dirty_count": 7, "seconds": done / 1e6, "throttled": 0.25 * ("throttled" in PLAY)}
            other.sendall(json.dumps({**head, **facts, **more}).encode() + b"\n")
            time.sleep(0.01)


def helped(words: list[str]) -> int:
    out = int(words[1])
    signal.signal(signal.SIGTERM, terminated)
    (FAKE / "environ").write_text(json.dumps({x: y for x, y in os.environ.items() if x.startswith("PYXCSR_")}))
    if "save-fails" in PLAY:
        say("pyxcsr: error: the save of domain 5 took longer than its timeout of 2 s: Connection timed out")
        failed("Connection timed out")
    if "socket" in PLAY:
        threading.Thread(target=tells, args=(words[3],), daemon=True).start()
    nr_bytes = int(os.environ.get("FAKE_BYTES", "300000"))
    words_ = random.Random(7)
    piece = bytes(words_.choices(b"pages of memory\0", k=65536))
    digest, sent = hashlib.sha256(), 0
    try:
        write_all(out, LENGTH.pack(nr_bytes))
        while sent < nr_bytes:
            part = piece[: nr_bytes - sent]
            write_all(out, part)
            digest.update(part)
            sent += len(part)
            if sent % (1 << 20) <= 65536:
                say(f"pyxcsr: live pass 0: {sent}/{nr_bytes}  {100 * sent // nr_bytes:3}%")
            if "slow" in PLAY or sent == 65536:
                time.sleep(0.05)
    except BrokenPipeError:
        say("pyxcsr: error: the stream could not be written: Broken pipe")
        failed("Broken pipe")
    (FAKE / "sent").write_text(digest.hexdigest())
    if "late-signal" in PLAY:  # one that comes when all has been said and done changes nothing
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say("fake: all is sent")
        time.sleep(1)
    say("pyxcsr: info: domain 5: 3 passes, 100 pages, 0.3 MiB in 1.00 s, paused 0.010 s")
    return 0


# -- the receiving end


def received() -> int:
    say("migration target: Ready to receive domain.")
    if "refused" in PLAY:
        say("sh: 1: migrate-receive: Permission denied")
        return 126
    if "silent" in PLAY:
        time.sleep(300)
    write_all(1, b"Welcome!\n" + BANNER if "noise" in PLAY else BANNER)
    head = read_exactly(0, 8)
    if len(head) < 8:
        return creation_failed(0)
    name = read_exactly(0, LENGTH.unpack(head)[0]).decode()
    domid = max([0, *(x[1] for x in rows())]) + 1
    keep([*rows(), (f"{name}--incoming", domid, 128, 1, "--p---")])
    helper = os.environ.get("LIBXL_SAVE_HELPER", "")
    if "receive-fails" in PLAY or (helper and not os.access(helper, os.X_OK)):
        read_exactly(0, 1000)
        return creation_failed(domid)
    head = read_exactly(0, 8)
    left, digest = LENGTH.unpack(head)[0] if len(head) == 8 else 1, hashlib.sha256()
    while left and (part := os.read(0, min(left, 1 << 20))):
        digest.update(part)
        left -= len(part)
    if left:
        say("xc: error: Failed to read Record Header from stream (0 = Success): Internal error")
        return creation_failed(domid)
    (FAKE / "received").write_text(digest.hexdigest())
    if "hang" in PLAY:
        time.sleep(300)
    return handed_over(name, domid)


def creation_failed(domid: int) -> int:
    if domid:
        drop(domid)
    say("migration target: Domain creation failed (code -3).")
    return 1


def handed_over(name: str, domid: int) -> int:
    say("migration target: Transfer complete, requesting permission to start domain.")
    write_all(1, READY)
    asked = time.monotonic()
    if read_exactly(0, len(GO)) != GO:
        drop(domid)
        return 1
    (FAKE / "waited").write_text(str(time.monotonic() - asked))
    if "dies-at-the-end" in PLAY:
        drop(domid)
        return 1
    if "wait" in PLAY:
        time.sleep(3)
    if "startup-fails" in PLAY:
        write_all(1, REPORT + b"\3")
        drop(domid)
        write_all(1, GO)
        return 0
    rename(f"{name}--incoming", name, "-b----")
    say("migration target: Domain started successsfully.")
    write_all(1, REPORT + b"\0")
    return 0


def main(program: str, words: list[str]) -> int:
    if program == "helper":
        return helped(words)
    words = [x for x in words if x not in ("-t", "-v", "-vv")]
    if words[0] == "migrate-receive":
        return received()
    assert words[:3] == ["migrate", "-s", ""], words
    at = words.index("--")
    (FAKE / "migrate").write_text(json.dumps(words))
    if "no-config" in PLAY:  # before the link is there
        say("unable to retrieve domain configuration")
        return 1
    return Sender(*words[at + 1 :]).migrate()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
