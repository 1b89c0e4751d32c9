"""Deal out groups of images so that every split gets its fraction of each class."""

import dataclasses

import numpy as np

CANDIDATES = 64  # units that one is compared with for a swap
MIN_GAIN = 1e-5  # a class's fraction in a tenth of the images, off by 0.001
REFINE_STEPS = 10_000  # units tried; larger sets are close to their fractions before that
# Cost of a class that train, val or test lacks: more than any deviation of the fractions.
MISSING = (100, 100, 50)


@dataclasses.dataclass(frozen=True)
class Units:
    """What is dealt out: images, or groups of images that stay together."""

    sizes: np.ndarray  # (U,) images of each
    presence: np.ndarray  # (U, K) images of each in which a class occurs
    pixels: np.ndarray  # (U, K) pixels of each class


def deal(units: Units, targets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give every unit to a split so that sizes and classes come close to their fractions.

    Iterative stratification over the classes that occur (Sechidis, Tsoumakas and Vlahavas, On the
    Stratification of Multi-label Data, 2011, https://doi.org/10.1007/978-3-642-23808-6_10), then
    moves and swaps as long as they help.

    Differs from the paper: units may be groups of images; moves and swaps also consider the pixels
    of a class and classes that a split lacks; ties go to the smaller split.

    Args:
        units: What to deal out.
        targets: (S,) fractions.
        rng: Breaks ties.

    Returns:
        (U,) split of each unit.
    """
    order = rng.permutation(len(units.sizes))
    shuffled = Units(units.sizes[order], units.presence[order], units.pixels[order])
    chosen = np.empty(len(order), np.int64)
    chosen[order] = _refine(shuffled, targets, _stratify(shuffled, targets), rng)
    return chosen


def _stratify(units: Units, targets: np.ndarray) -> np.ndarray:
    """Deal out the rarest class first, each of its units to the split that wants most of it."""
    chosen = np.full(len(units.sizes), -1)
    wanted = np.outer(targets, units.presence.sum(axis=0))
    room = targets * units.sizes.sum()

    def give(unit: int, desire: np.ndarray) -> None:
        split = np.lexsort((targets, -room.round(9), -desire.round(9)))[0]
        chosen[unit] = split
        wanted[split] -= units.presence[unit]
        room[split] -= units.sizes[unit]

    while True:
        left = units.presence * (chosen < 0)[:, None]
        holders = np.count_nonzero(left, axis=0)
        if not holders.any():
            break
        rarest = int(np.argmin(np.where(holders, holders, len(chosen) + 1)))
        amounts = left[:, rarest]
        for unit in np.argsort(-amounts, kind="stable")[: holders[rarest]]:
            give(int(unit), wanted[:, rarest])
    for unit in np.argsort(-units.sizes, kind="stable"):
        if chosen[unit] < 0:
            give(int(unit), room)
    return chosen


def _refine(
    units: Units, targets: np.ndarray, chosen: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Move units, or swap two, while that brings the splits closer to their fractions."""
    chosen = chosen.copy()
    cost = _Cost(units, targets)
    sums = np.array([cost.features[chosen == s].sum(axis=0) for s in range(len(targets))])
    # Rare classes first: of a large set only the first units are tried.
    holders = np.count_nonzero(units.presence, axis=0)
    rarity = np.where(units.presence, holders, len(chosen)).min(axis=1, initial=len(chosen))
    order = np.argsort(rarity, kind="stable")
    steps = REFINE_STEPS
    improved = True
    while improved and steps > 0:
        improved = False
        for unit in order[:steps]:
            improved |= _improve(int(unit), cost, chosen, sums, rng)
        steps -= len(chosen)
    return chosen


class _Cost:
    """The distance of a split from its fractions, from the sums of its units' features.

    Args:
        units: What is dealt out.
        targets: (S,) fractions.
    """

    def __init__(self, units: Units, targets: np.ndarray) -> None:
        self.targets = targets
        columns = np.hstack([units.sizes[:, None], units.presence, units.pixels])
        # Integers: their sums do not depend on the order.
        self.features = columns.astype(np.int64)
        self.totals = np.maximum(columns.sum(axis=0), 1)
        num_classes = units.presence.shape[1]
        self.vital = slice(0, 1 + num_classes)  # no split should lack these
        # The size weighs as much as the images of all classes together.
        self.weights = np.array([max(num_classes, 1)] + [1] * (2 * num_classes))

    def __call__(self, sums: np.ndarray, split: int) -> np.ndarray:
        """Return the cost (N,) of the sums (N, F)."""
        target = self.targets[split]
        off = (sums / self.totals - target) ** 2 / target
        missing = (sums[:, self.vital] == 0).sum(axis=1)
        return (off * self.weights).sum(axis=1) + MISSING[split] * missing


def _improve(
    unit: int, cost: _Cost, chosen: np.ndarray, sums: np.ndarray, rng: np.random.Generator
) -> bool:
    """Make the best move or swap of one unit, if it helps."""
    here, own = chosen[unit], cost.features[unit]
    best, gain = None, MIN_GAIN
    for there in range(len(sums)):
        if there == here:
            continue
        others = np.flatnonzero(chosen == there)
        if len(others) > CANDIDATES:
            others = others[rng.integers(len(others), size=CANDIDATES)]
        # The first row is a move: nothing comes back.
        change = np.vstack([np.zeros_like(own), cost.features[others]]) - own
        before = cost(sums[[here]], here) + cost(sums[[there]], there)
        gains = before - cost(sums[here] + change, here) - cost(sums[there] - change, there)
        row = int(np.argmax(gains))
        if gains[row] > gain:
            gain = gains[row]
            best = (there, None if row == 0 else others[row - 1], change[row])
    if best is None:
        return False
    there, partner, difference = best
    chosen[unit] = there
    if partner is not None:
        chosen[partner] = here
    sums[here] += difference
    sums[there] -= difference
    return True
