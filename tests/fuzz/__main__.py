"""``PYTHONPATH=tests python -m fuzz [--seconds N]``: fuzzes the readers of streams, in Python and in C.

Five engines, each for so many seconds: ``c`` (libFuzzer under AddressSanitizer and UndefinedBehaviorSanitizer on the
C part of a restore; wants clang), ``atheris`` (libFuzzer on the Python parts; wants the package atheris), ``own`` (our
own mutation guided by lines reached; wants nothing), ``images`` (the same, of small inputs through index, dump,
compare and containers alone; image_engine.py), and ``epochs`` (checkpointed streams into domains; epoch_engine.py).
Findings are put into ``--findings``; the exit status is 1 if there are any. An engine that is not there is said to be
missing; named on the command line it is an error.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import sys
import tempfile
from pathlib import Path

from fuzz import c_target
from fuzz.corpus import seeds

ENGINES = ("c", "atheris", "own", "images", "epochs")


def main() -> int:
    """The program; its exit status."""
    parser = argparse.ArgumentParser(description="fuzzes the readers of streams")
    parser.add_argument("--seconds", type=int, default=60, help="for each engine (60)")
    parser.add_argument("--engine", choices=ENGINES, action="append", help="default: all that are there")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--findings", type=Path, default=Path("findings"))
    args = parser.parse_args()
    found = 0
    for engine in args.engine or ENGINES:
        problem = missing(engine)
        if problem and args.engine:
            parser.error(problem)
        if problem:
            print(f"{engine}: {problem}")
            continue
        found += RUN[engine](args)
    return int(found > 0)


def missing(engine: str) -> str:
    """Why an engine cannot run, if it cannot."""
    if engine == "atheris" and importlib.util.find_spec("atheris") is None:
        return "the package atheris is not installed"
    return c_target.missing() if engine == "c" else ""


def keep(folder: Path, data: bytes) -> Path:
    """Puts a finding's input into a file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(data).hexdigest()[:16]
    path.write_bytes(data)
    return path


def show(findings: list[tuple[str, bytes]], folder: Path) -> None:
    """Prints what was found, and where its inputs are kept."""
    for text, data in findings:
        print(f"FINDING {text} ({keep(folder, data)})")


def run_own(args: argparse.Namespace) -> int:
    """Our own engine."""
    from fuzz.engine import fuzz
    from fuzz.targets import Targets

    targets = Targets()
    out = fuzz(targets, seeds(), args.seconds, args.seed)
    show(out.findings, args.findings)
    print(
        f"own: {out.executions} inputs, {targets.accepted} restored with success, {out.lines} lines reached, "
        f"{len(out.corpus)} inputs kept, {len(out.findings)} findings"
    )
    return len(out.findings)


def run_images(args: argparse.Namespace) -> int:
    """Small inputs through what takes a saved guest for data."""
    from fuzz.image_engine import run

    out, executions, forged = run(args.seconds, args.seed)
    show(out.findings, args.findings)
    print(
        f"images: {out.executions} inputs, {executions} executions of a target, {forged} forged indexes taken, "
        f"{out.lines} lines reached, {len(out.corpus)} inputs kept, {len(out.findings)} findings"
    )
    return len(out.findings)


def run_atheris(args: argparse.Namespace) -> int:
    """libFuzzer on the Python parts."""
    from fuzz.atheris_engine import run

    done = run(seeds(), args.seconds, args.seed, args.findings)
    print(f"atheris: {done.executions} inputs, {done.edges} edges reached, {done.inputs} inputs kept, "
          f"{1 if done.crash else 0} findings")  # fmt: skip
    if done.crash:
        print(done.crash)
    return int(bool(done.crash))


def run_c(args: argparse.Namespace) -> int:
    """libFuzzer on the C part."""
    with tempfile.TemporaryDirectory() as work:
        corpus = Path(work, "corpus")
        c_target.seed_inputs(seeds(), corpus)
        done = c_target.run(c_target.build(Path(work)), corpus, args.seconds, args.seed)
        for crash in (*Path(work).glob("crash-*"), *Path(work).glob("timeout-*"), *Path(work).glob("oom-*")):
            print(f"FINDING {keep(args.findings, crash.read_bytes())}")
    print(f"c: {done.executions} inputs, {done.edges} edges reached, {done.inputs} inputs kept, "
          f"{1 if done.crash else 0} findings")  # fmt: skip
    if done.crash:
        print(done.crash)
    return int(bool(done.crash))


def run_epochs(args: argparse.Namespace) -> int:
    """Checkpointed streams."""
    from fuzz.epoch_engine import run

    out, target = run(args.seconds, args.seed)
    show(out.findings, args.findings)
    print(
        f"epochs: {target.executions} inputs, {target.failed_over} restored with success, {target.refused} refused, "
        f"{out.lines} lines reached, {len(out.corpus)} inputs kept, {len(out.findings)} findings"
    )
    return len(out.findings)


RUN = {"c": run_c, "atheris": run_atheris, "own": run_own, "images": run_images, "epochs": run_epochs}


if __name__ == "__main__":
    sys.exit(main())
