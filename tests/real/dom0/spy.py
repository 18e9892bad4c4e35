#!/usr/bin/env python3
"""Stands between xl and a save helper, relays every message and notes when they passed.

LIBXL_SAVE_HELPER names this program; SPY_HELPER the helper to run, SPY_OUT the file that
gets a JSON object: seconds in all, to the first message, from the first that tells of pages or
asks to suspend to `complete`, to suspend, from suspend's answer to `complete`, and from there to
the helper's end; its processor time; bytes written; passes told of. The restore side is run
without a look.
"""
import json
import os
import resource
import struct
import subprocess
import sys
import time

HEAD = struct.Struct("=HH")             # length of what follows the first field, number
PROGRESS, SUSPEND, COMPLETE = 2, 3, 10
ANSWERED = {3, 4, 5, 6, 7, 8, 10}


def exactly(f, n):
    data = f.read(n)
    if len(data) != n:
        raise EOFError
    return data


def nr_bytes(pid):
    """What the process wrote so far."""
    with open(f"/proc/{pid}/io") as f:
        return int(dict(line.split(": ") for line in f)["wchar"])


def doing_what(body):
    """A progress message's second string."""
    (n,) = struct.unpack_from("=I", body)
    (m,) = struct.unpack_from("=I", body, 4 + n)
    return body[8 + n:8 + n + m].rstrip(b"\0").decode()


def relay(child):
    """Relays until `complete`; returns the times of what passed, bytes and kinds of progress."""
    t = {"doing": set()}
    while COMPLETE not in t:
        length, number = HEAD.unpack(exactly(child.stdout, HEAD.size))
        body = exactly(child.stdout, length + 2 - HEAD.size)
        t[number] = time.monotonic()
        t.setdefault("first", t[number])
        if number in (PROGRESS, SUSPEND):
            t.setdefault("at work", t[number])
        if number == PROGRESS:
            t["doing"].add(doing_what(body))
        if number == COMPLETE:
            t["bytes"] = nr_bytes(child.pid)
        os.write(1, HEAD.pack(length, number) + body)
        if number in ANSWERED:
            answer = os.read(0, 4)
            t["suspended"] = time.monotonic() if number == SUSPEND else t.get("suspended")
            child.stdin.write(answer)
            child.stdin.flush()
    return t


helper = os.environ["SPY_HELPER"]
if sys.argv[1] != "--save-domain":
    os.execv(helper, [helper, *sys.argv[1:]])
for n in sys.argv[2:4]:
    if int(n) >= 0:
        os.set_inheritable(int(n), True)
started = time.monotonic()
child = subprocess.Popen([helper, *sys.argv[1:]], close_fds=False, stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE)
times = relay(child)
status = child.wait()
ended = time.monotonic()
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(os.environ["SPY_OUT"], "w") as out:
    json.dump({"seconds": times[COMPLETE] - started, "to_start": times["first"] - started,
               "working": times[COMPLETE] - times["at work"],
               "suspending": times["suspended"] - times[SUSPEND],
               "paused": times[COMPLETE] - times["suspended"], "to_exit": ended - times[COMPLETE],
               "cpu": used.ru_utime + used.ru_stime, "bytes": times["bytes"],
               "passes": sum("rames" in text or "pass" in text for text in times["doing"]),
               "doing": sorted(times["doing"])}, out)
sys.exit(status)
