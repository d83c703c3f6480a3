"""The claims: one file per figure of the paper, one plain function per claim that returns an estimate.

Importing this package fills `suite.judging.evaluate.REGISTRY`.
"""

from suite.claims import (  # noqa: F401
    cost,
    faults,
    fig1_rdf,
    fig2_badf,
    fig3_glass,
    fig4_vaf,
    fig5_msd,
    method,
    pairs,
    parity,
    preconditions,
)
