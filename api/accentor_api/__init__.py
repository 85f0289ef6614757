"""The HTTP API: validates, stores, enqueues, answers. It never imports torch."""

from accentor_api.app import create_app, serve

__all__ = ["create_app", "serve"]
