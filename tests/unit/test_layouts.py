"""Folders of images as people have them: the counts that each gives, or the line of its refusal.

All of it through the command line: ``download``, then ``split``.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline.settings import presets
from tests.unit.test_command_line import Done
from tests.unit.test_command_line import run as command

Counts = dict[str, dict[str, int]]  # by split and class

PETS = ("cat", "dog")
EACH = 10  # images of a class, where nothing else is said
# of 10 images 2 are for the test, and of the other 8 a quarter for validation
DRAWN = {"train": 6, "validation": 2, "test": 2}


class Project:
    """A folder with params.yaml, images in ``images/`` and what the first two stages make of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images = root / "images"
        self.images.mkdir()
        self.made = 0
        self.settings: dict[str, Any] = {}

    def image(self, path: str) -> None:
        """Draw an image that no other is equal to."""
        self.made += 1
        place = self.images / path
        place.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(self.made).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place)

    def classes(self, holder: str, names: Iterable[str] = PETS, each: int = EACH) -> None:
        for name in names:
            for number in range(each):
                self.image(f"{holder}/{name}/{number}.png")

    def table(self, lines: Iterable[str], name: str = "labels.csv") -> None:
        """Write a table of labels and name it in params.yaml."""
        (self.images / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        self.settings["labels"] = name

    def run(self, *stages: str, **split: object) -> Done:
        """Run stages until one fails."""
        content = presets.values("smoke")
        content["data"] |= {"name": "image_folder", "path": "images", "image_size": 8}
        content["data"] |= self.settings
        drawing = {"test_fraction": 0.2, "validation_fraction": 0.25, "max_per_class": None}
        content["split"] |= drawing | split
        if split.get("folds"):
            content["seeds"] = list(range(int(str(split["folds"]))))
        (self.root / "params.yaml").write_text(yaml.safe_dump(content, allow_unicode=True))
        done = Done((), 0, "", "")
        for stage in stages or ("download", "split"):
            done = command(stage, cwd=self.root)
            if done.returncode:
                break
        return done

    def refused(self, **split: object) -> str:
        """Return the one line with which the first or second stage refuses the folder."""
        done = self.run(**split)
        assert done.returncode == 2, done.stderr
        (line,) = [each for each in done.stderr.splitlines() if each.startswith("error: ")]
        assert line.isprintable()
        assert not (self.root / "data" / "splits").exists()
        return line.removeprefix("error: ")

    def counts(self, **split: object) -> Counts:
        """Divide the images; return how many of each class are where, without empty ones."""
        done = self.run(**split)
        assert done.returncode == 0, done.stderr
        counted = Counter((row["split"], row["class"]) for row in self.index())
        found: Counts = {}
        for (name, class_name), count in counted.items():
            found.setdefault(name, {})[class_name] = count
        return found

    def index(self) -> list[dict[str, str]]:
        return rows(self.root / "data" / "splits" / "index.csv")

    def rejected(self) -> dict[str, str]:
        found = rows(self.root / "data" / "splits" / "rejected.csv")
        return {row["path"]: row["reason"] for row in found}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def alike(names: Iterable[str] = PETS, **by_split: int) -> Counts:
    """Return the counts of classes that have the same number of images in each split."""
    return {split: dict.fromkeys(names, count) for split, count in by_split.items()}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


# --- folders that are understood ------------------------------------------------------------------


def plain(project: Project) -> None:
    project.classes(".")


def nested(project: Project) -> None:
    project.classes("cat/monday", ["morning", "evening"], 5)
    project.classes("dog", ["test"], 4)  # a split's name in one of the classes
    project.classes("dog", ["more"], 6)


def presplit(*names: str) -> Callable[[Project], None]:
    """Return what makes a set of 8, 4 and 2 images of each class in folders of these names."""

    def make(project: Project) -> None:
        for name, each in zip(names, (8, 4, 2), strict=False):
            project.classes(name, PETS, each)

    return make


def presplit_deep(project: Project) -> None:
    for part, each in (("Train", 3), ("Val", 2), ("Test", 1)):
        project.classes(part, [f"{name}/deep/er" for name in PETS], each)


def without_test(project: Project) -> None:
    project.classes("train", PETS, 10)
    project.classes("valid", PETS, 4)


def system_folders(project: Project) -> None:
    presplit("train", "val", "test")(project)
    for place in ("", "train/", "test/cat/"):
        for name in ("@eaDir", "__MACOSX", "lost+found", ".ipynb_checkpoints"):
            project.image(f"{place}{name}/thumbnail.png")
        (project.images / place / "Thumbs.db").write_bytes(b"no image")
        (project.images / place / ".DS_Store").write_bytes(b"no image")
        (project.images / place / "README.md").write_bytes(b"no image")


SCRIPTS = ("猫", "كلب", "हाथी", "Ζώο", "кошка", "Hündin")

UNDERSTOOD: dict[str, tuple[Callable[[Project], None], Counts]] = {
    "a folder per class": (plain, alike(**DRAWN)),
    "classes with folders in them": (nested, alike(**DRAWN)),
    "train val test": (presplit("train", "val", "test"), alike(train=8, validation=4, test=2)),
    "Train Valid Test": (presplit("Train", "Valid", "Test"), alike(train=8, validation=4, test=2)),
    "TRAIN validation TEST": (
        presplit("TRAIN", "validation", "TEST"),
        alike(train=8, validation=4, test=2),
    ),
    "Training Validation Testing": (
        presplit("Training", "Validation", "Testing"),
        alike(train=8, validation=4, test=2),
    ),
    "splits with folders in the classes": (presplit_deep, alike(train=3, validation=2, test=1)),
    # of 8 images for training a quarter is for validation
    "train test": (
        lambda project: [project.classes("train", PETS, 8), project.classes("test", PETS, 3)],
        alike(train=6, validation=2, test=3),
    ),
    # of 10 images for training a fifth is for the test
    "train valid": (without_test, alike(train=8, validation=4, test=2)),
    "train alone": (lambda project: project.classes("train"), alike(**DRAWN)),
    "what systems make": (system_folders, alike(train=8, validation=4, test=2)),
    "other scripts": (lambda project: project.classes(".", SCRIPTS), alike(SCRIPTS, **DRAWN)),
    "other scripts in splits": (
        lambda project: [project.classes(part, SCRIPTS, 3) for part in ("train", "val", "test")],
        alike(SCRIPTS, train=3, validation=3, test=3),
    ),
}


@pytest.mark.parametrize("layout", UNDERSTOOD)
def test_a_folder_gives_these_counts(project: Project, layout: str) -> None:
    make, expected = UNDERSTOOD[layout]
    make(project)
    assert project.counts() == expected
    assert project.rejected() == {}


def test_links_to_files_and_to_a_class_are_followed(project: Project) -> None:
    elsewhere = project.root / "elsewhere"
    for part in ("train", "test"):
        project.classes(part, PETS, 4)
    (project.images / "train" / "cat").rename(elsewhere)
    (project.images / "train" / "cat").symlink_to(elsewhere)
    for path in sorted((project.images / "test" / "dog").iterdir()):
        path.rename(elsewhere.parent / path.name)
        path.symlink_to(elsewhere.parent / path.name)
    assert project.counts() == alike(train=3, validation=1, test=4)


def test_every_image_of_an_official_split_is_in_that_split(project: Project) -> None:
    presplit("train", "val", "test")(project)
    project.counts()
    for row in project.index():
        folder = row["origin"].partition("/")[0]
        assert row["split"] == {"val": "validation"}.get(folder, folder)
    listed = rows(project.root / "data" / "raw" / "manifest.csv")
    assert Counter(row["split"] for row in listed) == {"train": 16, "validation": 8, "test": 4}


def test_files_beside_the_classes_of_a_split_are_set_aside(project: Project) -> None:
    presplit("train", "val", "test")(project)
    project.image("loose.png")
    project.image("train/loose.png")
    assert project.counts() == alike(train=8, validation=4, test=2)
    assert project.rejected() == dict.fromkeys(
        ("train/loose.png", "loose.png"), "lies in no class: move it into a sub-folder"
    )


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_split_without_a_usable_image_is_not_drawn_from_another(
    project: Project, part: str
) -> None:
    presplit("train", "val", "test")(project)
    pointer = b"version https://git-lfs.github.com/spec/v1\n"  # as a clone without git-lfs has them
    for path in (project.images / part).rglob("*.png"):
        path.write_bytes(pointer)
    unusable = {"train": "8 files", "val": "4 files", "test": "2 files"}[part]
    name = {"val": "validation"}.get(part, part)
    assert (
        f"data.path: class 'cat' has no usable image in the {name} split ({unusable} can't be used"
    ) in project.refused()


def test_an_official_split_is_pooled_for_folds(project: Project) -> None:
    presplit("train", "val", "test")(project)
    assert project.run(folds=2).returncode == 0
    assert Counter(row["fold"] for row in project.index()) == {"0": 14, "1": 14}


# --- folders that are refused ---------------------------------------------------------------------


def beside(name: str, *others: str) -> Callable[[Project], None]:
    def make(project: Project) -> None:
        project.classes(".", [name, *others], 4)

    return make


def flat_test(project: Project) -> None:
    project.classes("train")
    project.image("test/1.png")


def split_and_class(project: Project) -> None:
    project.classes("train")
    project.classes(".", ["bird"])


def two_of_a_kind(project: Project) -> None:
    for part in ("train", "val", "valid"):
        project.classes(part)


def other_classes(project: Project) -> None:
    project.classes("train", ("cat", "dog"))
    project.classes("test", ("cat", "dog", "emu"))


def fewer_classes(project: Project) -> None:
    project.classes("train", ("cat", "dog", "emu"))
    project.classes("test", ("cat", "dog"))


def mixed_case(project: Project) -> None:
    project.classes("train", ("cat", "dog"))
    project.classes("test", ("Cat", "dog"))


def empty_test_class(project: Project) -> None:
    presplit("train", "val", "test")(project)
    for path in (project.images / "test" / "dog").iterdir():
        path.unlink()


def empty_test(project: Project) -> None:
    project.classes("train")
    (project.images / "test").mkdir()


def unusable_test_class(project: Project) -> None:
    presplit("train", "val", "test")(project)
    for path in (project.images / "test" / "dog").iterdir():
        path.write_bytes(b"no image")


def small_class(project: Project) -> None:
    plain(project)
    project.classes(".", ["emu"], 1)


def turned_round(project: Project) -> None:
    for name in PETS:
        project.classes(name, ("train", "test"), 4)


def one_too_deep(project: Project) -> None:
    project.classes("dataset")


REFUSED: dict[str, tuple[Callable[[Project], None], list[str]]] = {
    "a class named train": (
        beside("train", "bus", "tram"),
        ["'train' is the name of a split, but 'bus' lies beside it", "rename it"],
    ),
    "a split beside a class": (
        split_and_class,
        ["'train' is the name of a split, but 'bird' lies beside it", "move 'bird' elsewhere"],
    ),
    "an unlabelled flat test folder": (
        flat_test,
        ["'test' is the name of a split, and has images, but no sub-folder", "data.labels"],
    ),
    "classes named train and test": (
        beside("train", "test"),
        ["'test' is the name of a split, and has images, but no sub-folder", "rename it"],
    ),
    "an empty test folder": (empty_test, ["'test' is the name of a split, and is empty"]),
    "val and valid": (two_of_a_kind, ["'val' and 'valid' both name the validation split"]),
    "test without train": (
        lambda project: project.classes("test"),
        ["'test' is the name of a split, and there is no 'train' beside it"],
    ),
    "a class that training hasn't got": (
        other_classes,
        ["class 'emu' is in 'test', but not in 'train'", "add 'train/emu'"],
    ),
    "a class that the test hasn't got": (
        fewer_classes,
        ["class 'emu' is in 'train', but not in 'test'", "add 'test/emu'"],
    ),
    "mixed case between splits": (mixed_case, ["'Cat' and 'cat' would be two classes"]),
    "mixed case": (beside("cat", "Cat", "dog"), ["'Cat' and 'cat' would be two classes"]),
    "an empty class in the test": (empty_test_class, ["no images for class 'dog' in 'test'"]),
    "no usable image in the test": (
        unusable_test_class,
        ["class 'dog' has no usable image in the test split (2 files"],
    ),
    "a class too small": (small_class, ["class 'emu' has 1 images, too few"]),
    "classes that hold splits": (turned_round, ["'train/cat' instead of 'cat/train'"]),
    "seg_train and seg_test": (
        lambda project: [project.classes(part) for part in ("seg_train", "seg_test")],
        ["'seg_test' and 'seg_train' seem to be the splits of a set; name them 'train'"],
    ),
    "one folder around all": (
        one_too_deep,
        ["one class only, 'dataset'", "if the classes are in it, write images/dataset"],
    ),
}


@pytest.mark.parametrize("layout", REFUSED)
def test_a_folder_is_refused_in_one_line_with_the_fix(project: Project, layout: str) -> None:
    make, expected = REFUSED[layout]
    make(project)
    line = project.refused()
    assert line.startswith("params.yaml: ")
    for words in expected:
        assert words in line


@pytest.mark.parametrize("name", ["trains", "tested", "training set", "value", "contest"])
def test_a_class_that_is_named_nearly_as_a_split_is_one(project: Project, name: str) -> None:
    project.classes(".", [name, "dog"])
    assert project.counts() == alike((name, "dog"), **DRAWN)


# --- a table of labels ----------------------------------------------------------------------------


def flat(project: Project, count: int = 20) -> list[str]:
    """Make a flat folder of images; return their names."""
    names = [f"IMG_{number:03}.png" for number in range(count)]
    for name in names:
        project.image(name)
    return names


def test_a_table_gives_the_classes_of_a_flat_folder(project: Project) -> None:
    names = flat(project)
    project.image("not in the table.png")
    project.table(["file,class", *(f"{name},{PETS[row % 2]}" for row, name in enumerate(names))])
    assert project.counts() == alike(**DRAWN)
    assert {row["origin"]: row["class"] for row in project.index()} == {
        name: PETS[row % 2] for row, name in enumerate(names)
    }
    assert project.rejected() == {
        "not in the table.png": "not in labels.csv: write a row for it if it is an image"
    }
    assert (project.root / "data" / "raw" / "labels.csv").read_bytes() == (
        project.images / "labels.csv"
    ).read_bytes()


def test_a_table_outdoes_the_names_of_folders(project: Project) -> None:
    project.classes("train")
    files = [path.relative_to(project.images) for path in sorted(project.images.rglob("*.png"))]
    project.table(["class,file", *(f"{('odd', 'even')[row % 2]},{path}"
                                   for row, path in enumerate(files))])  # fmt: skip
    assert project.counts() == alike(("odd", "even"), **DRAWN)


@pytest.mark.parametrize(
    "style", ["semicolons", "tabs", "byte order mark", "capitals", "quotes", "empty cells"]
)
def test_tables_as_programs_write_them_are_read(project: Project, style: str) -> None:
    names = flat(project)
    lines = ["file,class,split"]
    lines += [f"{name},{PETS[row % 2]},{'Train' if row < 16 else 'TESTING'}"
              for row, name in enumerate(names)]  # fmt: skip
    match style:
        case "semicolons":
            lines = [line.replace(",", ";") for line in lines]
        case "tabs":
            lines = [line.replace(",", "\t") for line in lines]
        case "byte order mark":
            lines[0] = f"\ufeff{lines[0]}"
        case "capitals":
            lines[0] = " File , Class, Split\r"
        case "quotes":
            lines = [",".join(f'"{cell}"' for cell in line.split(",")) for line in lines]
        case "empty cells":
            lines[1:] = [f"{line},, " for line in lines[1:]]
    project.table(lines)
    assert project.counts() == alike(train=6, validation=2, test=2)
    tested = {row["origin"] for row in project.index() if row["split"] == "test"}
    assert tested == set(names[16:])


def test_names_that_are_composed_in_another_way_are_found(project: Project) -> None:
    for number in range(EACH):
        project.image(f"cafe\u0301 {number}.png")  # as macOS writes it
        project.image(f"tea {number}.png")
    rows_of = [f"caf\u00e9 {number}.png,café" for number in range(EACH)]
    rows_of += [f"tea {number}.png,tea" for number in range(EACH)]
    project.table(["file,class", *rows_of])
    assert project.counts() == alike(("café", "tea"), **DRAWN)


def patients(project: Project, groups: int, each: int) -> None:
    """Make images of patients, each of whom has both classes, named in a table."""
    lines = ["file,class,group"]
    for number in range(groups * each):
        project.image(f"{number}.png")
        lines.append(f"{number}.png,{PETS[number % 2]},patient {number // each}")
    project.table(lines)


def test_images_of_a_group_never_lie_in_two_splits(project: Project) -> None:
    patients(project, groups=20, each=6)
    counts = project.counts()
    # whole patients, of 3 images in each class: a fifth of 20 is 4, a quarter of 16 is 4
    assert counts == alike(train=36, validation=12, test=12)
    places: dict[str, set[str]] = {}
    for row in project.index():
        places.setdefault(row["group"], set()).add(row["split"])
    assert len(places) == 20
    assert all(len(splits) == 1 for splits in places.values())


def test_images_of_a_group_never_lie_in_two_folds(project: Project) -> None:
    patients(project, groups=15, each=4)
    assert project.run(folds=3).returncode == 0
    index = project.index()
    assert Counter((row["fold"], row["class"]) for row in index) == {
        (str(fold), name): 10 for fold in range(3) for name in PETS
    }
    for run in ("fold", "run_0", "run_1", "run_2"):
        places: dict[str, set[str]] = {}
        for row in index:
            places.setdefault(row["group"], set()).add(row[run])
        assert all(len(found) == 1 for found in places.values())


def test_groups_of_uneven_sizes_leave_each_class_in_each_split(project: Project) -> None:
    """As hospitals have them: most of one class only, a few with hundreds of images."""
    lines = ["file,class,group"]
    for number in range(60):
        project.image(f"{number}.png")
        name = "rare" if number % 10 == 0 else "common"
        lines.append(f"{number}.png,{name},{number if number % 10 == 0 else number // 7}p")
    project.table(lines)
    counts = project.counts()
    assert all(set(counts[split]) == {"rare", "common"} for split in DRAWN)


def test_an_official_split_and_groups_are_kept_together(project: Project) -> None:
    lines = ["file,class,split,group"]
    for number in range(40):
        project.image(f"{number}.png")
        split = "test" if number >= 32 else "train"
        lines.append(f"{number}.png,{PETS[number % 2]},{split},{number // 4}")
    project.table(lines)
    # of 8 groups for training, of 2 images in each class, a quarter is for validation
    assert project.counts() == alike(train=12, validation=4, test=4)


def without_column(project: Project) -> None:
    project.table(["name,class", *(f"{name},cat" for name in flat(project))])


def missing_files(project: Project) -> None:
    names = [*flat(project), "gone.png", "also gone.png"]
    project.table(["file,class", *(f"{name},{name[6]}" for name in names)])


def one_group_holds_a_class(project: Project) -> None:
    lines = ["file,class,group"]
    for number, name in enumerate(flat(project)):
        lines.append(f"{name},{'rare' if number < 5 else 'common'},{'p1' if number < 7 else name}")
    project.table(lines)


def two_groups_hold_a_class(project: Project) -> None:
    lines = ["file,class,group"]
    for number, name in enumerate(flat(project)):
        group = f"p{number % 2}" if number < 5 else name
        lines.append(f"{name},{'rare' if number < 5 else 'common'},{group}")
    project.table(lines)


def one_group_in_two_splits(project: Project) -> None:
    lines = ["file,class,split,group"]
    for number, name in enumerate(flat(project)):
        split = ("train", "test")[number > 12]
        lines.append(f"{name},{PETS[number % 2]},{split},{number // 5}")
    project.table(lines)


def table_of(*cells: str, header: str = "file,class") -> Callable[[Project], None]:
    """Return what writes a table of twenty images, then these rows."""

    def make(project: Project) -> None:
        names = flat(project)
        rest = {"split": "train", "group": "g"}
        more = "".join(f",{rest.get(column, '')}" for column in header.split(",")[2:])
        lines = [f"{name},{PETS[row % 2]}{more}" for row, name in enumerate(names)]
        project.table([header, *lines, *cells])

    return make


WRONG_TABLES: dict[str, tuple[Callable[[Project], None], list[str]]] = {
    "no column file": (without_column, ["has no column 'file', but 'name', 'class'"]),
    "files that aren't there": (
        missing_files,
        ["2 files of it can't be found in images, the first 'gone.png' (line 22)"],
    ),
    "a file twice": (table_of("./IMG_003.png,dog"), ["lines 5 and 22 are both about"]),
    "no class": (table_of("x.png,"), ["line 22: has no class"]),
    "a file outside": (table_of("../x.png,dog"), ["line 22: file '../x.png' is outside of images"]),
    "an unknown split": (
        table_of("x.png,dog,tset", header="file,class,split"),
        ["line 22: split 'tset' is not one of train", "did you mean 'test'?"],
    ),
    "a comma without quotes": (  # its patient would be 'acute'
        table_of("x.png,ill, acute,patient 1", header="file,class,group"),
        ["line 22: has more cells than columns; put quotes around a value that has ',' in it"],
    ),
    "a split for some": (
        table_of("x.png,dog,", header="file,class,split"),
        ["line 22: has no split; write one, or remove the column split"],
    ),
    "no training": (
        lambda project: project.table(
            ["file,class,split", *(f"{name},{name[6]},test" for name in flat(project))]
        ),
        ["no image is in the split 'train'"],
    ),
    "a misspelt column": (
        lambda project: project.table(
            ["file,class,groups", *(f"{name},{name[6]},1" for name in flat(project))]
        ),
        ["the column 'groups' is unknown (did you mean 'group'?)"],
    ),
    "letters in another order": (
        table_of("x.png,dog,test", header="file,class,spilt"),
        ["the column 'spilt' is unknown (did you mean 'split'?)"],
    ),
    "classes that read alike": (
        lambda project: project.table(
            ["file,class", *(f"{name},{'Cc'[int(name[6]) % 2]}at" for name in flat(project))]
        ),
        ["'Cat' and 'cat' would be two classes"],
    ),
    "one class": (
        lambda project: project.table(["file,class", *(f"{name},cat" for name in flat(project))]),
        ["has one class only, 'cat'"],
    ),
    "a group that holds a class": (
        one_group_holds_a_class,
        ["class 'rare' has its 5 images in 1 group ('p1' of 5)", "a group lies in one place only"],
    ),
    "two groups that hold a class": (
        two_groups_hold_a_class,
        ["class 'rare' has its 5 images in 2 groups ('p0' of 3, 'p1' of 2)"],
    ),
    "a group in two splits": (
        one_group_in_two_splits,
        ["group '2' lies in two splits: 'IMG_010.png' in train (line 12), 'IMG_013.png' in test"],
    ),
}


@pytest.mark.parametrize("table", WRONG_TABLES)
def test_a_table_is_refused_in_one_line_with_its_line(project: Project, table: str) -> None:
    make, expected = WRONG_TABLES[table]
    make(project)
    line = project.refused()
    for words in expected:
        assert words in line


def test_a_group_too_few_for_the_folds_is_named(project: Project) -> None:
    two_groups_hold_a_class(project)
    assert "split.folds: 3: class 'rare' has its 5 images in 2 groups" in project.refused(folds=3)


def test_a_table_in_a_sub_folder_names_files_as_one_beside_them_does(project: Project) -> None:
    names = flat(project)
    (project.images / "tables").mkdir()
    lines = ["file,class", *(f"{name},{PETS[row % 2]}" for row, name in enumerate(names))]
    project.table(lines, "tables/labels.csv")
    assert project.counts() == alike(**DRAWN)


def test_a_file_beside_a_table_in_a_sub_folder_is_named_within_the_images(project: Project) -> None:
    flat(project)
    (project.images / "tables").mkdir()
    project.table(["file,class", "../IMG_000.png,cat"], "tables/labels.csv")
    assert "file '../IMG_000.png' is outside of images; name files by" in project.refused()


def test_a_row_of_a_hidden_file_is_told_that_such_are_left_out(project: Project) -> None:
    project.image(".hidden.png")
    table_of(".hidden.png,cat")(project)
    line = project.refused()
    assert "1 file of it can't be found in images, the first '.hidden.png' (line 22)" in line
    assert "hidden files and READMEs are left out" in line


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"labels": "tables/gone.csv"}, "'tables/gone.csv': there is no such file in images;"),
        ({"labels": "gone.csv"}, "data.labels: 'gone.csv': there is no such file in images"),
        ({"labels": "/tmp/labels.csv"}, "data.labels: '/tmp/labels.csv' has to lie in data.path"),
        ({"labels": "../labels.csv"}, "data.labels: '../labels.csv' has to lie in data.path"),
        ({"labels": "l.csv", "name": "digits"}, "'l.csv' is for data.name image_folder"),
    ],
)
def test_a_table_that_isnt_there_or_lies_elsewhere(
    project: Project, settings: dict[str, str], words: str
) -> None:
    plain(project)
    project.settings = settings
    assert words in project.refused()


def test_a_table_in_latin_1_is_refused(project: Project) -> None:
    flat(project)
    project.table([])
    (project.images / "labels.csv").write_bytes("file,class\nx.png,Hündin\n".encode("latin-1"))
    assert "is not UTF-8; save it as CSV UTF-8" in project.refused()


def test_columns_that_are_not_used_are_named(project: Project) -> None:
    names = flat(project)
    lines = [f"{name},{PETS[row % 2]},{row},a,b,c" for row, name in enumerate(names)]
    project.table(["file,class,age,age_group,blood_group,group_id", *lines])
    said = project.run("download").stderr
    assert said.count("columns that are not used: age, age_group, blood_group, group_id") == 1


def test_a_table_that_has_changed_since_the_images_were_listed_is_not_used(
    project: Project,
) -> None:
    names = flat(project)
    project.table(["file,class", *(f"{name},{PETS[row % 2]}" for row, name in enumerate(names))])
    assert project.run("download").returncode == 0
    project.table(["file,class", *(f"{name},{PETS[row < 9]}" for row, name in enumerate(names))])
    refused = project.run("split")
    assert refused.returncode == 2
    assert "labels.csv: is not the table by which the images were listed" in refused.stderr
    assert not (project.root / "data" / "splits").exists()
