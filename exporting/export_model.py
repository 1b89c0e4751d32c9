"""From a checkpoint to files for other programs, each proved before it gets its name."""

import copy
import dataclasses
import importlib.metadata
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from torch import nn

import exporting.formats as formats
from exporting.images import calibration_images, real_images
from exporting.proof import Proof, prove
from exporting.spec import ExportSpec, Precision
from exporting.validate import Score, Validation, score
from exporting.whole_task import Reduced, images_for, input_type, module_of
from prediction.exported.description import Description
from prediction.load_model import restore_from
from utils.checkpoint.content import read_checkpoint
from utils.cli.sanitize import first_line
from utils.files.atomic_write import move, temporary_path
from utils.files.digest import digest_file

_EXAMPLE = (2, 64, 96)  # batch, height and width while the network is traced
_TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
TOLERANCE = 0.5  # points of mean IoU that a file may lose


class Exported(NamedTuple):
    """A file that was accepted."""

    path: Path
    spec: ExportSpec
    proof: Proof
    validation: Validation | None  # None if it was not asked for


class ModelExport:
    """A checkpoint, and what the export of each file needs of it.

    Args:
        path: The checkpoint.
        config: The training's config, for a file of bare weights or for other loaders.
        images: Images for the proof; none for those of the validation set, if they are there.

    Raises:
        ValueError: If the checkpoint or an image cannot be used.
    """

    def __init__(self, path: str, config: str | None = None, images: Sequence[str] = ()) -> None:
        self.path, self.config = path, config
        self.checkpoint = read_checkpoint(path)
        self.network, self.meta = restore_from(self.checkpoint, path, "cpu", config)
        self.network.requires_grad_(False)  # whoever runs a file wants no gradients
        self.real = real_images(images, self.checkpoint, self.meta, path, config)
        self._scores: dict[int | None, Score] = {}

    def score(self, window: int | None) -> Score:
        """Return what the checkpoint scores on the validation images, cut into windows.

        Raises:
            ValueError: If they are not there.
        """
        try:
            if window not in self._scores:
                self._scores[window] = score(self.path, self.config, window)
            return self._scores[window]
        except (ValueError, OSError) as error:
            raise ValueError(
                f"needs the validation images, and they are not there ({first_line(error)}); name "
                "a config with --config"
            ) from None

    def write(self, form: str, spec: ExportSpec, path: Path) -> None:
        """Write a file; nothing is said of it yet.

        Raises:
            ValueError: If the model cannot be exported.
        """
        module = getattr(formats, form)
        network: nn.Module = self.network
        if spec.precision in _TYPES and not module.ROUNDS_ITSELF:
            network = Reduced(copy.deepcopy(network), _TYPES[spec.precision])
        shape = _EXAMPLE if spec.size is None else (1, *spec.size)
        pixels = np.zeros((*shape, self.meta.channels), input_type(self.meta))
        example = torch.from_numpy(images_for(self.meta, spec, pixels))
        module.export(module_of(network, self.meta, spec), example, spec, path)
        if spec.precision == "int8":
            stored = calibration_images(self.checkpoint, self.path, self.config)
            module.quantize(path, (images_for(self.meta, spec, each[None]) for each in stored))

    def describe(self, spec: ExportSpec) -> Description:
        """Return what a file says of itself, without its proof."""
        return Description(
            inside=spec.inside,
            outputs=spec.outputs,
            precision=spec.precision,
            size=spec.size,
            input_type=input_type(self.meta) if spec.inside == "all" else "float32",
            arch=type(self.network).__name__,
            meta=dataclasses.asdict(self.meta),
            config=self.checkpoint.config,
            checkpoint_sha256=digest_file(self.path),
            versions={"python": sys.version.split()[0], **_versions(("torch",))},
        )

    def export(
        self, form: str, spec: ExportSpec, path: Path, overwrite: bool, tolerance: float | None
    ) -> Exported:
        """Write a file, prove it and give it its name.

        Args:
            form: Its format, of `exporting.formats`.
            spec: What it shall have.
            path: Its name.
            overwrite: Whether files that exist are replaced.
            tolerance: How many points of mean IoU it may lose on the validation images; None to
                leave them out.

        Raises:
            ValueError: If it is not accepted; nothing is left then.
        """
        module = getattr(formats, form)
        temporary = temporary_path(path).with_suffix(module.ENDING)
        window = None if spec.size is None else min(spec.size)
        try:
            # First, so that missing images are told before a network is traced.
            before = None if tolerance is None else self.score(window)
            self.write(form, spec, temporary)
            description = self.describe(spec)
            module.describe(temporary, description)
            proof = prove(temporary, self.network, self.meta, spec, self.real)
            packages = (*module.PACKAGES, *module.PRECISIONS[spec.precision])
            said = {**proof.as_dict(), "runtime": _versions(packages)}
            validation = None
            if before is not None and tolerance is not None:
                validation = Validation(before, score(str(temporary), self.config, window))
                validation.check(tolerance)
                said["validation"] = validation.as_dict()
            module.describe(temporary, msgspec.structs.replace(description, proof=said))
            for ending in (*module.SIDE_ENDINGS, module.ENDING):
                move(temporary.with_suffix(ending), path.with_suffix(ending), overwrite=overwrite)
        except FileExistsError as error:
            raise ValueError(f"--output: {error}; --overwrite replaces it") from None
        except OSError as error:
            raise ValueError(f"--output: {path} cannot be written ({first_line(error)})") from None
        except ValueError as error:
            reason = str(error).replace(temporary.name, path.name)
            raise ValueError(f"{_name_of(form, spec)}: {reason}") from None
        finally:
            for ending in (*module.SIDE_ENDINGS, module.ENDING):
                temporary.with_suffix(ending).unlink(missing_ok=True)
        return Exported(path, spec, proof, validation)


def export_model(
    checkpoint_path: str,
    to: Sequence[str],
    spec: ExportSpec,
    *,
    precisions: Sequence[Precision] = ("fp32",),
    output: Path | None = None,
    config: str | None = None,
    images: Sequence[str] = (),
    overwrite: bool = False,
    validate: bool = False,
    tolerance: float = TOLERANCE,
    refused: list[ValueError] | None = None,
) -> list[Exported]:
    """Export a checkpoint in several formats and precisions.

    Args:
        checkpoint_path: The checkpoint.
        to: The formats, of `exporting.formats`.
        spec: What the files shall have, but for the precision.
        precisions: The precisions.
        output: The file, of a single format and precision; None for the checkpoint's name beside
            it.
        config: The training's config, for a file of bare weights or for other loaders.
        images: Images for the proof; none for those of the validation set, if they are there.
        overwrite: Whether files that exist are replaced.
        validate: Score each file on the validation images. Files of less than 32 bits always are,
            as that is what decides about them.
        tolerance: How many points of mean IoU a file may lose there.
        refused: Gets the errors of single files, while the others are written; None to raise them.

    Raises:
        ValueError: If the model cannot be exported or a file does not answer like it, with the
            format's name; nothing is left of that file then.
    """
    wanted = [
        (form, _for_format(form, spec, precision))
        for form in dict.fromkeys(to)
        for precision in dict.fromkeys(precisions)
    ]
    check_precisions(wanted)
    targets = [_target(checkpoint_path, output, form, one) for form, one in wanted]
    for (form, _), path in zip(wanted, targets, strict=True):
        _check_free(path, form, overwrite)
    export = ModelExport(checkpoint_path, config, images)
    made = []
    for (form, one), path in zip(wanted, targets, strict=True):
        scored = tolerance if validate or one.precision != "fp32" else None
        try:
            made.append(export.export(form, one, path, overwrite, scored))
        except ValueError as error:
            if refused is None:
                raise
            refused.append(error)
    return made


def _for_format(form: str, spec: ExportSpec, precision: Precision) -> ExportSpec:
    """Return the spec of a file: only formats that need a size get it."""
    size = spec.size if getattr(formats, form).NEEDS_SIZE else None
    return dataclasses.replace(spec, precision=precision, size=size)


def _name_of(form: str, spec: ExportSpec) -> str:
    return form if spec.precision == "fp32" else f"{form}, {spec.precision}"


def _target(checkpoint_path: str, output: Path | None, form: str, spec: ExportSpec) -> Path:
    """Return the file to write; a name without the format's ending gets it."""
    ending: str = getattr(formats, form).ENDING
    if output is None:
        kind = "" if spec.precision == "fp32" else f".{spec.precision}"
        return Path(checkpoint_path).with_suffix(f"{kind}{ending}")
    return output if output.suffix == ending else output.with_name(output.name + ending)


def _check_free(path: Path, form: str, overwrite: bool) -> None:
    """Refuse a name that cannot be written.

    Raises:
        ValueError: If there is no such folder, or the file exists.
    """
    if not path.parent.is_dir():
        raise ValueError(f"--output: there is no folder {path.parent}")
    for ending in () if overwrite else (*getattr(formats, form).SIDE_ENDINGS, path.suffix):
        if path.with_suffix(ending).exists():
            raise ValueError(
                f"--output: {path.with_suffix(ending)} already exists; --overwrite replaces it"
            )


def check_precisions(wanted: Sequence[tuple[str, ExportSpec]]) -> None:
    """Refuse precisions that a format does not have, or whose packages are missing.

    Raises:
        ValueError: If there is one.
    """
    for form, spec in wanted:
        module = getattr(formats, form)
        if spec.precision not in module.PRECISIONS:
            raise ValueError(
                f"--precision {spec.precision}: --to {form} has {', '.join(module.PRECISIONS)}"
            )
        needed = module.PRECISIONS[spec.precision]
        missing = [each for each in needed if not _has(each)]
        if missing:
            raise ValueError(
                f"--to {form} --precision {spec.precision}: needs other packages: pip install "
                + " ".join(missing)
            )


def check_formats(names: Sequence[str], spec: ExportSpec) -> None:
    """Refuse formats whose packages are missing, or that need a size.

    Raises:
        ValueError: If there is one.
    """
    for name in names:
        missing = [each for each in getattr(formats, name).PACKAGES if not _has(each)]
        if missing:
            raise ValueError(f"--to {name}: needs other packages: pip install {' '.join(missing)}")
        if getattr(formats, name).NEEDS_SIZE:
            if spec.size is None:
                raise ValueError(
                    f"--to {name}: needs --size HEIGHTxWIDTH, as the format cannot leave it free"
                )
            _check_converter(name, spec.converter)


def _check_converter(name: str, python: str) -> None:
    """Refuse a Python that has no onnx2tf."""
    code = "import importlib.metadata as m; print(m.version('onnx2tf'))"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    except OSError as error:
        raise ValueError(f"--python: {python} cannot be run ({first_line(error)})") from None
    if done.returncode:
        raise ValueError(
            f"--to {name}: {python} has no onnx2tf. It needs Python 3.12 and an environment of its "
            "own: python3.12 -m venv converter && converter/bin/pip install onnx2tf==2.6.9, then "
            "--python converter/bin/python"
        )


def is_installed(name: str, precision: str = "fp32") -> bool:
    """Return whether the packages of a format are there."""
    module = getattr(formats, name)
    return all(map(_has, (*module.PACKAGES, *module.PRECISIONS[precision])))


def _has(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _versions(packages: Sequence[str]) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in packages}
