"""A small shop, written as for django-cacheops: only the name of the app that it imports differs.

In the folder that holds ``examples``, beside a Redis::

    pip install "cacheops-lite[jinja2]"
    python -m examples.shop migrate
    python -m examples.shop migrate --database blue
    python -m examples.shop stock
    python -m examples.shop runserver

Then open http://localhost:8000 and http://blue.localhost:8000: two shops, each with a database.
``settings.py`` says what can be set by the environment; ``urls.py`` has the other pages.
"""
