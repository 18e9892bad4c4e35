"""How saves converge: libxenguest's policy, ours, and ours with a limit, over guests and outputs; docs/convergence.md.

    python -m benchmarks.convergence                                  # all of it: some hours
    python -m benchmarks.convergence --size 256M --output unlimited   # a part
    python -m benchmarks.convergence --update docs/convergence.md     # writes the tables there
    python -m benchmarks.convergence --json x.json --with x.json      # goes on with what x.json does not have yet
    python -m benchmarks.convergence --with x.json --no-measure --update docs/convergence.md
    python -m benchmarks.convergence --longest 30s                    # leaves longer saves out, and says so
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyxcsr
from benchmarks import sinks
from benchmarks.guests import PAGE, backed_frames, describe, machine, pages_of
from benchmarks.machine import describe as describe_machine
from benchmarks.markdown import BEGIN, END
from pyxcsr.units import format_seconds, parse_seconds

RATES = (0, 1_000, 20_000, 60_000, 400_000)
SIZES = ("256M", "4G")
OUTPUTS = {"100 MB/s": 1e8, "1 GB/s": 1e9, "unlimited": 0.0}
DOWNTIME = 0.1
SETTLED = 0.3
"""Seconds that a guest writes before it is saved."""

CHANCE = 0.0001
"""Seconds. Whether a pause is so much longer or shorter is told by chance: by which thread runs when, for example."""

MARGIN = 1.03
"""The same of long pauses, as their part."""

FASTEST = 4e9
"""Bytes a second that an unlimited output is supposed to take where the time of a save is guessed beforehand."""

Kind = tuple[str, int, str]
"""Size, rate, output: what is saved by all policies in turn."""

POLICIES: dict[str, dict[str, Any]] = {
    "libxc": {"policy": "libxc"},
    "adaptive": {"policy": "adaptive"},
    "adaptive, 100 ms": {"max_downtime": DOWNTIME},
}


@dataclass
class Run:
    """One save."""

    rate: int
    size: str
    output: str
    policy: str
    passes: int
    mib: float
    seconds: float
    pause: float
    predicted: float
    written: float
    stopped: str

    @property
    def is_judged(self) -> bool:
        """Whether its prediction counts: two passes were made while the guest ran."""
        return self.passes >= 2

    @property
    def is_predicted(self) -> bool:
        """Within 30 %."""
        return near(self.predicted, self.pause)

    @property
    def is_predicted_closely(self) -> bool:
        """Within 30 %, or by less than chance makes of it."""
        return self.is_predicted or abs(self.predicted - self.pause) <= CHANCE


def near(predicted: float, pause: float) -> bool:
    """Whether a prediction was within 30 % of the pause."""
    return abs(predicted - pause) <= 0.3 * pause


@dataclass
class Plan:
    """What is to be measured. ``left_out``: for a save would take longer than was allowed."""

    kinds: list[Kind]
    left_out: list[Kind]


def arguments() -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.convergence", description=__doc__)
    parser.add_argument("--rate", type=int, nargs="+", default=RATES, help="pages that the guest writes a second")
    parser.add_argument("--size", nargs="+", default=SIZES, help="of the guest")
    parser.add_argument("--output", nargs="+", choices=tuple(OUTPUTS), default=tuple(OUTPUTS))
    parser.add_argument("--repeats", type=int, default=3, help="saves of each kind (3)")
    parser.add_argument(
        "--max-iterations", type=int, default=8, help="of saves with a limit whose guest is faster than its output (8)"
    )
    parser.add_argument("--longest", type=parse_seconds, metavar="TIME", help="leave out what takes longer for a save")
    parser.add_argument(
        "--with", dest="earlier", type=Path, nargs="+", default=[], metavar="FILE",
        help="written by --json: these saves count, too, and are not made again; a file that is not there is empty",
    )  # fmt: skip
    parser.add_argument("--no-measure", action="store_true", help="make no saves: tables of what --with names")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every save there")
    parser.add_argument("--update", type=Path, metavar="FILE", help="put the tables into FILE: docs/convergence.md")
    return parser.parse_args()


def output(name: str) -> AbstractContextManager[int]:
    """Where the stream goes."""
    return sinks.link(OUTPUTS[name]) if OUTPUTS[name] else sinks.null()


def outruns(rate: int, to: str) -> bool:
    """Whether a guest that writes so many pages a second is faster than its output: then more passes win nothing."""
    return bool(OUTPUTS[to]) and rate * PAGE >= OUTPUTS[to]


def one(hv: Any, domid: int, rate: int, size: str, to: str, policy: str, most: int) -> Run:
    """Saves a guest that writes all the time, and lets it go on. ``most``: passes, if there is a limit to be kept, but
    the guest is faster than its output."""
    guest = hv.stub.guest(domid)
    options = dict(POLICIES[policy])
    if "max_downtime" in options and outruns(rate, to):
        options["max_iterations"] = most
    time.sleep(SETTLED)
    with output(to) as fd:
        before, began = guest.state().writes, time.monotonic()
        report = pyxcsr.save(hv, domid, fd, **options)
        written = (guest.state().writes - before) / (time.monotonic() - began - report.seconds_paused)
    hv.domain_resume(domid)
    return Run(
        rate, size, to, policy, len(report.passes) - 1, report.bytes / 2**20, report.seconds, report.seconds_paused,
        report.predicted_pause or 0.0, written, report.stopped,
    )  # fmt: skip


def planned(args: argparse.Namespace) -> Plan:
    """Whatever was asked for, without what takes too long."""
    asked = [(size, rate, to) for size in args.size for rate in args.rate for to in args.output]
    long = [] if args.longest is None else [x for x in asked if guessed(*x, args.max_iterations) > args.longest]
    return Plan([x for x in asked if x not in long], long)


def guessed(size: str, rate: int, to: str, most: int) -> float:
    """Seconds for the longest of these saves: each pass dirties pages for the next one, up to all of them."""
    pages, speed = pages_of(size), (OUTPUTS[to] or FASTEST) / 4096
    left, seconds = float(pages), 0.0
    for _ in range(most + 1):
        seconds += left / speed
        left = min(float(pages), rate * left / speed)
    return seconds


def missing(runs: list[Run], kind: Kind, repeats: int) -> Iterator[str]:
    """Policies, as often as ``runs`` lack them for a kind; those that are compared come in turn."""
    size, rate, to = kind
    have = {x: sum((r.size, r.rate, r.output, r.policy) == (size, rate, to, x) for r in runs) for x in POLICIES}
    for turn in range(repeats):
        yield from (x for x in sorted(POLICIES, reverse=turn % 2 == 1) if have[x] <= turn)


def measure(args: argparse.Namespace, kinds: list[Kind], runs: list[Run]) -> Iterator[Run]:
    """The saves that ``runs`` does not have yet. A guest serves all outputs."""
    for size, rate in dict.fromkeys((size, rate) for size, rate, _ in kinds):
        todo = [(to, policy) for kind in kinds if kind[:2] == (size, rate)
                for to in (kind[2],) for policy in missing(runs, kind, args.repeats)]  # fmt: skip
        if not todo:
            continue
        pages = pages_of(size)
        shared = pages > pages_of("1G")
        with machine(size, backed=backed_frames(pages) if shared else 0) as hv:
            # where pages share memory, a page that becomes a table later would be overwritten as another one's data
            more = {"pt_updates": 0} if shared else {}
            domid = hv.stub.create(describe(size, writer="thread", rate=rate, **more))
            for to, policy in todo:
                yield one(hv, domid, rate, size, to, policy, args.max_iterations)
            hv.stub.destroy(domid)


# -- kept in files


def read(paths: list[Path]) -> list[Run]:
    """What ``--json`` has written. Raises ValueError for a file that holds something else."""
    names = {x.name for x in fields(Run)}
    runs = []
    for path in paths:
        rows = json.loads(path.read_text()) if path.exists() else []
        if not isinstance(rows, list) or any(not isinstance(x, dict) or set(x) != names for x in rows):
            raise ValueError(f"{path} does not hold saves of this benchmark")
        runs += [Run(**x) for x in rows]
    return runs


def write(path: Path, runs: list[Run]) -> None:
    """All of them; whoever ends this program in the midst of it finds the old ones."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps([asdict(x) for x in runs], indent=1) + os.linesep)
    new.replace(path)


# -- as text


def cell(runs: list[Run]) -> list[str]:
    """One row of the table: medians over saves of a kind."""

    def middle(values: Iterator[float]) -> float:
        return statistics.median(values)

    pause, predicted = middle(x.pause for x in runs), middle(x.predicted for x in runs)
    return [
        f"{middle(x.passes for x in runs):.0f}",
        f"{middle(x.mib for x in runs):.0f}",
        f"{middle(x.seconds for x in runs):.2f}",
        f"{1000 * pause:.1f}",
        f"{1000 * predicted:.1f}",
    ]


def by_kind(runs: list[Run]) -> dict[tuple[str, int, str, str], list[Run]]:
    """The saves of each kind: of the same guest, to the same output, by the same policy."""
    kinds: dict[tuple[str, int, str, str], list[Run]] = {}
    for run in runs:
        kinds.setdefault((run.size, run.rate, run.output, run.policy), []).append(run)
    return kinds


def table(runs: list[Run]) -> list[str]:
    """A row for each kind of save."""
    head = ["guest", "pages/s", "output", "policy", "passes", "MiB", "s", "pause ms", "predicted ms"]
    lines = [head, ["---"] * len(head)]
    kinds = by_kind(runs)
    order = {name: i for i, name in enumerate(POLICIES)}
    for kind in sorted(kinds, key=lambda x: (pages_of(x[0]), x[1], list(OUTPUTS).index(x[2]), order[x[3]])):
        size, rate, to, policy = kind
        lines.append([size, f"{rate}" if rate else "idle", to, policy, *cell(kinds[kind])])
    return [f"| {' | '.join(x)} |" for x in lines]


def feasible(runs: list[Run], run: Run) -> bool:
    """Whether the guest's rate allows the limit: without it, ours ends below, with as much to spare as it plans."""
    kind = (run.size, run.rate, run.output, "adaptive")
    free = [x.pause for x in runs if (x.size, x.rate, x.output, x.policy) == kind]
    return bool(free) and statistics.median(free) * 1.3 <= DOWNTIME


def longer(runs: list[Run]) -> tuple[int, list[str]]:
    """Of how many kinds both libxenguest's policy and ours were measured; and of which of them ours pauses longer.

    Not by chance: the median of our pauses is longer than each of libxenguest's policy's, by :data:`MARGIN`, and by
    :data:`CHANCE`.
    """
    kinds, found = 0, []
    for size, rate, to in dict.fromkeys((x.size, x.rate, x.output) for x in runs):
        both = [[x.pause for x in runs if (x.size, x.rate, x.output, x.policy) == (size, rate, to, policy)]
                for policy in ("libxc", "adaptive")]  # fmt: skip
        if not all(both):
            continue
        kinds += 1
        theirs, ours = max(both[0]), statistics.median(both[1])
        if ours > MARGIN * theirs + CHANCE:
            found.append(f"{size}, {rate or 'idle'}, {to}: {1000 * ours:.1f} instead of {1000 * theirs:.1f} ms at most")
    return kinds, found


def medians(runs: list[Run]) -> tuple[int, int]:
    """Of how many kinds of save the median prediction was within 30 % of the median pause; and how many kinds count.

    Counted are the saves with two live passes or more, of the kinds of which more than half of the saves have as many.
    """
    good, kinds = 0, 0
    for same in by_kind(runs).values():
        counted = [x for x in same if x.is_judged]
        if 2 * len(counted) > len(same):
            pause, predicted = (statistics.median(x) for x in zip(*((x.pause, x.predicted) for x in counted)))
            good, kinds = good + near(predicted, pause), kinds + 1
    return good, kinds


def judged(runs: list[Run]) -> list[str]:
    """How often predictions were right and the limit was kept, and what ours saves or costs."""
    predicted = [x for x in runs if x.is_judged]
    limited = [x for x in runs if x.policy == "adaptive, 100 ms"]
    can, cannot = ([x for x in limited if feasible(runs, x) == flag] for flag in (True, False))
    kept = sum(x.pause <= DOWNTIME for x in can)
    kinds, more = longer(runs)
    good, of = medians(runs)
    which = f" ({'; '.join(more)})" if more else ""
    return [
        f"* The prediction was within 30 % of the pause, or less than {1000 * CHANCE:.1f} ms off, in "
        f"{sum(x.is_predicted_closely for x in predicted)} of {len(predicted)} saves with two live passes or more; "
        f"within 30 %, however short the pause, in {sum(x.is_predicted for x in predicted)}. Of the "
        f"medians of each kind of save, pause and prediction were within 30 % in {good} of {of}.",
        f"* `max_downtime` of 100 ms was kept in {kept} of {len(can)} saves where the guest's rate allows it; of the "
        f"{len(cannot)} others, in {sum(x.pause <= DOWNTIME for x in cannot)}. There the guest was suspended at the "
        "end of the passes, and the report says so.",
        f"* Of {kinds} kinds of guest and output adaptive paused {len(more)} longer than libxenguest's policy did: its "
        f"median was above the longest of the other's pauses, by more than {100 * (MARGIN - 1):.0f} % and "
        f"{1000 * CHANCE:.1f} ms{which}.",
    ]


def text(runs: list[Run], args: argparse.Namespace, plan: Plan) -> str:
    """The part of docs/convergence.md that is measured."""
    facts = "; ".join(f"{name} {fact}" for name, fact in describe_machine(Path.cwd()).items())
    kinds = [(x.size, x.rate, x.output, x.policy) for x in runs]
    least, most = (f([kinds.count(x) for x in kinds], default=0) for f in (min, max))
    repeats = f"{most}" if least == most else f"{least} to {most}"
    limit = f"with a limit at most {args.max_iterations} live passes of guests that are faster than their output"
    head = f"{facts}. Medians of {repeats} saves; {limit}."
    out = [x for x in plan.left_out if x not in [y[:3] for y in kinds]]
    return "\n".join([head, "", *judged(runs), *not_measured(out, args), "", *table(runs)]) + "\n"


def not_measured(out: list[Kind], args: argparse.Namespace) -> list[str]:
    """What ``--longest`` has left out, in words."""
    if not out:
        return []
    told = (f"{size}, {rate or 'idle'}{' pages/s' * bool(rate)}, {to}" for size, rate, to in out)
    return [f"* Not measured, since one save would take more than {format_seconds(args.longest)}: {'; '.join(told)}."]


def update(path: Path, measured: str) -> None:
    """Writes the file's measured part anew. Raises ValueError if it has none."""
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no part between {BEGIN.strip()} and {END.strip()}")
    path.write_text(before + begin + measured + end + after)


def main() -> None:
    """Measures, prints and writes."""
    args = arguments()
    plan, runs = planned(args), read(args.earlier)
    for run in () if args.no_measure else measure(args, plan.kinds, list(runs)):
        runs.append(run)
        print(
            f"{run.size:>5} {run.rate:>7}/s ({run.written:>7.0f}) {run.output:>9} {run.policy:>16}: "
            f"{run.passes:>2} passes {run.mib:>7.0f} MiB {run.seconds:>7.2f} s, paused {1000 * run.pause:>9.2f} ms, "
            f"predicted {1000 * run.predicted:>9.2f} ms; {run.stopped}",
            file=sys.stderr,
            flush=True,
        )
        if args.json:
            write(args.json, runs)
    if not runs:
        raise SystemExit("there is nothing to show: no saves were made, and --with names none")
    measured = text(runs, args, plan)
    print(measured)
    if args.update:
        update(args.update, measured)


if __name__ == "__main__":
    main()
