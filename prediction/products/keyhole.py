"""Regions with holes as one line: cut open from each hole to the line around it."""

from collections import defaultdict

import cv2
import numpy as np

Point = tuple[int, int]
Line = list[Point]


def trace(region: np.ndarray) -> np.ndarray:
    """Return the outline of a region as one closed line through the centres of its pixels.

    A hole is reached by a cut along a row of the region, which the line goes there and back. Filled
    and drawn, the line gives the region again, pixel for pixel.

    Args:
        region: (H, W) uint8, not 0 in one region whose pixels touch at their sides.

    Returns:
        (n, 2) int32 x and y, not closed.
    """
    lines, tree = cv2.findContours(region, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    outside = [number for number, (*_, parent) in enumerate(tree[0]) if parent < 0]
    assert len(outside) == 1, "the region is in one piece"
    holes = [_points(line) for number, line in enumerate(lines) if number != outside[0]]
    return np.array(_without_middles(_connect(_points(lines[outside[0]]), holes)), np.int32)


def _points(line: np.ndarray) -> Line:
    return list(map(tuple, line[:, 0].tolist()))


def _connect(outline: Line, holes: list[Line]) -> Line:
    """Return one line of several: every pixel to the left of a hole's line is in the region."""
    lines = [outline, *(_from_left(hole) for hole in sorted(holes, key=min))]
    owner: dict[Point, int] = {}
    cuts: defaultdict[tuple[int, Point], list[int]] = defaultdict(list)
    for number, line in enumerate(lines):
        if number:
            x, y = line[0]
            while (x, y) not in owner:  # as far as the line of the outside or a hole before it
                x -= 1
            cuts[owner[x, y], (x, y)].append(number)
        for point in line:
            owner.setdefault(point, number)
    # From the last on: what hangs on a line is complete before the line itself is put together.
    for number in range(len(lines) - 1, -1, -1):
        whole: Line = []
        for point in lines[number]:
            whole.append(point)
            for hole in cuts.pop((number, point), ()):
                whole += [*lines[hole], lines[hole][0], point]
        lines[number] = whole
    return lines[0]


def _from_left(line: Line) -> Line:
    start = line.index(min(line))
    return line[start:] + line[:start]


def _without_middles(line: Line) -> Line:
    """Return a line without the points that lie on the way from one neighbour to the other."""
    before, after = [*line[-1:], *line[:-1]], [*line[1:], *line[:1]]
    kept = [
        point
        for (a, b), point, (c, d) in zip(before, line, after, strict=True)
        if (point[0] - a, point[1] - b) != (c - point[0], d - point[1])
    ]
    return kept or line
