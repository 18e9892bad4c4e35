"""Asking an end, by one command: a shell script goes there, and lines come back. It changes nothing."""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import time
from contextlib import suppress
from typing import Callable, Optional

from pyxcsr.errors import ProbeError
from pyxcsr.migrate.facts import FIRST, LARGEST, LAST, Facts, plain, read_facts
from pyxcsr.migrate.route import Route
from pyxcsr.programs import FOLDERS

SECONDS = 120.0
"""For an answer: somebody may have to type a password."""

SLOW = 5.0
"""Seconds without an answer after which it is said what is waited for."""

CONF = "/etc/xen/xl.conf"

Told = Callable[[str], None]
"""Gets what there is to say while an answer is waited for."""

SCRIPT = f"""\
told() {{ {{ cat; echo; }} | sed -e '${{/^$/d;}}' -e "s|^|$1 |"; }}
ask() {{
    LC_ALL=C; export LC_ALL
    PATH=$PATH:{FOLDERS}; export PATH
    echo '{FIRST}'
    if xl=$(command -v xl); then
        echo "xl $xl"
        if list=$("$xl" list 2>/dev/null); then printf '%s\\n' "$list" | told list
        else "$xl" list 2>&1 | head -n 1 | told failed; fi
        [ "$1" = all ] || {{ echo '{LAST}'; return; }}
        "$xl" info 2>/dev/null | told info
    fi
    helper=${{2:-$(command -v pyxcsr-save-helper)}}
    if [ -f "$helper" ] && [ -x "$helper" ]; then
        echo "helper $helper"
        relay=$(dirname "$(readlink -f "$helper")")/pyxcsr-relay
        if [ -x "$relay" ]; then echo "relay $relay"; "$relay" facts 2>&1 | told pyxcsr; fi
    fi
    if zstd=$(command -v zstd); then echo "zstd $zstd"; fi
    {{ cat {CONF} 2>/dev/null; echo; }} | sed -n 's|^[[:space:]]*autoballoon[[:space:]]*=[[:space:]]*|autoballoon |p'
    echo '{LAST}'
}}
ask "$@" </dev/null
exit 0
"""
"""A function, so that nothing runs of a script that arrives cut off; and a shell that reads its script from standard
input must not find it read by others. The last line of what others say may lack its end: then it is given one, so that
it does not run into the next line."""


def _nothing(text: str) -> None:
    pass


def facts_of(way: Route, helper: Optional[str], told: Told = _nothing) -> Facts:
    """All that the checks need. ``helper``: its path there; None: the one that is found. Raises ProbeError."""
    return _asked(way, "all", helper or "", SECONDS, told)


def domains_of(way: Route, seconds: float = SECONDS, told: Told = _nothing) -> Facts:
    """The domains alone. ``seconds``: for an answer. Raises ProbeError, also if xl there cannot list them."""
    facts = _asked(way, "list", "", seconds, told)
    if not facts.xl or facts.failed:
        why = plain(facts.failed) or "there is no xl"
        raise ProbeError(f"{facts.side}: xl lists no domains: {why}", side=facts.side)
    return facts


def _asked(way: Route, what: str, helper: str, seconds: float, told: Told) -> Facts:
    side = "here" if way.local else way.host
    words = way.words(shlex.join(["sh", "-s", what, helper]))
    try:
        asked = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
    except OSError as error:
        raise ProbeError(f"{side}: {words[0]} cannot be started: {error.strerror}", side=side) from None
    try:
        began = time.monotonic()
        waiting = f"{side} has been asked for its domains and does not answer yet: it has {seconds:.0f} s"
        data, said = _heard(asked, began + seconds, began + SLOW, lambda: told(waiting))
        if not _ends(asked):
            raise ProbeError(f"{side}: no answer within {seconds:.0f} s, or one without end", side=side)
    finally:
        asked.kill()
        asked.wait()
        for pipe in (asked.stdin, asked.stdout, asked.stderr):
            assert pipe is not None
            pipe.close()
    if asked.returncode:
        text = plain(" ".join(said.decode("utf-8", "replace").split())[-400:])
        why = f"{words[0]} ended with status {asked.returncode}: {text}"
        raise ProbeError(f"{side}: it could not be asked: {why}", side=side)
    return read_facts(side, data)


def _ends(asked: subprocess.Popen[bytes]) -> bool:
    """Whether it ends by itself, once it has closed its outputs."""
    try:
        asked.wait(1)
    except subprocess.TimeoutExpired:
        return False
    return True


def _heard(
    asked: subprocess.Popen[bytes], until: float, slow_at: float, is_slow: Callable[[], None]
) -> tuple[bytes, bytes]:
    """What is printed, no more of it than an answer may be long, and no longer than until then. ``is_slow`` is called
    once, at ``slow_at``, if it takes so long."""
    assert asked.stdin is not None and asked.stdout is not None and asked.stderr is not None
    with suppress(BrokenPipeError):
        asked.stdin.write(SCRIPT.encode())  # a pipe takes all of it at once
        asked.stdin.close()
    heard = {asked.stdout.fileno(): bytearray(), asked.stderr.fileno(): bytearray()}
    poll = select.poll()
    for fd in heard:
        poll.register(fd, select.POLLIN)
    left = set(heard)
    while left and time.monotonic() < until and all(len(x) <= LARGEST for x in heard.values()):
        if time.monotonic() >= slow_at:
            slow_at = until
            is_slow()
        ready = poll.poll(100)
        for fd, _ in ready:
            data = os.read(fd, 1 << 16)
            heard[fd] += data
            if not data:
                poll.unregister(fd)
                left.discard(fd)
        # what ssh has left behind, such as the master of its connections, may keep its stderr open for ever
        if not ready and asked.stdout.fileno() not in left and asked.poll() is not None:
            break
    out, err = heard.values()
    return bytes(out), bytes(err)
