"""Subsets of a store or view: pure functions that select, and ``write_*`` that write views.

Every ``write_*`` takes the path of the new view and its parent and returns the ``View``. It raises
``UserError`` if the path exists, the view would be empty, or a parameter is invalid.
"""

from curation.subsets.by_count import (
    cap,
    long_tail_cut,
    random_identities,
    retina_s,
    write_cap,
    write_long_tail_cut,
    write_random_identities,
    write_retina_s,
)
from curation.subsets.by_list import write_drop, write_keep
from curation.subsets.by_quality import load_values, spread, within_limits, write_quality
from curation.subsets.regroup import (
    merge_identities,
    split_identities,
    write_merge,
    write_merge_list,
    write_split,
    write_split_list,
)
from curation.subsets.relabel import write_relabel
from curation.subsets.sets import (
    match_identities,
    write_difference,
    write_intersection,
    write_union,
)
from curation.subsets.text_lists import By

__all__ = [
    "By",
    "cap",
    "load_values",
    "long_tail_cut",
    "match_identities",
    "merge_identities",
    "random_identities",
    "retina_s",
    "split_identities",
    "spread",
    "within_limits",
    "write_cap",
    "write_difference",
    "write_drop",
    "write_intersection",
    "write_keep",
    "write_long_tail_cut",
    "write_merge",
    "write_merge_list",
    "write_quality",
    "write_random_identities",
    "write_relabel",
    "write_retina_s",
    "write_split",
    "write_split_list",
    "write_union",
]
