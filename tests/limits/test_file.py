"""The settings file: what it says of whom, and every way in which it can be wrong, with the line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

import pytest

import pyxcsr
from pyxcsr.limits.file import parse_settings, read_settings_file
from pyxcsr.limits.sources import Sources

GOOD = b"""\
# for all
[guests]
max_downtime = 300ms   # as agreed
bandwidth=500M

; the database may take longer
[guest db 1]
max-downtime = 2s
Timeout = 10m
on_timeout = suspend

[guest web#2]
bandwidth = none
"""


def test_for_whom() -> None:
    settings = parse_settings("FILE", GOOD)
    assert settings.names_guests
    for name in (None, "other", "db", "guests"):
        assert settings.for_guest(name).values == {"max_downtime": 0.3, "bandwidth": 500 << 20}
    limits = settings.for_guest("db 1").limits()
    assert (limits.max_downtime, limits.timeout, limits.bandwidth) == (2.0, 600.0, 500 << 20)
    assert not limits.aborts_at_timeout
    assert settings.for_guest("web#2").limits().bandwidth is None
    assert settings.for_guest("db 1").where["timeout"] == "FILE, line 9"


@pytest.mark.parametrize("text", [b"", b"\n# nothing\n", b"[guests]\n", b"[guests]\r\ntimeout = 1s\r\n"])
def test_little_is_enough(text: bytes) -> None:
    assert not parse_settings("FILE", text).names_guests


@pytest.mark.parametrize(
    ("header", "guest"),
    [
        (b"[guests]\t# see [1]", None), (b"[guests] # see [1]", None), (b"[guests] # a ] b [", None),
        (b"[guests] ; here", None),
        (b"[guest a]\t# [1]", "a"), (b"[guest a]b] # x", "a]b"), (b"[guest a]\t# x # ]", "a"), (b"[guest a#1]", "a#1"),
        (b"\xef\xbb\xbf[guests]", None), (b"  [guest a]", "a"), (b"[guest [a]]", "[a]"),
    ],
)  # fmt: skip
def test_headers(header: bytes, guest: Optional[str]) -> None:
    given = parse_settings("FILE", header + b"\ntimeout = 5m\n").for_guest(guest)
    assert given.values == {"timeout": 300.0} and given.where == {"timeout": "FILE, line 2"}
    with pytest.raises(pyxcsr.UsageError, match=r"^FILE, line 3: there is no setting 'speed'"):
        parse_settings("FILE", b"# here\n" + header.lstrip(b"\xef\xbb\xbf") + b"\nspeed = 5m\n")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"[control]\nrun_dir = /a\n  [guest a]\nspeed = 1\n", 4),
        (b"[control]\nrun_dir = /a\n  b = c\nspeed = 1\n", 4),
        (b"[guests]\ntimeout = 1m # x\n; y\n\n[guest a]\t#]\nspeed = 1\n", 6),
    ],
)
def test_lines_that_belong_to_the_one_before(text: bytes, line: int) -> None:
    """Whatever they look like, the lines of the others are told right."""
    with pytest.raises(pyxcsr.UsageError, match=rf"^FILE, line {line}: there is no setting 'speed'"):
        parse_settings("FILE", text)


def test_a_guests_section_lifts_a_limit_of_all() -> None:
    text = b"""[guests]
timeout = 10m
on_timeout = suspend
bandwidth = 1M
bandwidth_while_paused = yes
[guest a]
timeout = none
[guest b]
bandwidth = none
"""
    settings = parse_settings("FILE", text)
    assert settings.for_guest("a").limits().timeout is None and settings.for_guest("a").limits().bandwidth == 1 << 20
    assert settings.for_guest("b").limits().bandwidth is None and settings.for_guest("b").limits().timeout == 600.0


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        (b"max_downtime = 1s\n", 1, "ahead of the first section"),
        (b"[guests]\nmax_downtime\n", 2, "neither"),
        (b"[guests]\n\n# x\nmax_downtime: 1s\n", 4, "neither"),
        (b"[guests]\nmax_downtime = 1x\n", 2, "max_downtime is '1x'.*unknown unit"),
        (b"[guests]\nmax_downtime = 1\n", 2, "no unit"),
        (b"[guests]\nmax_downtime = 1s\nmax_down = 1s\n", 3, "there is no setting 'max_down'"),
        (b"[guests]\nmax_downtime = 1s\n\nmax-downtime = 2s\n", 4, "'max_downtime' stands twice"),
        (b"[guest a]\nthrottle = yes\n[guest  a]\n", 3, "the section of the guest 'a' stands twice"),
        (b"[guests]\n[guest a]\n[guests]\n", 3, r"\[guests\] stands twice"),
        (b"[guest a]\ntimeout = 1s\n[guest]\n", 3, r"no section \[guest\]"),
        (b"[guest ]\n", 1, "no section"),
        (b"# x\n[guests] max_downtime = 300ms\n", 2, "a line of its own"),
        (b"[guests]\n[guest a] timeout = 1m\nthrottle = yes\n", 2, "a line of its own"),
        (b"[Guests]\n", 1, "no section"),
        (b"[DEFAULT]\n", 1, "no section"),
        (b"[guests]\ntimeout = 1s\n   2s\n", 2, "timeout is"),
        (b"[guests]\ntimeout =\n", 2, "timeout is ''"),
        (b"[guests]\ntimeout = 1s\nx = \xff\n", 3, "UTF-8"),
        (b"\xef\xbb\xbf\n\n\xff\n", 3, "UTF-8"),
        (b"[guests]\ntimeout = 1\0s\n", 2, "timeout is"),
        (b"[guest a\nb]\ntimeout = 1s\n", 1, "neither|ahead"),
        (b"[guests]\npolicy = %(home)s\n", 2, "policy is"),
        (b"[control]\n\nevents = 7\n", 3, "events is '7': give a file's path that begins with /, or 2 for standard"),
        (b"[control]\nevents = here/events\n", 2, "events is 'here/events'"),
        (b"[control]\nevents =\n", 2, "events is ''"),
        (b"[control]\nevents = none\n", 2, "events is 'none'"),
        (b"[control]\nrun_dir = relative/dir\n", 2, "run_dir is 'relative/dir': give a path that begins"),
        (b"[guests]\n[control]\nrun_dir =\n", 3, "run_dir is ''"),
    ],
)
def test_what_is_wrong(text: bytes, line: int, why: str) -> None:
    with pytest.raises(pyxcsr.UsageError, match=rf"^FILE, line {line}: .*({why})"):
        parse_settings("FILE", text)


@pytest.mark.parametrize(
    "words", [{"run_dir": "/run/x", "events": "/var/log/x"}, {"run_dir": "none", "events": "2"}]
)  # fmt: skip
def test_how_saves_are_seen(words: dict[str, str]) -> None:
    text = "\n".join(f"{x} = {y}" for x, y in words.items())
    assert parse_settings("FILE", f"[control]\n{text}\n".encode()).control == words


def test_a_variable_that_can_be_no_folder() -> None:
    with pytest.raises(pyxcsr.UsageError, match="PYXCSR_RUN_DIR is 'run': give a path that begins with /"):
        Sources({"PYXCSR_RUN_DIR": "run"})
    for name in "/run/x", "none", "":
        assert Sources({"PYXCSR_RUN_DIR": name}).control == ({"run_dir": name} if name else {})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"[guests]\non_timeout = abort\n", "no timeout.*on_timeout: FILE, line 2"),
        (b"[guests]\nmax_downtime = 2s\n[guest a]\ntimeout = 1s\n", "max_downtime: FILE, line 2.*timeout: .*line 4"),
        (b"[guests]\nmax_downtime = 2s\n[guest a]\npolicy = libxc\n", "max_downtime: FILE, line 2"),
    ],
)
def test_contradictions_are_found_whichever_guest_is_saved(text: bytes, why: str) -> None:
    with pytest.raises(pyxcsr.UsageError, match=why):
        parse_settings("FILE", text)


def test_which_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.conf"
    path.write_bytes(GOOD)
    assert read_settings_file({"PYXCSR_CONFIG": str(path)}).names_guests
    monkeypatch.setattr("pyxcsr.limits.file.DEFAULT_PATH", str(path))
    assert read_settings_file({}).names_guests and read_settings_file({"PYXCSR_CONFIG": ""}).names_guests
    monkeypatch.setattr("pyxcsr.limits.file.DEFAULT_PATH", str(tmp_path / "none.conf"))
    assert read_settings_file({}).for_guest("a").values == {}


def test_files_that_cannot_be_had(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"#" * (2 << 20))
    for name, why in {"none": "there is no settings file", ".": "cannot be read.*directory", "large": "larger"}.items():
        with pytest.raises(pyxcsr.UsageError, match=f"{why}"):
            read_settings_file({"PYXCSR_CONFIG": str(tmp_path / name)})
    if os.geteuid():
        (tmp_path / "shut").touch(mode=0)
        with pytest.raises(pyxcsr.UsageError, match="cannot be read"):
            read_settings_file({"PYXCSR_CONFIG": str(tmp_path / "shut")})


# -- all places together


def sources(tmp_path: Path, **environ: str) -> Sources:
    path = tmp_path / "x.conf"
    path.write_bytes(GOOD)
    return Sources({"PYXCSR_CONFIG": str(path), **environ})


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    given = sources(tmp_path, PYXCSR_BANDWIDTH="1G").for_guest(lambda: b"db 1", True, pytest.fail)
    assert (given.limits().bandwidth, given.limits().max_downtime) == (1 << 30, 2.0)


def test_a_name_that_cannot_be_read(tmp_path: Path) -> None:
    def fail() -> bytes:
        raise pyxcsr.HypervisorError("no xenstore", op="xs_read", errno=5)

    said: list[str] = []
    assert sources(tmp_path).for_guest(fail, True, said.append).limits().max_downtime == 0.3
    assert len(said) == 1 and "x.conf" in said[0] and "no xenstore" in said[0]
    assert sources(tmp_path).for_guest(lambda: None, True, pytest.fail).limits().timeout is None


def test_the_name_is_not_asked_for_without_need() -> None:
    Sources({}).for_guest(lambda: pytest.fail("asked"), True, pytest.fail)
