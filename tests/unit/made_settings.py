"""What the checks of params.yaml say of an architecture for images of some size."""

from __future__ import annotations

from typing import Any

from pipeline.settings import presets, rules
from pipeline.settings.load import check

DIGITS = presets.values("digits")


def conflicts(architecture: dict[str, Any], image_size: int) -> list[str]:
    """Return what `rules.conflicts` says of it; settings that are left out are the preset's.

    Args:
        architecture: an entry of `architectures`, for the preset's of the same family.
        image_size: in pixels; also one that is too small for params.yaml to take at all.

    Raises:
        InputError: if a setting is wrong by itself.
    """
    family = architecture["family"]
    given = DIGITS["architectures"].get(family, {"baseline": None}) | architecture
    content = DIGITS | {"model": "candidate", "architectures": {"candidate": given}}
    settings = check(content | {"data": DIGITS["data"] | {"image_size": 1024}})
    data = settings.data.model_copy(update={"image_size": image_size})
    found = rules.conflicts(settings.model_copy(update={"data": data}))
    return [conflict for conflict in found if conflict.startswith("architectures.")]
