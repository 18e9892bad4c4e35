"""How saves converge: libxenguest's policy, ours, and ours with a limit, over guests and outputs; docs/convergence.md.

    python -m benchmarks.convergence                                  # all of it: some hours
    python -m benchmarks.convergence --size 256M --output unlimited   # a part
    python -m benchmarks.convergence --update docs/convergence.md     # writes the tables there
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyxcsr
from benchmarks import sinks
from benchmarks.guests import backed_frames, describe, machine, pages_of
from benchmarks.machine import describe as describe_machine
from benchmarks.markdown import BEGIN, END

RATES = (0, 1_000, 20_000, 60_000, 400_000)
SIZES = ("256M", "4G")
OUTPUTS = {"100 MB/s": 1e8, "1 GB/s": 1e9, "unlimited": 0.0}
DOWNTIME = 0.1
SETTLED = 0.3
"""Seconds that a guest writes before it is saved."""

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
        return abs(self.predicted - self.pause) <= 0.3 * self.pause


def arguments() -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.convergence", description=__doc__)
    parser.add_argument("--rate", type=int, nargs="+", default=RATES, help="pages that the guest writes a second")
    parser.add_argument("--size", nargs="+", default=SIZES, help="of the guest")
    parser.add_argument("--output", nargs="+", choices=tuple(OUTPUTS), default=tuple(OUTPUTS))
    parser.add_argument("--repeats", type=int, default=3, help="saves of each kind (3)")
    parser.add_argument(
        "--max-iterations", type=int, default=8, help="of saves with a limit: some of them can never keep it (8)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every save there")
    parser.add_argument("--update", type=Path, metavar="FILE", help="put the tables into FILE: docs/convergence.md")
    return parser.parse_args()


def output(name: str) -> AbstractContextManager[int]:
    """Where the stream goes."""
    return sinks.link(OUTPUTS[name]) if OUTPUTS[name] else sinks.null()


def one(hv: Any, domid: int, rate: int, size: str, to: str, policy: str, most: int) -> Run:
    """Saves a guest that writes all the time, and lets it go on."""
    guest = hv.stub.guest(domid)
    options = dict(POLICIES[policy])
    if "max_downtime" in options:
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


def measure(args: argparse.Namespace) -> Iterator[Run]:
    """All saves that were asked for; those that are compared come in turn."""
    for size in args.size:
        for rate in args.rate:
            pages = pages_of(size)
            shared = {"backed": backed_frames(pages)} if pages > pages_of("1G") else {}
            with machine(size, **shared) as hv:
                domid = hv.stub.create(describe(size, writer="thread", rate=rate))
                for to in args.output:
                    for turn in range(args.repeats):
                        for policy in sorted(POLICIES, reverse=turn % 2 == 1):
                            yield one(hv, domid, rate, size, to, policy, args.max_iterations)
                hv.stub.destroy(domid)


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


def table(runs: list[Run]) -> list[str]:
    """A row for each kind of save."""
    head = ["guest", "pages/s", "output", "policy", "passes", "MiB", "s", "pause ms", "predicted ms"]
    lines = [head, ["---"] * len(head)]
    kinds = dict.fromkeys((x.size, x.rate, x.output, x.policy) for x in runs)
    order = {name: i for i, name in enumerate(POLICIES)}
    for kind in sorted(kinds, key=lambda x: (pages_of(x[0]), x[1], list(OUTPUTS).index(x[2]), order[x[3]])):
        size, rate, to, policy = kind
        same = [x for x in runs if (x.size, x.rate, x.output, x.policy) == kind]
        lines.append([size, f"{rate}" if rate else "idle", to, policy, *cell(same)])
    return [f"| {' | '.join(x)} |" for x in lines]


def feasible(runs: list[Run], run: Run) -> bool:
    """Whether the guest's rate allows the limit: without it, ours ends below, with as much to spare as it plans."""
    kind = (run.size, run.rate, run.output, "adaptive")
    free = [x.pause for x in runs if (x.size, x.rate, x.output, x.policy) == kind]
    return bool(free) and statistics.median(free) * 1.3 <= DOWNTIME


def judged(runs: list[Run]) -> list[str]:
    """How often predictions were right and the limit was kept, and what ours saves or costs."""
    predicted = [x for x in runs if x.is_judged]
    limited = [x for x in runs if x.policy == "adaptive, 100 ms"]
    can, cannot = ([x for x in limited if feasible(runs, x) == flag] for flag in (True, False))
    kept = sum(x.pause <= DOWNTIME for x in can)
    return [
        f"* The prediction was within 30 % of the pause in {sum(x.is_predicted for x in predicted)} of "
        f"{len(predicted)} saves with two live passes or more.",
        f"* `max_downtime` of 100 ms was kept in {kept} of {len(can)} saves where the guest's rate allows it; of the "
        f"{len(cannot)} others, in {sum(x.pause <= DOWNTIME for x in cannot)}. There the guest was suspended at the "
        "end of the passes, and the report says so.",
    ]


def text(runs: list[Run], args: argparse.Namespace) -> str:
    """The part of docs/convergence.md that is measured."""
    facts = "; ".join(f"{name} {fact}" for name, fact in describe_machine(Path.cwd()).items())
    head = f"{facts}. Medians of {args.repeats} saves; with a limit, at most {args.max_iterations} live passes."
    return "\n".join([head, "", *judged(runs), "", *table(runs)]) + "\n"


def update(path: Path, measured: str) -> None:
    """Writes the file's measured part anew. Raises ValueError if it has none."""
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no part between {BEGIN.strip()} and {END.strip()}")
    path.write_text(before + begin + measured + end + after)


def main() -> None:
    """Measures, prints and writes."""
    args, runs = arguments(), []
    for run in measure(args):
        runs.append(run)
        print(
            f"{run.size:>5} {run.rate:>7}/s ({run.written:>7.0f}) {run.output:>9} {run.policy:>16}: "
            f"{run.passes:>2} passes {run.mib:>7.0f} MiB {run.seconds:>7.2f} s, paused {1000 * run.pause:>9.2f} ms, "
            f"predicted {1000 * run.predicted:>9.2f} ms; {run.stopped}",
            file=sys.stderr,
            flush=True,
        )
        if args.json:
            args.json.write_text(json.dumps([asdict(x) for x in runs], indent=1) + os.linesep)
    measured = text(runs, args)
    print(measured)
    if args.update:
        update(args.update, measured)


if __name__ == "__main__":
    main()
