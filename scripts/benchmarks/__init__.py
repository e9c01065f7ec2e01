"""What vsnapfs costs, measured beside a plain file and beside others: one module a group, run by ``scripts/bench``.

Within a group the candidates take turns, run after run, so that whatever else the machine does meets all of them.
Figures are medians of several runs, to be compared within one table only. Where something is asked of a ratio, it is the
median of the rounds' ratios.
"""
