"""Reads gcov's counts of a tree that was built with --coverage: a line for each of the core's C files."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path


def counts(tree: Path) -> dict[str, dict[int, int]]:
    """C file -> line -> how often it ran."""
    found: dict[str, dict[int, int]] = {}
    for notes in sorted(tree.rglob("*.gcno")):
        command = ["gcov", "--json-format", "--stdout", str(notes)]
        done = subprocess.run(command, cwd=tree, capture_output=True, check=True)
        data = gzip.decompress(done.stdout) if done.stdout[:2] == b"\x1f\x8b" else done.stdout
        for file in json.loads(data)["files"]:
            name = file["file"]
            if name.startswith("csrc/") and "stub" not in name and name.endswith(".c"):
                lines = found.setdefault(name, {})
                for line in file["lines"]:
                    lines[line["line_number"]] = lines.get(line["line_number"], 0) + line["count"]
    return found


def ranges(numbers: list[int]) -> str:
    """1-3, 7"""
    out: list[list[int]] = []
    for n in numbers:
        if out and n == out[-1][1] + 1:
            out[-1][1] = n
        else:
            out.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in out)


def main() -> None:
    """To standard output."""
    total = hit = 0
    for name, lines in sorted(counts(Path(sys.argv[1])).items()):
        missed = sorted(n for n, count in lines.items() if not count)
        total, hit = total + len(lines), hit + len(lines) - len(missed)
        print(f"{name:24} {len(lines):4} lines {100 * (len(lines) - len(missed)) // len(lines):4}%  {ranges(missed)}")
    print(f"{'all':24} {total:4} lines {100 * hit / max(total, 1):6.1f}%")


if __name__ == "__main__":
    main()
