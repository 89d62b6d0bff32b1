"""Print cloze questions as the model gets them: passage, question, answer and candidates."""

import argparse
import sys
import textwrap
from pathlib import Path

from omegaconf import OmegaConf

from lnexp import paths
from lnexp.data.cloze import cloze_set as cloze
from lnexp.data.cloze.batches import cloze_batches
from lnexp.errors import UserError, unknown
from lnexp.script import script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="bbc_cloze", metavar="NAME", help=f"the set: {', '.join(cloze.SOURCES)}")
    parser.add_argument("--root", metavar="FOLDER", help="folder of your own files")
    parser.add_argument("--split", default="valid", help="train, valid or test")
    parser.add_argument("-n", type=int, default=3, help="number of questions")
    parser.add_argument("--seed", type=int, help="draw them as training does with this seed (default: as evaluation sees them)")
    parser.add_argument(
        "--data-dir", type=Path, default=paths.ROOT / "data", help="where downloads and prepared arrays are stored"
    )
    arguments = parser.parse_args()
    if arguments.n < 1:
        parser.error(f"-n {arguments.n}: must be 1 or more")
    if arguments.data not in cloze.SOURCES:
        raise unknown("--data", arguments.data, cloze.SOURCES)
    config = OmegaConf.load(paths.CONFIGS / "data" / f"{arguments.data}.yaml")
    if arguments.root is not None:
        config.root = arguments.root
    if OmegaConf.is_missing(config, "root"):
        raise UserError(f"--data={arguments.data}: reads files of your own; give their folder with --root FOLDER")
    data = {str(key): value for key, value in config.items()}
    loaded = cloze.load(data, arguments.data_dir)
    if arguments.split not in loaded.splits:
        raise unknown("--split", arguments.split, loaded.splits)
    batches = cloze_batches(loaded.splits[arguments.split], 1, arguments.seed)
    shown = min(arguments.n, len(batches))
    for k in range(shown):
        batch = batches[k * (len(batches) // shown)]  # spread over short and long passages
        passage, question, answer = (
            " ".join(loaded.vocabulary.words[n] for n in batch[name].flatten().tolist())
            for name in ("passage_TB", "question_SB", "answer_B")
        )
        candidates = " ".join(f"@entity{n}" for n in batch["candidates_BE"][0].nonzero().flatten().tolist())
        for what, text in (("passage", passage), ("question", question), ("answer", answer), ("candidates", candidates)):
            print(textwrap.fill(text, 110, initial_indent=f"{what + ':':12}", subsequent_indent=" " * 12))
        print()


if __name__ == "__main__":
    sys.exit(script(main))
