"""All that is wrong or odd with the sections of a config, each against its signature."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from utils.config.errors import show, suggest
from utils.config.keys import LOADERS
from utils.config.known_keys import KnownKeys
from utils.config.sections import LOGGER_CLASSES, Component, LossTerm, SectionSpec, TrainerSection
from utils.config.signatures import Parameter, classes_of, legacy_args, signature_of
from utils.config.text_values import value_of
from utils.config.values import convert


@dataclasses.dataclass
class Report:
    """What is wrong with a config (`problems`) and what is odd (`warnings`)."""

    # The keys that the whole config has and can have.
    keys: KnownKeys = dataclasses.field(default_factory=KnownKeys)
    # The argument that says the classes, for sections that cannot be found.
    classes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    problems: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)

    def without_nothing(self, tree: Mapping[str, Any], sections: Iterable[str]) -> dict[str, Any]:
        """Return a copy in which a section that says "None" in words is null; warn of each."""
        nothing = [
            key
            for key in sections
            if isinstance(tree.get(key), str) and value_of(tree[key]) is None
        ]
        self.warnings += [f"{key}: {show(tree[key])} is text; read as null" for key in nothing]
        return {**tree, **dict.fromkeys(nothing)}

    def component(
        self, value: Any, spec: SectionSpec, path: str, section: type[Component] = Component
    ) -> Component | None:
        """Check `{"type": ..., "args": {...}}`; return the section, or None with problems."""
        before = len(self.problems)
        if not isinstance(value, dict):
            example = f'{{"type": "{(spec.names() or ["..."])[0]}", "args": {{}}}}'
            self.problems.append(f"{path}: expected {example}, not {show(value)}")
            return None
        values = self.arguments({"args": {}, **value}, signature_of(section), path, "no such key")
        name = value.get("type")
        args = value.get("args", {})
        if not isinstance(name, str):
            return None
        problem = self._name_problem(name, args, spec, path)
        if problem:
            self.problems.append(f"{path}.type: {problem}")
            return None
        if not isinstance(args, dict):
            return None
        cls = spec.find(name)
        schema = spec.schema(name)
        where = f"{path}.args"
        legacy = {
            k: v for c in classes_of(cls, *spec.shared_args) for k, v in legacy_args(c).items()
        }
        args = self.legacy(self.renamed(args, cls, where), schema, legacy, where)
        for taken in sorted(spec.set_by_program & args.keys()):
            self.problems.append(f"{where}.{taken}: the program sets this itself; remove it")
            del args[taken]
        converted = self.arguments(args, schema, where, f"{name} takes no such argument")
        if values is None or converted is None or len(self.problems) > before:
            return None
        if spec.dry_build is not None:
            try:
                spec.dry_build(cls, converted)
            except (ValueError, TypeError, RuntimeError) as error:
                self.problems.append(f"{where}: {error}")
                return None
        return section(**{**values, "args": converted})

    def _name_problem(self, name: str, args: Any, spec: SectionSpec, path: str) -> str:
        """Return why a section cannot have this name, or nothing."""
        names = spec.names()
        if name in spec.forbidden:
            return f"{name} cannot be used: {spec.forbidden[name]}"
        if name in names:
            return ""
        value = spec.find(name) if name in spec.namespace.__all__ else None
        if isinstance(value, type) and not issubclass(value, spec.base):
            return f"{name} does not derive from {spec.base.__name__}; see CONTRIBUTING.md"
        hint = suggest(name, names)
        advice = ""
        if spec.advice is not None and name.lower() not in map(str.lower, names):
            # The classes of one loader are those of the others, which need not name them.
            shared = self.classes if path in LOADERS else {}
            advice = spec.advice(name, {**shared, **args} if isinstance(args, dict) else shared)
        # A name that is known elsewhere means that, whatever else it is close to.
        if advice and (not hint or advice.startswith("it is ")):
            hint = f"; {advice}"
        hint = hint or suggest(name, names, listing=True)
        return f"no {spec.kind} named {name!r}{hint}"

    def loss(self, value: Any, spec: SectionSpec) -> tuple[LossTerm, ...] | None:
        """Check a name, `{"type", "args"}`, or a list of these with `"weight"`."""
        if isinstance(value, list) and not value:
            self.problems.append("loss: the list is empty; name at least one loss")
            return None
        several = isinstance(value, list)
        terms = []
        for i, item in enumerate(value if several else [value]):
            path = f"loss.{i}" if several else "loss"
            if isinstance(item, str):
                item = {"type": item}
            terms.append(self.component(item, spec, path, LossTerm))
        found = [term for term in terms if isinstance(term, LossTerm)]
        if len(found) < len(terms):
            return None
        if not any(term.weight for term in found):
            self.problems.append("loss: every weight is 0, so nothing would be learned")
        return tuple(found)

    def trainer(self, value: Any) -> TrainerSection | None:
        """Check the section `trainer`."""
        if not isinstance(value, dict):
            self.problems.append(f"trainer: expected keys and values, not {show(value)}")
            return None
        schema = signature_of(TrainerSection)
        kept = self.legacy(value, schema, TrainerSection.legacy_args, "trainer")
        before = len(self.problems)
        own = {key: kept.pop(key) for key in LOGGER_CLASSES if key in kept}
        loggers = {key: self._logger(value, key) for key, value in own.items()}
        values = self.arguments(kept, schema, "trainer", "no such key", lenient=True)
        if values is None or len(self.problems) > before:
            return None
        section = TrainerSection(**values, **loggers)
        if "wandb" in section.loggers and not section.writes_tensorboard:
            self.problems.append(
                'trainer.loggers: wandb takes over what TensorBoard writes; add "tensorboard" to '
                "the list, and do not set trainer.tensorboard to false"
            )
        return section

    def _logger(self, value: Any, key: str) -> Any:
        """Check the section of a logger; return the section, or None with problems."""
        path, section = f"trainer.{key}", LOGGER_CLASSES[key]
        if not isinstance(value, dict):
            self.problems.append(f"{path}: expected keys and values, not {show(value)}")
            return None
        values = self.arguments(value, signature_of(section), path, "no such key")
        try:
            return None if values is None else section(**values)
        except ValueError as error:
            self.problems.append(f"{path}.{error}")
            return None

    def legacy(
        self,
        args: dict[str, Any],
        schema: Mapping[str, Parameter],
        names: Mapping[str, str],
        path: str,
    ) -> dict[str, Any]:
        """Return a copy without the arguments that no longer have a meaning; warn of each."""
        kept = dict(args)
        for name in [name for name in args if name in names and name not in schema]:
            del kept[name]
            self.warnings.append(f"{path}.{name}: has no effect ({names[name]})")
        return kept

    def renamed(self, args: dict[str, Any], cls: type, path: str) -> dict[str, Any]:
        """Return a copy in which arguments have their present names; warn of each former one."""
        names: dict[str, str] = getattr(cls, "renamed_args", {})
        for name in [name for name in args if names.get(name) in args]:
            self.problems.append(
                f"{path}.{name}: is the former name of {names[name]}, which is there too; remove it"
            )
        args = {name: value for name, value in args.items() if names.get(name) not in args}
        old_names = [name for name in args if name in names]
        self.warnings.extend(f"{path}.{name}: is called {names[name]} now" for name in old_names)
        return {names.get(name, name): value for name, value in args.items()}

    def arguments(
        self,
        args: Mapping[str, Any],
        schema: Mapping[str, Parameter],
        path: str,
        unknown: str,
        *,
        lenient: bool = False,
    ) -> dict[str, Any] | None:
        """Hold values against a schema: unknown, missing, wrong type, out of range."""
        before = len(self.problems)
        prefix = f"{path}." if path else ""
        values: dict[str, Any] = {}
        unset = [name for name in schema if name not in args]
        for name, value in args.items():
            where = f"{prefix}{name}"
            if name not in schema:
                text, is_error = self.keys.judge(name, path, schema, unset, lenient=lenient)
                if is_error:
                    self.problems.append(f"{where}: {unknown}{text}")
                else:
                    self.warnings.append(f"{where}: {text}")
                continue
            try:
                values[name], notes = convert(value, schema[name])
            except ValueError as error:
                self.problems.append(f"{where}: {error}")
            else:
                self.warnings += [f"{where}: {note}" for note in notes]
        for name in unset:
            if schema[name].required:
                self.problems.append(f"{prefix}{name}: required key is missing")
        return None if len(self.problems) > before else values
