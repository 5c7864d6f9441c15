"""The gallery of techniques, each run once: question, trace, answer, and the tokens that were computed and saved.

python examples/techniques.py                                             # all of them, on the embedded model
python examples/techniques.py self-consistency tree-of-thoughts
python examples/techniques.py --model outputs/demo/adapter --tokens 32    # a tuned model, with more room to think

What the embedded model says is often wrong: it has 135 million parameters. docs/techniques says when each one pays.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from textwrap import indent
from typing import Any, NamedTuple

from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda

import condition as cd
from condition.prompts.parse import label, last_number
from condition.reasoning.abstain import Abstain

CAPITALS = {"France": "Paris", "Japan": "Tokyo", "Egypt": "Cairo", "Spain": "Madrid", "Greece": "Athens"}
EXAMPLES = [cd.Example({"country": country}, capital) for country, capital in CAPITALS.items()]
CAPITAL = "What is the capital of {country}?"
SUM = {"question": "Ann has 3 apples and buys 4. How many apples has she?"}
WORKED = [
    cd.Example({"question": "Bo has 2 pens and finds 3. How many pens?"}, "5", "He had 2 and finds 3. 2 + 3 = 5."),
    cd.Example({"question": "Eve had 9 nuts and ate 4. How many nuts?"}, "5", "She had 9 and ate 4. 9 - 4 = 5."),
]
FEARS = [("Wolves", "wolf", "Rex", "fire"), ("Birds", "bird", "Tweety", "snakes"), ("Fish", "fish", "Nemo", "sharks")]
PAGES = [Document("The bridge at Orla was built in 1784.", metadata={"source": "orla.txt"})]


class Run(NamedTuple):
    """What was asked, and what came of it."""

    asked: Mapping[str, Any]
    answer: cd.Answer


def few_shot(model: Any, short: cd.Sampling) -> Run:
    shots = cd.FewShotPrompt(CAPITAL, EXAMPLES, selector=cd.SemanticSelector(EXAMPLES), k=2)
    return asked(cd.ChainOfThought(model, shots, parse=str.strip, sampling=short), {"country": "Italy"})


def calibration(model: Any, short: cd.Sampling) -> Run:
    films = [cd.Example({"text": "a lovely film"}, "positive"), cd.Example({"text": "dull"}, "negative")]
    shots = cd.FewShotPrompt("Review: {text}", films, instruction="Is the review positive or negative?")
    classifier = cd.calibrate(model, shots, ["positive", "negative"])
    run = asked(classifier, {"text": "what a waste of time"})
    return run._replace(answer=run.answer.model_copy(update={"reasoning": str(classifier.bias)}))


def retrieval(model: Any, short: cd.Sampling) -> Run:
    qa = cd.ChatPrompt([("user", "{passages}\n\n{question} Answer with the year only.")])
    prompt = cd.RetrievalPrompt(qa, RunnableLambda(lambda query: PAGES))
    question = {"question": "When was the bridge built?"}
    run = asked(cd.ChainOfThought(model, prompt, sampling=short), question)
    found = "\n".join(f"{page.metadata['source']}: {page.page_content}" for page in prompt.sources(**question))
    return run._replace(answer=run.answer.model_copy(update={"reasoning": found}))


def zero_shot_cot(model: Any, short: cd.Sampling) -> Run:
    return asked(cd.ZeroShotCoT(model, parse=last_number, sampling=short), SUM)


def chain_of_thought(model: Any, short: cd.Sampling) -> Run:
    shots = cd.FewShotPrompt([("user", "{question}")], WORKED, rationale=True)
    return asked(cd.ChainOfThought(model, shots, parse=last_number, sampling=short), SUM)


def auto_cot(model: Any, short: cd.Sampling) -> Run:
    questions = [f"What is the capital of {country}?" for country in CAPITALS]
    chain = cd.AutoCoT(model, questions, demonstrations=1, most_lines=9, sampling=short)
    return asked(chain, {"question": "What is the capital of Italy?"})


def self_consistency(model: Any, short: cd.Sampling) -> Run:
    chain = cd.ChainOfThought(model, CAPITAL, parse=str.strip, sampling=short)
    return asked(cd.SelfConsistency(chain, 5, label(list(CAPITALS.values())), seed=1), {"country": "France"})


def best_of(model: Any, short: cd.Sampling) -> Run:
    chain = cd.ChainOfThought(model, CAPITAL, parse=str.strip, sampling=short)
    shortest = cd.ProgramVerifier(lambda question, answer: -len(answer))
    return asked(cd.BestOf(chain, shortest, samples=4, seed=0), {"country": "Japan"})


def least_to_most(model: Any, short: cd.Sampling) -> Run:
    parts = "Words: big dog runs\nParts:\nbig\nbig dog\n\nWords: hot pie sold\nParts:\nhot\nhot pie\n\n"
    split = cd.TextPrompt(parts + "Words: {words}\nParts:\n")
    solve = cd.TextPrompt("Q: big\nA: 1 word\n\nQ: big dog\nA: 2 words\n\n{solved}Q: {subquestion}\nA:")
    chain = cd.LeastToMost(model, solve, split=split, last="words", most=2, sampling=until_a_gap(short))
    return asked(chain, {"words": "red green blue"})


def decompose(model: Any, short: cd.Sampling) -> Run:
    return asked(cd.Decompose(model, most=2, sampling=short), {"question": "Is Rome older than Paris?"})


def selection_inference(model: Any, short: cd.Sampling) -> Run:
    shown = {"select": "", "infer": "", "halt": ""}
    for many, one, name, what in FEARS:
        facts, question = f"{many} fear {what}.\n{name} is a {one}.\n", f"Question: What does {name} fear?\n"
        shown["select"] += f"Facts:\n{facts}{question}Facts that help:\n{facts}\n"
        shown["infer"] += f"{facts}Therefore: {name} fears {what}.\n\n"
        shown["halt"] += f"Facts:\n{facts}{name} fears {what}.\n{question}Answer: {what}\n\n"
    chain = cd.SelectionInference(
        model,
        cd.TextPrompt(shown["halt"] + "Facts:\n{facts}\nQuestion: {question}\nAnswer:"),
        select=cd.TextPrompt(shown["select"] + "Facts:\n{facts}\nQuestion: {question}\nFacts that help:\n"),
        infer=cd.TextPrompt(shown["infer"] + "{chosen}\nTherefore:"),
        depth=2,
        sampling=until_a_gap(short),
    )
    return asked(chain, {"facts": ["Mice fear cats.", "Emma is a mouse."], "question": "What does Emma fear?"})


def ask_and_explain(model: Any, short: cd.Sampling) -> Run:
    chain = cd.AskAndExplain(model, "Is {thing} an animal? Say yes or no.", parse=str.strip, sampling=short)
    return asked(chain, {"thing": "a cat"})


def tree_of_thoughts(model: Any, short: cd.Sampling) -> Run:
    tree = cd.TreeOfThoughts(model, breadth=2, depth=1, thoughts=2, sampling=short)
    return asked(tree, {"question": "How do I get a cat out of a tree?"})


def chains(model: Any, short: cd.Sampling) -> Run:
    facts = cd.ChainOfThought(model, "Name one fact about {thing}.", parse=str.strip, sampling=short)
    verse = cd.ChainOfThought(model, "Say in three words: {facts}", parse=str.strip, sampling=short)
    return asked(cd.Sequence({"facts": facts, "verse": verse}, inputs=["thing"]), {"thing": "bees"})


def abstain(model: Any, short: cd.Sampling) -> Run:
    qa = cd.ChatPrompt([("user", "{context}\n\n{question} Answer with a word of the text, or say unanswerable.")])
    told = "Ada was born in London."
    rows = [
        cd.Example({"context": told, "question": "Where was Ada born?"}, "London"),
        cd.Example({"context": told, "question": "Who was her cat?"}, "unanswerable"),
    ]
    return asked(Abstain(model, qa, max_tokens=6).calibrate(rows), rows[0].inputs)


def optimise(model: Any, short: cd.Sampling) -> Run:
    found = cd.optimise(
        "{country}",
        EXAMPLES,
        lambda prediction, target: float(target in prediction),
        model=model,
        instructions=["Name the capital of the country, and nothing else."],
        proposals=1,
        sets=1,
        k=2,
        sampling=short,
    )
    best = found.prompt.format(country="Italy")
    told = " | ".join(message.content for message in best)
    return Run({"country": "Italy"}, cd.Answer(told, reasoning=str(found), usage=found.usage))


def explanations(model: Any, short: cd.Sampling) -> Run:
    cats = {"question": "Tom has 2 cats and gets 2. How many cats?"}
    shots = cd.FewShotPrompt([("user", "{question}")], WORKED, rationale=True)
    chain = cd.ChainOfThought(model, shots, parse=last_number, sampling=short)
    try:
        (row,) = cd.reasoned(cd.explanations(chain, [cd.Example(cats, "4")]))
    except cd.ModelError as error:
        return Run(cats, cd.Answer("", error=str(error)))
    return Run(cats, cd.Answer("a row to train on", reasoning=row.target))


TECHNIQUES: dict[str, Callable[[Any, cd.Sampling], Run]] = {
    "few-shot": few_shot,
    "calibration": calibration,
    "retrieval": retrieval,
    "zero-shot-cot": zero_shot_cot,
    "chain-of-thought": chain_of_thought,
    "auto-cot": auto_cot,
    "self-consistency": self_consistency,
    "best-of": best_of,
    "least-to-most": least_to_most,
    "decompose": decompose,
    "selection-inference": selection_inference,
    "ask-and-explain": ask_and_explain,
    "tree-of-thoughts": tree_of_thoughts,
    "chains": chains,
    "abstain": abstain,
    "optimise": optimise,
    "explanations": explanations,
}
"""By the names of their pages in docs/techniques."""
SCORED = frozenset({"calibration", "abstain"})
"""These read log-probabilities off the model, which one behind an API does not give."""


def until_a_gap(short: cd.Sampling) -> cd.Sampling:
    """For text whose parts have an empty line between them."""
    return short.model_copy(update={"stop": ("\n\n",)})


def asked(chain: Any, inputs: Mapping[str, Any]) -> Run:
    return Run(inputs, chain.invoke(inputs))


def page(name: str, run: Run) -> str:
    """A run as it is printed."""
    answer, usage = run.answer, run.answer.usage
    lines = {
        "question": "; ".join(map(str, run.asked.values())),
        "trace": answer.reasoning or "",
        "answer": answer.text + ("" if answer.score is None else f"   (score {answer.score:.2f})"),
        "error": answer.error or "",
        "tokens": f"{usage.computed_tokens} computed, {usage.saved_tokens} saved" if usage.total_tokens else "",
    }
    shown = [f"{title:10}{indent(text.strip(), ' ' * 10).strip()}" for title, text in lines.items() if text.strip()]
    return "\n".join([f"== {name} ==", *shown])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="technique", help=f"some of {', '.join(TECHNIQUES)}")
    parser.add_argument("--model", help="a hub id, a folder or a .gguf file; the embedded model without it")
    parser.add_argument("--tokens", type=int, default=24, help="the most that is written at a time")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in TECHNIQUES]:
        parser.error(f"no technique {unknown[0]!r}: there are {', '.join(TECHNIQUES)}")
    model = cd.load(options.model)
    for name in options.names or TECHNIQUES:
        print(page(name, TECHNIQUES[name](model, cd.Sampling(max_tokens=options.tokens, temperature=0.0))), flush=True)
        print()


if __name__ == "__main__":
    try:
        main()
    except cd.ConditionError as error:
        raise SystemExit(f"{error}") from None
