"""What a control costs a step, beside the step itself.

    python tests/benchmarks/control.py
    python tests/benchmarks/control.py --rows 1 16 --tokens 48

Samples of the embedded model behind one short prompt at temperature 0.7. The controls leave room for as many tokens as
are asked for, so that every row is written to its end. Processor time, by one thread, so that other work on the machine
does not count. `a step` is the median of the steps; `first` has what is worked out once for a grammar and a tokenizer.
"""

from __future__ import annotations

import argparse
import os
import time
from statistics import median
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("HF_HUB_OFFLINE", "1")

SCHEMA = {
    "type": "object",
    "properties": {
        "notes": {"type": "array", "items": {"type": "string", "minLength": 20, "maxLength": 80}, "minItems": 9}
    },
    "required": ["notes"],
    "additionalProperties": False,
}
GRAMMAR = r"""
start: line~30..60
line: WORD (", " WORD)~1..6 ". "
WORD: /[A-Za-z]{2,12}/
"""
BANNED = [
    "obviously",
    "clearly",
    "very",
    "really",
    "just",
    "actually",
    "basically",
    "simply",
    "bridge",
    "river",
    "stone",
]
BANNED += ["water", "the", "and", "is", "never", "always", "of course", "in fact", "as well"]


def controls() -> dict[str, Any]:
    import condition as cd

    return {
        "none": lambda: None,
        "Regex, a long line": lambda: cd.Regex(r"[A-Za-z ,.']{400,}"),
        "Choice, 1,000 labels": lambda: cd.Choice(
            [f"label {n} " + f"{n * 7919 % 9973} is one of many " * 20 for n in range(1000)]
        ),
        "Grammar": lambda: cd.Grammar(GRAMMAR),
        "JSONSchema": lambda: cd.JSONSchema(SCHEMA),
        "Words, 20 banned": lambda: cd.Words(ban=BANNED),
        "Words, 2 required": lambda: cd.Words(require=["Orla", "oak bridge"]),
        "JSONSchema & Words": lambda: cd.JSONSchema(SCHEMA) & cd.Words(ban=BANNED),
    }


class Timed:
    """A control whose processor's time is kept, a number a step."""

    def __init__(self, control: Any) -> None:
        self.control = control
        self.seconds: list[float] = []

    def processor(self, tokenizer: Any, /) -> Any:
        return _Watched(self.control.processor(tokenizer), self.seconds)


class _Watched:
    def __init__(self, processor: Any, seconds: list[float]) -> None:
        self.begin, self.keep = processor.begin, processor.keep
        self._processor, self._seconds = processor, seconds

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        began = time.process_time()
        limited = self._processor(input_ids, scores)
        self._seconds.append(time.process_time() - began)
        return limited


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--tokens", type=int, default=48)
    given = parser.parse_args()

    import torch

    import condition as cd
    from condition.control.vocabulary import vocabulary_of

    torch.set_num_threads(1)
    model = cd.load()
    began = time.process_time()
    vocabulary_of(model.tokenizer)
    print(f"the tokenizer, once: {time.process_time() - began:.2f} s\n")
    model.generate("Tell me about the old bridge.", cd.Sampling(max_tokens=4, temperature=0.7, n=2))
    heads = [f"{rows} row{'s' * (rows > 1)}: ms a step | first | share" for rows in given.rows]
    print(f"| control | made, ms | {' | '.join(heads)} |")
    print(f"| --- | --- | {' | '.join(['---: | ---: | ---:'] * len(heads))} |")
    free: dict[int, float] = {}
    for name, make in controls().items():
        began = time.process_time()
        control = make()
        made = time.process_time() - began
        cells = []
        for rows in given.rows:
            sampling = cd.Sampling(max_tokens=given.tokens, temperature=0.7, n=rows, seed=0)
            timed = None if control is None else Timed(control)
            began = time.process_time()
            [found] = model.generate(["Tell me about the old bridge."], sampling, control=timed)
            steps = max(len(c.token_ids) for c in found)
            if timed is None:
                free[rows] = (time.process_time() - began) / steps
                cells.append(f"{1e3 * free[rows]:.1f} in all | |")
                continue
            assert steps >= given.tokens - 2, (name, found[0].text)  # required words come a little early
            own = median(timed.seconds)
            cells.append(f"{1e3 * own:.2f} | {1e3 * timed.seconds[0]:.1f} | {own / free[rows]:.1%}")
        print(f"| {name} | {1e3 * made:.1f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
