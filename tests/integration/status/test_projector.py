"""Events into rows, on a real broker and a real database."""

import uuid

import pytest

from tests.events import life
from tests.integration.status.place import Place
from tests.waiting import eventually_sync


@pytest.mark.parametrize("group_protocol", ["classic", "consumer"])
def test_events_become_a_row(place: Place, group_protocol: str):
    job_id = uuid.uuid4()
    place.say(life(job_id))
    with place.projecting(group_protocol=group_protocol) as projector:
        eventually_sync(lambda: place.row(job_id).get("status") == "completed")
        eventually_sync(place.is_caught_up)
        assert projector.unready() is None
