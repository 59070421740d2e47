"""The projection of events into Postgres, and the client's lookups."""
