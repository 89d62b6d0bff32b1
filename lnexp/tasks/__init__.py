"""The table of tasks. Add a task as one line here; CONTRIBUTING.md has an example."""

from lnexp.tasks.base import Batch, Batches, Curve, Evaluation, Setting, Task
from lnexp.tasks.convnet.task import ConvolutionalNet
from lnexp.tasks.draw.task import DRAW
from lnexp.tasks.handwriting.task import Handwriting
from lnexp.tasks.mnist import MNIST
from lnexp.tasks.order_embeddings.task import OrderEmbeddings
from lnexp.tasks.permuted_mnist import PermutedMNIST
from lnexp.tasks.question_answering.task import QuestionAnswering
from lnexp.tasks.skip_thoughts.task import SkipThoughts

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        MNIST,
        PermutedMNIST,
        OrderEmbeddings,
        QuestionAnswering,
        SkipThoughts,
        ConvolutionalNet,
        DRAW,
        Handwriting,
    )
}

__all__ = ["TASKS", "Batch", "Batches", "Curve", "Evaluation", "Setting", "Task"]
