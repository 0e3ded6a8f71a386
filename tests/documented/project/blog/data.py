"""Rows for the examples: twenty categories and authors, a hundred posts, ten tags."""

from __future__ import annotations

from django.contrib.auth.models import User
from shop.models import Product

from .models import Author, Category, Comment, Post, Tag


def fill() -> None:
    """Post 7 is a draft of category 5; category 3 has drafts."""
    Category.objects.bulk_create(
        Category(title=f"Category {n}", slug=f"category-{n}") for n in range(1, 21)
    )
    Author.objects.bulk_create(Author(name=f"Author {n}") for n in range(1, 21))
    Tag.objects.bulk_create(Tag(name=f"tag {n}") for n in range(1, 11))
    Post.objects.bulk_create(
        Post(
            category_id=(n + 17) % 20 + 1, author_id=n % 20 + 1, title=f"Post {n}",
            slug=f"post-{n}", status="draft" if n % 3 else "live", views=n,
        )
        for n in range(1, 101)
    )  # fmt: skip
    Comment.objects.bulk_create(Comment(post_id=n, text=f"Comment {n}") for n in range(1, 101))
    Product.objects.bulk_create(Product(name=f"Product {n}", price=n) for n in range(1, 21))
    User.objects.create_user("reader")
