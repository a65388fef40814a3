"""Names that are neither an image's nor a class's: hidden ones, and those that systems make."""

from __future__ import annotations

import re

# in lower case: they are found without regard to it
MADE_BY_SYSTEMS = {
    *("desktop.ini", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db"),  # Windows
    *("$recycle.bin", "system volume information"),  # Windows, on every disk
    *("__macosx", "icon\r", "network trash folder", "temporary items"),  # macOS
    *("lost+found",),  # Linux, on every disk
    *("@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot"),  # network storage
}
SAVED_BY_CHKDSK = re.compile(r"found\.\d{3}")  # Windows puts what it finds lost on a disk there


def is_left_out(name: str) -> bool:
    """Return whether a file or folder of this name is nothing that a person put there."""
    lower = name.lower()
    hidden = name.startswith(".")
    return hidden or lower in MADE_BY_SYSTEMS or bool(SAVED_BY_CHKDSK.fullmatch(lower))
