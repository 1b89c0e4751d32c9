"""How an image is cut into overlapping tiles."""

from math import ceil

# The size (height, width) of every tile, and the corners (top, left).
TileLayout = tuple[tuple[int, int], list[tuple[int, int]]]


def tile_layout(height: int, width: int, min_size: int = 1, least: int = 1) -> TileLayout:
    """Cut an image into overlapping tiles that cover it.

    A tile is 2/5 of the image and the next begins 2/3 of a tile further. pytorch-segmentation took
    the step along the height for both axes, and it is kept wherever it leaves no gap: the metrics
    of landscape images stay what they were. On tall images, where it is wider than a tile, the
    width gets its own step.

    Args:
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.
        min_size: The smallest side that a tile may have.
        least: The smallest side that a tile may have where the image's is not smaller.

    Returns:
        The size (height, width) of every tile, and the corners (top, left) of the tiles. The last
        tile of a row or column may reach over the image's edge.
    """
    # 2/5 of two pixels is none: such a side stays whole.
    tile_height, tile_width = (
        max(int(side // 2.5) or side, min(side, least), min_size) for side in (height, width)
    )
    # Not 2 / 3, which is a different float: the ceiling of a multiple of 3 depends on it.
    row_step = ceil(tile_height * (1 - 1 / 3))
    column_step = row_step if row_step <= tile_width else ceil(tile_width * (1 - 1 / 3))
    rows = max(ceil((height - tile_height) / row_step), 0) + 1
    columns = max(ceil((width - tile_width) / column_step), 0) + 1
    corners = [(r * row_step, c * column_step) for r in range(rows) for c in range(columns)]
    return (tile_height, tile_width), corners
