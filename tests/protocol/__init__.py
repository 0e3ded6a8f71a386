"""The protocol over the memory store: what it answers, sends and remembers."""
