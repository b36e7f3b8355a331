import pytest

from eventrouter.scrub import check_path


@pytest.mark.parametrize("path", ["context.ip", "traits.*", "properties.*.email", 'context["a.b"]', "name", "extra"])
def test_any_field_may_be_removed_or_hashed(path):
    assert check_path(path, "remove") == check_path(path, "hash")


@pytest.mark.parametrize("path", ["userId", "anonymousId", "previousId", "groupId"])
def test_ids_may_be_hashed_and_not_removed(path):
    assert check_path(path, "hash") == (path,)
    with pytest.raises(ValueError, match="hash it instead"):
        check_path(path, "remove")


@pytest.mark.parametrize("path", ["*", "*.ip", "type", "event", "messageId", "timestamp", "context", "traits"])
@pytest.mark.parametrize("what", ["remove", "hash"])
def test_what_an_event_is_understood_by_stays(path, what):
    with pytest.raises(ValueError):
        check_path(path, what)
