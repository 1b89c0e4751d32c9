"""Names of other people's images and masks, and what is said of them."""

import os
import re
import unicodedata

import pytest

from dataloaders.folder import Folder
from tests.utils.samples.test_list_files import touch
from utils.files.data_file import DataError
from utils.files.same_files import SameFiles
from utils.samples.affix_search import find_affixes, find_affixes_within
from utils.samples.affixes import Affixes, cut
from utils.samples.folder_search import find_folders, find_kinds
from utils.samples.source_pairs import pair_sources

RANGE = range(1, 13)


def tree(root, image="{}.jpg", mask="{}.png", numbers=RANGE, folders=("images", "masks")):
    for folder, name in zip(folders, (image, mask), strict=True):
        touch(root, *(f"{folder}/{name.format(number)}" for number in numbers))


def pairing(root, images="images", masks="masks", **affixes):
    return pair_sources(root / images, root / masks, affixes=Affixes(**affixes))


def names(result):
    return [(os.path.basename(s.image), os.path.basename(s.label)) for s in result.samples]


def arguments_of(message):
    """The arguments that a message proposes."""
    return dict(re.findall(r'"((?:image|mask)_(?:prefix|suffix))": "([^"]*)"', message))


# --- hints


@pytest.mark.parametrize("absent", [1, 2, 12])
def test_feature_no_hint_where_a_mask_is_missing(tmp_path, absent):
    """Masks of 10, 11 and 12 begin like that of 1, which proposes nothing."""
    tree(tmp_path)
    (tmp_path / f"masks/{absent}.png").unlink()
    result = pairing(tmp_path)
    assert len(result.samples) == 11 and result.lost == 1
    (problem,) = result.problems
    assert "1 of 12" in problem and "set " not in problem and not arguments_of(problem)


def test_feature_no_hint_that_takes_pairs_away(tmp_path):
    tree(tmp_path, numbers=range(1, 7))
    tree(tmp_path, mask="{}_gt.png", numbers=range(7, 30))
    result = pairing(tmp_path)
    assert len(result.samples) == 6
    assert not arguments_of(result.problems[0])
    tree(tmp_path, mask="{}_gt.png", numbers=range(1, 7))  # would pair all, six of them anew
    result = pairing(tmp_path)
    assert len(result.samples) == 6 and not arguments_of(result.problems[0])


def test_feature_no_hint_that_pairs_too_few(tmp_path):
    tree(tmp_path, numbers=range(9), mask="{}_gt.png")
    tree(tmp_path, numbers=[20, 21], mask="x{}.png")
    assert not arguments_of(pairing(tmp_path).problems[0])
    for number in (20, 21):
        (tmp_path / f"images/{number}.jpg").unlink()
    assert arguments_of(pairing(tmp_path).problems[0]) == {"mask_suffix": "_gt"}


CASES = [
    ("img_{:03}.jpg", "mask_{:03}.png", {"image_prefix": "img_", "mask_prefix": "mask_"}),
    ("{}_sat.jpg", "{}_mask.png", {"image_suffix": "_sat", "mask_suffix": "_mask"}),
    ("city/a_{}_leftImg8bit.png", "city/a_{}_gtFine_labelIds.png",
     {"image_suffix": "_leftImg8bit", "mask_suffix": "_gtFine_labelIds"}),
    ("case_{:03}_0000.png", "case_{:03}.png", {"image_suffix": "_0000"}),
    ("{}.jpg", "{}gt.png", {"mask_suffix": "gt"}),
    ("{}.jpg", "GT{}.png", {"mask_prefix": "GT"}),
    ("photo-{}.jpg", "{}.png", {"image_prefix": "photo-"}),
    ("{}.jpg", "mask_{}_v2.png", {"mask_prefix": "mask_", "mask_suffix": "_v2"}),
    ("im{}.jpg", "im{} mäsk.png", {"mask_suffix": " mäsk"}),
    ("img_{}.jpg", "mask_{:03}.png", {"image_prefix": "img_", "mask_prefix": "mask_"}),
]  # fmt: skip


@pytest.mark.parametrize("numbers", [range(1, 13), [7]])
@pytest.mark.parametrize(("image", "mask", "expected"), CASES)
def test_feature_the_proposed_arguments_pair_all(tmp_path, image, mask, expected, numbers):
    tree(tmp_path, image, mask, numbers)
    result = pairing(tmp_path)
    (problem,) = result.problems
    assert not result.samples  # never applied by themselves
    assert arguments_of(problem) == expected
    count = len(numbers)
    assert f"pairs {count} of {count}" in problem
    found = {(os.path.basename(image.format(n)), os.path.basename(mask.format(n))) for n in numbers}
    assert any(f"{one} with {other}" in problem for one, other in found)
    result = pairing(tmp_path, **expected)
    assert not result.problems and len(result.samples) == count
    assert set(names(result)) == found


def test_feature_of_masks_of_several_kinds_the_ids_are_proposed(tmp_path):
    for kind in ("color", "instanceIds", "labelIds"):
        tree(tmp_path, "{}_leftImg8bit.png", f"{{}}_gtFine_{kind}.png")
    found = arguments_of(pairing(tmp_path).problems[0])
    assert found["mask_suffix"] == "_gtFine_labelIds"


def test_feature_names_without_anything_in_common_are_shown(tmp_path):
    tree(tmp_path, "dog{}.jpg", "cat{}x.png", numbers=[1])
    touch(tmp_path, "images/eel.jpg", "masks/fox.png")
    (problem,) = pairing(tmp_path).problems
    assert "dog1.jpg" in problem and "cat1x.png" in problem and not arguments_of(problem)


def test_feature_arguments_leave_out_what_lacks_them(tmp_path):
    tree(tmp_path, "{}_sat.jpg", "{}_mask.png", folders=("all", "all"))
    touch(tmp_path, "all/readme_map.png")
    result = pairing(tmp_path, "all", "all", image_suffix="_sat", mask_suffix="_mask")
    assert not result.problems and not result.notes
    assert sorted(names(result)) == sorted((f"{n}_sat.jpg", f"{n}_mask.png") for n in RANGE)
    with pytest.raises(DataError, match='"image_suffix": "_rgb"'):
        pairing(tmp_path, "all", "all", image_suffix="_rgb", mask_suffix="_mask")
    (problem,) = pairing(tmp_path, "all", "all", mask_suffix="_gt").problems
    assert arguments_of(problem) == {"image_suffix": "_sat", "mask_suffix": "_mask"}


def test_feature_masks_beside_images_are_no_images(tmp_path):
    tree(tmp_path, "{}.png", "mask_{}.png", folders=("all", "all"))
    result = pairing(tmp_path, "all", "all", mask_prefix="mask_")
    assert not result.problems and len(result.samples) == 12
    tree(tmp_path, "{}.png", "{}_gt.png", folders=("data", "data/masks"))
    result = pairing(tmp_path, "data", "data/masks", mask_suffix="_gt")
    assert not result.problems and len(result.samples) == 12


def test_feature_bands_and_arguments(tmp_path):
    for band in ("_HH", "_HV"):
        tree(tmp_path, f"img_{{}}_sar{band}.tif", "mask_{}.png", numbers=[1, 2])
    sources = tmp_path / "images", tmp_path / "masks"
    (problem,) = pair_sources(*sources, band_suffixes=["_HV", "_HH"]).problems
    found = arguments_of(problem)
    assert found == {"image_prefix": "img_", "image_suffix": "_sar", "mask_prefix": "mask_"}
    result = pair_sources(*sources, affixes=Affixes(**found), band_suffixes=["_HV", "_HH"])
    assert not result.problems
    assert [os.path.basename(band) for band in result.samples[0].bands] == [
        "img_1_sar_HV.tif", "img_1_sar_HH.tif",
    ]  # fmt: skip


def test_feature_folder_takes_the_arguments(tmp_path):
    tree(tmp_path, "img_{}_a.jpg", "mask_{}_b.png", numbers=[1, 2])
    affixes = {"image_prefix": "img_", "image_suffix": "_a", "mask_prefix": "mask_"}
    dataset = Folder(classes=2, data_dir=str(tmp_path), mask_suffix="_b", **affixes)
    assert [sample.name for sample in dataset.samples] == ["1", "2"]
    assert (dataset.mask_prefix, dataset.mask_suffix) == ("mask_", "_b")
    tree(tmp_path, "{}_a_b.png", "{}_b.png", numbers=[1, 2], folders=("i", "m"))
    sources = {"data_dir": str(tmp_path), "images": "i", "masks": "m"}
    dataset = Folder(classes=2, image_suffix="_a_b", mask_suffix="_b", **sources)
    assert (dataset.mask_prefix, dataset.mask_suffix) == ("", "")  # images end with it, too


def test_feature_hint_of_folders(tmp_path):
    for split, numbers in (("train", RANGE), ("val", range(20, 24))):
        tree(tmp_path, folders=(f"i/{split}", f"m/{split}"), numbers=numbers)
    with pytest.raises(DataError, match='set "images": "i/train"'):
        Folder(classes=2, data_dir=str(tmp_path), images="i", masks="m/train")
    with pytest.raises(DataError, match='set "masks": "m/val"'):
        Folder(classes=2, data_dir=str(tmp_path), images="i/val", masks="m")
    assert find_folders(["a/1"], ["b/1"]) == ("a", "b")
    assert find_folders(["a/1"], ["b/2"]) is None


def test_feature_folders_of_kinds_below_others(tmp_path):
    tree(tmp_path, folders=("i/a/img", "m/a/lab"))
    tree(tmp_path, folders=("i/b/img", "m/b/lab"))
    with pytest.raises(DataError) as caught:
        Folder(classes=2, data_dir=str(tmp_path), images="i", masks="m")
    images, masks = "i/**/img/*.jpg", "m/**/lab/*.png"
    assert f'set "images": "{images}", "masks": "{masks}"' in str(caught.value)
    dataset = Folder(classes=2, data_dir=str(tmp_path), images=images, masks=masks)
    assert len(dataset) == 2 * len(RANGE)
    assert find_kinds(["a/img/1"], ["a/lab/1"]) == ("img", "lab")
    assert find_kinds(["a/img/1"], ["b/lab/1"]) is None
    assert find_kinds(["a/1"], ["b/1"]) is None


@pytest.mark.parametrize("lead", ["", "a/"])
def test_exception_folders_of_kinds_in_one_folder(tmp_path, lead):
    tree(tmp_path, folders=(f"data/{lead}images", f"data/{lead}masks"))
    with pytest.raises(DataError, match="their own masks") as caught:
        Folder(classes=2, data_dir=str(tmp_path), images="data", masks="data")
    images, masks = "data/**/images/*.jpg", "data/**/masks/*.png"
    assert f'set "images": "{images}", "masks": "{masks}"' in str(caught.value)
    dataset = Folder(classes=2, data_dir=str(tmp_path), images=images, masks=masks)
    assert len(dataset) == len(RANGE)


def test_feature_masks_within_the_folder_of_the_images(tmp_path):
    tree(tmp_path, folders=("data", "data/masks"))
    problem = pairing(tmp_path, "data", "data/masks").problems[0]
    assert f'set "images": "{tmp_path}/data/*.jpg"' in problem
    result = pairing(tmp_path, "data/*.jpg", "data/masks")
    assert len(result.samples) == 12 and not result.problems


# --- differences that need no argument


@pytest.mark.parametrize(
    ("image", "mask", "word"),
    [
        ("IMG_{}.JPG", "img_{}.png", "case"),
        ("{}.jpg", "{:03}.png", "zeros"),  # some of 1..120 are equal
        ("a{}_{}.jpg", "A{:04}_{:02}.png", "zeros"),
        ("Straße{}.jpg", "STRASSE{}.png", "case"),
    ],
)
def test_feature_case_and_zeros_pair_with_a_note(tmp_path, image, mask, word):
    numbers = range(1, 121)
    touch(tmp_path, *(f"images/{image.format(n, n)}" for n in numbers))
    touch(tmp_path, *(f"masks/{mask.format(n, n)}" for n in numbers))
    result = pairing(tmp_path)
    assert not result.problems
    assert set(names(result)) == {(image.format(n, n), mask.format(n, n)) for n in numbers}
    (note,) = result.guesses
    assert word in note and "120 pairs" in note
    assert re.search(r": (\S+) with (\S+)$", note).groups() in names(result)


def test_feature_unicode_forms_are_one_name(tmp_path):
    names_of = [unicodedata.normalize(form, "Müller é {}") for form in ("NFC", "NFD")]
    tree(tmp_path, f"{names_of[0]}.jpg", f"{names_of[1]}.png")
    result = pairing(tmp_path)
    assert len(result.samples) == 12 and not result.problems and not result.guesses
    # The names of the samples, from which `val_split` follows, are the images' own.
    assert result.samples[0].name == names_of[0].format(1)
    tree(tmp_path, "{}.jpg", unicodedata.normalize("NFD", "{}_mäsk.png"), folders=("i", "m"))
    suffix = unicodedata.normalize("NFC", "_mäsk")
    assert len(pairing(tmp_path, "i", "m", mask_suffix=suffix).samples) == 12


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["1"], ["01", "001"]),
        (["1", "01"], ["001"]),
        (["a", "A"], ["Á", "ä"]),
        (["a", "A"], ["aB", "ab"]),
        # Nearly all pair as they are, so that the last is a mistake.
        ([*(f"{n}" for n in range(10, 40)), "A"], [*(f"{n}" for n in range(10, 40)), "a"]),
        (["1", "x"], ["1", "X1"]),
    ],
)
def test_feature_what_leaves_doubt_is_not_paired(tmp_path, images, masks):
    touch(tmp_path, *(f"images/{n}.jpg" for n in images), *(f"masks/{n}.png" for n in masks))
    result = pairing(tmp_path)
    assert [s.name for s in result.samples] == sorted(set(images) & set(masks))
    assert result.problems and not result.guesses


# --- images that are their own masks


def test_exception_one_folder_for_both(tmp_path):
    tree(tmp_path, mask="{}_gt.png", folders=("all", "all"))
    with pytest.raises(DataError, match="24 of 24 .* their own masks") as caught:
        Folder(classes=2, data_dir=str(tmp_path), images="all", masks="all")
    assert arguments_of(str(caught.value)) == {"mask_suffix": "_gt"}
    assert f"{tmp_path}/all/1.jpg" in str(caught.value)
    sources = {"data_dir": str(tmp_path), "images": "all", "masks": "all"}
    dataset = Folder(classes=2, mask_suffix="_gt", **sources)
    assert len(dataset) == 12 and dataset.mask_suffix == "_gt"


@pytest.mark.parametrize(
    ("image", "mask", "expected"),
    [
        ("{}_sat.jpg", "{}_mask.png", {"image_suffix": "_sat", "mask_suffix": "_mask"}),
        ("{}_img.png", "{}_seg.png", {"image_suffix": "_img", "mask_suffix": "_seg"}),
        ("img_{}.png", "label_{}.png", {"image_prefix": "img_", "mask_prefix": "label_"}),
        ("{}_b.jpg", "{}_a.png", {"image_suffix": "_b", "mask_suffix": "_a"}),
        ("{}.png", "{}_x.png", {"mask_suffix": "_x"}),
    ],
)
@pytest.mark.parametrize("listed", [False, True])
def test_exception_one_folder_of_names(tmp_path, image, mask, expected, listed):
    tree(tmp_path, image, mask, folders=("all", "all"))
    lines = [f"all/{path.name}\n" for path in (tmp_path / "all").iterdir()]
    (tmp_path / "list.txt").write_text("".join(lines))
    source = "list.txt" if listed else "all"
    with pytest.raises(DataError) as caught:
        pairing(tmp_path, source, source)
    assert arguments_of(str(caught.value)) == expected
    assert len(pairing(tmp_path, source, source, **expected).samples) == 12


def test_exception_one_folder_of_equal_stems(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree(tmp_path, folders=("all", "all"))
    for root, lead in ((None, "all/"), (".", "all/")):
        with pytest.raises(DataError) as caught:
            Folder(classes=2, data_dir=root, images="all", masks="all")
        found = dict(re.findall(r'"(images|masks)": "([^"]*)"', str(caught.value)))
        assert found == {"images": f"{lead}*.jpg", "masks": f"{lead}*.png"}
        assert len(Folder(classes=2, data_dir=root, **found)) == 12


def test_exception_one_folder_a_sample(tmp_path):
    touch(tmp_path, *(f"all/{n}/{name}" for n in RANGE for name in ("image.png", "mask.png")))
    with pytest.raises(DataError) as caught:
        Folder(classes=2, data_dir=str(tmp_path), images="all", masks="all")
    found = dict(re.findall(r'"(images|masks)": "([^"]*)"', str(caught.value)))
    assert found == {"images": "all/**/image.png", "masks": "all/**/mask.png"}
    dataset = Folder(classes=2, data_dir=str(tmp_path), **found)
    assert [sample.name for sample in dataset.samples] == sorted(map(str, RANGE))


def test_exception_links_to_the_images(tmp_path):
    tree(tmp_path, image="{}.png")
    (tmp_path / "linked").symlink_to("images")
    with pytest.raises(DataError, match="12 of 12 .* their own masks, the first .*images/1.png"):
        pairing(tmp_path, "images", "linked")
    for link in (os.symlink, os.link):
        mask = tmp_path / "masks/5.png"
        mask.unlink()
        link(tmp_path / "images/5.png", mask)
        with pytest.raises(DataError, match=r"1 of 12 .* first .*images/5\.png, .*masks/5\.png"):
            pairing(tmp_path)


def test_exception_one_list_for_both(tmp_path):
    tree(tmp_path)
    (tmp_path / "list.txt").write_text("images/1.jpg\nimages/2.jpg\n")
    (tmp_path / "copy.txt").write_text("images/2.jpg\nimages/1.jpg\n")
    for other in ("list.txt", "copy.txt"):
        with pytest.raises(DataError, match='2 of 2 .*list of the masks as "masks"'):
            pairing(tmp_path, "list.txt", other)


def test_feature_same_files_are_few_calls(tmp_path, monkeypatch):
    tree(tmp_path, numbers=range(500))
    looked = []
    monkeypatch.setattr(os, "stat", lambda path, **rest: looked.append(path))
    files = SameFiles()
    assert not any(
        files.are_same(f"{tmp_path}/images/{n}.jpg", f"{tmp_path}/masks/{n}.png")
        for n in range(500)
    )
    assert not looked
    assert not files.are_same(f"{tmp_path}/images/none.jpg", f"{tmp_path}/masks/none.jpg")


# --- the rules by themselves


def test_feature_cut():
    assert cut("a/img_1_x", "img_", "_x") == "a/1"
    assert cut("img_/1", "img_", "") is None
    assert cut("ab", "ab", "b") is None
    assert cut("1/gt", "", "/gt") == "1"
    assert cut("_gt", "", "_gt") == ""


def test_feature_rules_of_many_names_are_found_quickly():
    """What is tried on all names is little, so that 20 000 take no longer than a moment."""
    images = [f"a/{n}_sat" for n in range(20_000)]
    masks = [f"a/{n}_mask" for n in range(20_000)]
    affixes, count = find_affixes(images, masks)
    assert affixes == Affixes(image_suffix="_sat", mask_suffix="_mask") and count == 20_000
    assert find_affixes([str(n) for n in range(99)], [f"x{n + 500}" for n in range(99)]) is None
    assert find_affixes([], ["1"]) is None and find_affixes_within({}) is None
