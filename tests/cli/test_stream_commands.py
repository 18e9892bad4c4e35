"""``pyxcsr verify`` and ``pyxcsr inspect`` as programs: what they print and how they exit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from stream.rules.cases import set_page
from support import containers as c
from support import streams as build

from pyxcsr.frames import PageType
from pyxcsr.stream.format import DomainType

PV = build.assemble(build.pv64())
COMMANDS = ("verify", "inspect")


def run(command: str, *words: str, data: bytes | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the command, through the same door as a user."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from pyxcsr.cli.main import main; sys.exit(main())",
            command,
            *words,
        ],
        input=b"" if data is None else data,
        capture_output=True,
        check=False,
        timeout=120,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    path = tmp_path / "guest.stream"
    path.write_bytes(PV)
    return path


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A stream with 300 bad page table entries."""
    records = build.pv64()
    set_page(records, build.L1, PageType.L1TAB, build.table({at: build.pte(build.HOLE) for at in range(300)}))
    path = tmp_path / "broken.stream"
    path.write_bytes(build.assemble(records))
    return path


def test_verify_ok(stream: Path) -> None:
    done = run("verify", str(stream))
    assert done.returncode == 0, done.stderr
    assert "ok; PV guest, version 3, 20 records" in done.stdout
    assert "24 of 24 pfns sent" in done.stdout
    assert done.stderr == ""


def test_verify_complaints(broken: Path) -> None:
    done = run("verify", str(broken))
    said, unchecked = done.stdout.split("not checked:")
    assert done.returncode == 1 and "checksum" in unchecked
    lines = said.splitlines()
    assert len(lines) == 52
    assert lines[0].startswith(
        "offset 0x1a1d8 PAGE_DATA: page table pfn 0x4 level 1 slot 0 refers to pfn 0x8"
    )
    assert lines[-2] == "... and 250 more complaints"
    assert "300 complaints" in lines[-1]


@pytest.mark.parametrize("depth", [65, 500, 900, 5000])
def test_a_configuration_of_many_levels(tmp_path: Path, depth: int) -> None:
    """Of such depth that the parser takes it, and what copies or writes it does not, or that neither does."""
    path = tmp_path / "deep.xl"
    text = c.text_of(c.config()).rstrip()[:-1] + b', "x": ' + b"[" * depth + b"]" * depth + b"}\0"
    path.write_bytes(c.xl(text=text))
    for words in (("verify",), ("verify", "--json"), ("inspect",), ("inspect", "--json")):
        done = run(*words, str(path))
        assert done.returncode == 1 - (words[0] == "inspect"), done.stderr
        if words[0] == "verify":
            assert "nested too deeply" in done.stdout and "xl-config-json" in done.stdout
    done = run("convert", "--to", "xl", "--config", str(path), str(path), str(tmp_path / "out"))
    assert done.returncode == 2 and "nested too deeply" in done.stderr


def test_verify_max_complaints(broken: Path) -> None:
    for limit, lines in (("0", 2), ("300", 301)):
        said = run("verify", "--max-complaints", limit, str(broken)).stdout.split("not checked:")[0]
        assert len(said.splitlines()) == lines
    done = run("verify", "--max-complaints", "-1", str(broken))
    assert done.returncode == 2
    assert "must not be negative" in done.stderr


def test_verify_json(stream: Path, broken: Path) -> None:
    done = run("verify", "--json", str(stream))
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert (report["ok"], report["nr_pfns"], report["complaints"]) == (True, 24, [])
    done = run("verify", "--json", str(broken))
    assert done.returncode == 1
    complaint = json.loads(done.stdout)["complaints"][7]
    assert complaint["rule"] == "table-target"
    assert complaint["offset"] == 0x1A1D8
    assert "slot 7 refers to pfn 0x8" in complaint["text"]


def test_verify_says_when_memory_was_not_checked(tmp_path: Path) -> None:
    path = tmp_path / "half"
    path.write_bytes(PV[:60000])
    done = run("verify", str(path))
    assert done.returncode == 1
    assert "[truncated]" in done.stdout
    assert "could not be checked" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_standard_input(command: str) -> None:
    done = run(command, "-", data=PV)
    assert done.returncode == 0, done.stderr
    assert "20 records" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "input is empty"),
        (b"no stream, but quite some text", "not a libxc stream"),
        (b"Xen saved domain, xl format\n \0 \r" + bytes(16), "a save file of xl"),
        (b"LibxlFmt" + bytes(20), "a libxl stream"),
        ((0x10000).to_bytes(8, "little") + bytes([255] * 8), "legacy"),
        (PV[:17] + b"\1" + PV[18:], "big-endian"),
        (PV[:15] + b"\x09" + PV[16:], "version 9"),
    ],
)
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_what_is_no_stream(command: str, data: bytes, words: str, options: tuple[str, ...]) -> None:
    done = run(command, "-", *options, data=data)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_files_that_cannot_be_read(command: str, tmp_path: Path) -> None:
    for path, words in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        done = run(command, str(path))
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_usage(command: str) -> None:
    assert run(command).returncode == 2
    assert "FILE" in run(command, "--help").stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_output_into_a_closed_pipe(command: str, broken: Path) -> None:
    """As with `| head`: no traceback."""
    out, into = os.pipe()
    os.close(out)
    code = "import sys; from pyxcsr.cli.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, command, str(broken)], stdout=into, stderr=subprocess.PIPE, check=False
    )
    os.close(into)
    assert done.returncode == {"verify": 1, "inspect": 3}[command], "complaints stay complaints"
    assert done.stderr == b""


def test_inspect(stream: Path) -> None:
    done = run("inspect", str(stream))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert (
        lines[0] == "0x0000000028           16 X86_PV_INFO              64-bit guest, 4 levels of page tables"
    )
    assert lines[5].split()[:5] == ["0x00000000c0", "106776", "PAGE_DATA", "x", "4"]
    assert "pass 1: 3 entries, 3 with data, pfns 0x4 to 0xd" in lines
    assert "vcpu 1: BASIC 5168, EXTENDED 64, XSAVE 592, MSRS 16" in lines
    assert "MSR policy: PLATFORM_INFO 0x80000000" in lines


def test_inspect_all(stream: Path) -> None:
    assert run("inspect", "--all", str(stream)).stdout.count("PAGE_DATA") == 4


def test_inspect_json(stream: Path) -> None:
    document = json.loads(run("inspect", "--json", str(stream)).stdout)
    assert [line["count"] for line in document["records"] if line["name"] == "PAGE_DATA"] == [4]
    assert document["summary"]["guest"] == "PV"
    assert document["summary"]["vcpus"]["1"]["XSAVE"] == 592
    document = json.loads(run("inspect", "--json", "--all", str(stream)).stdout)
    assert len(document["records"]) == 20


def test_inspect_damaged(tmp_path: Path) -> None:
    path = tmp_path / "half"
    path.write_bytes(PV[:60000])
    done = run("inspect", str(path))
    assert done.returncode == 1
    assert "without an END record" in done.stdout
    assert "ends at byte 60000" in done.stderr


def test_inspect_hvm() -> None:
    done = run("inspect", "-", data=build.assemble(build.hvm(), DomainType.HVM))
    assert "HVM guest, stream version 3" in done.stdout
    assert "HVM_PARAMS               STORE_PFN 0x5, CONSOLE_PFN 0x6" in done.stdout
