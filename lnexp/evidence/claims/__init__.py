"""The paper's claims, a file per section. Add a claim as one entry of its section's `CLAIMS`; a new file gets a line here."""

from lnexp.evidence.claims import (
    extension_permuted_mnist,
    section_3,
    section_4,
    section_5,
    section_6_1,
    section_6_2,
    section_6_3,
    section_6_4,
    section_6_5,
    section_6_6,
    section_6_7,
    study_norms,
    study_rates,
    study_rms,
    study_sizes,
    study_where,
)
from lnexp.evidence.claims.base import Claim, Section, arm

__all__ = ["CLAIMS", "SECTIONS", "Claim", "Section", "arm"]

SECTIONS: tuple[Section, ...] = (
    section_3.SECTION,
    section_4.SECTION,
    section_5.SECTION,
    section_6_1.SECTION,
    section_6_2.SECTION,
    section_6_3.SECTION,
    section_6_4.SECTION,
    section_6_5.SECTION,
    section_6_6.SECTION,
    section_6_7.SECTION,
    extension_permuted_mnist.SECTION,
    study_sizes.SECTION,
    study_where.SECTION,
    study_rms.SECTION,
    study_rates.SECTION,
    study_norms.SECTION,
)
CLAIMS: tuple[Claim, ...] = tuple(claim for section in SECTIONS for claim in section.claims)
