"""Show how a run's reader answers: python scripts/demo/answer.py results/runs/question_answering/RUN -n 5 --out answers.png

The picture shows each passage, a token the darker the more attention it gets, the question, the answer and the correct one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lnexp.errors import UserError
from lnexp.script import script
from lnexp.tasks.question_answering.answers import draw
from lnexp.tasks.question_answering.task import QuestionAnswering
from lnexp.training.load import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run of task=question_answering")
    parser.add_argument("--root", help="folder of the data set, if it has moved since the run")
    parser.add_argument("-n", type=int, default=5, help="number of questions (default 5)")
    parser.add_argument("--out", type=Path, default=Path("answers.png"), help="the picture to write (default answers.png)")
    arguments = parser.parse_args()
    if arguments.n < 1:
        parser.error(f"-n {arguments.n}: must be 1 or more")
    _, task, model = load(arguments.run, arguments.root)
    if not isinstance(task, QuestionAnswering):
        raise UserError(f"{arguments.run}: a run of task={task.name}, must be one of task={QuestionAnswering.name}")
    found = task.answers_of(model, arguments.n)
    for a in found:
        attended = a.passage[int(a.attention.argmax())]
        print(f"{' '.join(a.question)}\n  answer: {a.given}, true: {a.true}, most attention: {attended}")
    draw(found).savefig(arguments.out, dpi=130, metadata={"Software": None})
    print(arguments.out)


if __name__ == "__main__":
    sys.exit(script(main))
