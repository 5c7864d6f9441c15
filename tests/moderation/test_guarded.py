from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig, RunnableLambda

from condition.errors import Interrupted, ModelError, PromptError, SettingsError, UnfinishedError
from condition.moderation.guard import Judged
from condition.moderation.guarded import REFUSAL, Guarded, GuardedModel
from condition.moderation.guarded_chain import GuardedChain
from condition.moderation.words import WordList
from condition.protocols import Chain, Control, Model
from condition.types import Answer, Completion, Message, Messages, Sampling, Usage, Verdict
from tests.conftest import TinyModel

INSULTS = WordList(["idiot"], category="insults")
SECRETS = WordList(["secret"], category="secrets")
REFUSED = Completion(REFUSAL, finish_reason="control")


def never_digits(text: str, /) -> Verdict:
    return Verdict(not any(c.isdigit() for c in text), ("digits",) if any(c.isdigit() for c in text) else ())


class Echo:
    """Says what it hears, n times, and notes each call."""

    name = "echo"

    def __init__(self) -> None:
        self.calls: list[list[Messages]] = []

    def generate(
        self, prompts: Sequence[Messages], /, sampling: Sampling = Sampling(), *, control: Control | None = None
    ) -> list[list[Completion]]:
        self.calls.append(list(prompts))
        usage = Usage(input_tokens=3)
        return [
            [
                Completion(f"{messages[-1].content} {i}", (1, 2), -1.0, "length", usage, (-0.5, -0.5))
                for i in "abc"[: sampling.n]
            ]
            for messages in prompts
        ]


class Chained:
    """A chain that is no Runnable."""

    def __init__(self) -> None:
        self.calls: list[list[Mapping[str, Any]]] = []

    def invoke(self, inputs: Mapping[str, Any], /) -> Answer:
        return self.batch([inputs])[0]

    def batch(self, inputs: list[Mapping[str, Any]], /) -> list[Answer]:
        self.calls.append(inputs)
        return [
            Answer(
                f"to {given['q']}",
                reasoning=str(given.get("why", "none")),
                candidates=(Completion("secret"),),
                usage=Usage(output_tokens=2),
                parsed="secret",
            )
            for given in inputs
        ]


class TestModel:
    def test_refused_prompts_are_not_sent_and_the_others_are_one_batch(self) -> None:
        echo = Echo()
        safe = Guarded(echo, before=INSULTS)
        found = safe.generate(["hello", "you IDIOT", [Message("user", "bye")]], Sampling(n=2))
        assert [[c.text for c in row] for row in found] == [
            ["hello a", "hello b"],
            [REFUSAL, REFUSAL],
            ["bye a", "bye b"],
        ]
        assert found[1] == [REFUSED, REFUSED]
        assert [[m[-1].content for m in call] for call in echo.calls] == [["hello", "bye"]]

    def test_when_all_are_refused_nothing_is_asked(self) -> None:
        echo = Echo()
        assert Guarded(echo, before=INSULTS).generate("idiot") == [[REFUSED]]
        assert Guarded(echo, before=INSULTS).generate([]) == []
        assert not echo.calls

    def test_a_refused_completion_leaves_the_others(self) -> None:
        safe = Guarded(Echo(), after=[SECRETS, never_digits])
        found = safe.generate(["a secret", "fine", "page 7"])
        assert [row[0].text for row in found] == [REFUSAL, "fine a", REFUSAL]
        assert found[0][0] == Completion(REFUSAL, finish_reason="control", usage=Usage(input_tokens=3))
        assert found[1][0].token_ids == (1, 2)

    def test_redacting_masks_before_and_after(self) -> None:
        echo = Echo()
        safe = Guarded(echo, before=[INSULTS, never_digits], after=SECRETS, redact=True)
        found = safe.generate(["you idiot", "idiot 7", "the secret"])
        assert [m[-1].content for m in echo.calls[0]] == ["you *****", "the secret"]
        assert [row[0].text for row in found] == ["you ***** a", REFUSAL, "the ****** a"]
        masked = found[2][0]
        assert (masked.finish_reason, masked.token_ids, masked.logprob, masked.logprobs) == ("length", (), None, ())
        assert masked.usage == Usage(input_tokens=3)

    def test_the_system_is_not_checked_and_every_turn_of_the_user_is(self) -> None:
        echo = Echo()
        talk = (Message("system", "Never say idiot."), Message("user", "hi"), Message("assistant", "idiot"))
        safe = Guarded(echo, before=INSULTS)
        assert safe.generate([(*talk, Message("user", "ok"))])[0][0].text == "ok a"
        assert safe.generate([(Message("user", "idiot"), *talk, Message("user", "ok"))])[0] == [REFUSED]
        assert Guarded(echo, before=INSULTS, roles=["assistant"]).generate([talk])[0] == [REFUSED]

    def test_one_role_may_be_named_by_itself(self) -> None:
        safe = Guarded(Echo(), before=INSULTS, roles="system")
        asked = (Message("system", "idiot"), Message("user", "idiot"))
        assert safe.generate([asked])[0][0].finish_reason == "control"
        assert safe.generate([asked[1:]])[0][0].finish_reason == "length"

    def test_masking_keeps_messages_in_their_places(self) -> None:
        echo = Echo()
        talk = (Message("user", "idiot"), Message("system", "idiot"), Message("user", "so"))
        Guarded(echo, before=INSULTS, redact=True).generate([talk])
        assert echo.calls[0][0] == (Message("user", "*****"), Message("system", "idiot"), Message("user", "so"))

    def test_a_moderator_that_raises_refuses_its_text_only(self, caplog: pytest.LogCaptureFixture) -> None:
        def broken(text: str, /) -> Verdict:
            if "7" in text:
                raise RuntimeError("no reading today")
            return Verdict(True)

        told: list[Judged] = []
        found = Guarded(Echo(), before=broken, on_verdict=told.append).generate(["a", "7"])
        assert [row[0].text for row in found] == ["a a", REFUSAL]
        assert told[1].verdict.categories == ("unchecked",)
        assert "no reading today" in str(told[1].verdict.reason)
        assert "no reading today" in caplog.text

    def test_every_verdict_is_logged_without_its_text_and_told_with_it(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "condition.moderation")
        told: list[Judged] = []
        Guarded(Echo(), before=never_digits, after=SECRETS, on_verdict=told.append).generate(["my 7", "ok"])
        assert [(one.stage, one.place, one.text, one.action) for one in told] == [
            ("before", 0, "my 7", "refused"),
            ("before", 1, "ok", "passed"),
            ("after", 1, "ok a", "passed"),
        ]
        assert "before: refused prompt 0 (digits)" in caplog.text
        assert "my 7" not in caplog.text

    def test_places_after_are_those_of_the_prompts(self) -> None:
        told: list[Judged] = []
        Guarded(Echo(), before=INSULTS, after=SECRETS, on_verdict=told.append).generate(
            ["idiot", "the secret"], Sampling(n=2)
        )
        assert [one.place for one in told if one.stage == "after"] == [1, 1]

    def test_a_callback_that_fails_stops_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        def broken(judged: Judged) -> None:
            raise RuntimeError("disk full")

        assert Guarded(Echo(), before=INSULTS, on_verdict=broken).generate("a")[0][0].text == "a a"
        assert "disk full" in caplog.text

    def test_a_stream_is_checked_before_it_is_shown(self, tiny_model: TinyModel) -> None:
        model = tiny_model()
        sampling = Sampling(max_tokens=6)
        pieces = list(model.stream("salt", sampling))
        assert list(Guarded(model, before=INSULTS).stream("salt", sampling))[:-1] == pieces[:-1]
        assert list(Guarded(model, before=INSULTS).stream("idiot", sampling)) == [REFUSAL, REFUSED]
        whole = list(Guarded(model, after=INSULTS).stream("salt", sampling))
        assert len(whole) == 2
        assert whole[0] == "".join(piece for piece in pieces if isinstance(piece, str))
        nothing = list(Guarded(model, after=lambda text: Verdict(False)).stream("salt", sampling))
        assert nothing[0] == REFUSAL
        assert next(iter(Guarded(Echo(), before=INSULTS).stream("a"))) == "a a"

    def test_it_is_a_model_again(self, tiny_model: TinyModel) -> None:
        safe = Guarded(tiny_model().with_prompt("{q}"), before=INSULTS)
        assert isinstance(safe, GuardedModel)
        assert isinstance(safe, Model)
        assert not isinstance(safe, Chain)
        assert safe.name == tiny_model().name
        assert safe.prompt is not None
        assert safe.prompt.variables == {"q"}
        assert Guarded(safe, after=SECRETS).generate("idiot") == [[REFUSED]]

    @pytest.mark.parametrize("stopped", [UnfinishedError, Interrupted])
    def test_what_was_finished_is_checked_and_in_its_place(self, stopped: type[BaseException]) -> None:
        class Half(Echo):
            def generate(self, prompts, /, sampling=Sampling(), *, control=None):  # type: ignore[no-untyped-def]
                finished = dict(enumerate(super().generate(prompts, sampling)[:2]))
                if stopped is Interrupted:
                    raise Interrupted(finished, len(prompts))
                raise UnfinishedError("half", finished, {2: TimeoutError("slow")})

        with pytest.raises(stopped) as caught:
            Guarded(Half(), before=INSULTS, after=SECRETS).generate(["idiot", "a", "secret", "b"])
        error: Any = caught.value
        assert {place: row[0].text for place, row in error.finished.items()} == {0: REFUSAL, 1: "a a", 2: REFUSAL}
        if stopped is UnfinishedError:
            assert list(error.failed) == [3]

    def test_a_model_that_answers_too_little_is_an_error(self) -> None:
        class Short(Echo):
            def generate(self, prompts, /, sampling=Sampling(), *, control=None):  # type: ignore[no-untyped-def]
                return super().generate(prompts, sampling)[:-1]

        with pytest.raises(ModelError, match="completions for 1 of 2 prompts"):
            Guarded(Short(), INSULTS).generate(["a", "b"])

    def test_what_is_no_prompt_is_refused(self) -> None:
        with pytest.raises(PromptError, match="prompt 1 is 5"):
            Guarded(Echo(), INSULTS).generate(["a", 5])  # type: ignore[list-item]


class TestChain:
    def test_refused_inputs_are_not_sent(self) -> None:
        chain = Chained()
        safe = Guarded(chain, before=INSULTS, after=SECRETS)
        assert isinstance(safe, GuardedChain)
        assert isinstance(safe, Chain)
        found = safe.batch([{"q": "a"}, {"q": ["x", {"deep": "idiot"}]}, {"q": "b", "why": "a secret"}])
        assert [answer.text for answer in found] == ["to a", REFUSAL, REFUSAL]
        assert [given["q"] for given in chain.calls[0]] == ["a", "b"]
        assert found[1].error == "refused before the model: insults: holds 'idiot'"
        assert found[2].error == "refused after the model: secrets: holds 'secret'"
        assert found[2].usage == Usage(output_tokens=2)
        assert found[2].candidates == ()
        assert found[0].parsed == "secret"  # what passes is untouched
        assert found[0].candidates == ()  # nobody looked at them
        assert Guarded(chain, before=INSULTS).invoke({"q": "a"}).candidates == (Completion("secret"),)

    def test_what_went_wrong_is_checked_as_well(self) -> None:
        chain = RunnableLambda(lambda given: Answer("", error=f"unparsable: {given['q']}"))
        answer = Guarded(chain, after=SECRETS).invoke({"q": "a secret"})
        assert answer.error == "refused after the model: secrets: holds 'secret'"

    def test_redacting_leaves_no_trace(self) -> None:
        answer = Guarded(Chained(), after=SECRETS, redact=True).invoke({"q": "the secret"})
        assert (answer.text, answer.parsed, answer.candidates) == ("to the ******", None, ())
        assert answer.error is None

    def test_strings_are_answered_with_strings(self) -> None:
        prompt = ChatPromptTemplate.from_messages([("user", "{q}")])
        app = prompt | FakeListChatModel(responses=["a secret"]) | StrOutputParser()
        assert Guarded(app, before=INSULTS).invoke({"q": "idiot"}) == REFUSAL
        assert Guarded(app, after=SECRETS).invoke({"q": "hi"}) == REFUSAL
        assert Guarded(app, after=SECRETS, redact=True).invoke({"q": "hi"}) == "a ******"
        assert Guarded(app.with_config(tags=["x"]), before=INSULTS).invoke({"q": "idiot"}) == REFUSAL

    def test_a_chat_model_is_answered_with_a_message(self) -> None:
        llm = FakeListChatModel(responses=["a secret"])
        for safe, said in ((Guarded(llm, before=INSULTS), "idiot"), (Guarded(llm, after=SECRETS), "hi")):
            message = safe.invoke(said)
            assert isinstance(message, AIMessage)
            assert message.content == REFUSAL
            assert message.response_metadata == {"finish_reason": "content_filter"}
        assert Guarded(llm, after=SECRETS, redact=True).invoke("hi").content == "a ******"

    def test_it_is_a_runnable(self) -> None:
        app = RunnableLambda(lambda q: {"q": q}) | Guarded(Chained(), before=INSULTS) | (lambda answer: answer.text)
        assert app.batch(["a", "idiot"]) == ["to a", REFUSAL]
        assert list(app.stream("a")) == ["to a"]

        async def both() -> tuple[str, list[str]]:
            return await app.ainvoke("a"), await app.abatch(["idiot", "b"])

        assert asyncio.run(both()) == ("to a", [REFUSAL, "to b"])

    def test_each_input_keeps_its_config_where_others_are_refused(self) -> None:
        chain = RunnableLambda(lambda given, config: f"{given['q']} {config['metadata']['n']}")
        rows = [{"q": word} for word in ("idiot", "a", "b")]
        configs: list[RunnableConfig] = [{"metadata": {"n": n}} for n in range(3)]
        assert Guarded(chain, before=INSULTS).batch(rows, configs)[1:] == ["a 1", "b 2"]

    def test_exceptions_of_the_chain_pass_or_are_returned(self) -> None:
        def fails(given: dict[str, str]) -> str:
            if given["q"] == "b":
                raise ValueError("no b")
            return given["q"]

        safe = Guarded(RunnableLambda(fails), before=INSULTS)
        found = safe.batch([{"q": "a"}, {"q": "idiot"}, {"q": "b"}], return_exceptions=True)
        assert found[0] == "a"
        assert isinstance(found[2], ValueError)
        with pytest.raises(ValueError, match="no b"):
            safe.invoke({"q": "b"})

    def test_an_empty_batch(self) -> None:
        assert Guarded(Chained(), before=INSULTS).batch([]) == []

    def test_one_input_is_no_batch(self) -> None:
        with pytest.raises(PromptError, match="batch takes a list of inputs"):
            Guarded(Chained(), before=INSULTS).batch({"q": "hi"})  # type: ignore[arg-type]


def test_what_can_not_be_guarded_is_refused() -> None:
    with pytest.raises(ModelError, match="int is neither a model"):
        Guarded(5, INSULTS)  # type: ignore[call-overload]
    with pytest.raises(ModelError, match="Echo is a class"):
        Guarded(Echo, INSULTS)  # type: ignore[call-overload]
    for refusal in (" ", None):
        with pytest.raises(PromptError, match="empty refusal"):
            Guarded(Echo(), refusal=refusal)  # type: ignore[call-overload]
    with pytest.raises(SettingsError, match=r"roles=\['usr'\]: give some of system, user"):
        Guarded(Echo(), before=INSULTS, roles=["usr"])  # type: ignore[list-item]
    for nothing in (None, []):
        with pytest.raises(SettingsError, match="nothing to guard with: give a moderator"):
            Guarded(Echo(), before=nothing)
    with pytest.raises(SettingsError, match="no moderator"):
        Guarded(Echo(), before=["idiot"])  # type: ignore[list-item]
