"""The experiments. To add one: a file here, a line in TASKS, a yaml in configs/task."""

from lnexp.tasks.base import Batch, Batches, Curve, Task
from lnexp.tasks.mnist import MNIST
from lnexp.tasks.order_embeddings.task import OrderEmbeddings
from lnexp.tasks.permuted_mnist import PermutedMNIST
from lnexp.tasks.question_answering.task import QuestionAnswering
from lnexp.tasks.skip_thoughts.task import SkipThoughts

TASKS: dict[str, type[Task]] = {t.name: t for t in (MNIST, PermutedMNIST, OrderEmbeddings, QuestionAnswering, SkipThoughts)}

__all__ = ["TASKS", "Batch", "Batches", "Curve", "Task"]
