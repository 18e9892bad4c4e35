"""`pyxcsr plot`: pictures of what the commands have printed, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Optional

import pytest

from pyxcsr.cli import from_events, main

MAGIC = {".png": b"\x89PNG\r\n", ".svg": b"<?xml"}


def printed(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command prints with --json on the stub."""
    assert main.main([words[0], "--backend", "stub", *words[1:], "--json"]) == 0
    return capfd.readouterr().out


def plot(*words: object) -> int:
    return main.main(["plot", *map(str, words)])


@pytest.mark.parametrize("suffix", [".png", ".svg"])
@pytest.mark.parametrize("how", ["--live", "--no-live"])
def test_a_save(capfd: pytest.CaptureFixture[str], tmp_path: Path, suffix: str, how: str) -> None:
    pytest.importorskip("matplotlib")
    report, picture = tmp_path / "report.json", tmp_path / f"out{suffix}"
    report.write_text(printed(capfd, "save", "pv64:mem=4M", str(tmp_path / "s"), how, "--quiet"))
    assert plot(report, picture) == 0
    assert picture.read_bytes().startswith(MAGIC[suffix]) and picture.stat().st_size > 5000
    assert picture.stat().st_mode & 0o777 == 0o644
    assert sorted(x.name for x in tmp_path.iterdir()) == sorted(["report.json", picture.name, "s"])


def test_events(tmp_path: Path) -> None:
    """Of the last save in a file that several have been appended to; also of one that has not ended."""
    pytest.importorskip("matplotlib")
    events = tmp_path / "events"
    for number in range(2):
        words = ["--backend", "stub", "--quiet", "--events", str(events), "pv64:mem=4M", str(tmp_path / str(number))]
        assert main.main(["save", *words]) == 0
    assert plot(events, tmp_path / "whole.svg") == 0
    whole = (tmp_path / "whole.svg").read_text()
    lines = events.read_bytes().splitlines(keepends=True)
    last = json.loads(lines[-1])["domid"]
    assert "predicted" in whole and "real" in whole and f"live save of domain {last}:" in whole
    assert len([x for x in lines if b'"begin"' in x]) == 2
    passes = len(from_events.report_of(events_of(events))["passes"])
    assert passes < len([x for x in lines if b'"event": "pass"' in x])
    at = max(i for i, x in enumerate(lines) if b'"event": "pass"' in x)
    (tmp_path / "running").write_bytes(b"".join(lines[: at + 1]) + lines[-1][:9])
    assert plot(tmp_path / "running", tmp_path / "running.svg") == 0
    (tmp_path / "garbled").write_bytes(b"".join(lines[:at]) + b"x\n" + lines[at])
    assert plot(tmp_path / "garbled", tmp_path / "garbled.svg") == 2


def events_of(path: Path) -> list[dict[str, Any]]:
    found = from_events.events_in(path.read_bytes())
    assert found is not None
    return found


def told(event: str, domid: int, pid: int, guest: str, **more: Any) -> str:
    return json.dumps({"pyxcsr": 1, "event": event, "domid": domid, "pid": pid, "guest": guest, **more}) + "\n"


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two guests that are saved at the same time, one of them for the second time, all into one file."""
    a, b = (1, 100, "db1"), (2, 200, "db2")
    lines = [
        told("begin", 1, 99, "db1"), told("pass", 1, 99, "db1", **one_pass(pages=1)), told("end", 1, 99, "db1"),
        told("begin", *a), told("begin", *b), told("pass", *a, **one_pass(pages=2)),
        told("pass", *b, **one_pass(pages=3)), told("pass", *a, **one_pass(pages=4)),
        told("pass", *b, **one_pass(pages=5)), told("end", *a, bytes=7), told("end", *b, bytes=8),
    ]  # fmt: skip
    (tmp_path / "mixed").write_text("".join(lines))
    return tmp_path / "mixed"


@pytest.mark.parametrize(
    ("guest", "pages", "nr_bytes"), [(None, [3, 5], 8), ("db1", [2, 4], 7), ("1", [2, 4], 7), ("db2", [3, 5], 8)]
)
def test_events_of_several_guests(mixed: Path, guest: Optional[str], pages: list[int], nr_bytes: int) -> None:
    """A picture is of one save, whatever others tell at the same time."""
    report = from_events.report_of(events_of(mixed), guest)
    assert [x["pages"] for x in report["passes"]] == pages and report["bytes"] == nr_bytes
    assert report["domid"] == (1 if guest in ("db1", "1") else 2)


def test_the_guest_is_chosen(capfd: pytest.CaptureFixture[str], mixed: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for guest, domid in ("db1", 1), ("2", 2):
        assert plot(mixed, tmp_path / f"{guest}.svg", "--guest", guest) == 0
        assert f"save of domain {domid}:" in (tmp_path / f"{guest}.svg").read_text()
    assert plot(mixed, tmp_path / "x.svg", "--guest", "db3") == 2
    assert f"{mixed}: there is no save of guest 'db3' in it" in capfd.readouterr().err
    (tmp_path / "report").write_text(json.dumps({"passes": [one_pass()]}))
    assert plot(tmp_path / "report", tmp_path / "x.svg", "--guest", "db1") == 2
    assert "--guest chooses among the saves in a file of events" in capfd.readouterr().err


@pytest.mark.parametrize("ends", [True, False])
def test_the_last_save_has_no_pass(
    capfd: pytest.CaptureFixture[str], mixed: Path, tmp_path: Path, ends: bool
) -> None:
    """That is said, and no other save is drawn in its place."""
    with open(mixed, "a") as events:
        events.write(told("begin", 3, 300, "db3") + (told("end", 3, 300, "db3") if ends else ""))
    assert plot(mixed, tmp_path / "x.svg") == 2 and not (tmp_path / "x.svg").exists()
    what = "ended before its first pass was over" if ends else "has not come to the end of its first pass"
    assert f"the last save in it, of domain 3, {what}; --guest chooses" in capfd.readouterr().err


def test_a_dirty_rate(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Also without ranges, which it can be drawn without."""
    pytest.importorskip("matplotlib")
    found = json.loads(printed(capfd, "dirty-rate", "pvh:mem=4M", "--seconds", "0.3"))
    report = tmp_path / "rate.json"
    for kept in (found, {k: v for k, v in found.items() if k in ("windows", "ok")}):
        report.write_text(json.dumps(kept))
        assert plot(report, tmp_path / "out.svg", "--force") == 0
    assert (tmp_path / "out.svg").read_bytes().startswith(MAGIC[".svg"])


def one_pass(**other: Any) -> dict[str, Any]:
    return {"iteration": 0, "suspended": False, "dirty": 9, "pages": 9, "bytes": 4096, "seconds": 0.1, **other}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is no report"),
        ("[1, 2]", "is no report"),
        ('{"ok": false, "error": {}}', "failed"),
        ('{"ok": true}', "neither passes nor windows"),
        ('{"passes": []}', "neither"),
        (json.dumps({"passes": [one_pass(seconds=-1)]}), "neither"),
        (json.dumps({"passes": [one_pass(bytes="4K")]}), "neither"),
        (json.dumps({"passes": [one_pass(pages=float("inf"))]}), "neither"),
        (json.dumps({"windows": [{"seconds": 1.0}]}), "neither"),
        (json.dumps({"passes": [one_pass()], "bytes": "many"}), "bytes cannot be"),
        (json.dumps({"passes": [one_pass()], "bytes": 10**400}), "bytes cannot be"),
        (json.dumps({"passes": [one_pass(seconds=1e308)] * 2}), "neither"),
        (json.dumps({"passes": [one_pass()], "ranges": [1, None]}), "ranges cannot be"),
        (json.dumps({"passes": [one_pass(predicted_pause="1s")]}), "predicted_pause cannot be"),
        *(
            (json.dumps({"windows": [{"seconds": 1.0, "pages": 1, "most": 1}], "passes": x}), "passes cannot be")
            for x in (5, True, ["a"], "ab", {"a": 1}, [one_pass(), {}], [one_pass(seconds=None)])
        ),
        ('{"pyxcsr": 1, "event": "begin"}\n{"pyxcsr": 1, "event": "end"}\n', "there is no save in it"),
    ],
)
def test_what_is_no_report(capfd: pytest.CaptureFixture[str], tmp_path: Path, text: str, why: str) -> None:
    report = tmp_path / "r.json"
    report.write_text(text)
    assert plot(report, tmp_path / "out.svg") == 2
    assert why in capfd.readouterr().err and not (tmp_path / "out.svg").exists()


def test_names(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    report.write_text(json.dumps({"passes": [one_pass()]}))
    assert plot(report, tmp_path / "out.pdf") == 2 and ".svg or .png" in capfd.readouterr().err
    (tmp_path / "out.svg").touch()
    assert plot(report, tmp_path / "out.svg") == 2 and "--force" in capfd.readouterr().err
    assert plot(tmp_path / "none.json", tmp_path / "new.svg") == 1
    assert not list(tmp_path.glob(".*")) and not (tmp_path / "new.svg").exists()


def test_without_matplotlib(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "r.json"
    report.write_text(json.dumps({"passes": [one_pass()]}))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "pyxcsr.cli.picture", raising=False)
    assert plot(report, tmp_path / "out.svg") == 2
    assert "pyxcsr[plot]" in capfd.readouterr().err and not (tmp_path / "out.svg").exists()
