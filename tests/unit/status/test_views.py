"""A row as the contract's JSON."""

import json
import uuid

from schemas.lifecycle import JobState
from status_service.jobs import JobRow
from status_service.views import job_json
from tests.events import at


def test_fields_stand_in_the_contracts_order_and_the_result_is_untouched():
    stored = '{"success":true,  "scores": {"b": 0.600000, "a": 0.4}}'
    job_id = uuid.uuid4()
    words = ("Classification completed", None, None, stored)
    text = job_json(JobRow(job_id, "acme", JobState.COMPLETED, *words, at(0), at(1), at(2)))
    assert stored in text
    assert list(json.loads(text)) == [
        *("job_id", "status", "progress", "error", "result", "error_code"),
        *("created_at", "started_at", "finished_at"),
    ]


def test_quotes_in_texts_do_not_break_the_json():
    words = ('He said "no"', "BAD", 'a "b" \\ {"result": 1}', None)
    body = json.loads(job_json(JobRow(uuid.uuid4(), "acme", JobState.FAILED, *words, at(0), None, at(2))))
    assert (body["error"], body["result"], body["started_at"]) == (words[2], None, None)
