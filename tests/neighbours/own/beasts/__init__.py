"""Models of django-polymorphic: a base with rows of several classes."""
