"""What the guests of hvm_storm.py do to their physmap. Nothing is imported: peer/ needs it before it loads pyxcsr."""

KINDS = (
    *("still", "still", "still", "down", "down", "up", "up", "both", "both", "both", "both", "both"),
    *("mixed", "mixed", "mixed", "pod", "pod", "pod stays", "flutter", "unseen"),
)
"""As often as each is to come."""

NOT_TOLD_OF = ("flutter", "unseen")
"""Those of which Xen does not tell everything (docs/hvm.md): no saver can promise to be right."""
