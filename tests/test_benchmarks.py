"""benchmarks/: that it runs, and that what ours is compared with computes the same. No times are asserted."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from array import array
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.toolchain

TOP = Path(__file__).resolve().parent.parent
sys.path.append(str(TOP))

from benchmarks import convergence, measure, model, native  # noqa: E402
from benchmarks.cases import NAMES  # noqa: E402
from benchmarks.rows import Goal, compared  # noqa: E402

FIELDS = {"case", "what", "value", "low", "high", "unit", "goal", "met", "figures", "note"}


@pytest.fixture(scope="module")
def lib() -> Any:
    if shutil.which(native.compiler()[0]) is None:
        pytest.skip("a C compiler is not installed: apt-get install gcc")
    return native.reference()[1]


@pytest.fixture(scope="module")
def ffi(lib: Any) -> Any:
    return native.reference()[0]


# -- the entry


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=250, check=False)


@pytest.mark.parametrize("case", NAMES)
def test_each_case_runs(lib: Any, tmp_path: Path, case: str) -> None:
    path = tmp_path / "result.json"
    done = run("--quick", "--repeats", "1", "--case", case, "--json", str(path), "--disk", str(tmp_path / "disk"))
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(path.read_text())
    assert {"cpu", "cores", "caches", "kernel", "compiler", "load"} <= set(result["machine"])
    assert result["failed"] == []
    assert result["rows"] or (case == "mapping" and result["libxenguest"] != "4.17")
    for row in result["rows"]:
        assert set(row) == FIELDS and row["case"] == case
        assert row["low"] <= row["value"] <= row["high"]
        assert (row["goal"] is None) == (row["met"] is None)
        assert row["what"] in done.stdout
    by_both = any("libxenguest" in x["what"] or "libxenguest" in " ".join(x["figures"]) for x in result["rows"])
    without = ("start", "image", "verify", "scan", "normalise", "follow", "python", "growth", "mapping")
    expected = result["libxenguest"] == "4.17" and case not in without
    assert by_both == expected
    assert list((tmp_path / "disk").iterdir()) == []


def test_without_libxenguest_it_says_what_brings_it(lib: Any, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    code = (
        "import sys; sys.argv[0] = 'benchmarks'; from benchmarks import peer, __main__;"
        "peer.missing = lambda: peer.HOW_TO_GET_IT; __main__.main()"
    )
    command = [sys.executable, "-c", code, "--quick", "--repeats", "1", "--case", "full", "paused", "--json", str(path)]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "apt-get install libxenmisc4.17 libxen-dev" in done.stdout
    rows = json.loads(path.read_text())["rows"]
    assert rows and not any("libxenguest" in x["what"] for x in rows)


def test_a_case_that_fails_is_told(lib: Any, tmp_path: Path) -> None:
    """The disk's folder is no place to write to: the others' rows are printed all the same."""
    done = run("--quick", "--repeats", "1", "--case", "durable", "scan", "--disk", "/proc/self")
    assert done.returncode == 1 and done.stderr.rstrip().endswith("failed: durable")
    assert "over a per-bit loop" in done.stdout


def test_the_cases_are_listed(lib: Any) -> None:
    assert run("--list").stdout.split() == list(NAMES)
    assert run("--case", "nothing").returncode == 2


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_it_can_be_drawn(lib: Any, tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    done = run("--quick", "--repeats", "1", "--case", "scan", "--plot", str(tmp_path / f"plot{suffix}"))
    assert done.returncode == 0, done.stderr[-3000:]
    head = (tmp_path / f"plot{suffix}").read_bytes()[:5]
    assert head == (b"\x89PNG\r" if suffix == ".png" else b"<?xml")


def test_the_tables_of_a_document_are_written_anew(lib: Any, tmp_path: Path) -> None:
    path = tmp_path / "doc.md"
    path.write_text("before\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nafter\n")
    done = run("--quick", "--repeats", "1", "--best", "2", "--case", "scan", "memory", "--update", str(path))
    assert done.returncode == 0, done.stderr[-3000:]
    text = path.read_text()
    assert text.startswith("before\n<!-- measured: begin -->\n") and text.endswith("<!-- measured: end -->\nafter\n")
    assert "| scan | 64 MiB, 0 %: over a per-bit loop | >= 100 |" in text and "old" not in text
    widths = {x.count("|") for x in text.splitlines() if x.startswith("| scan")}
    assert widths == {7}
    path.write_text("nothing\n")
    assert "has no part between" in run("--quick", "--repeats", "1", "--case", "scan", "--update", str(path)).stderr


@pytest.mark.parametrize("cc", ["gcc", "clang"])
@pytest.mark.parametrize("source", ["reference.c", "pump.c"])
def test_compilers_warn_of_nothing(tmp_path: Path, cc: str, source: str) -> None:
    if shutil.which(cc) is None:
        pytest.skip(f"{cc} is not installed")
    command = [cc, *native.FLAGS, "-Werror", "-c", str(TOP / "benchmarks" / source), "-o", str(tmp_path / "made.o")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# -- the references


def words_of(rng: random.Random, nr_bits: int, density: float) -> array[int]:
    words = array("Q", bytes(8 * (nr_bits // 64)))
    for bit in range(nr_bits):
        if rng.random() < density:
            words[bit // 64] |= 1 << bit % 64
    return words


@pytest.mark.parametrize("density", [0.0, 0.001, 0.1, 0.5, 1.0])
def test_the_loop_over_bits(ffi: Any, lib: Any, density: float) -> None:
    """It finds as many as there are, as often as it is asked, and the core's scan as many."""
    from benchmarks.cases.scan import Bench

    words = words_of(random.Random(3), 64 * 1024, density)
    bits = sum(x.bit_count() if hasattr(x, "bit_count") else bin(x).count("1") for x in words)
    bench = Bench(ffi.from_buffer("uint64_t[]", words), 64 * 1024)
    assert (bench.bits(1), bench.bits(3), bench.core(3)) == (bits, 3 * bits, 3 * bits)


def test_the_plain_read_reads_every_word(ffi: Any, lib: Any) -> None:
    for at in (0, 1, 77, 1022, 1023):
        words = array("Q", bytes(8 * 1024))
        words[at] = 1 << 63 | at
        assert lib.ref_read(ffi.from_buffer("uint64_t[]", words), 1024, 2) == words[at]


def in_pfns(table: list[int], level: int, m2p: list[int], p2m: list[int]) -> list[int] | None:
    """Page tables the slow way; None: it cannot be expressed."""
    out = []
    for slot, entry in enumerate(table):
        if level == 4 and 256 <= slot <= 271:
            out.append(0)
        elif not entry & 1:
            out.append(entry)
        else:
            mfn = entry >> 12 & (1 << 40) - 1
            pfn = m2p[mfn] if mfn < len(m2p) else len(p2m)
            if pfn >= len(p2m) or p2m[pfn] != mfn or (level > 1 and entry & 0x80):
                return None
            out.append(entry & ~((1 << 40) - 1 << 12) | pfn << 12)
    return out


@pytest.mark.parametrize("level", [1, 2, 4])
@pytest.mark.parametrize("bad", [False, True])
def test_the_loop_over_entries(ffi: Any, lib: Any, level: int, bad: bool) -> None:
    rng = random.Random(level)
    p2m = list(range(100, 1100))
    rng.shuffle(p2m)
    m2p = [1 << 60] * 1200
    for pfn, mfn in enumerate(p2m):
        m2p[mfn] = pfn
    table = [rng.choice(p2m) << 12 | 0x67 | rng.getrandbits(1) << 63 for _ in range(512)]
    table[::3] = [0x1230] * len(table[::3])
    if bad:
        table[300] = rng.choice([5, 1 << 30]) << 12 | 1
    last = ffi.new("uint64_t[]", 512)
    args = [(ffi.new("uint64_t[]", x), len(x)) for x in (m2p, p2m)]
    rc = lib.ref_normalise_plain(*args[0], *args[1], level, ffi.new("uint64_t[]", table * 3), 3, last)
    expected = in_pfns(table, level, m2p, p2m)
    assert (rc == 0) == (expected is not None) == (not bad)
    if expected is not None:
        assert ffi.unpack(last, 512) == expected


@pytest.mark.parametrize("pages", [1, 1024, 1500])
def test_bare_writes_and_reads(ffi: Any, lib: Any, tmp_path: Path, pages: int) -> None:
    memory = bytearray(random.Random(pages).randbytes(pages * 4096))
    into = bytearray(len(memory))
    with open(tmp_path / "pages", "w+b") as file:
        assert lib.ref_writev(file.fileno(), ffi.from_buffer(memory), pages) == 0
        assert file.seek(0, os.SEEK_END) == pages * 4096 + pages * 8 + 16 * -(-pages // 1024)
        file.seek(0)
        assert lib.ref_read_pages(file.fileno(), ffi.from_buffer(into), pages) == 0
        assert into == memory
        assert lib.ref_read_pages(file.fileno(), ffi.from_buffer(into), 1) < 0
        numbers = sorted(random.Random(1).sample(range(pages), pages // 2))
        file.seek(0)
        file.truncate()
        given = ffi.new("uint64_t[]", numbers)
        assert lib.ref_writev_pages(file.fileno(), ffi.from_buffer(memory), given, pages // 2) == 0
        file.seek(0)
        for first in range(0, len(numbers), 1023):
            some = numbers[first : first + 1023]
            file.read(16 + 8 * len(some))
            assert file.read(4096 * len(some)) == b"".join(memory[x * 4096 : x * 4096 + 4096] for x in some)
        assert file.read() == b""


# -- arithmetic


def test_turns_go_there_and_back() -> None:
    order: list[int] = []

    def action(i: int) -> float:
        order.append(i)
        return float(i + 1)

    seconds = measure.in_turn(2, lambda: action(0), lambda: action(1))
    assert order == [0, 1, 0, 1, 1, 0] and seconds == [[1.0, 1.0], [2.0, 2.0]]
    assert measure.ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]


def test_medians_and_quartiles() -> None:
    spread = measure.Spread.of([5.0, 1.0, 4.0, 2.0, 3.0])
    assert (spread.median, spread.low, spread.high) == (3.0, 2.0, 4.0)
    assert measure.Spread.of([7.0]) == measure.Spread(7.0, 7.0, 7.0)


def test_goals() -> None:
    row = compared("case", "what", [10.0, 20.0, 90.0], [1.0, 2.0, 3.0], goal=Goal(10), scale=1.0, unit="s")
    assert (row.value, row.low, row.high, row.met) == (10.0, 10.0, 30.0, True)
    assert row.figures == {"reference s": 20.0, "ours s": 2.0}
    assert not Goal(10).met_by(9.9) and Goal(1, least=False).met_by(1.0) and not Goal(1, least=False).met_by(1.1)
    assert (str(Goal(0.92)), str(Goal(5, least=False))) == (">= 0.92", "<= 5")


def test_the_model_finds_its_terms() -> None:
    points = [(n, d, 1e-4 + 5e-10 * n + 1e-6 * d) for n in (1e6, 4e6, 16e6) for d in (50, 1000)]
    found = model.fit(points)
    assert (found.fixed, found.pfn, found.page) == pytest.approx((1e-4, 5e-10, 1e-6))
    assert found.error < 1e-6
    assert found.seconds(1 << 28, 50) == pytest.approx(1e-4 + 5e-10 * (1 << 28) + 5e-5)


# -- convergence


def converge(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.convergence", *words]
    return subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=250, check=False)


def test_convergence(lib: Any, tmp_path: Path) -> None:
    """It runs, for an idle guest and a busy one, to a link and to nothing, and puts its table where it is wanted."""
    page, file = tmp_path / "page.md", str(tmp_path / "x.json")
    page.write_text("above\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nbelow\n")
    words = ["--size", "16M", "--rate", "0", "60000", "--output", "1 GB/s", "unlimited", "--repeats", "1"]
    done = converge(*words, "--json", file, "--update", str(page))
    assert done.returncode == 0, done.stderr[-3000:]
    runs = json.loads((tmp_path / "x.json").read_text())
    assert len(runs) == 2 * 2 * 3 and {x["policy"] for x in runs} == {"libxc", "adaptive", "adaptive, 100 ms"}
    text = page.read_text()
    assert text.startswith("above\n") and text.endswith("below\n") and "old" not in text
    assert text.count("| 16M | 60000 | 1 GB/s | libxc |") == 1 and "of 0 saves where" not in text
    assert "Not measured" not in text and "Medians of 1 saves" in text

    (tmp_path / "x.json").write_text(json.dumps(runs[:-1]))
    done = converge(*words, "--json", file, "--with", file)
    assert done.returncode == 0 and done.stderr.count(" passes ") == 1, "only what was missing is measured"
    assert len(json.loads((tmp_path / "x.json").read_text())) == len(runs)
    again = converge(*words, "--with", file, "--no-measure")
    assert again.returncode == 0 and again.stderr == "" and again.stdout.count("\n| 16M |") == 12
    (tmp_path / "x.json").write_text("{}")
    assert "does not hold saves of this benchmark" in converge(*words, "--with", file, "--no-measure").stderr
    assert "there is nothing to show" in converge("--no-measure").stderr


def test_what_takes_too_long_is_left_out_and_named() -> None:
    """By the output for a guest that does nothing, and by the passes for one that is too fast for it."""
    assert convergence.guessed("4G", 0, "100 MB/s", 8) == pytest.approx((4 << 30) / 1e8)
    assert convergence.guessed("4G", 400_000, "100 MB/s", 8) == pytest.approx(9 * (4 << 30) / 1e8)
    assert convergence.guessed("256M", 1000, "unlimited", 8) < 0.1
    args = argparse.Namespace(
        size=["256M", "4G"], rate=[0, 400_000], output=["100 MB/s"], longest=60.0, max_iterations=8
    )
    plan = convergence.planned(args)
    assert plan.kinds == [("256M", 0, "100 MB/s"), ("256M", 400_000, "100 MB/s"), ("4G", 0, "100 MB/s")]
    (told,) = convergence.not_measured(plan.left_out, args)
    assert told.endswith("more than 1 min: 4G, 400000 pages/s, 100 MB/s.")


def a_run(policy: str, pause: float, predicted: float, *, passes: int = 2, rate: int = 0) -> convergence.Run:
    return convergence.Run(rate, "256M", "unlimited", policy, passes, 1.0, 1.0, pause, predicted, 0.0, "")


def test_predictions_are_counted_with_and_without_what_chance_makes() -> None:
    runs = [
        a_run("libxc", 1.0, 1.29), a_run("libxc", 1.0, 1.31), a_run("libxc", 0.0001, 0.00019),
        a_run("libxc", 0.0002, 0.00031), a_run("adaptive", 1.0, 9.0, passes=1),
    ]  # fmt: skip
    told = convergence.judged(runs)[0]
    assert "or less than 0.1 ms off, in 2 of 4 saves" in told and "however short the pause, in 1." in told
    assert told.endswith("within 30 % in 1 of 1."), "0.5001 and 0.6452: the medians of those with two passes"


def test_predictions_are_counted_by_the_medians_of_each_kind() -> None:
    runs = [a_run("libxc", x, y) for x, y in ((1.0, 1.2), (2.0, 9.0), (3.0, 2.0))]  # 2.0 and 2.0
    runs += [a_run("adaptive", 1.0, 1.4), a_run("adaptive", 1.0, 1.0, passes=1)]  # too few of two passes
    runs += [a_run("libxc", x, 1.4, rate=7) for x in (1.0, 1.0, 1.4)]
    assert convergence.medians(runs) == (1, 2)


def test_pauses_longer_than_the_other_policy_are_counted_and_named() -> None:
    runs = [a_run("libxc", x, 1.0) for x in (1.0, 1.1, 2.0)] + [a_run("adaptive", x, 1.0) for x in (1.9, 1.9, 9.0)]
    assert convergence.longer(runs) == (1, [])
    runs += [a_run("libxc", x, 1.0, rate=1000) for x in (1.0, 1.1)] + [a_run("adaptive", 1.2, 1.0, rate=1000)]
    runs += [a_run("libxc", 0.0001, 1.0, rate=20), a_run("adaptive", 0.00019, 1.0, rate=20)]
    runs += [a_run("libxc", 1.0, 1.0, rate=3), a_run("adaptive", 1.02, 1.0, rate=3)]
    runs += [a_run("adaptive", 5.0, 1.0, rate=7)]
    assert convergence.longer(runs) == (4, ["256M, 1000, unlimited: 1200.0 instead of 1100.0 ms at most"])
    told = convergence.judged(runs)[-1]
    assert "Of 4 kinds" in told and "paused 1 longer" in told and "(256M, 1000, unlimited: 1200.0" in told


def test_saves_of_all_policies_come_in_turn_and_only_those_that_lack() -> None:
    kind = ("4G", 0, "unlimited")

    def run(policy: str) -> convergence.Run:
        return convergence.Run(0, "4G", "unlimited", policy, 2, 1.0, 1.0, 1.0, 1.0, 0.0, "")

    first = sorted(convergence.POLICIES)
    assert list(convergence.missing([], kind, 2)) == [*first, *reversed(first)]
    assert list(convergence.missing([run(first[0]), run(first[0]), run(first[1])], kind, 2)) == [
        first[2], first[2], first[1]
    ]  # fmt: skip


def test_growth_is_measured_and_drawn(lib: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "growth.svg"
    command = [sys.executable, "-m", "benchmarks.growing", "--sizes", "64M", "128M", "--turns", "1"]
    command += ["--picture", str(picture)]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout[done.stdout.index("{") :])
    for figures in result["figures"].values():
        assert set(figures) == {"us 50", "us 10000", "KiB", "calls"}
        assert all(len(x) == 2 and min(x) >= 0 for x in figures.values())
    assert set(result["predicted"]) == set(result["figures"])
    assert picture.read_bytes().startswith(b"<?xml")
