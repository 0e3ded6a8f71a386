"""A model checker for the protocol: the shipped code, run in every order that a small cast allows.

From the ground up: `ops` are the steps that actors take, `database` is what they write to and load
from, `local` turns a process into an automaton, `cast` says what a cast is, `actors` are readers
and writers; `state`, `marks`, `promises` and `world` are one run, `explore` tries all runs, or
random ones for larger casts. `casts` must hold; `mutations` break the protocol on purpose, and
the tests require that each break is found.
"""
