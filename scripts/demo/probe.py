"""Evaluate a trained sentence encoder on MR, CR, SUBJ, MPQA, TREC and SICK by the authors' protocol (paper 6.3).

    python scripts/demo/probe.py results/runs/skip_thoughts/RUN --eval-root FOLDER            all sets in a minute
    python scripts/demo/probe.py results/runs/skip_thoughts/RUN --eval-root FOLDER --sets cr mr --both --rows 500

The solvers are those of task.probes=paper. With --both each set is also judged by the protocol word for word, one fit after the
other, which takes minutes to hours; less with --rows, on some sentences of each set.
"""

import argparse
import math
import sys
import time
from pathlib import Path

from lnexp import load_encoder, paths
from lnexp.data import sentence_eval
from lnexp.data.sentence_eval import Labelled, Related
from lnexp.data.text import word_vectors
from lnexp.errors import UserError, unknown
from lnexp.tasks.skip_thoughts.probes import evaluate
from lnexp.training import load as trained

FEWEST = 100  # sentences, so that nine tenths of nine tenths of them still hold all classes


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Evaluate a trained sentence encoder.")
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a run of task=skip_thoughts")
    parser.add_argument("--eval-root", metavar="FOLDER", help="sets in SentEval's layout; without it stand-ins of a package")
    parser.add_argument("--sets", nargs="+", metavar="SET", help=f"of {', '.join(sentence_eval.FILES)}; all without it")
    parser.add_argument("--both", action="store_true", help="also by the protocol word for word")
    parser.add_argument(
        "--rows", type=int, metavar="N", help="at most N sentences, spread over the set, where it has no test set"
    )
    parser.add_argument("--data-dir", type=Path, default=paths.ROOT / "data", help="where downloads are kept")
    arguments = parser.parse_args(given)
    try:
        expands = trained.configuration(arguments.run).task.get("expand_vocabulary", False)
        encoder = load_encoder(arguments.run, word_vectors.load(arguments.data_dir) if expands else None)
        sets = sentence_eval.load(arguments.eval_root, arguments.data_dir)
        if arguments.rows is not None and arguments.rows < FEWEST:
            raise UserError(f"--rows={arguments.rows}: must be {FEWEST} or more")
        for name in arguments.sets or sets:
            if name not in sets:
                raise unknown("--sets", name, tuple(sets))
            data = some(sets[name], arguments.rows)
            for fast in (True, False)[: 1 + arguments.both]:
                started = time.perf_counter()
                results = evaluate(encoder.encode, {name: data}, fast)
                how = f"{time.perf_counter() - started:6.0f} s" + ("" if fast else ", word for word")
                for measure, value in results.items():
                    print(f"{measure:18} {value:8.4g}   {how}", flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def some(data: Labelled | Related, rows: int | None) -> Labelled | Related:
    """At most `rows` sentences, evenly spaced, of a set without a test set; any other set unchanged."""
    if rows is None or isinstance(data, Related) or data.train is not None:
        return data
    every = math.ceil(len(data.sentences) / rows)
    return Labelled(data.sentences[::every], data.label_N[::every])


if __name__ == "__main__":
    sys.exit(main())
