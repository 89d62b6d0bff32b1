"""One recurrent layer in one direction over a whole sequence: several implementations behind one dispatch."""

from lnexp.nn.ops.recurrent.dispatch import run

__all__ = ["run"]
