"""The service: next-item requests over HTTP, answered by one version of a model each.

`queue` gathers requests for the engine (`valuerec.ranking`), `versions` loads, warms, swaps and rolls back; `guard` is
the door that every request passes, `protocol` the limits below it, where `shedding` refuses what is too much; `routes`,
`inference` and `pages` answer; `server` runs one process and `supervisor` several.
"""
