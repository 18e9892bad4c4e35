"""report.py live|no-live FILE: checks what `pyxcsr save --json` said, and prints its sums."""
import json
import sys

live = sys.argv[1] == "live"
with open(sys.argv[2]) as f:
    r = json.load(f)
passes = r["passes"]
pages = [p["pages"] for p in passes]
print(f"    passes {len(passes)}, pages {pages}, dirty {[p['dirty'] for p in passes]}, {r['bytes']} bytes,"
      f" {r['seconds']:.2f} s, paused {r['seconds_paused']:.3f} s")
wrong = [what for what, right in {
    "live is not what was asked for": r["live"] is live,
    "number of passes": len(passes) >= 2 if live else len(passes) == 1,
    "only the last pass is suspended": [p["suspended"] for p in passes].index(True) == len(passes) - 1,
    "first pass does not start from all pages": pages[0] > 0.9 * r["nr_pfns"],
    "no page was dirtied: the guest did not write": not live or sum(pages[1:]) > 0,
    "sum of pages": sum(pages) == r["pages"],
    "bytes do not hold the pages": r["bytes"] > r["pages"] * 4096 * 0.5,
    "time paused": 0 < r["seconds_paused"] <= r["seconds"],
}.items() if not right]
if wrong:
    sys.exit(f"report: wrong: {'; '.join(wrong)}: {r}")
