"""Measuring on a shared machine: alternating, with medians."""

from collections.abc import Callable
from statistics import median


def interleave(*measures: Callable[[], float], rounds: int) -> list[float]:
    """Take the measures in turn, so that disturbances affect all; return the medians.

    A first round warms up and does not count.
    """
    for measure in measures:
        measure()
    taken: list[list[float]] = [[] for _ in measures]
    for number in range(rounds):
        for index in range(len(measures)):
            turn = (index + number) % len(measures)
            taken[turn].append(measures[turn]())
    return [median(values) for values in taken]
