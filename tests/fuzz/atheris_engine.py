"""libFuzzer on the Python parts, by the package atheris: edges of pyxcsr's bytecode and its comparisons guide it.

It owns the process that it runs in, so it gets one: ``python -m fuzz.atheris_engine CORPUS libFuzzer-options``.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from fuzz.c_target import APART, Run

MAX_LENGTH = 3 << 20
TESTS = Path(__file__).resolve().parent.parent


def run(seeds: list[bytes], seconds: int, seed: int, findings: Path) -> Run:
    """Fuzzes for so long. One finding ends it; its input is put into ``findings``."""
    with tempfile.TemporaryDirectory() as work:
        corpus = Path(work, "corpus")
        corpus.mkdir()
        for number, data in enumerate(seeds):
            (corpus / f"seed{number}").write_bytes(data)
        findings.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
        options = [f"-max_total_time={seconds}", f"-max_len={MAX_LENGTH}", f"-seed={seed}", "-rss_limit_mb=4096",
                   "-print_final_stats=1", f"-artifact_prefix={findings}/"]  # fmt: skip
        command = [*APART, sys.executable, "-m", "fuzz.atheris_engine", str(corpus), *options]
        environ = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environ, check=False)
        said = done.stdout + done.stderr
        edges, executed = re.findall(r"cov: (\d+)", said), re.search(r"number_of_executed_units:\s*(\d+)", said)
        inputs = len(list(corpus.iterdir()))
        crash = said[-4000:] if done.returncode or not executed else ""
    return Run(int(executed[1]) if executed else 0, int(edges[-1]) if edges else 0, inputs, crash)


def main() -> None:
    """The process that atheris owns."""
    import atheris

    with atheris.instrument_imports(include=["pyxcsr"]):
        from fuzz.targets import Targets
    from fuzz.mutate import Mutator

    targets, mutator, corpus = Targets(), Mutator(random.Random(0)), Path(sys.argv[1])
    lent = [x.read_bytes() for x in sorted(corpus.iterdir())]

    def mutate(data: Any, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.2:
            return bytes(atheris.Mutate(bytes(data), max_size))
        mutator._rng = rng
        changed = mutator(bytes(data), lent)
        return changed if len(changed) <= max_size else bytes(data)

    atheris.Setup([sys.argv[0], *sys.argv[2:], str(corpus)], targets, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
