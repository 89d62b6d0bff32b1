"""Train one run, or all runs of an experiment: python train.py task=mnist norm=ln batch_size=4 seed=1"""

import sys

import hydra
from omegaconf import DictConfig

from lnexp.cli import cli
from lnexp.config import register_resolvers
from lnexp.grid import one_job

register_resolvers()


@hydra.main(version_base="1.3", config_path="configs", config_name="config")
def main(cfg: DictConfig) -> None:
    one_job(cfg)


if __name__ == "__main__":
    sys.exit(cli(main))
