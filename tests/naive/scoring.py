"""The slow twins of `hypnic.scoring`: what is meant, written so that it can be checked by reading."""

from __future__ import annotations

from collections.abc import Sequence

ROUNDING = 1e-6


def may_pair(found: float, true: float, tolerance: float) -> bool:
    return abs(found - true) <= tolerance + ROUNDING


def most_pairs(found: Sequence[float], true: Sequence[float], tolerance: float) -> int:
    """The size of a maximum matching, by augmenting paths."""
    partner: dict[int, int] = {}

    def place(f: int, tried: set[int]) -> bool:
        for t in range(len(true)):
            if may_pair(found[f], true[t], tolerance) and t not in tried:
                tried.add(t)
                if t not in partner or place(partner[t], tried):
                    partner[t] = f
                    return True
        return False

    return sum(place(f, set()) for f in range(len(found)))


def best_matching(found: Sequence[float], true: Sequence[float], tolerance: float) -> tuple[int, float]:
    """The most pairs and, among matchings that large, the smallest sum of errors: every matching is tried."""
    if not found:
        return 0, 0.0
    best = best_matching(found[1:], true, tolerance)
    for t, onset in enumerate(true):
        if may_pair(found[0], onset, tolerance):
            pairs, error = best_matching(found[1:], [*true[:t], *true[t + 1 :]], tolerance)
            best = min(best, (pairs + 1, error + abs(found[0] - onset)), key=lambda b: (-b[0], b[1]))
    return best


def roc_area(right: Sequence[float], wrong: Sequence[float]) -> float:
    """How often a right event's score is above a wrong one's, over all pairs of them; ties count half."""
    wins = sum((r > w) + (r == w) / 2 for r in right for w in wrong)
    return wins / (len(right) * len(wrong))


def nearest_during(
    found: tuple[float, float], true: Sequence[tuple[float, float]], tolerance: float
) -> int | None:
    """Which of the true spans, widened by the tolerance, touches the found one and has the nearest onset."""
    start, end = found
    touching = [
        (abs(start - a), n)
        for n, (a, b) in enumerate(true)
        if a - tolerance - ROUNDING <= end and b + tolerance + ROUNDING >= start
    ]
    return min(touching)[1] if touching else None
