"""Run by a Python that has Volatility 3: its layer over a dump, and the SHA-256 of each page that it gives, as JSON."""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any


def opened(kind: str, path: str) -> Any:
    from volatility3.framework import contexts
    from volatility3.framework.layers import lime, physical, xen

    context = contexts.Context()
    context.config["base.location"] = f"file://{path}"
    base = physical.FileLayer(context, "base", "base")
    context.layers.add_layer(base)
    if kind == "raw":
        return base
    context.config["top.base_layer"] = "base"
    layer = {"elf": xen.XenCoreDumpLayer, "lime": lime.LimeLayer}[kind](context, "top", "top")
    context.layers.add_layer(layer)
    return layer


def main() -> None:
    kind, path, *pfns = sys.argv[1:]
    layer = opened(kind, path)
    pages = {}
    for pfn in map(int, pfns):
        there = layer.is_valid(pfn * 4096, 4096)
        pages[pfn] = hashlib.sha256(layer.read(pfn * 4096, 4096)).hexdigest() if there else None
    print(json.dumps(pages))


if __name__ == "__main__":
    main()
