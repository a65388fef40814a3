"""Near-duplicates across splits: one image resized, compressed, cropped a little or mirrored.

Pairs with perceptual hashes that are alike, of the images or of one and the other's mirror image,
are compared more closely, since photographs of one kind of thing have such hashes by the thousand.
One is cropped in several ways, each crop is laid over the other, the best is shifted until it fits,
and then the details of both have to agree.

References:
    The hash (pHash): https://www.phash.org, as in the library imagehash.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import product

import imagehash
import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from pipeline.data.arrays import SPLITS
from pipeline.data.splitting import Division
from pipeline.storage.records import NearDuplicates
from pipeline.system.machine import cores
from pipeline.system.progress import track

SMALLEST = 32  # pixels a side: pHash looks at 32 x 32
SIDE = 64  # pixels; larger images are brought down to it
FLAT = 1.0  # of 255: what varies less, without its coarse shades, shows nothing
MOST_BITS = 18  # of 64 in which hashes differ: as many as after a crop by 5 % on each side
COARSE_CELLS, FINE_CELLS = 8, 24  # a side, of the grids on which images are compared
LEAST_WHOLE, LEAST_COARSE, LEAST_FINE = 0.6, 0.96, 0.94  # correlations
BLUR = 2.0  # cells, the standard deviation of what counts as coarse shades
HASHES_AT_ONCE = 1 << 24  # pairs
PAIRS_AT_ONCE = 1 << 12

Side = tuple[int, int]  # where a crop begins and ends
STEPS = 80  # a side
COARSE_SIDES: tuple[Side, ...] = ((0, 80), (0, 76), (2, 78), (4, 80), (4, 76))
# down and across; the first is the whole image
COARSE_CROPS = [
    (down, across)
    for down, across in product(COARSE_SIDES, COARSE_SIDES)
    if abs((down[1] - down[0]) - (across[1] - across[0])) <= 4
]
NEAR = 2  # steps by which the ends of the best crop are moved


@dataclass(frozen=True)
class NearDuplicate:
    """Two images that show the same."""

    first: int  # row
    second: int  # row, larger than the first
    mirrored: bool  # one is the mirror image of the other
    correlation: float  # of their details, in [0, 1]


def find(images: np.ndarray, places: np.ndarray) -> list[NearDuplicate]:
    """Find the near-duplicates that lie in different places.

    Equal images are left out: they are exact duplicates.

    Args:
        images: uint8 (N, S, S, 3), all resized to one size whatever their proportions were.
        places: (N,), such as the split of each.

    Returns:
        The pairs by first and second row. None where S is less than `SMALLEST`.
    """
    if images.shape[1] < SMALLEST:
        return []
    small, hashes, mirrored_hashes = _hashed(images)
    crops = _coarse_crops(small)
    found: dict[tuple[int, int], NearDuplicate] = {}
    for mirrored, others in ((False, hashes), (True, mirrored_hashes)):
        batches = _alike(hashes, others, places)
        for cropped, whole, crop in _likely(crops, batches, mirrored):
            rows = (min(cropped, whole), max(cropped, whole))
            if rows in found or np.array_equal(images[cropped], images[whole]):
                continue
            other = small[whole][:, ::-1] if mirrored else small[whole]
            correlation = _correlation(small[cropped], other, COARSE_CROPS[crop])
            if correlation >= LEAST_FINE:
                found[rows] = NearDuplicate(*rows, mirrored, correlation)
    return [found[rows] for rows in sorted(found)]


def summarise(pairs: Sequence[NearDuplicate], division: Division) -> NearDuplicates:
    """Count the pairs and the test images in them."""
    rows = np.array([(pair.first, pair.second) for pair in pairs], np.int64).ravel()
    # with folds every image is a test image, in the run of its fold
    is_test = division.split[rows] == SPLITS[-1] if division.fold is None else rows >= 0
    return NearDuplicates(pairs=len(pairs), test_images=len(np.unique(rows[is_test])))


def _hashed(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the images small and grey, and the hashes of them and of their mirror images.

    Returns:
        uint8 (N, s, s), and twice float32 (N, 64), 1 where a bit is set and -1 where not. Of a flat
        image they are 0, so that it is like none.
    """
    side = min(SIDE, images.shape[1])
    small = np.empty((len(images), side, side), np.uint8)
    hashes = np.zeros((2, len(images), 64), np.float32)

    def hash_into_place(row: int) -> None:
        grey = Image.fromarray(images[row]).convert("L").resize((side, side), Image.Resampling.BOX)
        small[row] = np.asarray(grey)
        if _detail(small[row].astype(np.float32)).std() > FLAT:
            mirrored = grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            for hashed, image in zip(hashes, (grey, mirrored), strict=True):
                hashed[row] = np.where(imagehash.phash(image).hash.ravel(), 1, -1)

    with ThreadPoolExecutor(max_workers=cores()) as threads:
        work = threads.map(hash_into_place, range(len(images)))
        for _ in track(work, "looking for near-duplicates", total=len(images)):
            pass
    return small, hashes[0], hashes[1]


def _alike(hashes: np.ndarray, others: np.ndarray, places: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the pairs of rows in different places with hashes alike, int64 (P, 2), first < second.

    They come in batches: of images that are all aligned, such as faces, nearly every pair is one.
    `others` are the hashes of the second of each pair.
    """
    bits = hashes.shape[1]
    step = max(1, HASHES_AT_ONCE // len(hashes))
    for start in range(0, len(hashes), step):
        # bits that agree, less those that differ: exact in float32, and as fast as BLAS is
        agreement = hashes[start : start + step] @ others[start:].T
        first, second = np.nonzero(agreement >= bits - 2 * MOST_BITS)
        apart = (first < second) & (places[start + first] != places[start + second])
        pairs = start + np.stack([first[apart], second[apart]], axis=1)
        for begin in range(0, len(pairs), PAIRS_AT_ONCE):
            yield pairs[begin : begin + PAIRS_AT_ONCE]


def _coarse_crops(small: np.ndarray) -> np.ndarray:
    """Return `COARSE_CROPS` of uint8 (N, s, s), float32 (N, crops, cells), each `_unit`."""
    side = small.shape[1]
    sampling = {each: _sampling(each, side, COARSE_CELLS) for each in COARSE_SIDES}
    crops = np.empty((len(small), len(COARSE_CROPS), COARSE_CELLS**2), np.float32)
    for row, image in enumerate(small.astype(np.float32)):
        bands = {each: matrix @ image for each, matrix in sampling.items()}
        grids = [bands[down] @ sampling[across].T for down, across in COARSE_CROPS]
        crops[row] = _unit(np.stack(grids))
    return crops


def _likely(
    crops: np.ndarray, batches: Iterable[np.ndarray], mirrored: bool
) -> Iterator[tuple[int, int, int]]:
    """Yield of pairs that are coarsely alike the row to crop, the other, and the best crop."""
    whole = crops[:, 0]
    if mirrored:
        grids = whole.reshape(len(whole), COARSE_CELLS, COARSE_CELLS)
        whole = grids[:, :, ::-1].reshape(whole.shape)
    for batch in batches:
        like = (crops[batch[:, 0], 0] * whole[batch[:, 1]]).sum(axis=1) >= LEAST_WHOLE
        either = np.stack([batch[like], batch[like, ::-1]], axis=1)  # (P, 2, 2): which to crop
        correlations = (crops[either[..., 0]] @ whole[either[..., 1], :, np.newaxis])[..., 0]
        best = correlations.reshape(len(either), -1).argmax(axis=1)  # (P,), of both and all crops
        which, crop = np.divmod(best, crops.shape[1])
        pair = np.arange(len(either))
        likely = correlations[pair, which, crop] >= LEAST_COARSE
        yield from np.column_stack([either[pair, which], crop])[likely].tolist()


def _correlation(cropped: np.ndarray, whole: np.ndarray, crop: tuple[Side, Side]) -> float:
    """Return that of the details in the best crop of uint8 (s, s), near to one, with another's."""
    target = _grid(whole, ((0, STEPS), (0, STEPS)))
    down, across = crop
    tried = [(each, across) for each in _near(down)]
    down, _ = tried[_best(cropped, tried, target)]
    tried = [(down, each) for each in _near(across)]
    best = _grid(cropped, tried[_best(cropped, tried, target)])
    return float(_unit(_detail(best)[np.newaxis])[0] @ _unit(_detail(target)[np.newaxis])[0])


def _best(cropped: np.ndarray, tried: list[tuple[Side, Side]], target: np.ndarray) -> int:
    grids = np.stack([_grid(cropped, crop) for crop in tried])
    return int((_unit(grids) @ _unit(target[np.newaxis])[0]).argmax())


def _near(side: Side) -> list[Side]:
    begins, ends = (range(each - NEAR, each + NEAR + 1) for each in side)
    return [(begin, end) for begin, end in product(begins, ends) if begin >= 0 and end <= STEPS]


def _grid(image: np.ndarray, crop: tuple[Side, Side]) -> np.ndarray:
    """Return a crop of uint8 (s, s) on a fine grid, float32 (c, c)."""
    down, across = (_sampling(each, len(image), FINE_CELLS) for each in crop)
    return down @ image.astype(np.float32) @ across.T


@cache
def _sampling(side: Side, pixels: int, cells: int) -> np.ndarray:
    """Return the matrix (cells, pixels) that takes the mean of the pixels that each cell covers."""
    edges = np.linspace(*side, cells + 1)[:, np.newaxis] * pixels / STEPS
    begins = np.arange(pixels)
    covered = np.minimum(edges[1:], begins + 1) - np.maximum(edges[:-1], begins)
    share = np.clip(covered, 0, None)
    return (share / share.sum(axis=1, keepdims=True)).astype(np.float32)


def _unit(grids: np.ndarray) -> np.ndarray:
    """Return (P, c, c) as (P, c * c) of mean 0 and length 1: their product is a correlation."""
    flat = grids.reshape(len(grids), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _detail(grid: np.ndarray) -> np.ndarray:
    """Return an image (h, w) without its coarse shades."""
    return grid - gaussian_filter(grid, BLUR, mode="nearest")
