"""What needs no programs: names of hosts, answers read with suspicion, what was said, where a guest is."""

from __future__ import annotations

import argparse
import os
import subprocess
import time

import pytest

from pyxcsr.cli import migrate, status
from pyxcsr.cli.show_migration import in_words, set_pace
from pyxcsr.cli.signals import CancelBySignal
from pyxcsr.errors import ProbeError, UsageError
from pyxcsr.migrate import running, verdict
from pyxcsr.migrate.facts import Domain, Facts, read_facts
from pyxcsr.migrate.route import route
from pyxcsr.migrate.running import Ended
from pyxcsr.migrate.transcript import Transcript

NO_HOSTS = ["-oProxyCommand=reboot", "a b", "a;reboot", "$(x)", "", "a\nb", "x'y", "`x`", "a|b", "ä"]


@pytest.mark.parametrize("host", NO_HOSTS)
def test_hosts_that_are_none(host: str) -> None:
    with pytest.raises(UsageError, match="is not the name or address"):
        route(host, None)


@pytest.mark.parametrize("host", ["root@10.0.0.2", "xen-2.example.org", "fe80::1%eth0", "[::1]", "a_b"])
def test_hosts(host: str) -> None:
    assert route(host, "ssh -p 22").words("true") == ["ssh", "-p", "22", host, "true"]


def test_without_ssh() -> None:
    assert route("localhost", None).local and route("localhost", "").local
    assert not route("localhost", "ssh").local
    with pytest.raises(UsageError, match="localhost only"):
        route("other", "")


# -- answers


def answer(*lines: str) -> bytes:
    return "".join(f"{x}\n" for x in ("pyxcsr-facts 1", *lines, "end")).encode("utf-8", "surrogateescape")


def test_an_answer() -> None:
    facts = read_facts("other", answer(
        "xl /usr/sbin/xl", "list Name                ID   Mem VCPUs\tState\tTime(s)",
        "list Domain-0                                     0  1000     2     r-----      12.5",
        "list a name  with 1 2 3                           7   128     1     ---ss-  123456.5",
        "info free_memory            : 1427", "info xen_major : 4", "info xen_minor : 17", "pyxcsr xen ok",
        "zstd /bin/zstd",
    ))  # fmt: skip
    domain = facts.named("a name  with 1 2 3")
    assert domain is not None and (domain.domid, domain.mib, domain.condition) == (7, 128, "suspended")
    assert (facts.release, facts.number("free_memory"), facts.xl) == ((4, 17), 1427, "/usr/sbin/xl")
    assert facts.pyxcsr == {"xen": "ok"} and facts.zstd == "/bin/zstd" and facts.helper == ""


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it answers ''"),
        (b"\033[2J\n", "it answers '\N{REPLACEMENT CHARACTER}[2J'"),
        (b"pyxcsr-facts 1\nxl /bin/xl\n", "incomplete"),
        (b"pyxcsr-facts 1\nend", "incomplete"),
        (answer("rm \033[2J"), "not understood: 'rm \N{REPLACEMENT CHARACTER}[2J'"),
        (answer("__class__ x"), "not understood"),
        (answer("domains x"), "not understood"),
        (answer("side x"), "not understood"),
        (answer(f"xl {'x' * 5000}"), "not understood"),
        (answer("xl /usr/sbin/xl\0"), "not understood"),
        (answer("list x 1 2"), "`xl list` has a line"),
        (answer("list x 99999999 1 1 ------ 1.0"), "`xl list` has a line"),
        (answer("list x 1 1 1 rm-rf/ 1.0"), "`xl list` has a line"),
        (b"pyxcsr-facts 1\n" + b"info x\n" * 200_000 + b"end\n", "longer than"),
    ],
)
def test_answers_that_are_none(data: bytes, said: str) -> None:
    with pytest.raises(ProbeError) as caught:
        read_facts("other", data)
    assert said in str(caught.value) and str(caught.value).startswith("other: ") and caught.value.side == "other"


def test_an_answer_made_to_take_long_does_not() -> None:
    began = time.monotonic()
    facts = read_facts("other", answer(*[f"list a{' ' * 4000}b 7 128 1 ------ 1.0"] * 250, "list 8 1 1 ------ 1.0"))
    assert time.monotonic() - began < 5 and facts.numbered(7) is not None
    assert (facts.domains[-1].name, facts.domains[-1].domid) == ("", 8)


def test_numbers_that_are_none() -> None:
    lines = ("info free_memory : 9999999999999999999", "info xen_major : -4", "info xen_minor : \u0664")
    facts = read_facts("other", answer(*lines))
    assert facts.number("free_memory") is None and facts.release is None


# -- what was said


def told(*lines: str, status: int = 1) -> Ended:
    said = Transcript()
    shown = said.take("".join(f"{x}\n" for x in lines).encode())
    assert shown.count("\n") == len(lines) - sum("carried" in x for x in lines)
    return Ended(status, 1.0, said, "")


BEGUN = "Saving to migration stream new xl format (info 0x3/0x0/919)"
SAVE = "libxl: error: libxl_stream_write.c:347:x: Domain 7:saving domain: domain did not respond to suspend request: "
UNPACK = "pyxcsr-relay: unpack:"
CUT = "libxl: error: libxl_utils.c:463:libxl_read_exactly: file/stream truncated"
TARGET = "migration target: Domain creation failed (code -3)."


@pytest.mark.parametrize(
    ("lines", "side"),
    [
        ((), "sender"),
        (("unable to retrieve domain configuration",), "sender"),
        (("x.cfg:7: config parsing error near `x': syntax error", "Failed to parse config: Bad"), "sender"),
        ((f"{CUT} reading banner from migration receiver stream",), "receiver"),
        (("ssh: connect", f"Bye {CUT} reading banner from migration receiver stream"), "receiver"),
        (("libxl: error: libxl_utils.c:1:x: failed to write header to migration stream: Broken pipe",), "receiver"),
        ((TARGET,), "receiver"),
        ((BEGUN, SAVE + "Invalid argument", TARGET), "sender"),
        ((BEGUN, TARGET, SAVE + "Invalid argument"), "sender"),
        ((BEGUN, TARGET, SAVE + "Broken pipe"), "receiver"),
        ((BEGUN, SAVE + "Connection reset by peer"), "receiver"),
        ((BEGUN, "pyxcsr-relay: pack: zstd ended", SAVE + "Broken pipe", TARGET), "sender"),
        ((BEGUN, f"{UNPACK} the connection was cut off", "pyxcsr-relay: pack: zstd ended", TARGET), "sender"),
        ((BEGUN, "pyxcsr-relay: pack: the connection to the other", f"{UNPACK} zstd ended"), "receiver"),
        ((BEGUN, "migration sender: Target has acknowledged transfer."), "receiver"),
        ((BEGUN,), "sender"),
    ],
)
def test_which_side_failed(lines: tuple[str, ...], side: str) -> None:
    assert verdict.side_of(told(*lines)) == side


def test_what_is_printed_does_not_steer_the_terminal() -> None:
    said = Transcript()
    shown = said.take(b"live: 1/2  50%\rlive: 2/2 100%\r\nbad \033]0;x\007\n" + b"y" * 5000 + b"\xff")
    assert shown.startswith("live: 1/2  50%\rlive: 2/2 100%\r\nbad \ufffd]0;x\ufffd\n")
    assert "\033" not in shown and said.end() == ""
    assert [x[:3] for x in said.lines] == ["bad", "yyy"]  # progress is not kept, and no line is longer than it may be


@pytest.mark.parametrize("before", ["", "Welcome! ", "restoring: 7/9  77%", "\rrestoring: 7/9  77%", "y" * 9000])
def test_a_stage_is_seen_wherever_it_stands(before: str) -> None:
    """The other end prints to the same place, and its progress on a terminal has no end of line."""
    said = Transcript()
    said.take(before.encode())
    assert not said.begun and not said.received
    said.take(f"{BEGUN}\n{before}".encode())
    assert said.begun and not said.received
    said.take(b"migration sender: Target has acknowledged transfer.\n")
    assert said.received


def test_a_line_made_to_take_long_does_not() -> None:
    began = time.monotonic()
    said = told("libxl: error: libxl_stream_write" * 1000 + "saving domain: : " * 2000 + ":", SAVE + "Broken pipe")
    assert said.transcript.save_error == "Broken pipe" and time.monotonic() - began < 5


def test_one_who_goes_on_talking_is_not_waited_for() -> None:
    """xl stands still meanwhile, and so does the guest."""
    words = ["sh", "-c", "yes noise & exec sleep 60"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as xl:
        run = running._Run(xl, lambda text: None)
        run.listen(10)
        run.transcript.begun, run._since = True, 0.0
        run.cancel()
        assert run.cancelled == running.CLOSED
        xl.kill()


def test_one_that_ends_just_when_it_is_hung_up() -> None:
    """Where the guest is then has to be asked, as after any end of xl's."""
    with subprocess.Popen(["true"], stdout=subprocess.PIPE) as xl:
        os.waitid(os.P_PID, xl.pid, os.WEXITED | os.WNOWAIT)
        run = running._Run(xl, lambda text: None)
        run.transcript.begun, run._since = True, 0.0
        run.cancel()
        assert run.cancelled == "" and xl.returncode == 0


def test_figures() -> None:
    figures = told("pyxcsr-relay: carried 100 50 1.000 0.500 0.250").transcript.figures
    assert figures is not None and str(figures) == "100 50 1.000 0.500 0.250" and set_pace(figures) == "zstd"
    assert in_words(figures) == ["zstd: 0.0 MiB went over the link as 0.0 MiB (50 %)"]
    figures.nr_in = figures.nr_out = 400 << 20
    assert "zstd slowed the migration down: it took 400 MiB/s, and the link waited for it" in in_words(figures)[1]
    figures.link_seconds = 1.5
    assert set_pace(figures) == "link" and len(in_words(figures)) == 1
    figures.source_seconds = 2
    assert set_pace(figures) == "stream" and len(in_words(figures)) == 1
    for wrong in ("1 2 3 4 5", "1 2 1.000 1.000", f"{10**20} 1 1.000 1.000 1.000", "-1 1 1.000 1.000 1.000"):
        assert told(f"pyxcsr-relay: carried {wrong}").transcript.figures is None


# -- where it is


def ends(side: str, *domains: tuple[str, int, str]) -> Facts:
    facts = Facts(side)
    facts.domains = [Domain(name, domid, 128, 1, state) for name, domid, state in domains]
    return facts


RUNS, PAUSED, SUSPENDED = "-b----", "--p---", "---ss-"
GUEST = Domain("g", 5, 128, 1, RUNS)


@pytest.mark.parametrize(
    ("here", "there", "where", "said"),
    [
        ([("g", 5, RUNS)], [], "here", "it runs here (id 5)"),
        ([("g", 5, RUNS)], None, "here", "could not be asked (why)"),
        ([("g", 5, RUNS)], [("g--incoming", 3, PAUSED)], "here", "half-built copy is left at the other end (id 3)"),
        ([("g", 5, RUNS)], [("g", 3, RUNS)], "both", "two must not run"),
        ([("g", 5, RUNS)], [("g", 3, PAUSED)], "both", "two must not run"),
        ([("g", 5, RUNS)], [("g--incoming", 3, RUNS)], "both", "two must not run"),
        ([("g", 5, SUSPENDED)], [("g", 3, RUNS)], "unknown", "here it is suspended, as 'g'; at the other end it"),
        ([("g", 5, PAUSED)], [("g", 3, RUNS)], "unknown", "let at most one copy go on"),
        ([("g", 5, "---s-d")], [("g", 3, RUNS)], "there", "it runs there (id 3)"),
        ([], [("g", 3, RUNS)], "there", "it runs there (id 3)"),
        ([("g--migratedaway", 5, SUSPENDED)], [("g", 3, RUNS)], "there", "a copy of it is left here (g--migratedaway"),
        ([("other", 5, RUNS)], [("g", 3, RUNS)], "there", "it runs there (id 3)"),
        ([("g", 5, SUSPENDED)], [], "nowhere", "pyxcsr recover --resume 5"),
        ([("g--migratedaway", 5, RUNS)], [("g", 3, RUNS)], "both", "two must not run"),
        ([("g--migratedaway", 5, RUNS)], [("g--incoming", 3, RUNS)], "both", "two must not run"),
        ([("g--migratedaway", 5, RUNS)], [], "nowhere", "here it is running, as 'g--migratedaway'"),
        ([("g--migratedaway", 5, SUSPENDED)], None, "unknown", "let at most one copy go on"),
        ([], None, "unknown", "it is gone here; the other end could not be asked (why)"),
        ([("g", 9, RUNS)], [], "nowhere", "it is gone here, but one of its name was started anew (id 9)"),
        ([], [("g", 3, PAUSED)], "nowhere", "at the other end it is paused"),
        (None, [("g", 3, RUNS)], "unknown", "it is not known where it runs: why"),
    ],
)  # fmt: skip
def test_where_it_runs(
    here: list[tuple[str, int, str]] | None, there: list[tuple[str, int, str]] | None, where: str, said: str
) -> None:
    place = verdict.locate(
        GUEST, False, None if here is None else ends("here", *here), None if there is None else ends("x", *there), "why"
    )
    assert place.where == where and said in place.text


@pytest.mark.parametrize(("received", "found"), [(False, migrate.LOOK_AT_BOTH), (True, status.DONE)])
def test_a_guest_that_has_rebooted_on_one_machine_is_not_its_copy(
    monkeypatch: pytest.MonkeyPatch, received: bool, found: int
) -> None:
    """xl has failed, and had not heard that the other end has the guest."""
    after = ends("here", ("g", 9, RUNS))
    monkeypatch.setattr(verdict, "settled", lambda ask, name: (after, ""))
    args = argparse.Namespace(quiet=True, json=False, progress=False)
    ended = told("xl: migrating")
    ended.transcript.received = received
    assert migrate._judged(args, route("localhost", None), GUEST, {0, 5}, ended, CancelBySignal()) == found


def test_where_it_runs_on_one_machine() -> None:
    one = ends("here", ("g", 5, RUNS))
    assert verdict.locate(GUEST, True, one, one, "").where == "here"
    two = ends("here", ("g", 9, RUNS))
    place = verdict.locate(GUEST, True, two, two, "")
    assert (place.where, place.domid) == ("there", 9)
