"""Bytes that were a file once: cut, overwritten, with a stranger's in the middle."""

from __future__ import annotations

from hypothesis import strategies as st

EXTREMES = [b"\x00", b"\xff", b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"]


@st.composite
def damaged(draw: st.DrawFn, original: bytes, most: int = 4) -> bytes:
    """The original after some accidents; as it was, if there are none."""
    content = bytearray(original)
    for _ in range(draw(st.integers(0, most))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.sampled_from(ACCIDENTS)):
            case "cut":
                del content[at:]
            case "hole":
                del content[at : at + draw(st.integers(1, 64))]
            case "flip" if content:
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "overwrite":
                piece = draw(st.sampled_from(EXTREMES) | st.binary(min_size=1, max_size=8))
                content[at : at + len(piece)] = piece
            case "insert":
                content[at:at] = draw(st.binary(min_size=1, max_size=16))
            case "repeat":
                content[at:at] = content[at : at + draw(st.integers(1, 256))]
            case "zeros":
                length = draw(st.integers(1, 512))
                content[at : at + length] = bytes(length)
    return bytes(content)


ACCIDENTS = ["cut", "hole", "flip", "flip", "overwrite", "overwrite", "insert", "repeat", "zeros"]
