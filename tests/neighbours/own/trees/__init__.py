"""Trees of django-tree-queries: each query is a recursive one."""
