"""``python -m benchmarks``: runs the cases and prints what they measured beside the goals. See README.md."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

from benchmarks import BUILD, TOP, peer
from benchmarks.cases import NAMES
from benchmarks.machine import describe
from benchmarks.markdown import update
from benchmarks.table import print_rows


def arguments() -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--case", nargs="+", action="extend", choices=NAMES, help="only these (all by default)")
    parser.add_argument("--repeats", type=int, help="turns for each comparison (9; with --quick 3)")
    parser.add_argument("--best", type=int, default=1, metavar="K", help="a turn takes the best of K runs")
    parser.add_argument("--quick", action="store_true", help="small guests: shows that it works, measures nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--update", type=Path, metavar="FILE", help="put the tables into FILE: docs/performance.md")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it, as .png or .svg (needs matplotlib)")
    parser.add_argument("--disk", type=Path, default=BUILD, metavar="FOLDER", help="on the disk to be measured")
    parser.add_argument("--list", action="store_true", help="name the cases")
    options = parser.parse_args()
    options.repeats = options.repeats or (3 if options.quick else 9)
    if options.repeats < 1 or options.best < 1:
        parser.error("--repeats, --best: at least 1")
    if options.plot and options.plot.suffix not in (".png", ".svg"):
        parser.error("--plot: a name that ends in .png or .svg")
    return options


def run_case(name: str, options: argparse.Namespace, standin: Optional[Path]) -> Optional[list[dict[str, Any]]]:
    """The rows of a case; None if it failed, and has said so."""
    request = {
        "case": name,
        "repeats": options.repeats,
        "quick": options.quick,
        "best": options.best,
        "standin": str(standin) if standin else None,
        "disk": str(options.disk.resolve()),
    }
    command = [sys.executable, "-m", "benchmarks.worker"]
    done = subprocess.run(command, input=json.dumps(request), cwd=TOP, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print(f"case {name} failed ({done.returncode}); what it said is above", file=sys.stderr)
        return None
    return list(json.loads(done.stdout))


def main() -> None:
    """The program."""
    options = arguments()
    if options.list:
        print("\n".join(NAMES))
        return
    if options.plot:
        from benchmarks.plot import check

        check()
    options.disk.mkdir(parents=True, exist_ok=True)
    why_not = peer.missing()
    standin = None if why_not else peer.standin()
    result: dict[str, Any] = {name: getattr(options, name) for name in ("repeats", "best", "quick")}
    result["machine"] = describe(options.disk)
    result["libxenguest"] = why_not or "4.17"
    result["rows"], result["failed"] = [], []
    for name in options.case or NAMES:
        print(f"{name}:", file=sys.stderr, flush=True)
        rows = run_case(name, options, standin)
        if rows is None:
            result["failed"].append(name)
        else:
            result["rows"] += rows
    result["load_after"] = Path("/proc/loadavg").read_text().split()[:3]
    print_rows(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    if options.update:
        update(options.update, result)
    if options.plot:
        from benchmarks.plot import draw

        draw(result, options.plot)
    if result["failed"]:
        sys.exit(f"failed: {', '.join(result['failed'])}")


if __name__ == "__main__":
    main()
