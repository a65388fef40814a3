"""Text that a person reads: names of files on one line, counts of things."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """Return such as ``1 seed``, ``3 seeds`` or ``1,797 images``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def printable(name: str) -> str:
    r"""Return the name of a file on one line: ``\n`` for a newline, ``\xe9`` where not UTF-8."""

    def escaped(character: str) -> str:
        byte = ord(character) - 0xDC00  # where `os.fsdecode` puts a byte that isn't UTF-8
        if 0x80 <= byte <= 0xFF:
            return f"\\x{byte:02x}"
        return character.encode("unicode_escape").decode()

    return "".join(each if each.isprintable() else escaped(each) for each in name)
