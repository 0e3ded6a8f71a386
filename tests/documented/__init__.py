"""Runs what the documentation shows: ``blocks`` finds the blocks of a page, ``page`` runs them."""
