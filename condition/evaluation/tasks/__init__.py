"""What can be measured: one file a family of tasks. `Task` and `TaskRow` are what a task of one's own is made of."""

from condition.evaluation.tasks.squad import SQUAD_PROMPT, squad_v2
from condition.evaluation.tasks.task import Pooled, Reply, Task, TaskRow

__all__ = ["SQUAD_PROMPT", "Pooled", "Reply", "Task", "TaskRow", "squad_v2"]
