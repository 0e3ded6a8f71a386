"""Things break: real servers, real faults, and a checker that asks the database what is true.

``proxy`` stands between a process and its server and spoils single exchanges; ``world`` holds what
is read and written meanwhile and compares every answer with the database; ``processes`` are caches
side by side in one test, or programs of their own; ``machines`` are servers that a test may kill.
``CACHEOPS_TEST_LONG=1`` combines everything with everything, which takes minutes. Other variables
stretch single tests: ``CACHEOPS_TEST_FUZZ`` (rounds),
``CACHEOPS_TEST_SOAK`` (seconds), ``CACHEOPS_TEST_QUERIES`` (distinct queries).
"""
