"""Near-duplicates: planted leaks are named, photographs of the same kind of thing are not."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from pipeline.data import arrays, near_duplicates
from pipeline.figures.near_duplicates import draw_near_duplicates
from tests.unit.test_layouts import Project, rows

SIZE = (320, 240)


def photograph(seed: int) -> Image.Image:
    """Draw something like a photograph: a ground that fades, soft and hard shapes, a texture."""
    random = np.random.default_rng(seed)
    width, height = SIZE
    fade = np.linspace(random.integers(60, 200), random.integers(60, 200), height)[:, None, None]
    pixels = np.broadcast_to(fade + random.normal(0, 12, 3), (height, width, 3))
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for number in range(14):
        x, y = random.integers(-20, width), random.integers(-20, height)
        box = (x, y, x + random.integers(20, 110), y + random.integers(20, 90))
        colour = tuple(random.integers(0, 256, 3).tolist())
        (draw.ellipse if number % 2 else draw.rectangle)(box, fill=colour)
        if number == 8:
            image = image.filter(ImageFilter.GaussianBlur(4))
            draw = ImageDraw.Draw(image)
    grain = random.normal(0, 4, (height, width, 1))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


def cropped(left: float, top: float) -> Callable[[Image.Image], Image.Image]:
    """Return what cuts 5 % off both sides of an image, these shares of it at the left and top."""

    def crop(image: Image.Image) -> Image.Image:
        width, height = image.size
        box = (left * width, top * height, (left + 0.95) * width, (top + 0.95) * height)
        return image.crop(tuple(map(round, box)))

    return crop


# what is done to an image, the ending of its file, and how it is written
Leak = tuple[Callable[[Image.Image], Image.Image], str, dict[str, object]]
LEAKS: dict[str, Leak] = {
    "rescaled by a half": (lambda image: image.resize((160, 120)), "png", {}),
    "rescaled by three": (lambda image: image.resize((960, 720)), "jpg", {"quality": 90}),
    "rescaled unevenly": (lambda image: image.resize((300, 300)), "png", {}),
    "recompressed at 50": (lambda image: image, "jpg", {"quality": 50}),
    "recompressed at 10": (lambda image: image, "jpg", {"quality": 10}),
    "recompressed as WebP": (lambda image: image, "webp", {"quality": 40}),
    "cropped in the middle": (cropped(0.025, 0.025), "jpg", {"quality": 90}),
    "cropped in a corner": (cropped(0, 0), "png", {}),
    "cropped elsewhere": (cropped(0.04, 0.013), "png", {}),
    "mirrored": (ImageOps.mirror, "png", {}),
    "mirrored and compressed": (ImageOps.mirror, "jpg", {"quality": 60}),
    "mirrored and cropped": (
        lambda image: cropped(0.03, 0)(ImageOps.mirror(image)),
        "jpg",
        {"quality": 80},
    ),
    "a thumbnail": (lambda image: image.resize((80, 60)), "jpg", {"quality": 75}),
    "a small thumbnail": (lambda image: image.resize((48, 36)), "jpg", {"quality": 75}),
}
COPIES = 3  # exact copies under another name
PULLED = 3  # images of the test that lie in train, in the same class's folder


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, set[tuple[str, str]]]:
    """Give a set that is split, and the pairs of images in train and test that show the same."""
    project = Project(tmp_path_factory.mktemp("planted"))
    for part, first, count in (("train", 0, 60), ("test", 100, 30)):
        for number in range(first, first + count):
            path = project.images / part / ("cat", "dog")[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            photograph(number).save(path)
    pairs = set()

    def plant(number: int, name: str, make: Callable[[Path, Path], None]) -> None:
        """Put into the test what `make` makes of a training image."""
        original = project.images / "train" / ("cat", "dog")[number % 2] / f"{number}.png"
        leak = project.images / "test" / ("cat", "dog")[number % 2] / name
        make(original, leak)
        pairs.add(tuple(path.relative_to(project.images).as_posix() for path in (leak, original)))

    for number, (name, (change, ending, options)) in enumerate(LEAKS.items()):

        def write(
            original: Path, leak: Path, change: Callable = change, options: dict = options
        ) -> None:
            with Image.open(original) as image:
                change(image).save(leak, **options)

        plant(number, f"{name}.{ending}", write)
    for number in range(20, 20 + COPIES):
        plant(number, f"copy {number}.png", lambda old, new: new.write_bytes(old.read_bytes()))
    for number in range(100, 100 + PULLED):  # the other way round: test images in train
        source = project.images / "test" / ("cat", "dog")[number % 2] / f"{number}.png"
        target = project.images / "train" / source.parent.name / f"pulled {number}.jpg"
        with Image.open(source) as image:
            image.save(target, quality=85)
        pairs.add(tuple(path.relative_to(project.images).as_posix() for path in (source, target)))
    project.settings["image_size"] = 64
    done = project.run()
    assert done.returncode == 0, done.stderr
    return project, pairs


def named(project: Project, table: str, column: str) -> set[tuple[str, ...]]:
    """Return the origins of each group or pair that a table of the splits names."""
    found: dict[str, list[str]] = {}
    for row in rows(project.root / "data" / "splits" / table):
        found.setdefault(row[column], []).append(row["origin"])
    return {tuple(sorted(origins)) for origins in found.values()}


def test_all_planted_leaks_are_named_and_nothing_else(
    planted: tuple[Project, set[tuple[str, str]]],
) -> None:
    """Twenty leaks of seven kinds; the eighth, members of a group, is below."""
    project, pairs = planted
    assert len(pairs) == len(LEAKS) + COPIES + PULLED == 20
    exact = named(project, "duplicates.csv", "group")
    near = {
        pair
        for pair in named(project, "near_duplicates.csv", "pair")
        if {origin.partition("/")[0] for origin in pair} == {"train", "test"}
    }
    assert len(exact) == COPIES
    assert exact | near == {tuple(sorted(pair)) for pair in pairs}
    description = json.loads((project.root / "data/splits/dataset.json").read_text())
    in_test = {row["origin"] for row in rows(project.root / "data/splits/near_duplicates.csv")
               if row["split"] == "test"}  # fmt: skip
    assert description["near_duplicates"]["test_images"] == len(in_test) == 17


def test_mirror_images_are_said_to_be_such(planted: tuple[Project, set[tuple[str, str]]]) -> None:
    found = rows(planted[0].root / "data" / "splits" / "near_duplicates.csv")
    mirrored = {row["origin"] for row in found if row["mirrored"] == "true"}
    assert {Path(origin).stem for origin in mirrored if "test" in origin} == {
        name for name in LEAKS if name.startswith("mirrored")
    }


def test_the_split_stage_says_how_many_there_are(
    planted: tuple[Project, set[tuple[str, str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    project, _ = planted
    said = project.run("split").stderr
    pairs = len(named(project, "near_duplicates.csv", "pair"))
    assert f"{pairs} pairs of images in two splits show the same (resized, compressed" in said
    assert "3 test images lie in train or validation too, pixel for pixel" in said


def test_pairs_are_drawn_those_with_test_images_first(
    planted: tuple[Project, set[tuple[str, str]]],
) -> None:
    dataset = arrays.read(planted[0].root / "data" / "splits")
    figure = draw_near_duplicates(dataset)
    titles = [axes.get_title() for axes in figure.get_axes()]
    assert len(titles) == 24  # twelve pairs
    assert all("test" in one + other for one, other in zip(titles[::2], titles[1::2], strict=True))


@pytest.mark.parametrize("official", [True, False])
def test_members_of_a_group_never_leak(tmp_path: Path, official: bool) -> None:
    """Photographs of one place: an official split of them is refused, a drawn one keeps them."""
    project = Project(tmp_path)
    lines = ["file,class,group" + (",split" if official else "")]
    for number in range(40):
        project.image(f"{number}.png")
        split = f",{'test' if number % 5 == 0 else 'train'}" if official else ""
        lines.append(f"{number}.png,{('cat', 'dog')[number % 2]},place {number // 4}{split}")
    project.table(lines)
    if official:
        assert "group 'place 0' lies in two splits: '0.png' in test" in project.refused()
    else:
        project.counts()
        places = {(row["group"], row["split"]) for row in project.index()}
        assert len(places) == 10


def test_hashes_are_those_of_the_library() -> None:
    image = photograph(1).resize((64, 64))
    small, hashes, mirrored = near_duplicates._hashed(np.asarray(image)[np.newaxis])
    grey = image.convert("L")
    assert np.array_equal(small[0], np.asarray(grey))
    assert np.array_equal(hashes[0] > 0, imagehash.phash(grey).hash.ravel())
    assert np.array_equal(mirrored[0] > 0, imagehash.phash(ImageOps.mirror(grey)).hash.ravel())


def test_images_without_anything_in_them_are_like_none() -> None:
    flat = np.full((6, 64, 64, 3), 100, np.uint8)
    flat[3:] += np.linspace(0, 50, 64).astype(np.uint8)[:, np.newaxis]  # and one that fades
    flat[1, 0, 0] = 101
    assert near_duplicates.find(flat, np.arange(6)) == []


def test_photographs_of_the_same_kind_of_thing_are_not_taken_for_one() -> None:
    """One object on one ground, moved, turned and lit in another way: not one pair of 780."""
    images = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        image = Image.new("RGB", (96, 96), (200, 195, 190))
        draw = ImageDraw.Draw(image)
        x, y = random.integers(20, 40, 2)
        draw.ellipse((x, y, x + 36, y + 44), fill=(180, 120, 100))
        for finger in range(4):
            angle = -1.2 + 0.45 * finger + random.normal(0, 0.25)
            length = random.integers(16, 30)
            end = (x + 18 + length * np.sin(angle), y + 10 - length * np.cos(angle))
            draw.line(((x + 18, y + 14), end), fill=(180, 120, 100), width=8)
        images.append(np.asarray(image.filter(ImageFilter.GaussianBlur(1)).resize((64, 64))))
    hashes = near_duplicates._hashed(np.stack(images))[1]
    alike = near_duplicates._alike(hashes, hashes, np.arange(40))
    assert sum(map(len, alike)) > 50  # for the hash alone they are
    assert near_duplicates.find(np.stack(images), np.arange(40)) == []


def test_pairs_within_a_place_and_equal_images_are_left_out() -> None:
    one = np.asarray(photograph(5).resize((64, 64)))
    other = np.asarray(photograph(5).resize((96, 96)).resize((64, 64)))
    images = np.stack([one, one, other])
    assert near_duplicates.find(images, np.array(["train", "train", "train"])) == []
    found = near_duplicates.find(images, np.array(["train", "test", "test"]))
    assert [(pair.first, pair.second) for pair in found] == [(0, 2)]


def test_pairs_that_are_alike_are_never_all_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "HASHES_AT_ONCE", 1 << 16)
    hashes, places = np.ones((2000, 64), np.float32), np.arange(2000) % 2
    tracemalloc.start()
    batches = near_duplicates._alike(hashes, hashes, places)
    pairs = sum(len(batch) for batch in batches)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pairs == 1000**2  # each of one place with each of the other
    assert peak < pairs * 2 * np.dtype(np.int64).itemsize / 2


def test_small_images_are_not_looked_through() -> None:
    images = np.stack([np.asarray(photograph(5).resize((16, 16)))] * 2)
    assert near_duplicates.find(images, np.arange(2)) == []
