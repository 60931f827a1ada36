"""The claims C1 to C6 of the paper, Metz et al., arXiv 1810.10180, and what published results show of them.

    statements      a statement, a claim, what is published
    unrolls         C1 and C2: long unrolls, truncation, merged estimates
    racing          C3, C5 and half of C4: speed, test loss, other tasks; what was learned
    outer_training  C6 and the rest of C2 and C4: what outer-training with each estimator and objective gives
    paper           the six claims, the four questions, what no number here can show
    page            the page and its JSON

Everything is put together from published reports, whose numbers follow from rows (`bench verify`).
"""
