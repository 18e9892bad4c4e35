"""The cases by name, in the order in which they are run. Each module has ``run(context)``, which yields rows."""

NAMES = (
    *("scan", "full", "sparse", "durable", "paused", "normalise", "p2m", "follow", "restore"),
    *("hvm", "pv32", "remus", "python", "memory", "growth", "mapping", "start", "image", "verify"),
)
