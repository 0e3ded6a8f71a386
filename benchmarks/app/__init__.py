"""A small shop of articles that depends on no peer: the same schema and data for all of them."""
