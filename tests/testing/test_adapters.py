"""Adapters that break a promise are caught."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from condition.testing import check_adapter
from tests.testing.conftest import catch


class Biased(nn.Module):
    """A head with learned numbers behind it."""

    def __init__(self, head: nn.Module, start: float) -> None:
        super().__init__()
        self.head = head
        self.learned = nn.Parameter(torch.full((512,), start))

    def forward(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.head(hidden) + self.learned
        return logits


class Bias:
    """An adapter that inherits nothing: a number for each word."""

    start = 0.0

    def attach(self, network: PreTrainedModel, /) -> Any:
        twin: Any = copy.deepcopy(network, {id(p): p for p in network.parameters()})
        twin.requires_grad_(False)
        twin.lm_head = Biased(twin.lm_head, self.start)
        return twin


class Same(Bias):
    def attach(self, network: PreTrainedModel, /) -> Any:
        return network


class Into(Bias):
    """Changes the network given."""

    def attach(self, network: Any, /) -> Any:
        twin = super().attach(network)
        with torch.no_grad():
            network.model.norm.weight.mul_(2)
        return twin


class Inserted(Bias):
    """Puts its part into the network given too."""

    def attach(self, network: Any, /) -> Any:
        twin = super().attach(network)
        network.lm_head = twin.lm_head
        return twin


class Frozen(Bias):
    def attach(self, network: PreTrainedModel, /) -> Any:
        return super().attach(network).requires_grad_(False)


class Everything(Bias):
    """Trains the base's tensors."""

    def attach(self, network: PreTrainedModel, /) -> Any:
        return super().attach(network).requires_grad_(True)


class Loud(Bias):
    start = 5.0

    def attach(self, network: PreTrainedModel, /) -> Any:
        twin = super().attach(network)
        with torch.no_grad():
            twin.lm_head.learned[7] = -5
        return twin


class Endless(Bias):
    start = float("inf")


class Idle(Bias):
    """Learned numbers that nobody reads."""

    def attach(self, network: PreTrainedModel, /) -> Any:
        twin = super().attach(network)
        twin.lm_head, twin.idle = twin.lm_head.head, nn.Parameter(torch.zeros(3))
        return twin


class Once(Bias):
    made: Any = None

    def attach(self, network: PreTrainedModel, /) -> Any:
        if self.made is not None:
            raise RuntimeError("already attached")
        self.made = super().attach(network)
        return self.made


class NoNetwork(Bias):
    def attach(self, network: PreTrainedModel, /) -> Any:
        return super().attach(network).lm_head


class Narrower(Bias):
    """Leaves words out."""

    def attach(self, network: PreTrainedModel, /) -> Any:
        twin = super().attach(network)
        head = twin.lm_head
        head.forward = lambda hidden: (head.head(hidden) + head.learned)[..., :500]
        return twin


class Deaf(Bias):
    """Learned numbers that are used in training only."""

    def attach(self, network: PreTrainedModel, /) -> Any:
        twin = super().attach(network)
        head = twin.lm_head
        head.forward = lambda hidden: head.head(hidden) + head.learned * float(head.training)
        return twin


class Following(Bias):
    """Moves the base in training, by the way."""

    def attach(self, network: Any, /) -> Any:
        twin = super().attach(network)
        head = twin.lm_head

        def forward(hidden: Tensor) -> Tensor:
            if head.training:
                network.model.norm.weight.data.mul_(1.01)
            logits: Tensor = head.head(hidden) + head.learned
            return logits

        head.forward = forward
        return twin


class OneForAll(Bias):
    """All attachments have the same numbers, which begin anew each time."""

    def __init__(self) -> None:
        self.numbers = nn.Parameter(torch.zeros(512))

    def attach(self, network: PreTrainedModel, /) -> Any:
        twin = super().attach(network)
        self.numbers.data.zero_()
        twin.lm_head.learned = self.numbers
        return twin


class Growing(Bias):
    count = 0

    def attach(self, network: PreTrainedModel, /) -> Any:
        twin = super().attach(network)
        self.count += 1
        twin.lm_head.register_parameter(f"more{self.count}", nn.Parameter(torch.zeros(1)))
        return twin


class Kept(Bias):
    """One that can be saved, with its numbers."""

    kind = "bias"

    def save(self, network: Any, folder: Path, base: str) -> None:
        torch.save(network.lm_head.learned.detach(), folder / "bias.pt")

    def load(self, network: PreTrainedModel, folder: Path) -> Any:
        twin = self.attach(network)
        twin.lm_head.learned.data.copy_(torch.load(folder / "bias.pt", weights_only=True))
        return twin

    def model_dump(self, *, mode: str = "python") -> dict[str, Any]:
        return {}


class Unwritten(Kept):
    def save(self, network: Any, folder: Path, base: str) -> None:
        pass


class Full(Kept):
    def save(self, network: Any, folder: Path, base: str) -> None:
        raise OSError("no space left")


class Zeroed(Bias):
    """A gradient that is always zero."""

    def attach(self, network: PreTrainedModel, /) -> Any:
        twin = super().attach(network)
        head = twin.lm_head
        head.forward = lambda hidden: head.head(hidden) + 0.0 * head.learned
        return twin


class Hooked(Bias):
    """Leaves the tensors alone, and changes what the base says by a hook."""

    def attach(self, network: Any, /) -> Any:
        twin = super().attach(network)
        network.lm_head.register_forward_hook(lambda module, given, logits: logits + 1.0)
        return twin


class Picky(Bias):
    def attach(self, network: Any, /) -> Any:
        raise ValueError("not this one")


class Lost(Kept):
    def load(self, network: PreTrainedModel, folder: Path) -> Any:
        return self.attach(network)


class Finished(Kept):
    def load(self, network: PreTrainedModel, folder: Path) -> Any:
        return super().load(network, folder).requires_grad_(False)


class Unsaid(Kept):
    def model_dump(self, *, mode: str = "python") -> dict[str, Any]:
        return {"start": torch.zeros(2)}


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (object(), "it has attach. Seen: object without attach"),
        (Bias, "it is an object, not its class"),
        (Same(), "attach gives a network of its own, over the base's tensors"),
        (Into(), "attaching leaves the base bit-equal. Seen: other numbers in model.norm.weight"),
        (Inserted(), "attaching leaves the base bit-equal. Seen: tensors that came or went: lm_head.head.weight"),
        (Frozen(), "something in it can be trained"),
        (Everything(), "what is trained is its own. Seen: the base's model.embed_tokens.weight"),
        (Loud(), "it begins as the base. Seen: logits that differ by"),
        (Endless(), "logits are finite"),
        (Idle(), "a gradient reaches its parameters"),
        (Once(), "attach takes the same base again. Seen: RuntimeError: already attached"),
        (Picky(), "attach takes a network. Seen: ValueError: not this one"),
        (Hooked(), "attaching leaves the base bit-equal. Seen: other logits of the base"),
        (Zeroed(), "a gradient reaches its parameters. Seen: none, or zeros only"),
        (Unwritten(), "load reads the folder. Seen: FileNotFoundError"),
        (Full(), "save writes a folder. Seen: OSError: no space left"),
        (NoNetwork(), "attach gives a network. Seen: Biased"),
        (Narrower(), "logits keep their shape"),
        (Deaf(), "training changes what it says"),
        (Following(), "training leaves the base bit-equal. Seen: other numbers in model.norm.weight"),
        (OneForAll(), "two stand side by side. Seen: another attachment changed the first"),
        (Growing(), "attached again it has the same parameters"),
        (Finished(), "what is loaded can be trained on"),
        (Lost(), "what is loaded says what was saved"),
        (Unsaid(), "its settings are JSON"),
    ],
)
def test_an_adapter_that_breaks_a_promise(block: Any, words: str) -> None:
    catch(words, check_adapter, block, begins_as_base=True)


def test_one_that_is_told_to_begin_elsewhere() -> None:
    catch("it begins with words of its own", check_adapter, Bias(), begins_as_base=False)
    check_adapter(Loud(), begins_as_base=False)


def test_whole_adapters() -> None:
    check_adapter(Bias(), begins_as_base=True)
    check_adapter(Kept())
