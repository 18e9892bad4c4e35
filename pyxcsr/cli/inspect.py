"""``pyxcsr inspect FILE|-``: what is in a stream, record by record and in sum. Needs no Xen."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Optional

from pyxcsr.cli import failure, say, status
from pyxcsr.cli.decoded import decoded_lines
from pyxcsr.cli.reading import watched
from pyxcsr.container import config as conf
from pyxcsr.container.reader import Kind
from pyxcsr.container.survey import survey_input
from pyxcsr.details.collect import Details
from pyxcsr.errors import InputError, StreamError, UsageError, XcsrError
from pyxcsr.stream.compressed import plain
from pyxcsr.stream.source import open_input
from pyxcsr.stream.survey import Line, Pass, Survey

if TYPE_CHECKING:
    import argparse

    from pyxcsr.stream.wrapping import Container

OK, DAMAGED, UNREADABLE = status.DONE, status.FAILED, status.UNUSABLE

SCHEMA = 1
"""Of --json; docs/inspect.md has it. A new field does not change it; one that means something else does."""

_PASSES_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.description = (
        "Lists the records of a libxc migration stream with their offsets and sizes, and sums up pages, "
        "passes, vcpus and the CPU policy. Of a libxl stream and an xl save file it shows the parts around the libxc "
        "stream too, the guest's configuration included. Passes are told by the pfns, which ascend within one, and are "
        "counted from 0 as save does; one in which nothing was sent cannot be seen."
    )
    parser.epilog = status.explained(
        "read to its END", "damaged on the way, and read so far", "it cannot be read as a stream at all"
    )
    parser.add_argument("file", metavar="FILE", help="the stream, or - for standard input")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument(
        "--decode",
        action="store_true",
        help="besides, the registers of each vcpu, the state of an HVM guest's chips, CPUID leaves and MSRs, by name",
    )
    parser.add_argument(
        "--all", action="store_true", help="a line for each PAGE_DATA record, not one for each run of them"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit status."""
    lines: list[Line] = []
    details = Details()
    sums: Optional[Survey] = None

    def cut(text: str) -> bool:
        """Of a compressed stream of checkpoints, whose sender has died."""
        if sums is None or sums.cut_off is None:
            return False
        sums.cut_off += f"; {text}"
        return True

    try:
        quiet = not args.json
        with open_input(args.file) as fd, plain(fd, cut=cut) as inside, watched(inside, args.file, quiet) as file:
            show = lines.append if args.json else _print_line
            take = details.take if args.json or args.decode else None
            sums = survey_input(file, show, fold=not args.all, take=take)
    except (StreamError, UsageError, InputError) as error:
        return _unreadable(args, error)
    except OSError as error:
        return _unreadable(args, failure.of_input(error, args.file))
    if args.json:
        say.report(json.dumps(_document(lines, sums, details), indent=2))
    else:
        _print_sums(sums)
        if args.decode:
            for line in decoded_lines(details):
                say.report(line)
    for problem in sums.problems:
        say.note(f"{args.file}: {problem}")
    if sums.dropped:
        say.note(f"{args.file}: ... and {sums.dropped} more")
    return DAMAGED if sums.problems else OK


def _unreadable(args: argparse.Namespace, error: XcsrError) -> int:
    failure.name_input(error, args.file, args.words)
    failure.tell(error, as_json=args.json, beside=False)
    return UNREADABLE


def _document(lines: list[Line], sums: Survey, details: Details) -> dict[str, Any]:
    records = [asdict(line) for line in lines]
    return {"schema": SCHEMA, "records": records, "summary": sums.to_dict(), "details": details.to_dict()}


def _print_line(line: Line) -> None:
    name = line.name if line.count == 1 else f"{line.name} x {line.count}"
    say.check_delivered()
    say.report(f"0x{line.offset:010x} {line.size:>12} {name:<24} {line.text}".rstrip())


def _print_sums(sums: Survey) -> None:
    say.report("")
    if sums.container is not None:
        _print_container(sums.container)
    say.report(f"{sums.guest} guest, stream version {sums.version}, saved by Xen {sums.xen}")
    say.report(
        f"{sums.records} records, {sums.bytes} bytes, "
        + ("complete" if sums.complete else "without an END record")
    )
    if sums.checkpoints:
        say.report(f"{sums.checkpoints} checkpoints" + (f"; {sums.cut_off}" if sums.cut_off else ""))
    types = ", ".join(f"{count} {name}" for name, count in sums.page_types.items())
    say.report(f"{sums.nr_pfns} pfns; {sums.entries} entries, {sums.pages} with data: {types or 'none'}")
    _print_passes(sums.passes, sums.nr_passes)
    for vcpu, kinds in sorted(sums.vcpus.items()):
        say.report(f"vcpu {vcpu}: " + ", ".join(f"{kind} {size}" for kind, size in kinds.items()))
    if sums.cpuid_leaves:
        say.report(f"CPUID policy: {sums.cpuid_leaves} leaves, {sums.cpuid_vendor or 'no vendor'}")
    if sums.msr_policy:
        say.report("MSR policy: " + ", ".join(f"{name} 0x{value:x}" for name, value in sums.msr_policy.items()))


def _print_container(container: Container) -> None:
    state = "complete" if container.complete else "without its end"
    of = "parts" if container.kind == Kind.XENSERVER else "records of libxl"
    say.report(f"{Kind(container.kind).words}: {container.bytes} bytes, {container.records} {of}, {state}")
    if container.config is not None:
        say.report(f"configuration: {conf.describe(conf.summary(container.config))} (all of it: --json)")


def _print_passes(passes: list[Pass], nr_passes: int) -> None:
    for number, one in enumerate(passes[:_PASSES_SHOWN]):
        say.report(
            f"pass {number}: {one.entries} entries, {one.pages} with data, "
            f"pfns 0x{one.first_pfn:x} to 0x{one.last_pfn:x}"
        )
    if nr_passes > _PASSES_SHOWN:
        say.report(f"... and {nr_passes - _PASSES_SHOWN} more passes")
