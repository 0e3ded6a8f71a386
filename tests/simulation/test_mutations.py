"""The simulator finds every break of the protocol, so that its silence means something."""

from __future__ import annotations

import pytest

from .cast import Cast
from .explore import Found, Report, explore
from .mutations import CONTROLS, MUTATIONS, Mutation

pytestmark = pytest.mark.simulation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.cast.name)
def test_mutation(mutation: Mutation) -> None:
    """A protocol without this repair is caught with an old answer; the schedule is told."""
    with pytest.raises(Found) as found:
        explore(mutation.cast, 100_000)
    print(found.value)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.cast.name)
def test_the_break_is_the_cause(mutation: Mutation, note: Report) -> None:
    """The same cast with the protocol as shipped holds: nothing but the break was found."""
    if mutation.repaired is None:
        pytest.skip("the break is in the cast itself")
    found = explore(mutation.repaired, 100_000)
    note.__dict__.update(found.__dict__)
    assert found.complete


@pytest.mark.parametrize("cast", CONTROLS, ids=lambda cast: cast.name)
def test_control(cast: Cast, note: Report) -> None:
    """What a mutation leaves out besides its break does no harm by itself."""
    note.__dict__.update(explore(cast, 100_000).__dict__)
