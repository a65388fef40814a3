"""What an architecture and its baseline differ in: what their comparison is about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.settings.schema import Settings, named

# The settings that each kind of attention reads: where they differ, so do the networks.
READ_BY: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "channel": ("attention_at", "reduction"),
    "static": ("attention_at",),
    "spatial": ("attention_at",),
    "cbam": ("attention_at", "reduction"),
    "eca": ("attention_at",),
    "coordinate": ("attention_at", "reduction"),
    "simam": ("attention_at",),
    "self_attention": ("attention_at", "heads"),
}

OF_ATTENTION = frozenset().union(*READ_BY.values())

# Settings of which one stands for all that a library's author, or another family, does otherwise.
UNKNOWN_INSIDE = frozenset({"family", "name"})


def differing(candidate: Mapping[str, Any], baseline: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the settings in which two architectures differ, `attention` first.

    A setting of attention counts where the attention of both reads it, and `norm_groups` where both
    have group normalisation. Of different families only the settings that both have are compared.
    """
    keys = [*candidate, *(key for key in baseline if key not in candidate)]
    if candidate.get("family") != baseline.get("family"):
        keys = [key for key in keys if key in candidate and key in baseline]
    absent = object()
    found = [key for key in keys if candidate.get(key, absent) != baseline.get(key, absent)]
    attention, other = (one.get("attention", "none") for one in (candidate, baseline))
    read = set(READ_BY[attention]) & set(READ_BY[other])
    unread = OF_ATTENTION.difference(read) | {"baseline"}
    if {candidate.get("normalisation"), baseline.get("normalisation")} != {"group"}:
        unread |= {"norm_groups"}
    if "weights" in found:  # of other weights the checksum is another one
        unread |= {"sha256"}
    return tuple(sorted((key for key in found if key not in unread), key="attention".__ne__))


def is_confounded(differs_in: Sequence[str]) -> bool:
    """Return whether two architectures differ in more than one thing, or may do so."""
    return len(differs_in) > 1 or not UNKNOWN_INSIDE.isdisjoint(differs_in)


def warnings(settings: Settings) -> Iterator[str]:
    """Yield a line for each pair whose comparison is not about one thing alone."""
    architectures = {name: one.model_dump() for name, one in settings.architectures.items()}
    for model, content in architectures.items():
        for baseline in named(content["baseline"]):
            differs_in = differing(content, architectures[baseline])
            both = f"architectures: {model} and its baseline {baseline}"
            if not differs_in:
                yield f"{both} have the same settings: they are the same architecture"
            elif is_confounded(differs_in):
                may = "may " if not UNKNOWN_INSIDE.isdisjoint(differs_in) else ""
                yield (
                    f"{both} {may}differ in more than one thing ({', '.join(differs_in)}): their "
                    "difference says nothing about any of it alone"
                )
