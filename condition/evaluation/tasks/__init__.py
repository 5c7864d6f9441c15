"""What can be measured: one file a family of tasks. `Task` and `TaskRow` are what a task of one's own is made of."""

from condition.evaluation.tasks.bbh import bbh
from condition.evaluation.tasks.choice import ceval, mmlu, multiple_choice
from condition.evaluation.tasks.classification import classification
from condition.evaluation.tasks.dialogue import dialogue
from condition.evaluation.tasks.gsm8k import gsm8k
from condition.evaluation.tasks.mathematics import math
from condition.evaluation.tasks.perplexity import perplexity
from condition.evaluation.tasks.programs import human_eval, mbpp
from condition.evaluation.tasks.safety import safety
from condition.evaluation.tasks.squad import SQUAD_PROMPT, squad_v2
from condition.evaluation.tasks.task import Pooled, Reply, Task, TaskRow

__all__ = [
    "SQUAD_PROMPT",
    "Pooled",
    "Reply",
    "Task",
    "TaskRow",
    "bbh",
    "ceval",
    "classification",
    "dialogue",
    "gsm8k",
    "human_eval",
    "math",
    "mbpp",
    "mmlu",
    "multiple_choice",
    "perplexity",
    "safety",
    "squad_v2",
]
