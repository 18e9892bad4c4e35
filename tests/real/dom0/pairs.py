"""pairs.py GUEST ROWS OUT: the rows of pairs.sh as JSON and as a table.

A row: way, saver, restorer, run, whether all went well, ms until xl was done, the guest's last beat before.
guest_gap_ms is the longest time that the guest itself missed in the beats after that one, up to the next row's.
"""
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

guest, rows_file, out = sys.argv[1:]
text = b"".join(log.read_bytes() for log in Path("/var/log/xen/console").glob(f"guest-{guest}*.log"))
beats = {int(n): int(gap) for n, gap in re.findall(rb"PULSE n=(\d+) .*?gap=(\d+) bad=", text)}
rows = []
for line in Path(rows_file).read_text().splitlines():
    way, saver, restorer, run, ok, ms, since = line.split()
    rows.append({"way": way, "saver": saver, "restorer": restorer, "run": int(run), "ok": ok == "1",
                 "seconds": int(ms) / 1000, "since": int(since)})
for row, following in zip(rows, [*rows[1:], {"since": 1 << 60}]):
    row["guest_gap_ms"] = max((gap for n, gap in beats.items() if row["since"] < n <= following["since"]), default=None)
table = []
for way, saver, restorer in dict.fromkeys((row["way"], row["saver"], row["restorer"]) for row in rows):
    runs = [row for row in rows if (row["way"], row["saver"], row["restorer"]) == (way, saver, restorer)]
    gaps = [row["guest_gap_ms"] for row in runs if row["guest_gap_ms"] is not None]
    table.append({
        "way": way, "saver": saver, "restorer": restorer, "runs": len(runs), "good": sum(row["ok"] for row in runs),
        "seconds": round(statistics.median(row["seconds"] for row in runs), 2),
        "guest_gap_ms": round(statistics.median(gaps)) if gaps else None,
    })
release = subprocess.run(["xl", "info", "xen_version"], capture_output=True, text=True, check=True).stdout.strip()
Path(out).write_text(json.dumps({"xen": release, "guest": guest, "table": table, "runs": rows}, indent=1))
print(f"Xen {release}, guest {guest}; seconds and guest_gap_ms are medians")
for row in table:
    print(f"{row['way']:8} {row['saver']:6} -> {row['restorer']:6} {row['good']:3} of {row['runs']:3} good "
          f"{row['seconds']:8.2f} s, guest stood {row['guest_gap_ms']} ms")
