"""What vsnapfs costs, measured beside a plain file and beside others: one module a group, run by ``scripts/bench``.

Within a group the candidates take turns, run after run, so that whatever else the machine does meets all of them.
Compare figures of one table only; ratios are those of medians.
"""
