"""What a type checker sees of the public names. Read by mypy, never run; an ignored error has to be one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_type

from langchain_core.language_models import BaseChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

import condition as cd
from condition.evaluation.comparison import Comparison
from condition.evaluation.contamination import Overlap
from condition.evaluation.evaluate import Result
from condition.evaluation.judge import Judge, Judgement, Pair
from condition.evaluation.ranking import Order
from condition.evaluation.statistics import Estimate
from condition.evaluation.tasks import Task
from condition.evaluation.watch import Forgetting
from condition.moderation.guarded import GuardedModel
from condition.moderation.guarded_chain import GuardedChain
from condition.prompts.saved import prompt_from_json
from condition.protocols import Adapter, Chain, Control, Filter, Metric, Model, Moderator, Prompt, Scorer, Verifier
from condition.types import Messages, Options, Rendered, Span


def values() -> None:
    assert_type(cd.Message("user", "hi").content, str)
    assert_type(cd.Example({"q": 1}, "a").rationale, str | None)
    assert_type(cd.Ranking.pair({}, "a", "b"), cd.Ranking)
    assert_type(cd.Ranking({}, ["a", "b"], scores=[1, 0]).candidates, tuple[str, ...])
    assert_type(cd.Sampling(stop=["\n"]).temperature, float)
    assert_type(cd.Sampling(stop="\n").max_tokens, int)
    assert_type(cd.Completion("a").logprob, float | None)
    assert_type(cd.Completion("a").logprobs, tuple[float, ...])
    assert_type(cd.Score(-1.0, 2, 3).logprob, float)
    assert_type(cd.Answer("a").usage, cd.Usage)
    assert_type(cd.Usage() + cd.Usage(), cd.Usage)
    assert_type(cd.Verdict(True, ["rude"]).categories, tuple[str, ...])
    assert_type(cd.Answer("a", candidates=[cd.Completion("a")]).candidates, tuple[cd.Completion, ...])

    cd.Message("robot", "hi")  # type: ignore[arg-type]
    cd.Message("user", 5)  # type: ignore[arg-type]
    cd.Message("user")  # type: ignore[call-arg]
    cd.Score("much", 2, 3)  # type: ignore[arg-type]
    cd.Completion("a", finish_reason="tired")  # type: ignore[arg-type]


def preferences(model: cd.LocalModel, rows: list[cd.Ranking]) -> None:
    assert_type(cd.read_rankings("rows.jsonl"), list[cd.Ranking])
    assert_type(cd.read_feedback(rows, unusable="skip"), list[cd.Feedback])
    assert_type(cd.Ranking.graded({}, ["a", "b"], [1, 2]).scores, tuple[float, ...] | None)
    assert_type(cd.DPOTrainer(loss="ipo").fit(model, rows, prompt="{q}"), cd.LocalModel)
    assert_type(cd.PROTrainer().fit(model, rows, prompt="{q}"), cd.LocalModel)
    assert_type(cd.KTOTrainer().fit(model, rows, prompt="{q}"), cd.LocalModel)
    assert_type(cd.HindsightTrainer().fit(model, rows, prompt="{q}"), cd.LocalModel)
    reward = cd.RewardTrainer().fit(model, rows, prompt="{q}", validation=rows)
    assert_type(reward, cd.RewardModel)
    assert_type(reward("q", ["a", "b"]), list[float])
    fit: Verifier = cd.RewardModel.load("folder")
    assert_type(fit("q", ["a"]), list[float])
    assert_type(cd.hacking_signs(reward.history), list[str])
    assert_type(cd.preference_bias(rows).pairs, int)

    cd.DPOTrainer(loss="sigmiod")  # type: ignore[arg-type]
    cd.RewardTrainer(pairs="some")  # type: ignore[arg-type]


def prompts(template: Any) -> None:
    chat = cd.ChatPrompt([("user", "{x}"), cd.Message("assistant", "ok")])
    assert_type(chat.format(x=1), Messages)
    assert_type(chat.variables, frozenset[str])
    assert_type(cd.TextPrompt("{x}").format(x=1), Messages)
    assert_type(cd.as_prompt(template), Prompt)
    assert_type(prompt_from_json({}), Prompt)
    fit: list[Prompt] = [chat, cd.TextPrompt("x")]
    assert fit

    cd.ChatPrompt([("user", "{x}")], template_format="mustache")  # type: ignore[arg-type]
    cd.TextPrompt(5)  # type: ignore[arg-type]


def adapters(model: cd.LocalModel) -> None:
    fit: list[Adapter] = [
        cd.LoRA(rank=4),
        cd.AdaLoRA(rank=4),
        cd.IA3(),
        cd.PromptTuning(length=5, text="Answer."),
        cd.PTuning(length=5),
        cd.PrefixTuning(length=5),
        cd.Bottleneck(size=8),
        cd.LadderSide(),
        cd.Mixed(),
        cd.FullFineTuning(),
        cd.LastLayers(2),
        cd.Stack((cd.LoRA(), cd.PromptTuning())),
    ]
    assert fit
    assert_type(cd.SFTTrainer(cd.Bottleneck(size=8)).fit(model, [], prompt="{q}"), cd.LocalModel)
    assert_type(cd.LoRA(targets=["q_proj"], whole=["lm_head"]).rank, int)
    assert_type(cd.IA3(targets=["k_proj", "down_proj"], feed_forward=["down_proj"]), cd.IA3)
    assert_type(cd.Settings(report_to="tensorboard", output="runs"), cd.Settings)
    assert_type(cd.Settings(report_to=["wandb"], output=Path("runs")), cd.Settings)
    cd.SFTTrainer(adapter="lora")  # type: ignore[arg-type]


def models(model: cd.LocalModel, messages: Messages) -> None:
    assert_type(cd.mix({"a": []}, {"a": 1.0}), list[cd.Example])
    assert_type(cd.quantization_report().rows[0].perplexity, float)
    assert_type(model.generate([messages]), list[list[cd.Completion]])
    assert_type(model.score([messages], [["a", "b"]]), list[list[cd.Score]])
    assert_type(model.render(messages, "a"), Rendered)
    assert_type(model.render(messages).spans, tuple[Span, ...])
    assert_type(model.batch([{"q": 1}]), list[cd.Answer])
    fit: tuple[Model, Scorer, Chain] = (model, model, model)
    assert len(fit) == 3

    model.generate([messages], control="none")  # type: ignore[arg-type]


def controls(model: cd.LocalModel, messages: Messages) -> None:
    joined = cd.Choice(["a"]) & cd.Regex("a") & cd.Words(ban=["b"])
    fit: list[Control] = [
        cd.Choice(["a"]),
        cd.Grammar("start: A"),
        cd.JSONSchema({}),
        cd.Regex("a"),
        cd.Words(["a"]),
        joined,
    ]
    assert_type(model.generate([messages], control=fit[0]), list[list[cd.Completion]])
    assert_type(cd.Controlled(model, joined).name, str)

    cd.Regex(5)  # type: ignore[arg-type]
    cd.Choice(5)  # type: ignore[arg-type]


def data(path: str) -> None:
    assert_type(cd.read(path), list[cd.Example])
    cd.read(path, target=5)  # type: ignore[arg-type]


def measures(
    model: cd.LocalModel, chain: Chain, rows: list[dict[str, Any]], template: ChatPromptTemplate, llm: BaseChatModel
) -> None:
    task = cd.tasks.squad_v2(rows)
    assert_type(task, Task)
    assert_type(cd.metrics.squad_v2("a", ["b"]), dict[str, float])
    assert_type(cd.metrics.number("a", "1"), dict[str, float])
    assert_type(cd.metrics.pass_at_k(2, 1, 1), float)
    assert_type(cd.metrics.corpus_bleu(["a"], ["b"]), float)
    assert_type(cd.tasks.mmlu("test.jsonl", shots="dev.jsonl", form="chat"), Task)
    assert_type(cd.tasks.human_eval("problems.jsonl", k=(1, 10), samples=20), Task)
    assert_type(cd.tasks.dialogue([], lambda question, answer: 1.0), Task)
    assert_type(cd.tasks.dialogue([], cd.RubricJudge(model)), Task)
    cd.tasks.mmlu("test.jsonl", form="html")  # type: ignore[arg-type]
    for subject in (model, (model, "{q}"), chain, lambda inputs: "a"):
        assert_type(cd.evaluate(subject, task), Result)
    assert_type(cd.evaluate(model, task, budget=5).metrics["f1"], Estimate)
    assert_type(cd.evaluate(template | llm | StrOutputParser(), task), Result)
    assert_type(cd.evaluate(llm, task), Result)
    assert_type(cd.compare({"ours": model, "theirs": template | llm}, task), Comparison)

    cd.evaluate(5, task)  # type: ignore[arg-type]


def reasoning(model: cd.LocalModel, verifier: Verifier) -> None:
    chain = cd.ChainOfThought(model, "{q}", budget=cd.Budget(calls=5))
    assert_type(chain.invoke({"q": 1}), cd.Answer)
    assert_type(chain.batch([{"q": 1}, "one"]), list[cd.Answer])
    fit: list[Chain] = [
        chain,
        cd.ZeroShotCoT(model),
        cd.SelfConsistency(chain, 16, float),
        cd.BestOf(chain, verifier, 8),
        cd.LeastToMost(model),
        cd.TreeOfThoughts(model, prompts=None, breadth=3, depth=3, search="dfs"),
        cd.Sequence({"a": chain, "b": cd.Parallel({"c": chain})}),
    ]
    verifiers: list[Verifier] = [
        cd.JudgeVerifier(model),
        cd.ProgramVerifier(lambda question, answer: True),
        cd.ClassifierVerifier(chain),
    ]
    rows = [cd.Example({"q": 1}, "2")]
    assert_type(cd.explanations(chain, rows), list[cd.Example])
    assert_type(cd.reasoned(rows), list[cd.Example])
    found = cd.optimise("{q}", rows, cd.metrics.squad_v2, chain=lambda made: cd.ChainOfThought(model, made))
    assert_type(found.prompt, Prompt)
    assert fit
    assert verifiers

    cd.TreeOfThoughts(model, search="best")  # type: ignore[arg-type]
    cd.BestOf(chain, "good")  # type: ignore[arg-type]


def comparison(model: cd.LocalModel, chain: Chain, task: Task, verifier: Verifier) -> None:
    table = cd.compare({"base": model, "pair": (model, "{q}"), "chain": chain}, task, early=True, cache="answers")
    assert_type(table, Comparison)
    assert_type(table["base"].score, Estimate)
    assert_type(table.break_even("base", "chain"), float)
    assert_type(table.to_html(), str)
    assert_type(cd.overlap([{"q": "a"}], task), Overlap)
    assert_type(cd.watcher(task, rows=8)(model), float)
    assert_type(cd.forgetting(model, model, task), Forgetting)
    judges: list[Judge] = [cd.PairwiseJudge(model), cd.RubricJudge(model), cd.VerifierJudge(verifier)]
    assert_type(judges[0]([Pair("q", "a", "b")]), list[Judgement])
    assert_type(cd.bradley_terry([("a", "b", "first")]), Order)

    cd.compare([model, chain], task)  # type: ignore[arg-type]


def functions_fit() -> None:
    def length(prediction: str, target: Any, /) -> Mapping[str, float]:
        return {"length": float(len(prediction))}

    def longest(question: str, candidates: Any, /) -> list[float]:
        return [float(len(c)) for c in candidates]

    def polite(text: str, /) -> cd.Verdict:
        return cd.Verdict(True)

    def short(example: cd.Example, /) -> bool:
        return len(example.target) < 9

    fit: tuple[Metric, Verifier, Moderator, Filter] = (length, longest, polite, short)
    wrong: Metric = polite  # type: ignore[assignment]
    assert wrong not in fit


def in_langchain(model: cd.LocalModel, llm: BaseChatModel, anything: object) -> None:
    assert_type(cd.ChatCondition(model, max_tokens=8), cd.ChatCondition)
    assert_type(cd.as_model(model), cd.LocalModel)
    assert_type(cd.as_model("qa-lora"), cd.LocalModel)
    assert_type(cd.as_model([llm, llm]).generate("Why?", finished={}), list[list[cd.Completion]])
    assert_type(cd.as_model(llm).generate("Why?"), list[list[cd.Completion]])
    assert_type(cd.as_model(anything), Model)
    assert_type(cd.ConditionLLM("qa-lora", base=model), cd.ConditionLLM)
    assert_type(cd.ChatCondition().model, cd.LocalModel)

    cd.ChatCondition(5)  # type: ignore[arg-type]
    cd.ConditionLLM(base=5)  # type: ignore[arg-type]


def moderation(model: cd.LocalModel, chain: Chain, llm: cd.ChatCondition) -> None:
    words = cd.WordList(["darn"], category="mild")
    assert_type(words("a"), cd.Verdict)
    fit: tuple[Moderator, Moderator, Filter] = (words, cd.ModelModerator(model), cd.ModerationFilter(words))
    assert len(fit) == 3
    assert_type(cd.ClassifierModerator.fit(["a"], [None]).many(["a"]), list[cd.Verdict])
    assert_type(cd.Guarded(model, before=words), GuardedModel)
    assert_type(cd.Guarded(chain, after=[words, lambda text: cd.Verdict(True)]), GuardedChain)
    assert_type(cd.Guarded(llm, words), GuardedChain)
    kept, refused = cd.screen([cd.Example({}, "a")], words)
    assert_type(kept, list[cd.Example])
    assert_type(refused[0].row, cd.Example)

    cd.Guarded(5)  # type: ignore[call-overload]


def settings() -> None:
    class Oven(Options):
        degrees: int = 180

    assert_type(Oven(degrees=200).degrees, int)
