"""From rows to reports: tables, figures and self-contained HTML pages, all recomputed from stored rows.

`stored` has the functions that people call, `page` puts a page together, `figures` draws, `verify_all` checks
what is published. Nothing here trains or times.
"""
