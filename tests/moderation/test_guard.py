from __future__ import annotations

from condition.moderation.guard import Guard, Judged, check
from condition.moderation.words import WordList
from condition.types import Message, Verdict

RUDE = WordList(["idiot"], category="rude")
SECRET = WordList(["secret"], category="secret")


def no_stars(text: str, /) -> Verdict:
    return Verdict("*" not in text, ("stars",) if "*" in text else ())


def test_the_first_that_refuses_decides_and_the_next_is_not_asked() -> None:
    seen: list[str] = []

    def note(text: str, /) -> Verdict:
        seen.append(text)
        return Verdict(True)

    refused, passed = check(["idiot secret", "fine"], [RUDE, SECRET, note])
    assert (refused.verdict.categories, refused.shown, refused.action) == (("rude",), None, "refused")
    assert (passed.verdict, passed.shown, passed.action) == (Verdict(True), "fine", "passed")
    assert seen == ["fine"]


def test_each_masker_sees_what_the_one_before_left() -> None:
    (both,) = check(["idiot secret"], [RUDE, SECRET], redact=True)
    assert (both.shown, both.verdict.categories, both.action) == ("***** ******", ("rude",), "redacted")


def test_who_can_not_mask_refuses_what_is_left() -> None:
    masked, fine = check(["idiot", "fine"], [RUDE, no_stars], redact=True)
    assert (masked.shown, masked.verdict.categories) == (None, ("stars",))
    assert fine.action == "passed"


def test_a_masker_that_fails_masks_nothing() -> None:
    class Broken:
        def __call__(self, text: str, /) -> Verdict:
            raise RuntimeError("broken")

        def mask(self, text: str, /) -> str:
            return text

    (found,) = check(["a"], [Broken()], redact=True)
    assert (found.shown, found.verdict.categories) == (None, ("unchecked",))


def test_one_refused_text_refuses_its_value_and_masks_stay_where_they_belong() -> None:
    told: list[Judged] = []
    guard = Guard([RUDE, no_stars], None, "no", False, told.append)
    values = [{"a": "fine", "b": "idiot"}, [Message("user", "fine")], {"n": 5}]
    found = guard.check("before", values, [7, 8, 9])
    assert [shown for shown, _ in found] == [None, values[1], values[2]]
    assert [verdict.allowed for _, verdict in found] == [False, True, True]
    assert [(one.place, one.text) for one in told] == [(7, "fine"), (7, "idiot"), (8, "fine")]
    masking = Guard(RUDE, None, "no", True, None)
    assert masking.check("before", [{"a": "fine", "b": ["idiot", 5]}])[0][0] == {"a": "fine", "b": ["*****", 5]}


def test_of_a_value_with_masked_and_refused_texts_the_verdict_is_the_refusal() -> None:
    guard = Guard([RUDE, lambda text: Verdict("secret" not in text, ("secret",))], None, "no", True, None)
    [(shown, verdict)] = guard.check("before", [{"a": "idiot", "b": "secret"}])
    assert (shown, verdict.categories) == (None, ("secret",))


def test_without_moderators_nobody_is_told() -> None:
    told: list[Judged] = []
    assert Guard(None, None, "no", False, told.append).check("after", ["idiot"]) == [("idiot", Verdict(True))]
    assert not told
