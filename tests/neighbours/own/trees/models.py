"""A tree that knows only parents."""

from __future__ import annotations

from django.db import models
from tree_queries.models import TreeNode


class Node(TreeNode):
    name = models.CharField(max_length=20)
    position = models.IntegerField(default=0)

    class Meta:
        ordering = ["position", "name"]
