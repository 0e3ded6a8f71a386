"""A model checker for the protocol: the shipped code, run in every order that a small cast allows.

`world` lets actors take turns, one command at a time, and plays the demons; `database` is what
they write to and load from; `actors` are the readers and writers; `explore` tries all schedules,
or random ones for larger casts; `casts` says who takes part; `mutations` break the protocol on
purpose, and the tests require that each break is found.
"""
