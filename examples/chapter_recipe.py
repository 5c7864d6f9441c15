"""The classic recipe: question answering on SQuAD v2 with a LoRA on a base of four bits, from the hub to LangChain.

python examples/chapter_recipe.py --data train-v2.0.json --validation dev-v2.0.json
python examples/chapter_recipe.py --model EleutherAI/gpt-neo-125m --report wandb --push me/gpt-neo-squad
python examples/chapter_recipe.py --model embedded --rows 64       # offline: the model that the library brings
"""

from __future__ import annotations

import argparse
from pathlib import Path

import condition as cd
from condition.data import sample
from condition.models.hub import check_repo

PROMPT = cd.TextPrompt("Passage: {context}\n\nQuestion: {question}\n\nAnswer (or: unanswerable):")


def main() -> None:
    try:
        run(parsed())
    except cd.ConditionError as error:
        raise SystemExit(f"{error}") from None


def run(options: argparse.Namespace) -> None:
    if options.push:
        check_repo(options.push)  # now, not behind hours of training
    train = cd.read(options.data or sample("train"))[: options.rows]
    validation = cd.read(options.validation or sample("validation"))[: options.rows]

    # Weights in NF4, their scales quantized too: a model of three billion weights in 2 GB.
    quantization = cd.Quantization(bits=4, kind="nf4", double=True, compute_dtype="auto")
    base = cd.load(None if options.model == "embedded" else options.model, quantization=quantization)

    trainer = cd.SFTTrainer(
        adapter=cd.LoRA(rank=64, alpha=16, dropout=0.1),
        settings=cd.Settings(
            epochs=1,
            max_steps=options.steps,
            batch_size=4,
            accumulation=4,
            learning_rate=2e-4,
            optimizer="paged-adamw-8bit" if base.device.type == "cuda" else "adamw",
            too_long="drop",
            eval_every=options.every,
            save_every=options.every,
            patience=3,
            keep=5,
            output=options.output / "run",
            report_to=options.report,
            log_every=max(1, min(10, options.every)),
        ),
    )
    tuned = trainer.fit(base, train, prompt=PROMPT, validation=validation)
    tuned.history.plot(options.output / "loss.png")
    assert tuned.contract is not None
    print(f"best validation loss {tuned.contract.metrics['best_eval_loss']:.3f}")

    adapter = options.output / "adapter"
    tuned.save_pretrained(adapter)

    # Another process, another day: the folder alone says which base, prompt, stop tokens and quantization belong to it.
    llm = cd.ConditionLLM(adapter, max_tokens=16)
    asked = {name: validation[0].inputs[name] for name in ("context", "question")}
    print(f"Q: {asked['question']}\nA: {(PROMPT.to_langchain() | llm).invoke(asked).strip()}")
    if options.push:
        print(f"pushed to {tuned.push_to_hub(options.push)}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="openlm-research/open_llama_3b_v2", help="a hub id, a folder, or: embedded")
    parser.add_argument("--data", type=Path, help="SQuAD v2 or rows with its columns; shipped rows where not given")
    parser.add_argument("--validation", type=Path)
    parser.add_argument("--rows", type=int, help="so many of each")
    parser.add_argument("--steps", type=int, help="optimizer steps; one epoch where not given")
    parser.add_argument("--every", type=int, default=50, help="steps between validations")
    parser.add_argument("--report", default=(), help="wandb, tensorboard, trackio, mlflow …")
    parser.add_argument("--push", help="a repository on the hub")
    parser.add_argument("--output", type=Path, default=Path("outputs/recipe"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
