"""An app whose models are those of an old or a new release, as ``DEPLOYED`` says."""
