"""Draw what imports what: `python -m docs.draw_architecture` writes `docs/images/architecture.svg`.

The arrows come from the imports themselves. `LAYERS` is the one place that says what may import
what; `tests/test_project.py` holds the imports against it.
"""

import ast
import graphlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs/images/architecture.svg"

# From the highest to the lowest. A program, trainer.py or a folder imports only itself and what is
# in a lower layer.
LAYERS: tuple[dict[str, str], ...] = (
    {"train": "train from a config", "check": "find problems first",
     "inference": "predict masks", "evaluate": "score a model",
     "convert": "make masks, splits",
     "export": "files for other programs", "serve": "answer by HTTP"},
    {"training": "run, resume, find-lr", "audit": "findings, sheet, report",
     "prediction": "load, predict, write", "evaluation": "scores, report page",
     "conversion": "COCO, labelme, colours", "exporting": "formats, proof",
     "serving": "queue, limits, page"},
    {"trainer": "the training step", "builders": "config to objects",
     "inspection": "look at dataset files"},
    {"models": "one file per paper", "dataloaders": "one file per dataset"},
    {"base": "base classes, batches"},
    {"utils": "shared code, one folder per subject"},
)  # fmt: skip
# What is scored, exported and served is what predicts; an export is proved on a split's images.
WITHIN_A_LAYER = {
    ("evaluation", "prediction"), ("exporting", "prediction"), ("exporting", "evaluation"),
    ("serving", "prediction"),
}  # fmt: skip
# The folders of utils/ have no fixed layers; they only do not import each other in a circle.
ROOMS = {
    "cli": "command line, signals", "config": "read, check, build",
    "files": "image formats, writing", "samples": "pairs, labels, cache",
    "transforms": "augmentation", "losses": "what is minimized",
    "logits": "logits to labels", "metrics": "confusion matrix",
    "optim": "rates, groups, EMA", "checkpoint": "save, load, verify",
    "distributed": "collectives", "runs": "log, lock, tables",
    "drawing": "palettes, overlays", "pages": "what pages share",
}  # fmt: skip

Edge = tuple[str, str]
Row = Sequence[str]

WIDTH, MARGIN, PAD = 900, 16, 14
BOX, BOX_HEIGHT, GAP = 150, 44, 22
LANE = 12  # what an arrow takes that passes a row
COLOURS = ("#1f5fa8", "#b3541e", "#2e7d4f", "#7a3e9d", "#8a6d00")
FONT = "-apple-system,'Segoe UI','Liberation Sans',Arial,sans-serif"


def read_imports() -> dict[Edge, Path]:
    """Return every pair of nodes of which one imports the other, and a file that does.

    Nodes are the names in `LAYERS`, and `utils/<room>` for the folders of `utils/`.
    """
    found: dict[Edge, Path] = {}
    for top in itertools.chain(*LAYERS):
        for path in (*ROOT.glob(f"{top}.py"), *sorted((ROOT / top).rglob("*.py"))):
            node = _node_of(path.relative_to(ROOT).with_suffix("").parts)
            for module in _modules_in(path):
                other = _node_of(module.split("."))
                if node and other and other != node:
                    found.setdefault((node, other), path)
    return found


def _node_of(parts: Sequence[str]) -> str | None:
    if parts[0] == "utils" and parts[1:] and parts[1] in ROOMS:
        return f"utils/{parts[1]}"
    return parts[0] if any(parts[0] in layer for layer in LAYERS) else None


def _modules_in(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports anywhere, and names in them that may be modules."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reduce_edges(edges: Iterable[Edge]) -> list[Edge]:
    """Return the edges that do not follow from others: the transitive reduction.

    Raises:
        graphlib.CycleError: If they go in a circle.
    """
    targets: dict[str, set[str]] = {}
    for source, target in edges:
        targets.setdefault(source, set()).add(target)
        targets.setdefault(target, set())
    below: dict[str, set[str]] = {}
    for node in graphlib.TopologicalSorter(targets).static_order():
        below[node] = targets[node].union(*(below[target] for target in targets[node]))
    return sorted(
        (source, target)
        for source, direct in targets.items()
        for target in direct
        if not any(target in below[other] for other in direct)
    )


def rows_of(nodes: Iterable[str], edges: Iterable[Edge]) -> list[Row]:
    """Return nodes in rows, the highest first, each just above the highest that it imports."""
    sorter = graphlib.TopologicalSorter({node: [] for node in nodes})
    for source, target in edges:
        sorter.add(source, target)
    sorter.prepare()
    rows: list[Row] = []
    while sorter.is_active():
        rows.append(sorted(sorter.get_ready()))
        sorter.done(*rows[-1])
    return rows[::-1]


class Chart:
    """Rows of boxes with arrows from higher to lower ones.

    An arrow that passes rows takes a lane in each of them, so that it crosses no box.

    Args:
        rows: The names of the boxes, the highest row first; boxes change places in their row.
        edges: From box to box.
        top: Where the first row begins.
        step: From the top of a row to that of the next.
    """

    def __init__(self, rows: Sequence[Row], edges: Sequence[Edge], top: int, step: int) -> None:
        self.colours = dict(zip(itertools.chain(*rows), itertools.cycle(COLOURS), strict=False))
        level = {name: index for index, row in enumerate(rows) for name in row}
        self.sideways = [(a, b) for a, b in edges if level[a] == level[b]]
        lanes: list[list[str]] = [[] for _ in rows]
        self.routes: list[list[str]] = []
        for source, target in edges:
            if level[source] < level[target]:
                route = {
                    i: f"{source}>{target}>{i}" for i in range(level[source] + 1, level[target])
                }
                for index, lane in route.items():
                    lanes[index].append(lane)
                self.routes.append([source, *route.values(), target])
        self.pairs = [pair for route in self.routes for pair in itertools.pairwise(route)]
        both = list(zip(rows, lanes, strict=True))
        starts = [[*row, *more] for row, more in both], [[*more, *row] for row, more in both]
        rows = min(map(self._order, starts), key=self._cost)
        self.x = {name: x for row in rows for name, x in _middles(row).items()}
        self.y = {name: top + step * index for index, row in enumerate(rows) for name in row}
        self.bottom = max(self.y.values()) + BOX_HEIGHT

    def _cost(self, rows: Sequence[Row]) -> tuple[int, float]:
        """Return how many arrows cross, and how long they are."""
        x = {name: x for row in rows for name, x in _middles(row).items()}
        level = {name: index for index, row in enumerate(rows) for name in row}
        crossings = sum(
            level[a] == level[c] and (x[a] - x[c]) * (x[b] - x[d]) < 0
            for (a, b), (c, d) in itertools.combinations(self.pairs, 2)
        )
        apart = sum(abs(x[a] - x[b]) > BOX + GAP for a, b in self.sideways)
        return crossings + 100 * apart, sum((x[a] - x[b]) ** 2 for a, b in self.pairs)

    def _order(self, rows: list[list[str]]) -> list[list[str]]:
        """Swap boxes and lanes of a row as long as that makes the chart simpler."""
        best, before = self._cost(rows), None
        while best != before:
            before = best
            for row in rows:
                for i, j in itertools.combinations(range(len(row)), 2):
                    row[i], row[j] = row[j], row[i]
                    cost = self._cost(rows)
                    if cost >= best:
                        row[i], row[j] = row[j], row[i]
                    best = min(cost, best)
        return rows

    def arrows(self) -> Iterator[str]:
        """Yield the arrows as SVG."""
        for a, b in self.sideways:
            side = 1 if self.x[b] > self.x[a] else -1
            start, end = self.x[a] + side * BOX / 2, self.x[b] - side * (BOX / 2 + 5)
            yield _arrow(f"M{start},{self.y[a] + BOX_HEIGHT / 2}H{end}", self.colours[a])
        for source, *route in self.routes:
            x, y = self._port(source, route[0]), self.y[source] + BOX_HEIGHT
            path, before = f"M{x},{y}", source
            for name in route:
                is_lane = name != route[-1]
                to_x = self.x[name] if is_lane else self._port(name, before)
                to_y = self.y[name] if is_lane else self.y[name] - 5  # for the head
                middle = (y + to_y) / 2
                path += f"C{x},{middle} {to_x},{middle} {to_x},{to_y}"
                x, y, before = to_x, to_y + BOX_HEIGHT, name
                path += f"V{y}" * is_lane
            yield _arrow(path, self.colours[source])

    def _port(self, name: str, other: str) -> float:
        """Return where the arrow between a box and another one meets the box."""
        out = (name, other) in self.pairs
        ends = [b if out else a for a, b in self.pairs if (a if out else b) == name]
        ends.sort(key=self.x.__getitem__)
        return self.x[name] + 26 * (ends.index(other) - (len(ends) - 1) / 2)

    def boxes(self, purposes: dict[str, str]) -> Iterator[str]:
        """Yield the boxes as SVG, each with its purpose."""
        for name, purpose in purposes.items():
            x, y = self.x[name], self.y[name]
            label = f"{name}.py" if (ROOT / f"{name}.py").exists() else f"{name}/"
            yield _rect(x - BOX / 2, y, BOX, BOX_HEIGHT, "#ffffff", self.colours[name])
            yield _text(x, y + 18, label.removeprefix("utils/"), 14, "#1b1f24")
            yield _text(x, y + 35, purpose, 12, "#4a525b")


def _middles(row: Row) -> dict[str, float]:
    """Return the middle of each box and lane of a row, which is centred."""
    widths = [(LANE if ">" in name else BOX) + GAP for name in row]
    left = (WIDTH - sum(widths)) / 2
    ends = itertools.accumulate(widths, initial=left)
    return {name: end + width / 2 for name, end, width in zip(row, ends, widths, strict=False)}


def _arrow(path: str, colour: str) -> str:
    head = f"marker-end='url(#head-{colour[1:]})'"
    return f"<path d='{path}' fill='none' stroke='{colour}' stroke-width='1.6' {head}/>"


def _rect(x: float, y: float, width: float, height: float, fill: str, stroke: str) -> str:
    size = f"width='{width}' height='{height}' rx='7'"
    return f"<rect x='{x}' y='{y}' {size} fill='{fill}' stroke='{stroke}' stroke-width='1.4'/>"


def _text(x: float, y: float, text: str, size: int, colour: str) -> str:
    weight = "600" if size > 12 else "400"
    style = f"font-size='{size}' font-weight='{weight}' fill='{colour}' text-anchor='middle'"
    return f"<text x='{x}' y='{y}' {style}>{text}</text>"


def draw() -> str:
    """Return the picture as SVG."""
    imports = read_imports()
    *upper, lowest = LAYERS
    tops = {(a.split("/")[0], b.split("/")[0]) for a, b in imports}
    edges = reduce_edges((a, b) for a, b in tops if a != b)
    above = Chart(
        [list(layer) for layer in upper], [e for e in edges if e[1] not in lowest],
        top=MARGIN + PAD, step=94,
    )  # fmt: skip
    rooms = {f"utils/{name}": purpose for name, purpose in ROOMS.items()}
    between = reduce_edges(e for e in imports if e[0] in rooms and e[1] in rooms)
    top = above.bottom + 44
    below = Chart(rows_of(sorted(rooms), between), between, top=top + 38, step=74)
    height = below.bottom + PAD + MARGIN
    heads = (
        f"<marker id='head-{colour[1:]}' viewBox='0 0 8 8' refX='3' refY='4' markerWidth='8' "
        "markerHeight='8' markerUnits='userSpaceOnUse' orient='auto'>"
        f"<path d='M0,0L8,4L0,8z' fill='{colour}'/></marker>"
        for colour in COLOURS
    )
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' "
        f"width='{WIDTH}' height='{height}' font-family=\"{FONT}\">",
        "<title>What imports what</title>", *heads,
        _rect(0, 0, WIDTH, height, "#f6f8fa", "none"),
        _rect(MARGIN, top, WIDTH - 2 * MARGIN, height - MARGIN - top, "#e9eef3", "#b6c2cd"),
        *(_text(WIDTH / 2, top + 24, f"{n}/: {what}", 14, "#1b1f24") for n, what in lowest.items()),
        *(
            _arrow(f"M{above.x[a]},{above.bottom}V{top - 5}", above.colours[a])
            for a, b in edges if b in lowest
        ),
        *above.arrows(), *above.boxes({n: what for layer in upper for n, what in layer.items()}),
        *below.arrows(), *below.boxes(rooms), "</svg>",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the picture."""
    PICTURE.write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
