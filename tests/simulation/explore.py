"""Trying schedules: all of them, with states that were seen before left out, or random ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from .cast import Cast, Label, Violation
from .state import Snapshot
from .world import World


class Found(AssertionError):
    """A violation, with the schedule that led to it."""


@dataclass
class Report:
    """What was tried; ``complete``: every schedule."""

    states: int = 0
    steps: int = 0
    complete: bool = True


def explore(cast: Cast, limit: int = 10_000_000) -> Report:
    """Try every schedule of a cast; stop at ``limit`` states. Raises `Found` at a violation."""
    world = World(cast)
    report = Report()
    first = world.digest()
    #: State -> the state before it, and what happened between.
    seen: dict[int, tuple[int, Label]] = {first: (0, ())}
    waiting: list[tuple[int, Snapshot]] = [(first, world.save())]
    while waiting:
        before, snapshot = waiting.pop()
        world.load(snapshot)
        for number, label in enumerate(world.choices()):
            if number:
                world.load(snapshot)
            report.steps += 1
            try:
                world.do(label)
                after = world.digest()
                if after in seen:
                    continue
                seen[after] = before, label
                world.check()
            except Violation as violation:
                raise Found(story(cast, [*trace(seen, before), label], violation)) from None
            waiting.append((after, world.save()))
        if len(seen) > limit:
            report.complete = False
            break
    report.states = len(seen)
    return report


def wander(cast: Cast, seed: int, schedules: int, steps: int = 300) -> Report:
    """Try random schedules. Raises `Found` at a violation."""
    chance = random.Random(seed)
    world = World(cast)
    start = world.save()
    report = Report(complete=False)
    seen: set[int] = set()
    for _ in range(schedules):
        world.load(start)
        schedule: list[Label] = []
        for _ in range(steps):
            choices = world.choices()
            if not choices:
                break
            # Demons are tame: most steps are somebody's turn.
            turns = [label for label in choices if label[0] == "run"]
            schedule.append(chance.choice(turns if turns and chance.random() < 0.8 else choices))
            report.steps += 1
            try:
                world.do(schedule[-1])
                digest = world.digest()
                if digest not in seen:
                    seen.add(digest)
                    world.check()
            except Violation as violation:
                raise Found(story(cast, schedule, violation)) from None
    report.states = len(seen)
    return report


def trace(seen: dict[int, tuple[int, Label]], state: int) -> list[Label]:
    """The schedule that led to a state."""
    labels: list[Label] = []
    while seen[state][1]:
        state, label = seen[state]
        labels.append(label)
    return labels[::-1]


def story(cast: Cast, schedule: Sequence[Label], violation: Violation) -> str:
    """A schedule in words."""
    world = World(cast)
    lines = [f"{cast.name}: {violation}"]
    for number, label in enumerate(schedule, 1):
        lines.append(f"{number:4} {world.describe(label)}")
        try:
            world.do(label)
        except Violation:
            break
    return "\n".join(lines)
