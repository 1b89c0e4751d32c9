"""The words to type instead of those that a program does not know."""

import argparse
import dataclasses
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from utils.cli.unknown_words import UnknownWord, closest, find_unknown, is_option, max_values
from utils.config.errors import ConfigError
from utils.config.file import parse_config
from utils.config.keys import USUAL_PATHS, WORDS, names_in, normalised, one_of, paths_of

CONFIG_ENDINGS = (".json", ".yaml", ".yml")
WEIGHT_ENDINGS = (".pth", ".pt", ".ckpt", ".tar", ".bin", ".safetensors")
MAX_SHOWN = 200  # characters of what was typed

# What other programs call an option of ours, compared as `normalised()` does. The words of a group
# are tried in the order of the groups, as far as a program has the option.
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "--model": ("weights", "weight", "checkpoint", "checkpoint_path", "ckpt", "ckpt_path",
                "model_path", "model_file", "model_weights", "trained_model", "snapshot", "load",
                "load_from", "pretrained", "resume", "pth"),
    "--images": ("input", "inputs", "source", "img", "imgs", "image", "image_dir", "images_dir",
                 "img_dir", "img_path", "image_path", "image_folder", "in_path", "input_dir",
                 "input_path", "folder", "data", "data_dir", "dir", "test_dir", "pictures"),
    "--output": ("out", "out_path", "out_dir", "outdir", "output_dir", "output_path",
                 "output_folder", "save_dir", "save_path", "save", "result", "results",
                 "result_dir", "dst", "dest"),
    "--config": ("cfg", "conf", "config_file", "config_path", "cfg_file", "cfg_path", "yaml",
                 "json_config", "settings"),
    "--device": ("gpu", "gpu_id", "gpu_ids", "gpuid", "device_id", "device_ids", "cuda",
                 "cuda_device", "cuda_visible_devices", "use_cuda"),
    "--resume": ("resume_from", "resume_path", "continue", "resume_from_checkpoint",
                 "load_checkpoint"),
    "--extension": ("ext", "exts", "extensions", "img_ext", "image_ext", "img_suffix"),
    "--overlay": ("visualize", "visualise", "vis", "viz", "blend", "show"),
    "--report": ("html", "page"),
    "--split": ("subset", "set", "phase"),
    "--workers": ("num_workers", "nworkers", "threads", "num_threads", "jobs", "j"),
    "--window": ("tile", "tiles", "tile_size", "patch", "patch_size", "window_size", "chip_size",
                 "slice_size", "crop_size"),
    "--overlap": ("overlap_ratio", "tile_overlap", "patch_overlap", "overlap_fraction"),
    "--flip": ("tta", "hflip", "test_time_augmentation", "use_tta"),
    "--amp": ("half", "fp16", "bf16", "precision", "mixed_precision", "use_amp"),
    "--memory": ("max_memory", "memory_limit", "mem", "ram"),
    "--batch-size": ("bs", "batch", "batch_images"),
    "--save": ("products", "outputs", "save_type", "formats"),
    "--val": ("val_split", "val_size", "val_ratio"),
    "--test": ("test_split", "test_size", "test_ratio"),
    "--overwrite": ("force", "exist_ok"),
    "--find-lr": ("lr_finder", "lr_find", "auto_lr_find"),
    "--classes": ("labels", "names", "class_names", "categories"),
    "--palette": ("colors", "colours", "colormap", "color_map"),
}  # fmt: skip
GPU_COUNTS = ("gpus", "num_gpus", "n_gpus", "ngpu", "ngpus", "n_gpu", "num_gpu", "nproc")
NO_GPU = ("cpu", "no_cuda", "nocuda", "use_cpu", "cpu_only")
STARTS = ("weights", "weight", "checkpoint", "ckpt", "model", "load", "load_from", "pretrained",
          "pretrained_weights", "init", "init_from", "resume_weights", "model_path")  # fmt: skip
SWITCHES = ("augment", "scale", "flip", "vertical_flip", "rotate", "rotate90", "blur", "shuffle",
            "drop_last", "pretrained", "freeze_bn", "freeze_backbone", "nesterov", "use_synch_bn",
            "deterministic", "compile", "binary", "differential_lr", "val", "tensorboard",
            "activation_checkpointing")  # fmt: skip
COMMANDS = {
    **dict.fromkeys(("colors", "color", "colour", "palette", "rgb"), "colours"),
    **dict.fromkeys(("coco2mask", "instances", "json2mask"), "coco"),
    **dict.fromkeys(("splits", "train_val_split", "divide", "lists"), "split"),
}


def explain(words: Sequence[str], parser: argparse.ArgumentParser, program: str) -> list[str]:
    """Return what is wrong with a command line, one line for each word; nothing if it is fine."""
    command = _command_of(parser)
    if command is not None:
        return _explain_command(words, command, program)
    meaning = _Meaning(parser, program, words)
    return [line for wrong in find_unknown(words, parser) for line in meaning.of(wrong)]


def _command_of(parser: argparse.ArgumentParser) -> Mapping[str, Any] | None:
    """Return the commands of a program that has several."""
    for action in parser._actions:
        if isinstance(action.choices, Mapping) and not action.option_strings:
            return action.choices
    return None


def _explain_command(words: Sequence[str], commands: Mapping[str, Any], program: str) -> list[str]:
    """Return what is wrong with the words up to the command; the rest is the command's own."""
    first = next((i for i, word in enumerate(words) if not is_option(word)), None)
    named = next((i for i, word in enumerate(words) if word in commands), None)
    if named is not None and any(map(is_option, words[:named])):
        before = _shown(shlex.join(words[:named]))
        return [
            f"{before}: belongs after the command: python {program} {words[named]} {before} ..."
        ]
    if first is None or words[first] in commands:
        return []
    word = words[first]
    meant = COMMANDS.get(normalised(word)) or closest(word, commands)
    if meant is None and word.lower().endswith(".json"):
        meant = "coco " + shlex.quote(word)
    hint = (
        f"did you mean: python {program} {meant}" if meant else f"choose from {', '.join(commands)}"
    )
    return [f"no command {_shown(word)!r}; {hint}"]


@dataclasses.dataclass
class _Meaning:
    """What is meant by words that a program does not know."""

    parser: argparse.ArgumentParser
    program: str
    words: Sequence[str]

    def __post_init__(self) -> None:
        actions = self.parser._option_string_actions
        self.options = {name: a for name, a in actions.items() if name.startswith("--")}
        overrides = actions.get("-o")
        self.sections: tuple[str, ...] | None = getattr(self.parser, "sections", None)
        self.has_overrides = overrides is not None and overrides.dest == "overrides"

    def of(self, wrong: UnknownWord) -> list[str]:
        """Return a line for the word, with what to type instead, and for those left behind it."""
        if not is_option(wrong.word):
            return [self._stray(wrong)]
        known = [normalised(wrong.word), *self._close(wrong.word)]
        for number, word in enumerate(known):
            values, rest = self._taken(word, wrong.values)
            instead = self._option(word, values)
            if instead is not None:
                line = f"{_quoted(wrong.word, values)}: no such option; "
                line += f"did you mean {instead}?" if number else f"write {instead}"
                before = (*wrong.before, wrong.word, *values)
                return [line, *(self._stray(UnknownWord(word, before=before)) for word in rest)]
        return [f"{_shown(wrong.word)}: no such option; choose from {self._choices()}"]

    def _choices(self) -> str:
        names = [name for name in self.options if name != "--help"]
        return ", ".join([*names, *["-o KEY.PATH=VALUE"] * self.has_overrides])

    def _close(self, word: str) -> list[str]:
        """Return what a word can be mistyped for, as `_option()` takes it: options before keys."""
        keys = self._names if self.has_overrides else {}
        others = [name for option, names in OPTIONS.items() if option in self.options
                  for name in names]  # fmt: skip
        further = {*WORDS, *STARTS} if self.has_overrides else set()
        pools = (
            [normalised(option) for option in self.options],
            sorted({key for path in keys.values() for key in path}),
            sorted({*others, *further}),
        )
        found = (closest(normalised(word), pool) for pool in pools)
        return [name for name in found if name is not None]

    def _taken(self, name: str, values: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the words behind an option that are its values, and the others."""
        for option, action in self.options.items():
            if normalised(option) == name or name in OPTIONS.get(option, ()):
                numbers = option == "--device" and all(value.isdigit() for value in values)
                most = len(values) if numbers else max_values(action.nargs)
                return values[:most], values[most:]
        if all(re.fullmatch(r"[-+\d.,eE]+", value) for value in values):
            return values, ()  # a list of numbers
        return values[:1], values[1:]

    def _option(self, name: str, values: tuple[str, ...]) -> str | None:
        """Return the words for an option of another spelling, of another program, or a key."""
        for option in self.options:
            if normalised(option) == name:
                return _quoted(option, values)
        device = self._device(name, values)
        if device is not None:
            return device
        if "--resume" in self.options and name in STARTS and _is_weights(values):
            return (
                f"{_quoted('-o', (f'init_from={values[0]}',))} to start from its weights, or "
                f"{_quoted('--resume', values)} to go on with that run"
            )
        for option, names in OPTIONS.items():
            if option in self.options and name in names:
                joined = (",".join(values),) if option == "--device" and values else values
                return _quoted(option, joined)
        if not self.has_overrides:
            return None
        found = self._overrides(name, values)
        if not found and name.startswith("no_"):
            found = self._overrides(name.removeprefix("no_"), ("false",))
        return one_of(found) if found else None

    def _device(self, name: str, values: tuple[str, ...]) -> str | None:
        if "--device" not in self.options:
            return None
        if name in NO_GPU:
            return "--device cpu"
        if name in ("cuda", "use_cuda") and not values:
            return "--device cuda"
        if name not in GPU_COUNTS:
            return None
        count = values[0] if len(values) == 1 else ""
        if not count.isdigit():  # "0,1", or "0 1"
            return _quoted("--device", (",".join(values),)) if values else None
        if "--resume" in self.options:
            return f"-o n_gpu={count}"
        return f"torchrun --nproc-per-node={count} {self.program} ... or --device 0"

    @cached_property
    def _names(self) -> Mapping[str, Sequence[str]]:
        """The keys that `-o` can set: those of the config that is named, and the usual ones."""
        from utils.config.known_keys import light_names

        names: dict[str, list[str]] = {}
        for keys in (names_in(self._tree), light_names(), USUAL_PATHS):
            for path, some in keys.items():
                names[path] = [*names.get(path, []), *some]
        if self.sections is not None:
            top = [key for key in names[""] if key in self.sections]
            below = {p: k for p, k in names.items() if p.split(".")[0] in self.sections}
            return {"": top, **below}
        return names

    @cached_property
    def _tree(self) -> dict[str, Any]:
        """The config that the command line names; empty where it cannot be read."""
        named = [b for a, b in zip(self.words, self.words[1:], strict=False)
                 if a in ("-c", "--config")]  # fmt: skip
        if not named and self.sections is not None:
            return {}  # that of the checkpoint
        try:
            return parse_config(named[-1] if named else "config.json")
        except (ConfigError, OSError, ValueError):
            return {}

    def _overrides(self, name: str, values: tuple[str, ...]) -> list[str]:
        """Return `-o path=value` for every path of a key: those in the config, else the usual."""
        word = normalised(name)
        key = WORDS.get(word, word)
        if "." in key or key == "loss":
            found = [key] if self.sections is None or key.split(".")[0] in self.sections else []
        else:
            known = self._names
            there = {path: [k for k in keys if k in known.get(path, ())]
                     for path, keys in names_in(self._tree).items()}  # fmt: skip
            found = paths_of(key, there) or paths_of(key, known)
            found = found if self.sections is None else found[::-1]  # first what is scored
        return [_quoted("-o", (f"{path}={_value(path, self._tree, values)}",)) for path in found]

    def _stray(self, wrong: UnknownWord) -> str:
        """Return the line for a word that no option takes."""
        word = wrong.word
        ending = Path(word).suffix.lower()
        instead = None
        if self.has_overrides and len(wrong.before) > 1 and wrong.before[-2] == "-o":
            instead = _quoted("-o", (f"{wrong.before[-1]}={word}",))
        elif self.has_overrides and re.match(r"[\w.]+=", word):
            instead = _quoted("-o", (word,))
        elif ending in CONFIG_ENDINGS and "--config" in self.options:
            instead = _quoted("--config", (word,))
        elif ending in WEIGHT_ENDINGS and "--model" in self.options:
            instead = _quoted("--model", (word,))
        elif ending in WEIGHT_ENDINGS and "--resume" in self.options:
            instead = (
                f"{_quoted('--resume', (word,))} to go on with that run, or "
                f"{_quoted('-o', (f'init_from={word}',))} to start from its weights"
            )
        elif "--images" in self.options:
            instead = _quoted("--images", (word,))
        elif re.fullmatch(r"cpu|cuda(:\d+)?", word) and "--device" in self.options:
            instead = _quoted("--device", (word,))
        if instead is not None:
            return f"{_shown(word)}: write {instead}"
        return f"{_shown(word)}: belongs to no option; choose from {self._choices()}"


def _is_weights(values: tuple[str, ...]) -> bool:
    return len(values) == 1 and Path(values[0]).suffix.lower() in WEIGHT_ENDINGS


def _value(path: str, tree: Mapping[str, Any], values: tuple[str, ...]) -> str:
    """Return the value as `-o` takes it; a key that was typed like a switch is switched on."""
    if len(values) == 1:
        return values[0]
    if values:
        return json.dumps([_plain(value) for value in values])
    node: Any = tree
    for key in path.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    if path == "amp":
        return "auto"
    return "true" if isinstance(node, bool) or path.split(".")[-1] in SWITCHES else "VALUE"


def _plain(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _quoted(option: str, values: Iterable[str]) -> str:
    return _shown(shlex.join([option, *values]))


def _shown(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."
