"""Recommending for whole files: read in pieces, ranked in parts, each kept as it is finished, put together at the end.

`staging` reads and checks all of the input and writes it down as numbers, grouped by `grouping` where it has a row an
event; `columns` ranks without an object an item; `answers` writes; `work` is the hidden folder that a stopped job goes
on from; `job` puts the steps in order.
"""
