"""How busy a machine is over the week, and when it is quiet enough to train.

`sources` asks, `grid` sorts by hours, `scores` makes one number of each, `windows` finds stretches
of the week and judges them, `analysis` is all of it in order. A process of its own does this.
"""
