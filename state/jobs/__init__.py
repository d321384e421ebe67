"""The job store: what people and programs have submitted, and what became of it, in SQL.

SQLite by default, PostgreSQL by URL. The daemon never imports it: what both know of a job goes
through the dispatcher.
"""
