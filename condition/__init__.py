"""Typed building blocks that make a language model do what you mean.

A condition is anything that changes what a model says next: words before it, numbers inside it, limits on it, or a
second look after it. Start with `load`, `ChatPrompt`, `SFTTrainer`, `evaluate` and `ChatCondition`.

Names are loaded on first use: `import condition` is quick and imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from condition.noise import hush

if TYPE_CHECKING:
    from condition.adapters.adalora import AdaLoRA as AdaLoRA
    from condition.adapters.bottleneck import Bottleneck as Bottleneck
    from condition.adapters.full import FullFineTuning as FullFineTuning
    from condition.adapters.full import LastLayers as LastLayers
    from condition.adapters.ia3 import IA3 as IA3
    from condition.adapters.lora import LoRA as LoRA
    from condition.adapters.mixed import Mixed as Mixed
    from condition.adapters.side import LadderSide as LadderSide
    from condition.adapters.soft_prompts import PrefixTuning as PrefixTuning
    from condition.adapters.soft_prompts import PromptTuning as PromptTuning
    from condition.adapters.soft_prompts import PTuning as PTuning
    from condition.adapters.stack import Stack as Stack
    from condition.control.codes import ControlCodes as ControlCodes
    from condition.control.grammar import Choice as Choice
    from condition.control.grammar import Grammar as Grammar
    from condition.control.grammar import JSONSchema as JSONSchema
    from condition.control.grammar import Regex as Regex
    from condition.control.words import Words as Words
    from condition.data.bias import preference_bias as preference_bias
    from condition.data.mix import mix as mix
    from condition.data.preferences import read_feedback as read_feedback
    from condition.data.preferences import read_rankings as read_rankings
    from condition.data.read import read as read
    from condition.errors import BudgetError as BudgetError
    from condition.errors import ConditionError as ConditionError
    from condition.errors import ContractError as ContractError
    from condition.errors import ControlError as ControlError
    from condition.errors import DataError as DataError
    from condition.errors import Interrupted as Interrupted
    from condition.errors import ModelError as ModelError
    from condition.errors import PromptError as PromptError
    from condition.errors import SettingsError as SettingsError
    from condition.errors import SharingWarning as SharingWarning
    from condition.errors import UnfinishedError as UnfinishedError
    from condition.evaluation import metrics as metrics
    from condition.evaluation import tasks as tasks
    from condition.evaluation.compare import compare as compare
    from condition.evaluation.contamination import overlap as overlap
    from condition.evaluation.evaluate import evaluate as evaluate
    from condition.evaluation.judge import PairwiseJudge as PairwiseJudge
    from condition.evaluation.judge import RubricJudge as RubricJudge
    from condition.evaluation.judge import VerifierJudge as VerifierJudge
    from condition.evaluation.ranking import bradley_terry as bradley_terry
    from condition.evaluation.watch import forgetting as forgetting
    from condition.evaluation.watch import watcher as watcher
    from condition.integrations.langchain import ChatCondition as ChatCondition
    from condition.integrations.llm import ConditionLLM as ConditionLLM
    from condition.models.controlled import Controlled as Controlled
    from condition.models.explain import explain as explain
    from condition.models.load import load as load
    from condition.models.local import LocalModel as LocalModel
    from condition.models.quantization_report import quantization_report as quantization_report
    from condition.models.quantize import Quantization as Quantization
    from condition.models.remote import as_model as as_model
    from condition.models.reward import RewardModel as RewardModel
    from condition.moderation.classifier import ClassifierModerator as ClassifierModerator
    from condition.moderation.guarded import Guarded as Guarded
    from condition.moderation.model import ModelModerator as ModelModerator
    from condition.moderation.screen import ModerationFilter as ModerationFilter
    from condition.moderation.screen import screen as screen
    from condition.moderation.sequence import SequenceModerator as SequenceModerator
    from condition.moderation.words import WordList as WordList
    from condition.prompts.bm25 import BM25Selector as BM25Selector
    from condition.prompts.calibrate import calibrate as calibrate
    from condition.prompts.compose import PipelinePrompt as PipelinePrompt
    from condition.prompts.few_shot import FewShotPrompt as FewShotPrompt
    from condition.prompts.history import History as History
    from condition.prompts.outcome import OutcomeSelector as OutcomeSelector
    from condition.prompts.retrieval import RetrievalPrompt as RetrievalPrompt
    from condition.prompts.saved import load_prompt as load_prompt
    from condition.prompts.saved import save_prompt as save_prompt
    from condition.prompts.selectors import BalancedSelector as BalancedSelector
    from condition.prompts.selectors import FixedSelector as FixedSelector
    from condition.prompts.selectors import LengthSelector as LengthSelector
    from condition.prompts.selectors import RandomSelector as RandomSelector
    from condition.prompts.similarity import DiverseSelector as DiverseSelector
    from condition.prompts.similarity import MMRSelector as MMRSelector
    from condition.prompts.similarity import SemanticSelector as SemanticSelector
    from condition.prompts.template import ChatPrompt as ChatPrompt
    from condition.prompts.template import TextPrompt as TextPrompt
    from condition.prompts.template import as_prompt as as_prompt
    from condition.reasoning.ask_and_explain import AskAndExplain as AskAndExplain
    from condition.reasoning.auto_cot import AutoCoT as AutoCoT
    from condition.reasoning.best_of import BestOf as BestOf
    from condition.reasoning.budget import Budget as Budget
    from condition.reasoning.cot import ChainOfThought as ChainOfThought
    from condition.reasoning.cot import ZeroShotCoT as ZeroShotCoT
    from condition.reasoning.decompose import Decompose as Decompose
    from condition.reasoning.decompose import LeastToMost as LeastToMost
    from condition.reasoning.explanations import explanations as explanations
    from condition.reasoning.explanations import reasoned as reasoned
    from condition.reasoning.joined import Parallel as Parallel
    from condition.reasoning.joined import Sequence as Sequence
    from condition.reasoning.optimise import optimise as optimise
    from condition.reasoning.selection_inference import SelectionInference as SelectionInference
    from condition.reasoning.self_consistency import SelfConsistency as SelfConsistency
    from condition.reasoning.tree_of_thoughts import TreeOfThoughts as TreeOfThoughts
    from condition.reasoning.verify import ClassifierVerifier as ClassifierVerifier
    from condition.reasoning.verify import JudgeVerifier as JudgeVerifier
    from condition.reasoning.verify import ProgramVerifier as ProgramVerifier
    from condition.training.hindsight import HindsightTrainer as HindsightTrainer
    from condition.training.kto import KTOTrainer as KTOTrainer
    from condition.training.preference import DPOTrainer as DPOTrainer
    from condition.training.pro import PROTrainer as PROTrainer
    from condition.training.reward import RewardTrainer as RewardTrainer
    from condition.training.settings import Settings as Settings
    from condition.training.sft import SFTTrainer as SFTTrainer
    from condition.training.signs import hacking_signs as hacking_signs
    from condition.types import Answer as Answer
    from condition.types import Completion as Completion
    from condition.types import Example as Example
    from condition.types import Feedback as Feedback
    from condition.types import Message as Message
    from condition.types import Ranking as Ranking
    from condition.types import Sampling as Sampling
    from condition.types import Score as Score
    from condition.types import Usage as Usage
    from condition.types import Verdict as Verdict

hush()

__version__ = "0.1.0"

_HOMES = {
    "condition.adapters.adalora": ("AdaLoRA",),
    "condition.adapters.bottleneck": ("Bottleneck",),
    "condition.adapters.full": ("FullFineTuning", "LastLayers"),
    "condition.adapters.ia3": ("IA3",),
    "condition.adapters.lora": ("LoRA",),
    "condition.adapters.mixed": ("Mixed",),
    "condition.adapters.side": ("LadderSide",),
    "condition.adapters.soft_prompts": ("PrefixTuning", "PromptTuning", "PTuning"),
    "condition.adapters.stack": ("Stack",),
    "condition.control.codes": ("ControlCodes",),
    "condition.control.grammar": ("Choice", "Grammar", "JSONSchema", "Regex"),
    "condition.control.words": ("Words",),
    "condition.data.bias": ("preference_bias",),
    "condition.data.mix": ("mix",),
    "condition.data.preferences": ("read_feedback", "read_rankings"),
    "condition.data.read": ("read",),
    "condition.errors": (
        "BudgetError",
        "ConditionError",
        "ContractError",
        "ControlError",
        "DataError",
        "Interrupted",
        "ModelError",
        "PromptError",
        "SettingsError",
        "SharingWarning",
        "UnfinishedError",
    ),
    "condition.evaluation.compare": ("compare",),
    "condition.evaluation.contamination": ("overlap",),
    "condition.evaluation.evaluate": ("evaluate",),
    "condition.evaluation.judge": ("PairwiseJudge", "RubricJudge", "VerifierJudge"),
    "condition.evaluation.ranking": ("bradley_terry",),
    "condition.evaluation.watch": ("forgetting", "watcher"),
    "condition.integrations.langchain": ("ChatCondition",),
    "condition.integrations.llm": ("ConditionLLM",),
    "condition.models.controlled": ("Controlled",),
    "condition.models.explain": ("explain",),
    "condition.models.load": ("load",),
    "condition.models.local": ("LocalModel",),
    "condition.models.quantization_report": ("quantization_report",),
    "condition.models.quantize": ("Quantization",),
    "condition.models.remote": ("as_model",),
    "condition.models.reward": ("RewardModel",),
    "condition.moderation.classifier": ("ClassifierModerator",),
    "condition.moderation.guarded": ("Guarded",),
    "condition.moderation.model": ("ModelModerator",),
    "condition.moderation.screen": ("ModerationFilter", "screen"),
    "condition.moderation.sequence": ("SequenceModerator",),
    "condition.moderation.words": ("WordList",),
    "condition.prompts.bm25": ("BM25Selector",),
    "condition.prompts.calibrate": ("calibrate",),
    "condition.prompts.compose": ("PipelinePrompt",),
    "condition.prompts.few_shot": ("FewShotPrompt",),
    "condition.prompts.history": ("History",),
    "condition.prompts.outcome": ("OutcomeSelector",),
    "condition.prompts.retrieval": ("RetrievalPrompt",),
    "condition.prompts.saved": ("load_prompt", "save_prompt"),
    "condition.prompts.selectors": ("BalancedSelector", "FixedSelector", "LengthSelector", "RandomSelector"),
    "condition.prompts.similarity": ("DiverseSelector", "MMRSelector", "SemanticSelector"),
    "condition.prompts.template": ("ChatPrompt", "TextPrompt", "as_prompt"),
    "condition.reasoning.ask_and_explain": ("AskAndExplain",),
    "condition.reasoning.auto_cot": ("AutoCoT",),
    "condition.reasoning.best_of": ("BestOf",),
    "condition.reasoning.budget": ("Budget",),
    "condition.reasoning.cot": ("ChainOfThought", "ZeroShotCoT"),
    "condition.reasoning.decompose": ("Decompose", "LeastToMost"),
    "condition.reasoning.explanations": ("explanations", "reasoned"),
    "condition.reasoning.joined": ("Parallel", "Sequence"),
    "condition.reasoning.optimise": ("optimise",),
    "condition.reasoning.selection_inference": ("SelectionInference",),
    "condition.reasoning.self_consistency": ("SelfConsistency",),
    "condition.reasoning.tree_of_thoughts": ("TreeOfThoughts",),
    "condition.reasoning.verify": ("ClassifierVerifier", "JudgeVerifier", "ProgramVerifier"),
    "condition.training.hindsight": ("HindsightTrainer",),
    "condition.training.kto": ("KTOTrainer",),
    "condition.training.preference": ("DPOTrainer",),
    "condition.training.pro": ("PROTrainer",),
    "condition.training.reward": ("RewardTrainer",),
    "condition.training.settings": ("Settings",),
    "condition.training.sft": ("SFTTrainer",),
    "condition.training.signs": ("hacking_signs",),
    "condition.types": (
        "Answer",
        "Completion",
        "Example",
        "Feedback",
        "Message",
        "Ranking",
        "Sampling",
        "Score",
        "Usage",
        "Verdict",
    ),
}
_MODULES = {"metrics": "condition.evaluation.metrics", "tasks": "condition.evaluation.tasks"}
_PLACES = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted([*_PLACES, *_MODULES])


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'condition' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
