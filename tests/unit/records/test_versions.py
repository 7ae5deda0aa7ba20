"""Which version of a message is its last, and how versions are stored."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations

import pytest

from handler.events.message import Message
from handler.records.versions import (
    Version,
    copied_fields,
    decoded,
    encoded,
    last_said,
    text_known,
    with_version,
)

ABOUT = {"author": "operator", "connector": "c", "line_id": 0}


def add(at: int, text: str | None = None) -> Version:
    """Return the version of an addition."""
    return Version(author="operator", connector="c", line_id=0, at=at, text=text, sent_at=at)


def update(at: int, text: str | None = None) -> Version:
    """Return the version of an update."""
    return Version(author="operator", connector="c", line_id=0, at=at, text=text, update=True)


def arrived(*versions: Version, deleted_at: int | None = None) -> list[Version]:
    """Return the history after versions arrived in this order."""
    history: list[Version] = []
    for version in versions:
        history = with_version(history, version, deleted_at)
    return history


def time(seconds: int) -> datetime:
    """Return a moment by Unix seconds."""
    return datetime.fromtimestamp(seconds, UTC)


MESSAGE = Message(author="customer", connector="C", line_id=1, author_id=5, text="x", text_cut=True)


def test_a_version_is_what_the_event_says() -> None:
    """Without a date, an addition was sent when its event was; an update does not say."""
    at = time(7).replace(microsecond=999_999)
    version = Version(
        at=7, author="customer", connector="C", line_id=1, author_id=5, text="x", text_cut=True
    )
    dated = replace(MESSAGE, sent_at=time(3), files=("a",))

    assert replace(version, sent_at=7) == Version.of(MESSAGE, update=False, at=at)
    assert replace(version, update=True) == Version.of(MESSAGE, update=True, at=at)
    for changed in (True, False):
        said = replace(version, update=changed, sent_at=3, files=("a",))
        assert said == Version.of(dated, update=changed, at=at)


class TestLast:
    """The last text, in any order of arrival."""

    @pytest.mark.parametrize("order", list(permutations(range(3))))
    def test_greatest_time_is_last(self, order: tuple[int, ...]) -> None:
        """Whichever event has it."""
        said = [add(1, "one"), update(3, "three"), update(2, "two")]

        fields = last_said(arrived(*(said[n] for n in order)), None)

        assert {
            **ABOUT,
            "text": "three",
            "sent_at": time(1),
            "edited_at": time(3),
        } == fields

    @pytest.mark.parametrize("turned", [False, True])
    def test_update_is_later_at_equal_times(self, turned: bool) -> None:  # noqa: FBT001 - the case
        """A message is sent before it is edited, even within a second."""
        both = [add(1, "sent"), update(1, "changed")]

        history = arrived(*(reversed(both) if turned else both))

        assert "changed" == last_said(history, None)["text"]

    def test_later_arrival_wins_between_updates_at_equal_times(self) -> None:
        """A repeat is an arrival, too."""
        first, second = update(1, "first"), update(1, "second")

        assert "second" == last_said(arrived(first, second), None)["text"]
        assert "first" == last_said(arrived(first, second, first), None)["text"]

    def test_addition_after_a_change_is_last(self) -> None:
        """The text with the greatest time, from either event; the edit stays known."""
        fields = last_said(arrived(update(1, "changed"), add(2, "sent")), None)

        assert ("sent", time(2), time(1)) == (
            fields["text"],
            fields["sent_at"],
            fields["edited_at"],
        )

    def test_change_without_text_makes_the_text_outdated(self) -> None:
        """Until a later text is known."""
        outdated = arrived(add(1, "one"), update(3))
        known = arrived(add(1, "one"), update(3), update(4, "four"))
        before = arrived(add(1, "one"), update(3), update(2, "two"))

        fields = last_said(outdated, None)
        assert ("one", True, time(3)) == (
            fields["text"],
            fields["text_outdated"],
            fields["edited_at"],
        )
        assert "text_outdated" not in last_said(known, None)
        fields = last_said(before, None)
        assert ("two", True) == (fields["text"], fields["text_outdated"])
        assert {**ABOUT, "edited_at": time(3), "text_outdated": True} == last_said(
            arrived(update(3)), None
        )

    def test_addition_without_text_outdates_nothing(self) -> None:
        """It may have only files."""
        history = arrived(update(1, "one"), add(2))

        assert "text_outdated" not in last_said(history, None)
        assert not text_known(arrived(add(2)), None)

    def test_empty_text_is_a_text(self) -> None:
        """It says that there was none; an absent one says that it is unknown."""
        assert "" == last_said(arrived(add(1, "")), None)["text"]
        assert text_known(arrived(add(1, "")), None)

    def test_change_after_the_deletion_does_not_count(self) -> None:
        """That is how Bitrix24 overwrites the text; additions may arrive late."""
        history = arrived(add(9, "sent"), update(5, "changed"), update(6, "This was deleted"))

        assert {"text": "sent", "sent_at": time(9), "edited_at": time(5)} == copied_fields(
            [history], 5
        )
        assert "changed" == last_said(history[:2], 5)["text"]
        assert {} == copied_fields([[update(6, "This was deleted")]], 5)

    def test_author_files_and_time_stay_known(self) -> None:
        """An update may omit or correct them; an empty list of files is known, too."""
        sent = replace(add(1, "one"), author_id=27, files=("a", "b"))
        history = arrived(sent, replace(update(2, "two"), sent_at=8))

        fields = last_said(history, None)
        assert (27, ("a", "b"), time(1)) == (
            fields["author_id"],
            fields["files"],
            fields["sent_at"],
        )
        dated = replace(update(3), sent_at=8, author_id=28, files=())
        assert "files" not in last_said(arrived(sent, dated), None)
        assert 28 == last_said(arrived(sent, dated), None)["author_id"]
        assert time(8) == last_said([dated], None)["sent_at"]

    def test_record_copies_the_last_of_several_histories(self) -> None:
        """And only the text's own fields."""
        one, other = arrived(add(1, "one")), arrived(add(2, "two"))

        expected = {"text": "two", "sent_at": time(2)}
        assert expected == copied_fields([one, other], 5) == copied_fields([other, one], 5)

    def test_cut_text_is_marked(self) -> None:
        """While it is the last one."""
        cut = replace(add(1, "long"), text_cut=True)

        assert last_said([cut], None)["text_cut"]
        assert "text_cut" not in last_said([cut, update(2, "short")], None)


class TestHistory:
    """Which earlier versions are kept."""

    def test_a_repeat_changes_nothing(self) -> None:
        """So it need not be written."""
        history = arrived(add(1, "one"), update(2, "two"), add(1, "one"), update(2, "two"))

        assert [add(1, "one"), update(2, "two")] == history

    def test_too_many_changes_drop_the_oldest(self) -> None:
        """The addition stays, with author and time."""
        history = arrived(add(0, "sent"), *(update(n, str(n)) for n in range(1, 60)))

        assert [add(0, "sent"), *(update(n, str(n)) for n in range(11, 60))] == history

    def test_too_many_after_the_deletion_drop_the_newest(self) -> None:
        """Versions that do not count do not replace those that records have copied."""
        before = [add(0, "sent"), *(update(n, str(n)) for n in range(1, 45))]

        history = arrived(*before, *(update(n, str(n)) for n in range(50, 60)), deleted_at=45)

        assert [*before, *(update(n, str(n)) for n in range(50, 55))] == history

    def test_too_many_additions_drop_the_oldest(self) -> None:
        """Each is later than the previous one, so only the newest counts."""
        history = arrived(*(add(n, str(n)) for n in range(60)))

        assert [add(n, str(n)) for n in range(10, 60)] == history

    def test_too_much_text_drops_the_oldest_changes(self) -> None:
        """Documents and commits are limited; the last text always stays."""
        long = "😀" * 20_000
        history = arrived(add(0, long), *(update(n, f"{long[1:]}{n}") for n in range(1, 5)))

        assert [0, 4] == [version.at for version in history]
        short = replace(add(5, "x"), files=("y",))
        stored = sum(len(line.encode()) for line in encoded([*history, short], {}))
        fits = 200_000 - stored + 1
        for size, kept in ((fits, [0, 4, 5]), (fits + 1, [0, 5])):
            larger = replace(short, text=size * "x")
            assert kept == [version.at for version in with_version(history, larger, None)]

    def test_size_is_measured_as_stored(self) -> None:
        """As JSON, with file names: a control character is one byte in a text, and six there."""
        names = tuple(f"{99 * chr(1)}{n}" for n in range(100))
        for long in (add(0, 20_000 * "\x01"), replace(add(0), files=names)):
            history = arrived(*(replace(long, at=n) for n in range(10)))

            stored = [len(line.encode()) for line in encoded(history, {})]
            assert 200_000 - stored[-1] < sum(stored) <= 200_000
            assert 9 == history[-1].at

    def test_the_last_version_stays_whatever_its_size(self) -> None:
        """It is far below Firestore's limit."""
        names = tuple(f"{250 * chr(1)}{n}" for n in range(100))
        large = replace(add(2, 20_000 * "\x01"), files=names)

        assert [large] == arrived(add(1, "sent"), large)
        (line,) = encoded([large], {})
        assert 200_000 < len(line.encode()) < 300_000


def test_versions_are_read_back_as_written() -> None:
    """The document's own text is not stored twice; nothing else is omitted."""
    full = Version(
        at=0,
        author="customer",
        connector="é",
        line_id=0,
        update=True,
        text="a😀\x00\n",
        text_cut=True,
        author_id=5,
        sent_at=0,
        files=("a", "b"),
    )
    history = [add(1, "one"), full, update(2), replace(full, text="other", files=None)]

    lines = encoded(history, {"text": "a😀\x00\n"})

    assert history == decoded(lines, {"text": "a😀\x00\n"})
    assert lines[1] == (
        '{"at": 0, "author": "customer", "connector": "é", "line_id": 0, "update": true,'
        ' "text": true, "text_cut": true, "author_id": 5, "sent_at": 0, "files": ["a", "b"]}'
    )
    assert "😀" not in "".join(lines)
