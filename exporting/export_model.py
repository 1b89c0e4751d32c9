"""From a checkpoint to files for other programs, each proved before it gets its name."""

import dataclasses
import importlib
import importlib.metadata
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch

import exporting.formats as formats
from evaluation.data import open_data, read_tree
from exporting.proof import Proof, prove
from exporting.spec import ExportSpec
from exporting.whole_task import images_for, input_type, module_of
from prediction.exported.description import Description
from prediction.load_model import Meta, restore_from
from prediction.source.image_source import PixelRule, load_image
from utils.checkpoint.content import Checkpoint, read_checkpoint
from utils.cli.sanitize import first_line
from utils.files.atomic_write import move, temporary_path
from utils.files.digest import digest_file

logger = logging.getLogger(__name__)

REAL_IMAGES = 4  # of the validation set, for the proof
_EXAMPLE = (2, 64, 96)  # batch, height and width while the network is traced


class Exported(NamedTuple):
    """A file that was accepted."""

    path: Path
    proof: Proof


def export_model(
    checkpoint_path: str,
    to: Sequence[str],
    spec: ExportSpec,
    *,
    output: Path | None = None,
    config: str | None = None,
    images: Sequence[str] = (),
    overwrite: bool = False,
) -> list[Exported]:
    """Export a checkpoint in several formats.

    Args:
        checkpoint_path: The checkpoint.
        to: The formats, of `exporting.formats`.
        spec: What the files shall have.
        output: The file, of a single format; None for the checkpoint's name beside it.
        config: The training's config, for a file of bare weights.
        images: Images for the proof; none for those of the validation set, if they are there.
        overwrite: Whether files that exist are replaced.

    Raises:
        ValueError: If the model cannot be exported or the file does not answer like it, with the
            format's name; nothing is left then.
    """
    checkpoint = read_checkpoint(checkpoint_path)
    targets = {name: _target(checkpoint_path, output, getattr(formats, name).ENDING) for name in to}
    for name, path in targets.items():
        if not path.parent.is_dir():
            raise ValueError(f"--output: there is no folder {path.parent}")
        for ending in () if overwrite else (*getattr(formats, name).SIDE_ENDINGS, path.suffix):
            if path.with_suffix(ending).exists():
                raise ValueError(
                    f"--output: {path.with_suffix(ending)} already exists; --overwrite replaces it"
                )
    network, meta = restore_from(checkpoint, checkpoint_path, "cpu", config)
    network.requires_grad_(False)  # whoever runs a file wants no gradients
    real = _real_images(images, checkpoint, meta, checkpoint_path, config)
    pixels = np.zeros((*_EXAMPLE, meta.channels), input_type(meta))
    example = torch.from_numpy(images_for(meta, spec, pixels))
    made = []
    for name, path in targets.items():
        module = getattr(formats, name)
        temporary = temporary_path(path).with_suffix(module.ENDING)
        try:
            module.export(module_of(network, meta, spec), example, spec, temporary)
            description = _describe(checkpoint_path, checkpoint, meta, spec, type(network).__name__)
            module.describe(temporary, description)
            proof = prove(temporary, network, meta, spec, real)
            proved = {**proof.as_dict(), "runtime": _versions(module.PACKAGES)}
            module.describe(temporary, msgspec.structs.replace(description, proof=proved))
            for ending in (*module.SIDE_ENDINGS, module.ENDING):
                move(temporary.with_suffix(ending), path.with_suffix(ending), overwrite=overwrite)
        except FileExistsError as error:
            raise ValueError(f"--output: {error}; --overwrite replaces it") from None
        except OSError as error:
            raise ValueError(f"--output: {path} cannot be written ({first_line(error)})") from None
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        finally:
            for ending in (*module.SIDE_ENDINGS, module.ENDING):
                temporary.with_suffix(ending).unlink(missing_ok=True)
        made.append(Exported(path, proof))
    return made


def _target(checkpoint_path: str, output: Path | None, ending: str) -> Path:
    """Return the file to write; a name without the format's ending gets it."""
    if output is None:
        return Path(checkpoint_path).with_suffix(ending)
    return output if output.suffix == ending else output.with_name(output.name + ending)


def check_formats(names: Sequence[str]) -> None:
    """Refuse formats that do not exist, or whose packages are missing.

    Raises:
        ValueError: If there is one.
    """
    for name in names:
        missing = [each for each in getattr(formats, name).PACKAGES if not _has(each)]
        if missing:
            raise ValueError(f"--to {name}: needs other packages: pip install {' '.join(missing)}")


def is_installed(name: str) -> bool:
    """Return whether the packages of a format are there."""
    return all(map(_has, getattr(formats, name).PACKAGES))


def _has(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _describe(
    path: str, checkpoint: Checkpoint, meta: Meta, spec: ExportSpec, arch: str
) -> Description:
    return Description(
        inside=spec.inside,
        outputs=spec.outputs,
        input_type=input_type(meta) if spec.inside == "all" else "float32",
        arch=arch,
        meta=dataclasses.asdict(meta),
        config=checkpoint.config,
        checkpoint_sha256=digest_file(path),
        versions={"python": sys.version.split()[0], **_versions(("torch",))},
    )


def _versions(packages: Sequence[str]) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in packages}


def _real_images(
    images: Sequence[str], checkpoint: Checkpoint, meta: Meta, path: str, config: str | None
) -> list[np.ndarray]:
    """Return images (H, W, C) for the proof: the user's, or else some of the validation set."""
    if images:
        rule = PixelRule(meta.mean, meta.band_rule, meta.exif)
        return [load_image(Path(image), rule).pixels for image in images]
    try:
        tree, source = read_tree(checkpoint.config, path, config, ())
        dataset = open_data(tree, source, "val", one_by_one=True).loader.source
        step = max(1, len(dataset) // REAL_IMAGES)
        chosen = range(0, len(dataset), step)[:REAL_IMAGES]
        return [dataset.load_image(index).pixels for index in chosen]
    except (ValueError, OSError) as error:
        logger.warning(
            "the images of the validation set are not there (%s): the proof has random images "
            "only; name real ones with --images", str(error).splitlines()[0],
        )  # fmt: skip
        return []
