"""A model checker for the protocol: the shipped code, run in every order that a small cast allows.

`ops` are the steps that actors take, `actors` the readers and writers, `local` turns a process
into an automaton, `database` is what is written to and loaded from, `world` lets actors take turns,
plays the demons and checks the promises, `explore` tries all schedules, or random ones for larger
casts. `casts` says who takes part; `mutations` break the protocol on purpose, and the tests require
that each break is found.
"""
