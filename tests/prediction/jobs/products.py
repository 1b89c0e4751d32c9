"""What a program does with a manifest, with files of text in place of images; light to import."""

from pathlib import Path

from prediction.jobs.image_file import ImageFile
from prediction.jobs.manifest import Digests
from utils.files.atomic_write import new_file
from utils.files.digest import digest_file

MODEL = Digests("", "m", "s")


def outputs(image):
    return [image.output("out", ".png"), image.output("out", ".csv")]


def source(name, text="pixels"):
    """An image, and what its result depends on."""
    path = Path("in", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return ImageFile(str(path), name), MODEL._replace(image=digest_file(path))


def predict(manifest, image, digests, *, overwrite=False):
    """Do as the program does; return whether there was something to do."""
    if not overwrite and manifest.is_done(image, digests, outputs(image)):
        return False
    manifest.begin(image, outputs(image), overwrite=overwrite)
    for path in outputs(image):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with new_file(path, overwrite=True) as file:
            file.write(f"{path} of {digests}".encode(errors="surrogateescape"))
    ids, table = outputs(image)
    manifest.finish(image, digests, {"ids": ids, "table": table}, 0.5)
    return True
