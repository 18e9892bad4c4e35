"""Checkpointed streams (Remus): inspected, verified, and one checkpoint taken out as a plain stream."""

from __future__ import annotations

import io
import os
import random
import subprocess
from pathlib import Path
from typing import Any, Optional

import pytest
from cli.programs import run
from support import containers as c
from support import streams as build

from pyxcsr.cli import main
from pyxcsr.container.checkpoints import convert_checkpoint, count
from pyxcsr.container.copy import convert
from pyxcsr.container.reader import Kind
from pyxcsr.container.survey import survey_input
from pyxcsr.container.verify import verify_input
from pyxcsr.errors import StreamError, UsageError
from pyxcsr.frames import PageType
from pyxcsr.image.memory import MemoryImage
from pyxcsr.stream import records as rec
from pyxcsr.stream.format import DomainType
from pyxcsr.stream.rules.order import TAIL

CHECKPOINT = rec.frame(rec.Checkpoint())
CHECKPOINT_END = c.record(c.CHECKPOINT_END)
PAIRS = c.emulator(c.XENSTORE, b"a\0b\0")


def device(number: int) -> bytes:
    return c.emulator(c.EMULATOR, b"QEVM" + bytes([number]) * 40)


def parts(hvm: bool) -> tuple[bytes, bytes]:
    """What stands ahead of a guest's state in its stream, and that state."""
    records = build.hvm() if hvm else build.pv64()
    kind = DomainType.HVM if hvm else DomainType.PV
    ahead = [x for x in records if x.code not in TAIL and not isinstance(x, rec.End)]
    state = b"".join(rec.frame(x) for x in records if x.code in TAIL)
    return build.assemble(ahead, kind), state


def written(number: int, hvm: bool = False) -> bytes:
    """The page that the guest has written ahead of checkpoint ``number``."""
    return rec.frame(rec.PageData.build([(7 if hvm else 13, PageType.NOTAB, bytes([number]) * 4096)]))


def remus(nr: int, *, hvm: bool = False, wrapped: bool = False, end: Optional[bytes] = None) -> bytes:
    """A stream of ``nr`` checkpoints. ``end``: what follows the last."""
    ahead, state = parts(hvm)
    out = c.LIBXL_HEADER + c.record(c.LIBXC) if wrapped else b""
    for number in range(1, nr + 1):
        out += (ahead if number == 1 else b"") + written(number, hvm) + state + CHECKPOINT
        if wrapped:
            out += (PAIRS + device(number) if hvm else b"") + CHECKPOINT_END
    return out + (end or b"")


def plain(number: int, hvm: bool = False) -> bytes:
    """The same guest as a plain stream, as it is at a checkpoint."""
    ahead, state = parts(hvm)
    return ahead + b"".join(written(x, hvm) for x in range(1, number + 1)) + state + rec.frame(rec.End())


KINDS = [(hvm, wrapped) for hvm in (False, True) for wrapped in (False, True)]


def taken(data: bytes, number: int, to: Optional[Kind] = None) -> bytes:
    out = io.BytesIO()
    done = convert_checkpoint(io.BytesIO(data), out.write, number, to)
    assert done.bytes == len(out.getvalue())
    return out.getvalue()


@pytest.mark.parametrize(("hvm", "wrapped"), KINDS)
def test_each_checkpoint_is_had(hvm: bool, wrapped: bool) -> None:
    data = remus(3, hvm=hvm, wrapped=wrapped)
    assert count(io.BytesIO(data)) == 3
    for number in (1, 2, 3):
        out = taken(data, number)
        assert out == plain(number, hvm)
        report = verify_input(io.BytesIO(out))
        assert report.ok and report.memory_checked, report.complaints
    with pytest.raises(StreamError, match="there are 3 whole checkpoints in the stream, not 4"):
        taken(data, 4)


def test_the_device_model_goes_with_its_checkpoint() -> None:
    data = remus(3, hvm=True, wrapped=True)
    assert taken(data, 2, Kind.LIBXL) == c.libxl(plain(2, True), PAIRS, device(2))
    text = c.text_of(c.config("hvm"))
    assert taken(c.xl(data, text + b"\0"), 3, Kind.XL) == c.xl(c.libxl(plain(3, True), PAIRS, device(3)), text + b"\0")
    assert taken(c.libvirt(data), 1, Kind.LIBXL) == c.libxl(plain(1, True), PAIRS, device(1))
    for source, to, words in (
        (data, Kind.XL, "configuration"),
        (remus(1), Kind.LIBXL, "bare"),
        (data, Kind.XENSERVER, "only read"),
        (c.suspend_image(), Kind.LIBXC, "no checkpoints"),
    ):
        with pytest.raises(UsageError, match=words):
            taken(source, 1, to)


def test_state_longer_than_what_is_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyxcsr.container import checkpoints

    monkeypatch.setattr(checkpoints, "IN_MEMORY", 100)
    assert taken(remus(3), 3) == plain(3)


@pytest.mark.parametrize(("hvm", "wrapped"), KINDS)
def test_cut_anywhere(hvm: bool, wrapped: bool) -> None:
    """A sender may die at any byte: the checkpoints that are whole by then can be had, and no other."""
    data = remus(2, hvm=hvm, wrapped=wrapped)
    first = len(remus(1, hvm=hvm, wrapped=wrapped))
    headers = 40 + (len(c.LIBXL_HEADER + c.record(c.LIBXC)) if wrapped else 0)
    rng = random.Random(1)
    ends = {end - back for end in (first, len(data)) for back in range(1, 140, 3)}  # all of libxl's records, and more
    for at in sorted({headers, first, first + 1, *ends, *(rng.randrange(headers, len(data)) for _ in range(30))}):
        cut = data[:at]
        whole = count(io.BytesIO(cut))
        assert whole == (at >= first)
        if whole:
            assert taken(cut, 1) == plain(1, hvm)
        with pytest.raises(StreamError):
            taken(cut, 1 + whole)
        sums = survey_input(io.BytesIO(cut), lambda line: None)
        assert (sums.problems == []) == bool(sums.cut_off) == (whole == 1) and not sums.complete, at
        assert sums.checkpoints in (whole, 1 + whole)  # of libxc's; in a container the last one may lack libxl's part
        report = verify_input(io.BytesIO(cut), checkpointed=True)
        assert report.ok == (whole == 1) and report.checkpoints == whole, (at, report.complaints)
        assert bool(report.notes) == report.ok
        assert report.memory_checked == (at == first)


@pytest.mark.parametrize(("hvm", "wrapped"), KINDS)
def test_verified(hvm: bool, wrapped: bool) -> None:
    data = remus(3, hvm=hvm, wrapped=wrapped)
    report = verify_input(io.BytesIO(data), checkpointed=True)
    assert report.ok and report.checkpoints == 3 and report.memory_checked, report.complaints
    assert report.pages == verify_input(io.BytesIO(plain(3, hvm))).pages
    end = rec.frame(rec.End()) + (c.record(c.END) if wrapped else b"")
    whole = verify_input(io.BytesIO(remus(3, hvm=hvm, wrapped=wrapped, end=end)), checkpointed=True)
    if not (hvm and wrapped):  # there libxl's END would want a device model's state behind it
        assert whole.ok and whole.notes == [] and whole.memory_checked, whole.complaints
    assert not verify_input(io.BytesIO(data)).ok, "nobody has said that it is a checkpointed one"
    plain_report = verify_input(io.BytesIO(plain(1, hvm)), checkpointed=True)
    assert plain_report.ok and plain_report.checkpoints == 0


def test_what_a_checkpoint_lacks_is_told() -> None:
    ahead, state = parts(False)
    tsc = rec.frame(next(x for x in build.pv64() if isinstance(x, rec.TscInfo)))
    assert tsc in state
    lacking = ahead + state + CHECKPOINT + state.replace(tsc, b"") + CHECKPOINT
    report = verify_input(io.BytesIO(lacking), checkpointed=True)
    assert [x.rule for x in report.complaints] == ["missing-record"] and "X86_TSC_INFO" in report.complaints[0].text
    gone = rec.frame(rec.PageData.build([(build.P2M, PageType.XTAB, b"")]))
    report = verify_input(io.BytesIO(remus(1) + gone + state + CHECKPOINT), checkpointed=True)
    assert report.checkpoints == 2 and "p2m-frame" in {x.rule for x in report.complaints}
    long = rec.frame(rec.Checkpoint()).replace(b"\x0e\0\0\0\0", b"\x0e\0\0\0\x08", 1) + bytes(8)
    assert "length" in {x.rule for x in verify_input(io.BytesIO(ahead + state + long), checkpointed=True).complaints}


@pytest.mark.parametrize("code", [c.CHECKPOINT_STATE, c.END, c.LIBXC, 77])
def test_colo_and_others_are_not_followed(code: int) -> None:
    data = remus(1, wrapped=True)[: -len(CHECKPOINT_END)]
    data += c.record(code, bytes(8) if code == c.CHECKPOINT_STATE else b"")
    sums = survey_input(io.BytesIO(data), lambda line: None)
    assert "COLO" in sums.problems[0]
    assert "libxl-checkpoint" in {x.rule for x in verify_input(io.BytesIO(data), checkpointed=True).complaints}
    with pytest.raises(StreamError, match="COLO"):
        count(io.BytesIO(data))


def test_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stream = tmp_path / "s"
    stream.write_bytes(remus(3) + written(4))
    subprocess.run(["gzip", "-k", os.fspath(stream)], check=True)
    for name, source in (("a", stream), ("b", tmp_path / "s.gz")):
        assert main.main(["convert", "--checkpoint", "last", os.fspath(source), os.fspath(tmp_path / name)]) == 0
        assert (tmp_path / name).read_bytes() == plain(3)
    assert main.main(["convert", "--checkpoint", "2", os.fspath(stream), os.fspath(tmp_path / "c")]) == 0
    with MemoryImage(os.fspath(tmp_path / "c")) as image:
        assert image.page(13) == b"\2" * 4096
    assert main.main(["inspect", os.fspath(stream)]) == 0
    assert "3 checkpoints; it ends without END" in capfd.readouterr().out
    assert main.main(["verify", "--checkpointed", os.fspath(stream)]) == 0
    assert "3 checkpoints" in capfd.readouterr().out
    for number, status in (("4", 1), ("0", 2), ("x", 2), ("99999999999999999999999", 2), ("", 2)):
        out = tmp_path / "d"
        assert main.main(["convert", "--checkpoint", number, os.fspath(stream), os.fspath(out)]) == status, number
        assert not out.exists()
    done = run("convert", "--checkpoint", "last", "-", tmp_path / "d", input=stream.read_bytes())
    assert done.returncode == 2 and b"must be a file" in done.stderr


def test_a_plain_stream_has_none(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(c.PV)
    assert count(io.BytesIO(c.PV)) == 0 and count(io.BytesIO(c.libxl())) == 0
    words: Any = ["convert", "--checkpoint", "last", os.fspath(tmp_path / "s"), os.fspath(tmp_path / "o")]
    assert main.main(words) == 2
    with pytest.raises(StreamError, match="no whole checkpoint"):
        taken(c.PV, 1)
    with pytest.raises(StreamError, match="checkpointed"):
        convert(io.BytesIO(remus(1, wrapped=True)), len)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_bytes_there_are(seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(remus(3, hvm=bool(seed & 1), wrapped=bool(seed & 2)))
    for _ in range(rng.randrange(1, 10)):
        at = rng.randrange(len(data))
        data[at & ~7 : (at & ~7) + 1] = bytes([rng.randrange(256)])
    second, ninth = (lambda file: convert_checkpoint(file, len, 2)), (lambda file: convert_checkpoint(file, len, 9))
    for function in (count, second, ninth):
        try:
            function(io.BytesIO(bytes(data)))
        except StreamError:
            continue
    survey_input(io.BytesIO(bytes(data)), lambda line: None)
    verify_input(io.BytesIO(bytes(data)), checkpointed=True)
