"""The paper's claims, a file per section. Add a claim as one entry of its section's `CLAIMS`; a new file gets a line here."""

from lnexp.evidence.claims import extension_permuted_mnist, section_6_1, section_6_2, section_6_3, section_6_6
from lnexp.evidence.claims.base import Claim, arm
from lnexp.evidence.claims.ledger import contrasts, decide, ledger

__all__ = ["CLAIMS", "Claim", "arm", "contrasts", "decide", "ledger"]

CLAIMS: tuple[Claim, ...] = (
    *section_6_1.CLAIMS,
    *section_6_2.CLAIMS,
    *section_6_3.CLAIMS,
    *section_6_6.CLAIMS,
    *extension_permuted_mnist.CLAIMS,
)
