from eventrouter.acceptance import Acceptance, BodyError, Limits, Rejection
from eventrouter.records import RejectedEvent


def test_the_default_limits_are_segments() -> None:
    limits = Limits()
    assert (limits.max_event_bytes, limits.max_batch_bytes, limits.max_batch_events) == (32_768, 512_000, 2500)


def test_rejected_are_the_records_of_the_rejections() -> None:
    record = RejectedEvent(id="1", source="website", received_at="", code="type_unknown", message="")
    assert Acceptance(rejections=[Rejection(3, record)]).rejected == [record]


def test_a_body_error_is_a_bad_request_unless_it_says_otherwise() -> None:
    error = BodyError("empty_batch", "no events")
    assert (error.code, error.status, str(error)) == ("empty_batch", 400, "no events")
