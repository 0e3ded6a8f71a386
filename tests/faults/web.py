"""A WSGI application that works on the rows: what gunicorn serves."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Iterable
from typing import Any

from .hosted import work


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer with the process and the number of hits; ``?`` and a seed say what to do."""
    from django.core.signals import request_finished, request_started

    request_started.send(sender=application, environ=environ)
    try:
        body = json.dumps([os.getpid(), work.work(environ["QUERY_STRING"], 4)])
        start_response("200 OK", [("Content-Type", "application/json")])
    except Exception:
        body = traceback.format_exc()
        start_response("500 Error", [("Content-Type", "text/plain")])
    request_finished.send(sender=application)
    return [body.encode()]
