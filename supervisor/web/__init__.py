"""The REST API over the job store, as an ASGI application, and how it is served."""
